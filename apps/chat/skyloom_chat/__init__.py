"""Skyloom's chat: rooms, history, live messages, and a page in the browser. Serve it with

skyloom gateway skyloom_chat:app
"""

from skyloom_chat.agent import ChatAgent
from skyloom_chat.hub import ChatHub
from skyloom_chat.messages import ChatJoined, ChatLeft, ChatMessage, ChatReturned, ChatTyping
from skyloom_gateway import App

app = App(
    "chat",
    agent=ChatAgent,
    services=[ChatHub],
    pushes=[ChatMessage, ChatJoined, ChatLeft, ChatReturned, ChatTyping],
    pages="skyloom_chat/page",
    title="Chat",
    description="Rooms, history and live messages.",
)

__all__ = ["ChatAgent", "ChatHub", "app"]
