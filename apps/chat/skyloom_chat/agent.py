"""The chat's agent: checks what a client asks, and asks the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from skyloom import CallError, Failed, UnknownName
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
    ChatReturned,
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

HUB_WAIT_SECONDS = 3.0
"""How long the first frame of a session waits for the hub: less than a request may take, so that its client is told
that nothing was done."""

HUB_BACK_SECONDS = 60.0
"""How often a session that waits for a hub says so."""


REJOIN_PAUSE_SECONDS = 5.0
"""The longest pause before a hub that has too much to do is asked again."""

log = structlog.get_logger("skyloom.chat")


class ChatAgent(Agent):
    """One client of the chat."""

    calls_first = True

    async def on_start(self) -> None:
        self.register_protocol(*CHAT_PROTOCOL)
        # By name, so that each call finds the hub of the moment.
        self._hub = ChatHub.at(self, "CHAT_HUB")
        self._rooms: set[str] = set()
        self._coming_back = self.queue()
        self.monitor(await self.query("CHAT_HUB", wait=HUB_WAIT_SECONDS))

    async def on_down(self, address: Address, how: str) -> None:
        """The hub has ended, or is out of sight: the one that comes back does not know who was in its rooms."""
        async with self._coming_back:
            hub = await self._next_hub()
            self.monitor(hub)
            for room in sorted(self._rooms):
                # The same one lost sight of us and told the others that we left; a new one has told nobody.
                if not await self._rejoin(room, was_lost=hub == address):
                    return

    async def _rejoin(self, room: str, *, was_lost: bool) -> bool:
        """Enter the room again. False when this hub has ended, too; we hear of that next."""
        while True:
            try:
                await self._hub.rejoin_room(room, self.user, self.client, was_lost)
            except Failed as failed:
                log.warning("a client is not back in its room", room=room, user=self.user, reason=failed.message)
                self._rooms.discard(room)
            except CallError as error:
                if error.kind not in ("deadline_exceeded", "resource_exhausted"):
                    return False
                await self.sleep(self.random.random() * REJOIN_PAUSE_SECONDS)  # all come back at once
                continue
            else:
                self.push(ChatReturned(room=room))
            return True

    async def _next_hub(self) -> Address:
        while True:
            try:
                return await self.query("CHAT_HUB", wait=HUB_BACK_SECONDS)
            except UnknownName:
                log.warning("the chat's hub is not back yet", user=self.user)

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
        try:
            return await self._say(body)
        except Failed as failed:
            if failed.code != NotAMember.code or body.room not in self._rooms:
                raise
        async with self._coming_back:
            pass  # the hub is a new one, which has yet to hear from us
        return await self._say(body)

    async def _say(self, body: Say) -> Said:
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
