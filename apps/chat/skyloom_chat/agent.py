"""The chat's agent: checks what a client asks, and asks the hub."""

from __future__ import annotations

from skyloom_chat.fit import ANSWER_BYTES_MAX, fit_joined, fit_messages
from skyloom_chat.hub import CHAT_PROTOCOL, ChatHub
from skyloom_chat.messages import (
    CreateRoom,
    HistoryQuery,
    Join,
    Joined,
    Leave,
    Left,
    Messages,
    RoomCreated,
    Rooms,
    RoomsQuery,
    Said,
    Say,
    Typing,
)
from skyloom_gateway import Agent, notify, request

HUB_WAIT_SECONDS = 5.0


class ChatAgent(Agent):
    """One client of the chat."""

    async def on_start(self) -> None:
        self.register_protocol(*CHAT_PROTOCOL)
        self._hub_address = await self.query("CHAT_HUB", wait=HUB_WAIT_SECONDS)
        self._hub = ChatHub.at(self, self._hub_address)

    @request("chat.create_room")
    async def create_room(self, body: CreateRoom) -> RoomCreated:
        await self._hub.create_room(body.room)
        return RoomCreated(room=body.room)

    @request("chat.join")
    async def join(self, body: Join) -> Joined:
        joined = await self._hub.join_room(body.room, self.user, self.client)
        return fit_joined(joined, ANSWER_BYTES_MAX[self.client.encoding])

    @request("chat.leave")
    async def leave(self, body: Leave) -> Left:
        await self._hub.leave_room(body.room)
        return Left()

    @request("chat.say")
    async def say(self, body: Say) -> Said:
        said: Said = await self.call(self._hub_address, "chat", "say", body.room, body.text)
        return said

    @request("chat.history")
    async def history(self, body: HistoryQuery) -> Messages:
        page = await self._hub.read_history(body.room, body.before, body.limit)
        return fit_messages(page, ANSWER_BYTES_MAX[self.client.encoding])

    @request("chat.rooms")
    async def rooms(self, body: RoomsQuery) -> Rooms:
        return await self._hub.list_rooms()

    @notify("chat.typing")
    async def typing(self, body: Typing) -> None:
        self.send(self._hub_address, "chat", "typing", body.room)
