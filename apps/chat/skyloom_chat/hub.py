"""The hub: the service that knows all rooms, stores what is said and sends it round.

agent --"lua" create, join, leave, rooms, history--> hub
agent --"chat" say, typing-----------------------> hub --fan_out--> gates --> clients
                                                    |
                                                    '-- History: SQL, written in batches
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from skyloom import Failed, Service, rpc
from skyloom_chat.messages import (
    ChatJoined,
    ChatLeft,
    ChatMessage,
    ChatTyping,
    Joined,
    Message,
    Messages,
    Rooms,
    Said,
)
from skyloom_chat.messages import Room as RoomInfo
from skyloom_chat.room import RECENT_MESSAGES_MAX, Member, Room
from skyloom_gateway import ClientRef, fan_out
from skyloom_gateway.session.buckets import Buckets

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from skyloom import Address
    from skyloom_chat.history import History

CHAT_PROTOCOL: Final = ("chat", 25)
"""Name and id of the protocol that carries what is said."""

ROOMS_MAX: Final = 10_000
"""Rooms in all."""

NEW_ROOMS_BURST: Final = 100
"""Rooms that one user may make at once."""

NEW_ROOMS_PER_HOUR: Final = 100
"""Rooms that one user may make, sustained: rooms are kept for good, so one user must not use up all."""

ROOM_MAKERS_MAX: Final = 10_000
"""Users whose new rooms are remembered."""

ROOMS_LISTED_MAX: Final = 500
"""Rooms that `chat.rooms` answers with, the fullest first."""

ROOMS_OF_A_CLIENT_MAX: Final = 100
"""Rooms that one client may be in at once."""

HOUR_SECONDS: Final = 3600.0

DEFAULT_DATABASE: Final = "sqlite:///skyloom.db"

T = TypeVar("T")

log = structlog.get_logger("skyloom.chat")


class RoomExists(Failed, code="chat.room_exists", kind="already_exists"):
    """The name is taken."""


class RoomNotFound(Failed, code="chat.room_not_found", kind="not_found"):
    """There is no room of that name."""


class NotAMember(Failed, code="chat.not_a_member", kind="failed_precondition"):
    """Only who is in a room may speak there."""


class TooManyRooms(Failed, code="chat.too_many_rooms", kind="resource_exhausted"):
    """The server has, or the client is in, as many rooms as are allowed."""


class StorageFailed(Failed, code="chat.storage_failed", kind="unavailable", retryable=True):
    """The history could not be read or written; the reason is in the server's log."""


