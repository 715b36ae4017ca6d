"""The messages of all rooms, in SQL.

Writes go by group commit (`skyloom.sql.Database`): a busy server pays for few commits, a quiet one waits for nothing,
and an answer means "stored".

    history = await History.open("sqlite:///skyloom.db")
    service.fork(history.run())
    id = await history.append("lobby", "ada", "hello", time)
    await history.close()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skyloom.sql import Database, DatabaseError, RowRefused
from skyloom_chat.messages import Message
from skyloom_chat.migrations import MIGRATIONS
from skyloom_chat.statements import BEFORE, LAST, ROOMS, TRIM, insert_messages, insert_rooms, message_row

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

HISTORY_MESSAGES_MAX = 1_000
BATCH_MESSAGES_MAX = 500
TRIM_MESSAGES = 100
WAITING_MESSAGES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """Bounds of a history, all in messages.

    Args:
        kept: messages of a room that are kept and shown.
        batch: messages in one transaction.
        trim: new messages in a room before its oldest are deleted; so many more than shown may be stored.
        waiting: messages that wait to be stored; a server that takes more than its disk can must say so.
    """

    kept: int = HISTORY_MESSAGES_MAX
    batch: int = BATCH_MESSAGES_MAX
    trim: int = TRIM_MESSAGES
    waiting: int = WAITING_MESSAGES_MAX


DEFAULT_LIMITS = HistoryLimits()


class RoomMissing(DatabaseError, LookupError):
    """A message for a room that was never created. Nothing was stored."""


class History:
    """Stores and reads messages; made by `History.open`.

    Args:
        database: one whose tables are there.
        limits: bounds, in messages.
    """

    def __init__(self, database: Database, limits: HistoryLimits = DEFAULT_LIMITS) -> None:
        self._database = database
        self._limits = limits
        self._since_trim: dict[str, int] = {}

    @classmethod
    async def open(cls, url: str, limits: HistoryLimits = DEFAULT_LIMITS) -> History:
        """`Database.open`, for the chat's tables."""
        database = await Database.open(url, MIGRATIONS, transaction_max=limits.batch, waiting_max=limits.waiting)
        return cls(database, limits)

    @property
    def transactions(self) -> int:
        """Transactions committed so far."""
        return self._database.transactions

    async def create_room(self, room: str) -> bool:
        """Make a room; returns once it is stored. False when it was there already.

        Raises:
            DatabaseError: see `Database.write`.
        """
        return (await self._database.write(insert_rooms, [room]))[0]

    async def append(self, room: str, user: str, text: str, time: float) -> int:
        """Store a message; returns its id once it is committed. Ids grow, within a room and over all.

        Args:
            room: an existing room.
            user: who says it.
            text: what is said.
            time: Unix time in seconds.

        Raises:
            RoomMissing: the room was never created.
            DatabaseError: see `Database.write`.
        """
        try:
            ((id, since_trim),) = await self._database.write(self._append, [message_row(room, user, text, time)])
        except RowRefused as refused:
            raise RoomMissing(f"there is no room {room[:64]!r}; create it first") from refused
        self._since_trim[room] = since_trim
        return id

    async def rooms(self) -> list[str]:
        """The names of all rooms, sorted by character code.

        Raises:
            DatabaseError: the database cannot be read.
        """
        names = [row.name for row in await self._database.read(_rows, ROOMS, {})]
        # Not by the database: PostgreSQL would sort by its own locale.
        return sorted(names)

    async def last(self, room: str, limit: int) -> list[Message]:
        """The newest `limit` messages of a room, oldest first; empty for a room that is not there.

        Raises:
            ValueError: the limit is below 1.
            DatabaseError: the database cannot be read.
        """
        return await self._page(LAST, {"room": room}, limit)

    async def before(self, room: str, id: int, limit: int) -> list[Message]:
        """The newest `limit` messages of a room that are older than `id`, oldest first.

        Raises:
            ValueError: the limit is below 1.
            DatabaseError: the database cannot be read.
        """
        return await self._page(BEFORE, {"room": room, "before": id, "kept": self._limits.kept}, limit)

    async def run(self) -> None:
        """`Database.run`."""
        await self._database.run()

    async def close(self) -> None:
        """`Database.close`."""
        await self._database.close()

    def _append(self, connection: Connection, rows: Sequence[dict[str, object]]) -> list[tuple[int, int]]:
        """Store messages and trim their rooms: the id of each, and by how many its room has grown since then."""
        ids = insert_messages(connection, rows)
        # A room not written to since the start is trimmed at once, or restarts would let it grow.
        counts = Counter(str(row["room"]) for row in rows)
        grown = {room: self._since_trim.get(room, self._limits.trim) + count for room, count in counts.items()}
        full = [room for room, count in grown.items() if count >= self._limits.trim]
        if full:
            connection.execute(TRIM, [{"trimmed": room, "kept": self._limits.kept} for room in full])
        grown.update(dict.fromkeys(full, 0))
        return [(id, grown[str(row["room"])]) for id, row in zip(ids, rows, strict=True)]

    async def _page(self, query: Select[Any], arguments: dict[str, object], limit: int) -> list[Message]:
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be 1 or more")
        rows = await self._database.read(_rows, query, arguments | {"count": min(limit, self._limits.kept)})
        # They were stored by us, so they need no second validation.
        return [
            Message.model_construct(id=row.id, room=row.room, user=row.user_name, text=row.body, time=row.sent_seconds)
            for row in reversed(rows)
        ]


def _rows(connection: Connection, query: Select[Any], arguments: dict[str, object]) -> Sequence[Any]:
    return connection.execute(query, arguments).all()
