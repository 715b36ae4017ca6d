"""The hub crashes and comes back: its rooms are there, and those who were in them are again."""

import asyncio

from structlog.testing import capture_logs

from skyloom import Node
from skyloom.supervision.child import permanent
from skyloom.supervision.supervisor import Supervisor
from skyloom_chat.agent import ChatAgent
from tests.apps.chat.memory import Chat, MemoryGate, MemoryHistory, MemoryHub


async def test_talk_goes_on_after_a_crash_of_the_hub() -> None:
    ChatAgent.bind_routes()
    async with Node("chat", watch_loop=False) as node:
        history = MemoryHistory()
        history.names.append("hall")
        with capture_logs():
            await node.spawn(Supervisor, permanent(MemoryHub, history))
            hub = node.cells[await node.query("CHAT_HUB")].service
            gate = node.cells[await node.spawn(MemoryGate)].service
            assert isinstance(hub, MemoryHub)
            assert isinstance(gate, MemoryGate)
            chat = Chat(node, gate, hub, history)
            ada, bob = await chat.talker("ada", "hall"), await chat.talker("bob", "hall")
            ada.pushes.clear()
            node.kill(hub.address)
            await asyncio.sleep(1)
            assert await node.query("CHAT_HUB") != hub.address
            await bob.ask("chat.say", room="hall", text="still here?")
            await chat.settle()
        assert [body["text"] for body in ada.pushed("chat.message")] == ["still here?"]
        assert ada.pushed("chat.joined") == []  # nobody is told of those who come back
