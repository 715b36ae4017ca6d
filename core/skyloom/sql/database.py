"""A database with one writer, in which many small writes share one transaction.

What to write::

    def hold(connection: Connection, requests: Sequence[Hold]) -> list[Held | Refused]:  # an answer for each
        ...


    database = await Database.open(url, MIGRATIONS)
    service.fork(database.run(), critical=True)
    (held,) = await database.write(hold, [request])  # stored when it returns
    rows = await database.read(select_rooms)
    await database.close()

How writes go::

    write(hold, [a]) --.                     .-- hold(connection, [a, b]) --.
    write(hold, [b]) ---> wait for the last --> one transaction ------------ > commit -> an answer for each
    write(save, [c]) --'        commit       '-- save(connection, [c]) -----'

While one transaction commits, the next writes gather, and all of them share the next one; those of the same function
are one call of it. So a busy server pays for few commits and few statements, and a quiet one waits for nothing.

Only one transaction writes at a time, in all processes that share the database: on SQLite by its own lock, on
PostgreSQL by an advisory lock of the app's. So a function may read, decide and write without thinking of others. It
may be called again for the same items after a rollback, so it must not change anything but the database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from skyloom.message.errors import CannotStart
from skyloom.sql.engines import DatabaseUrlError, Engines, check_file, make_engines, normalise_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from skyloom.sql.migrations import Migrations

TRANSACTION_ITEMS_MAX: Final = 500
"""Items in one transaction."""

WAITING_ITEMS_MAX: Final = 10_000
"""Items that wait to be written; a server that takes more than its disk can must say so."""

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")
P = ParamSpec("P")

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")


class DatabaseError(Exception):
    """The database cannot be opened, read or written; the cause is attached, and quotes nothing that users wrote."""


class DatabaseNotOpened(DatabaseError, CannotStart):
    """The database cannot be opened: the text says where it should be, why not, and what to do."""


class RowRefused(DatabaseError):
    """What was to be written breaks a constraint: a key that is there twice, or one that is not there. Not stored."""


class DatabaseBusy(DatabaseError):
    """Too many writes wait. Nothing was stored; try again later."""


class DatabaseClosed(DatabaseError):
    """The database is closed, or its `run` has ended."""


class _Job:
    """One call of `write`: its function, its items, and an answer for each."""

    __slots__ = ("answers", "done", "items", "left", "work")

    def __init__(self, work: Callable[..., Any], items: Sequence[Any], done: asyncio.Future[None]) -> None:
        self.work = work
        self.items = items
        self.answers: list[Any] = [None] * len(items)
        self.left = len(items)
        self.done = done

    def answer(self, index: int, answer: Any) -> None:
        self.answers[index] = answer
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)


_Entry = tuple[_Job, int]
"""A job and the index of one of its items."""


class Database:
    """See the module's docstring; made by `Database.open`.

    Args:
        engines: connections to a database whose tables are there.
        lock: PostgreSQL's advisory lock that every writing transaction takes; None for none.
        transaction_max: items in one transaction; 1 for no batching at all.
        waiting_max: items that wait to be written.
    """

    def __init__(
        self,
        engines: Engines,
        *,
        lock: int | None = None,
        transaction_max: int = TRANSACTION_ITEMS_MAX,
        waiting_max: int = WAITING_ITEMS_MAX,
    ) -> None:
        self._engines = engines
        self._lock = lock if engines.dialect == "postgresql" else None
        self._transaction_max = transaction_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Entry] = deque()
        self._work = asyncio.Event()
        self._stopped = asyncio.Event()
        self._running = False
        self._closed = False
        self.transactions = 0
        """Transactions committed so far."""

    @staticmethod
    def check(url: str) -> None:
        """Look whether `open` could succeed, without connecting to a server or changing a file: for `Service.on_check`.

        Sees a wrong URL, a package that is not installed, and a SQLite file or folder that cannot be written.
        Raises DatabaseNotOpened.
        """
        try:
            check_file(normalise_url(url))
        except DatabaseUrlError as error:
            raise DatabaseNotOpened(str(error)) from error

    @classmethod
    async def open(
        cls,
        url: str,
        migrations: Migrations,
        *,
        transaction_max: int = TRANSACTION_ITEMS_MAX,
        waiting_max: int = WAITING_ITEMS_MAX,
    ) -> Self:
        """Connect, and bring the tables to the newest revision. Safe when several processes do so at once.

        Args:
            url: ``sqlite:///FILE``, ``sqlite://`` for one in memory, or ``postgresql://USER:PASSWORD@HOST/NAME``.
            migrations: the app's tables; its lock is that of the writes, too.
            transaction_max: items in one transaction.
            waiting_max: items that wait to be written.

        Raises:
            DatabaseNotOpened: wrong URL, missing package, or a database that cannot be reached or upgraded.
        """
        try:
            parsed = normalise_url(url)
        except DatabaseUrlError as error:
            raise DatabaseNotOpened(str(error)) from error
        shown = parsed.render_as_string(hide_password=True)
        engines: Engines | None = None
        try:
            engines = make_engines(parsed)
            await engines.transact(migrations.upgrade)
        except BaseException as error:
            if engines is not None:
                await engines.dispose()
            if isinstance(error, CommandError):
                reason = f"{error}; it was used by a newer version, so run that one"
            elif isinstance(error, SQLAlchemyError | OSError | TimeoutError):
                reason = reason_of(error)
            else:
                raise
            raise DatabaseNotOpened(f"the database cannot be opened at {shown}: {reason}") from error
        return cls(engines, lock=migrations.lock, transaction_max=transaction_max, waiting_max=waiting_max)

    async def write(self, work: Callable[[Connection, Sequence[Q]], Sequence[A]], items: Sequence[Q]) -> list[A]:
        """Call ``work(connection, items)`` in a transaction, with the items of others; an answer for each, once stored.

        An item that the database refuses, or for which `work` raises, is tried without the others.

        Raises:
            DatabaseBusy: too many items wait. Nothing was stored.
            DatabaseClosed: `close` was called, or `run` ended.
            RowRefused: an item breaks a constraint of the tables. The other items may be stored.
            DatabaseError: an item was refused for another reason, or the database was lost: it may be stored or not.
            Exception: what `work` raised for one item by itself.
        """
        answers = await self._written(work, items)
        for answer in answers:
            if isinstance(answer, Refused):
                raise answer.error
        return answers

    async def write_each(
        self, work: Callable[[Connection, Sequence[Q]], Sequence[A]], items: Sequence[Q]
    ) -> list[A | Exception]:
        """`write`, for items that fail each for itself: in the place of its answer is what `write` would raise for it.

        Raises:
            DatabaseBusy, DatabaseClosed: as `write`.
            DatabaseError: the database was lost, and with it all items that have no answer: they may be stored or not.
        """
        answers = await self._written(work, items)
        for answer in answers:
            if isinstance(answer, Refused) and answer.is_lost:
                raise answer.error
        return [answer.error if isinstance(answer, Refused) else answer for answer in answers]

    async def _written(self, work: Callable[[Connection, Sequence[Q]], Sequence[A]], items: Sequence[Q]) -> list[Any]:
        """An answer, or a Refused, for each item."""
        if self._closed:
            raise DatabaseClosed("the database is closed")
        if len(self._waiting) + len(items) > self._waiting_max:
            raise DatabaseBusy(f"{len(self._waiting)} writes wait already; try again later")
        if not items:
            return []
        job = _Job(work, items, asyncio.get_running_loop().create_future())
        self._waiting.extend((job, index) for index in range(len(items)))
        self._work.set()
        await job.done
        return job.answers

    async def read(self, work: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """``work(connection, ...)`` on a connection that only reads.

        Raises:
            DatabaseError: the database is closed or cannot be read.
        """
        if self._closed:
            raise DatabaseClosed("the database is closed")
        try:
            return await self._engines.read(lambda connection: work(connection, *args, **kwargs))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise DatabaseError(f"the database cannot be read: {reason_of(error)}") from error

    async def run(self) -> None:
        """Write what waits, until `close`. The owner runs this in a task of its own; its cancellation closes, too.

        Raises:
            RuntimeError: it runs already, or ran before.
        """
        if self._running or self._stopped.is_set():
            raise RuntimeError("a database's run() may be called once")
        self._running = True
        try:
            await self._write_what_waits()
        except BaseException:
            await self.close()  # a service that crashes or is killed has no `on_stop`, which closes otherwise
            raise

    async def _write_what_waits(self) -> None:
        batch: list[_Entry] = []
        try:
            while True:
                self._work.clear()
                if self._waiting:
                    count = min(len(self._waiting), self._transaction_max)
                    batch = [self._waiting.popleft() for _ in range(count)]
                    await self._write(batch)
                elif self._closed:
                    return
                else:
                    await self._work.wait()
        finally:
            self._running = False
            self._closed = True
            _fail(batch, "the database stopped while this was being written; it may be stored or not")
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

    def _fail_waiting(self) -> None:
        _fail(self._waiting, "the database was closed before this was written")
        self._waiting.clear()

    async def _write(self, entries: Sequence[_Entry]) -> None:
        # Who was cancelled while waiting does not want to be stored any more.
        entries = [entry for entry in entries if not entry[0].done.done()]
        if not entries:
            return
        try:
            answers = await self._commit(entries)
        except Exception as error:  # noqa: BLE001 - goes to those who wait; the next transaction may fare better
            is_lost = about_the_database(error)
            if len(entries) > 1 and not is_lost:
                # About one of the items: halve until it is alone, so that the others are stored.
                middle = len(entries) // 2
                await self._write(entries[:middle])
                await self._write(entries[middle:])
                return
            refused = Refused(refusal_of(error), is_lost)
            answers = [refused] * len(entries)
        for (job, index), answer in zip(entries, answers, strict=True):
            job.answer(index, answer)

    async def _commit(self, entries: Sequence[_Entry]) -> list[Any]:
        """One transaction; the answers in the order of the entries."""
        indexes: dict[Callable[..., Any], list[int]] = {}
        for index, (job, _) in enumerate(entries):
            indexes.setdefault(job.work, []).append(index)
        answers: list[Any] = [None] * len(entries)

        def transact(connection: Connection) -> None:
            if self._lock is not None:
                connection.execute(_LOCK, {"key": self._lock})
            for work, places in indexes.items():
                items = [entries[place][0].items[entries[place][1]] for place in places]
                for place, answer in zip(places, work(connection, items), strict=True):
                    answers[place] = answer

        await self._engines.transact(transact)
        self.transactions += 1
        return answers


class Refused:
    """Stands in the place of an answer. `is_lost`: the error says nothing about the item, but about the database."""

    __slots__ = ("error", "is_lost")

    def __init__(self, error: Exception, is_lost: bool) -> None:
        self.error = error
        self.is_lost = is_lost


def about_the_database(error: Exception) -> bool:
    """False if the database lives, and only refused what one item holds, or the function failed for one."""
    if isinstance(error, OSError | TimeoutError):
        return True
    if isinstance(error, IntegrityError | DataError) or not isinstance(error, SQLAlchemyError):
        return False
    if not isinstance(error, DBAPIError) or error.connection_invalidated or error.orig is None:
        return True
    return _sqlstate(error)[:2] not in ("22", "23")


def _sqlstate(error: Exception) -> str:
    # asyncpg's errors arrive as bare DBAPIErrors with an SQLSTATE: class 22 is data, 23 integrity.
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def refusal_of(error: Exception) -> Exception:
    """The error as it is told: of the database's, only its own words."""
    if not isinstance(error, SQLAlchemyError | OSError | TimeoutError | ValueError):
        return error
    broken = isinstance(error, IntegrityError) or _sqlstate(error).startswith("23")
    refusal = (RowRefused if broken else DatabaseError)(f"the database cannot be written: {reason_of(error)}")
    refusal.__cause__ = error
    return refusal


def reason_of(error: BaseException) -> str:
    """The database's own words, without the statement and its parameters, which hold what users wrote."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0][:300] if lines else type(cause).__name__


def _fail(entries: Iterable[_Entry], message: str) -> None:
    for job, _ in entries:
        if not job.done.done():
            job.done.set_exception(DatabaseClosed(message))
