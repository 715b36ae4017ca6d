"""The chat's agent: checks what a client asks, and asks the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyloom_chat.fit import ANSWER_BYTES_MAX, fit_joined, fit_messages
from skyloom_chat.hub import (
    CHAT_PROTOCOL,
    ChatHub,
    NotAMember,
    RoomExists,
    RoomNotFound,
    StorageFailed,
    TooManyRooms,
)
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

if TYPE_CHECKING:
    from skyloom import Address

HUB_WAIT_SECONDS = 5.0
"""How long the first frame of a session waits for the hub."""

HUB_BACK_SECONDS = 60.0
"""How long a session waits for the hub to come back after a crash."""


class ChatAgent(Agent):
    """One client of the chat."""

    async def on_start(self) -> None:
        self.register_protocol(*CHAT_PROTOCOL)
        # By name, so that each call finds the hub of the moment.
        self._hub = ChatHub.at(self, "CHAT_HUB")
        self._rooms: set[str] = set()
        self.monitor(await self.query("CHAT_HUB", wait=HUB_WAIT_SECONDS))

    async def on_down(self, address: Address, how: str) -> None:
        """The hub crashed: the one that comes back has the rooms, but does not know who was in them."""
        self.monitor(await self.query("CHAT_HUB", wait=HUB_BACK_SECONDS))
        for room in sorted(self._rooms):
            await self._hub.rejoin_room(room, self.user, self.client)

    @request("chat.create_room", errors=[RoomExists, TooManyRooms, StorageFailed])
    async def create_room(self, body: CreateRoom) -> RoomCreated:
        await self._hub.create_room(body.room, self.user)
        return RoomCreated(room=body.room)

    @request("chat.join", errors=[RoomNotFound, TooManyRooms, StorageFailed])
    async def join(self, body: Join) -> Joined:
        joined = await self._hub.join_room(body.room, self.user, self.client)
        self._rooms.add(body.room)
        return fit_joined(joined, ANSWER_BYTES_MAX[self.client.encoding])

    @request("chat.leave")
    async def leave(self, body: Leave) -> Left:
        self._rooms.discard(body.room)
        await self._hub.leave_room(body.room)
        return Left()

    @request("chat.say", errors=[NotAMember, StorageFailed])
    async def say(self, body: Say) -> Said:
        said: Said = await self.call("CHAT_HUB", "chat", "say", body.room, body.text)
        return said

    @request("chat.history", errors=[RoomNotFound, StorageFailed])
    async def history(self, body: HistoryQuery) -> Messages:
        page = await self._hub.read_history(body.room, body.before, body.limit)
        return fit_messages(page, ANSWER_BYTES_MAX[self.client.encoding])

    @request("chat.rooms")
    async def rooms(self, body: RoomsQuery) -> Rooms:
        return await self._hub.list_rooms()

    @notify("chat.typing")
    async def typing(self, body: Typing) -> None:
        self.send("CHAT_HUB", "chat", "typing", body.room)
