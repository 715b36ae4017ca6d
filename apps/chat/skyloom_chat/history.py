"""The messages of all rooms, in SQL.

    append --> waiting --> run(): one transaction for whatever waits --> each append returns its id
                 ^                                |
                 '---- the next batch gathers ----'

Writes go by group commit: while one transaction commits, the next messages gather, and all of them share the
next one. So a busy server pays for few commits, a quiet one waits for nothing, and an answer still means
"stored".

    history = await History.open("sqlite:///skyloom.db")
    service.fork(history.run())
    id = await history.append("lobby", "ada", "hello", time)
    await history.close()
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

try:
    from alembic.util import CommandError
    from sqlalchemy import Select
    from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"the chat keeps its history in SQL and needs {missing.name}: pip install 'skyloom[sql]'",
        name=missing.name,
    ) from missing

from skyloom_chat.database import DatabaseUrlError, Engines, make_engines, normalise_url
from skyloom_chat.messages import Message
from skyloom_chat.migrations import upgrade
from skyloom_chat.statements import BEFORE, LAST, ROOMS, TRIM, insert_messages, insert_rooms, message_row

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


class HistoryError(Exception):
    """The history cannot be opened, read or written; the cause is attached.

    After a failed write of a database that was lost in the middle of a commit, the message may be stored or
    not.
    """


class HistoryBusy(HistoryError):
    """Too many messages wait to be stored. Nothing was stored; try again later."""


class HistoryClosed(HistoryError):
    """The history is closed, or its `run` has ended."""


class RoomMissing(HistoryError, LookupError):
    """A message for a room that was never created. Nothing was stored."""


@dataclass(frozen=True, slots=True, eq=False)
class _NewRoom:
    room: str
    answer: asyncio.Future[bool]


@dataclass(frozen=True, slots=True, eq=False)
class _NewMessage:
    room: str
    user: str
    text: str
    time: float
    answer: asyncio.Future[int]


_Job = _NewRoom | _NewMessage


class History:
    """Stores and reads messages; made by `History.open`.

    Args:
        engines: connections to a database whose tables are there.
        limits: bounds, in messages.
    """

    def __init__(self, engines: Engines, limits: HistoryLimits = DEFAULT_LIMITS) -> None:
        self._engines = engines
        self._limits = limits
        self._waiting: deque[_Job] = deque()
        self._work = asyncio.Event()
        self._stopped = asyncio.Event()
        self._running = False
        self._closed = False
        self._since_trim: dict[str, int] = {}
        self.transactions = 0
        """Transactions committed so far."""

    @classmethod
    async def open(cls, url: str, limits: HistoryLimits = DEFAULT_LIMITS) -> History:
        """Connect, and bring the tables to the newest revision. Safe when several processes do so at once.

        Args:
            url: ``sqlite:///FILE``, ``sqlite://`` for one in memory, or
                ``postgresql://USER:PASSWORD@HOST/NAME``.
            limits: bounds, in messages.

        Raises:
            HistoryError: wrong URL, missing package, or a database that cannot be reached or upgraded.
        """
        try:
            parsed = normalise_url(url)
        except DatabaseUrlError as error:
            raise HistoryError(str(error)) from error
        shown = parsed.render_as_string(hide_password=True)
        engines: Engines | None = None
        try:
            engines = make_engines(parsed)
            async with engines.writer.begin() as connection:
                await connection.run_sync(upgrade)
        except BaseException as error:
            if engines is not None:
                await engines.dispose()
            if isinstance(error, CommandError):
                reason = f"{error}; it was used by a newer version, so run that one"
            elif isinstance(error, SQLAlchemyError | OSError | TimeoutError):
                reason = _reason(error)
            else:
                raise
            raise HistoryError(f"the chat history cannot be opened at {shown}: {reason}") from error
        return cls(engines, limits)

    async def create_room(self, room: str) -> bool:
        """Make a room; returns once it is stored. False when it was there already.

        Raises:
            HistoryError: see the classes of this module.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._put(_NewRoom(room, answer))
        return await answer

    async def append(self, room: str, user: str, text: str, time: float) -> int:
        """Store a message; returns its id once it is committed. Ids grow, within a room and over all.

        Args:
            room: an existing room.
            user: who says it.
            text: what is said.
            time: Unix time in seconds.

        Raises:
            RoomMissing: the room was never created.
            HistoryBusy: too many messages wait.
            HistoryClosed: `close` was called, or `run` ended.
            HistoryError: the database refused it or was lost.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._put(_NewMessage(room, user, text, time, answer))
        return await answer

    async def rooms(self) -> list[str]:
        """The names of all rooms, sorted by character code.

        Raises:
            HistoryError: the database cannot be read.
        """
        names = [row.name for row in await self._read(ROOMS, {})]
        # Not by the database: PostgreSQL would sort by its own locale.
        return sorted(names)

    async def last(self, room: str, limit: int) -> list[Message]:
        """The newest `limit` messages of a room, oldest first; empty for a room that is not there.

        Raises:
            ValueError: the limit is below 1.
            HistoryError: the database cannot be read.
        """
        return await self._page(LAST, {"room": room}, limit)

    async def before(self, room: str, id: int, limit: int) -> list[Message]:
        """The newest `limit` messages of a room that are older than `id`, oldest first.

        Raises:
            ValueError: the limit is below 1.
            HistoryError: the database cannot be read.
        """
        return await self._page(BEFORE, {"room": room, "before": id, "kept": self._limits.kept}, limit)

    async def run(self) -> None:
        """Write what waits, until `close`. The owner runs this in a task of its own.

        Raises:
            RuntimeError: it runs already, or ran before.
        """
        if self._running or self._stopped.is_set():
            raise RuntimeError("the history's run() may be called once")
        self._running = True
        batch: list[_Job] = []
        try:
            while True:
                self._work.clear()
                if self._waiting:
                    count = min(len(self._waiting), self._limits.batch)
                    batch = [self._waiting.popleft() for _ in range(count)]
                    await self._write(batch)
                elif self._closed:
                    return
                else:
                    await self._work.wait()
        finally:
            self._running = False
            self._closed = True
            _fail(batch, "the history stopped while this was being written; it may be stored or not")
            self._fail_waiting()
            self._stopped.set()

    async def close(self) -> None:
        """Take no more, write what waits if `run` is running, and disconnect. May be called again."""
        self._closed = True
        self._work.set()
        if self._running:
            await self._stopped.wait()
        self._fail_waiting()
        await self._engines.dispose()

    def _put(self, job: _Job) -> None:
        if self._closed:
            raise HistoryClosed("the history is closed")
        if len(self._waiting) >= self._limits.waiting:
            raise HistoryBusy(f"{len(self._waiting)} messages wait to be stored already; try again later")
        self._waiting.append(job)
        self._work.set()

    def _fail_waiting(self) -> None:
        _fail(self._waiting, "the history was closed before this was written")
        self._waiting.clear()

    async def _write(self, batch: Sequence[_Job]) -> None:
        # Who was cancelled while waiting does not want to be stored any more.
        batch = [job for job in batch if not job.answer.done()]
        if not batch:
            return
        try:
            answers = await self._commit(batch)
        except Exception as error:  # noqa: BLE001 - goes to those who wait; the next batch may fare better
            if len(batch) > 1 and _about_a_row(error):
                # About one of the rows: halve until it is alone, so that the others are stored.
                middle = len(batch) // 2
                await self._write(batch[:middle])
                await self._write(batch[middle:])
                return
            for job in batch:
                if not job.answer.done():
                    job.answer.set_exception(_refusal(job, error))
            return
        for job, answer in zip(batch, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)

    async def _commit(self, batch: Sequence[_Job]) -> list[Any]:
        """One transaction; the answers in the order of the batch."""
        new_rooms = [job for job in batch if isinstance(job, _NewRoom)]
        new_messages = [job for job in batch if isinstance(job, _NewMessage)]
        counts = Counter(job.room for job in new_messages)
        # A room not written to since the start is trimmed at once, or restarts would let it grow.
        grown = {room: self._since_trim.get(room, self._limits.trim) + count for room, count in counts.items()}
        full = [room for room, count in grown.items() if count >= self._limits.trim]
        async with self._engines.writer.begin() as connection:
            created = await insert_rooms(connection, [job.room for job in new_rooms])
            ids = await insert_messages(
                connection, [message_row(job.room, job.user, job.text, job.time) for job in new_messages]
            )
            if full:
                rows = [{"trimmed": room, "kept": self._limits.kept} for room in full]
                await connection.execute(TRIM, rows)
        self.transactions += 1
        self._since_trim.update(grown)
        self._since_trim.update(dict.fromkeys(full, 0))
        made, stored = iter(created), iter(ids)
        return [next(made) if isinstance(job, _NewRoom) else next(stored) for job in batch]

    async def _page(self, query: Select[Any], arguments: dict[str, object], limit: int) -> list[Message]:
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be 1 or more")
        rows = await self._read(query, arguments | {"count": min(limit, self._limits.kept)})
        # They were stored by us, so they need no second validation.
        return [
            Message.model_construct(id=row.id, room=row.room, user=row.user_name, text=row.body, time=row.sent_seconds)
            for row in reversed(rows)
        ]

    async def _read(self, query: Select[Any], arguments: dict[str, object]) -> Sequence[Any]:
        if self._closed:
            raise HistoryClosed("the history is closed")
        try:
            async with self._engines.reader.connect() as connection:
                rows: Sequence[Any] = (await connection.execute(query, arguments)).all()
                return rows
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise HistoryError(f"the chat history cannot be read: {_reason(error)}") from error


def _about_a_row(error: Exception) -> bool:
    """True if the database lives and only refused what one row holds."""
    if isinstance(error, IntegrityError | DataError | ValueError):
        return True
    if not isinstance(error, DBAPIError) or error.connection_invalidated or error.orig is None:
        return False
    # asyncpg's errors arrive as bare DBAPIErrors with an SQLSTATE: class 22 is data, 23 integrity.
    state = getattr(error.orig, "sqlstate", None) or ""
    return state[:2] in ("22", "23")


def _refusal(job: _Job, error: Exception) -> HistoryError:
    if isinstance(error, IntegrityError) and isinstance(job, _NewMessage):
        refusal: HistoryError = RoomMissing(f"there is no room {job.room[:64]!r}; create it first")
    else:
        refusal = HistoryError(f"the chat history cannot be written: {_reason(error)}")
    refusal.__cause__ = error
    return refusal


def _reason(error: BaseException) -> str:
    """The database's own words, without the statement and its parameters, which hold what users wrote."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0][:300] if lines else type(cause).__name__


def _fail(jobs: Sequence[_Job] | deque[_Job], message: str) -> None:
    for job in jobs:
        if not job.answer.done():
            job.answer.set_exception(HistoryClosed(message))