class ChatHub(Service):
    """All rooms. Members are known by the address of their agents, so that nobody speaks for another."""

    name = "CHAT_HUB"
    mailbox_messages_max = 10_000

    @classmethod
    def on_check(cls, env: Mapping[str, str]) -> None:
        # Imported only here: it needs SQLAlchemy, and says so where that is missing.
        from skyloom.sql import Database

        Database.check(env.get("database_url", DEFAULT_DATABASE))

    async def on_start(self) -> None:
        self.register_protocol(*CHAT_PROTOCOL)
        self.dispatch("chat", self._on_chat)
        self.history = await self.open_history()
        self.fork(self.history.run(), critical=True)
        self.rooms = {name: Room(name) for name in await self.history.rooms()}
        self._new_rooms: set[str] = set()
        self._makers = Buckets(NEW_ROOMS_PER_HOUR / HOUR_SECONDS, NEW_ROOMS_BURST, ROOM_MAKERS_MAX)
        self._rooms_of: dict[Address, set[str]] = {}

    async def open_history(self) -> History:
        """Where messages are kept: the database that the node's settings name."""
        # Imported only here: it needs SQLAlchemy, and says so where that is missing.
        from skyloom_chat.history import History

        return await History.open(self.getenv("database_url") or DEFAULT_DATABASE)

    async def on_stop(self) -> None:
        await self.history.close()

    # -- rooms -----------------------------------------------------------------------------------------------

    @rpc
    async def create_room(self, name: str, user: str) -> None:
        """Make a room; it is there once it is stored. Raises RoomExists, TooManyRooms, StorageFailed."""
        if name in self.rooms or name in self._new_rooms:
            raise RoomExists(f"there is a room {name!r} already")
        if len(self.rooms) + len(self._new_rooms) >= ROOMS_MAX:
            raise TooManyRooms(f"there are {ROOMS_MAX} rooms already")
        if self._makers.of(user).take(self.clock.now()):
            raise TooManyRooms(f"a user may make {NEW_ROOMS_PER_HOUR} rooms an hour: try again later")
        self._new_rooms.add(name)
        try:
            is_new = await self._stored(self.history.create_room(name))
        finally:
            self._new_rooms.discard(name)
        self.rooms.setdefault(name, Room(name))
        if not is_new:  # an earlier attempt stored it, and could not say so
            raise RoomExists(f"there is a room {name!r} already")

    @rpc
    async def join_room(self, name: str, user: str, client: ClientRef) -> Joined:
        """Let the calling agent's client in, and tell the others.

        Raises RoomNotFound, TooManyRooms, StorageFailed.
        """
        agent = self.request.source
        room = self._room(name)
        if not room.loaded:
            room.load(await self._stored(self.history.last(name, RECENT_MESSAGES_MAX + 1)))
        # No await from here on: the answer has what was sent round before, and the pushes what comes after.
        if agent not in room.members:
            self._enter(agent, room, Member(user, client))
        return Joined(
            room=name, members=room.users, history=room.recent, member_count=room.user_count, more=room.has_older
        )

    @rpc
    async def rejoin_room(self, name: str, user: str, client: ClientRef, was_lost: bool) -> None:
        """Let the calling agent's client in again, which is in the room as far as it knows.

        `was_lost`: this hub has lost sight of it, and told the others that it left; else they are not told.

        Raises RoomNotFound, TooManyRooms.
        """
        agent = self.request.source
        room = self._room(name)
        if agent not in room.members:
            self._enter(agent, room, Member(user, client), is_told=was_lost)

    @rpc
    async def leave_room(self, name: str) -> None:
        """Let the calling agent's client out; nothing happens when it is not in the room."""
        self._leave(self.request.source, name)

    @rpc
    async def list_rooms(self) -> Rooms:
        """The rooms, the fullest first."""
        infos = [RoomInfo(room=room.name, members=room.user_count) for room in self.rooms.values()]
        infos.sort(key=lambda info: (-info.members, info.room))
        return Rooms(rooms=infos[:ROOMS_LISTED_MAX])

    @rpc
    async def read_history(self, name: str, before: int | None, limit: int) -> Messages:
        """A page of a room's messages, oldest first. Raises RoomNotFound, StorageFailed."""
        self._room(name)
        one_more = limit + 1  # tells whether there are older ones
        page = self.history.last(name, one_more) if before is None else self.history.before(name, before, one_more)
        messages = await self._stored(page)
        return Messages(messages=messages[-limit:], more=len(messages) > limit)

    async def on_down(self, address: Address, how: str) -> None:
        for name in list(self._rooms_of.get(address, ())):
            self._leave(address, name)

    def _room(self, name: str) -> Room:
        room = self.rooms.get(name)
        if room is None:
            raise RoomNotFound(f"there is no room {name!r}")
        return room

    def _enter(self, agent: Address, room: Room, member: Member, *, is_told: bool = True) -> None:
        joined = self._rooms_of.get(agent)
        if joined is None:
            joined = self._rooms_of[agent] = set()
            self.monitor(agent)
        elif len(joined) >= ROOMS_OF_A_CLIENT_MAX:
            raise TooManyRooms(f"you are in {ROOMS_OF_A_CLIENT_MAX} rooms already: leave one first")
        joined.add(room.name)
        if room.enter(agent, member) and is_told:
            fan_out(self, room.others(agent), ChatJoined(room=room.name, user=member.user, time=self.clock.time()))

    def _leave(self, agent: Address, name: str) -> None:
        room = self.rooms.get(name)
        member = None if room is None else room.members.get(agent)
        if room is None or member is None:
            return
        joined = self._rooms_of[agent]
        joined.discard(name)
        if not joined:
            del self._rooms_of[agent]
            self.unmonitor(agent)
        if room.leave(agent):
            fan_out(self, room.others(agent), ChatLeft(room=name, user=member.user, time=self.clock.time()))

    # -- talk ------------------------------------------------------------------------------------------------

    async def _on_chat(self, session: int, source: Address, command: str, name: str, *args: str) -> Said | None:
        room = self.rooms.get(name)
        member = None if room is None else room.members.get(source)
        if command == "say":
            if room is None or member is None:
                raise NotAMember(f"join room {name!r} before you speak there")
            return await self._say(source, room, member.user, args[0])
        if command == "typing" and room is not None and member is not None:
            fan_out(self, room.others(source), ChatTyping(room=name, user=member.user))
        return None

    async def _say(self, agent: Address, room: Room, user: str, text: str) -> Said:
        """Store a message, then send it to the others; the answer says that it is stored."""
        time = self.clock.time()
        id = await self._stored(self.history.append(room.name, user, text, time))
        message = Message(id=id, room=room.name, user=user, text=text, time=time)
        room.remember((message,))
        fan_out(self, room.others(agent), ChatMessage(**message.model_dump()))
        return Said(id=id, time=time)

    async def _stored(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work on the database; what goes wrong is logged, and told without particulars."""
        from skyloom.sql import DatabaseBusy, DatabaseError

        try:
            return await work
        except DatabaseBusy:
            raise StorageFailed("too many messages wait to be stored: try again later") from None
        except DatabaseError as error:
            log.error("storage failed", exc_info=error)
            raise StorageFailed("the history is not available now: try again later") from None
