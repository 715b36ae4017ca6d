"""A database in memory that works at once and in one thread, for tests in virtual time and for the simulator.

disk = Disk(MIGRATIONS)  # outlives a node that crashes
database = InlineDatabase(disk, pause=lambda: service.sleep(rng.random()))

The same functions run on the same SQL as in production, on SQLite, without threads and sockets: so a run repeats from
its seed. `pause` is awaited before and after each transaction; a crash in the first loses it, one in the second only
its answer.
"""

from __future__ import annotations

import sqlite3
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, StaticPool, create_engine, event

from skyloom.sql.database import Database, DatabaseClosed, Refused, about_the_database, refusal_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import Engine

    from skyloom.sql.migrations import Migrations

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")
P = ParamSpec("P")


async def no_pause() -> None:
    """Wait for nothing."""


class Disk:
    """A database that stays when the node that used it has crashed; `migrations` make its tables."""

    def __init__(self, migrations: Migrations) -> None:
        self.engine = _engine()
        raw = self.engine.raw_connection()
        try:
            connection: Any = raw.dbapi_connection
            connection.deserialize(_migrated(migrations))
            connection.execute("PRAGMA foreign_keys = ON")
        finally:
            raw.close()
        weakref.finalize(self, self.engine.dispose)  # nobody else closes the connection, which Python 3.13 warns of

    def transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``work(connection, ...)`` in a transaction of its own, now."""
        with self.engine.begin() as connection:
            return work(connection, *args, **kwargs)


class InlineDatabase(Database):
    """See the module's docstring."""

    def __init__(self, disk: Disk, *, pause: Callable[[], Awaitable[None]] = no_pause) -> None:
        self.disk = disk
        self._pause = pause
        self._closed = False
        self.transactions = 0

    async def _written(self, work: Callable[[Connection, Sequence[Q]], Sequence[A]], items: Sequence[Q]) -> list[Any]:
        """In a transaction of their own."""
        await self._pause()
        if self._closed:
            raise DatabaseClosed("the database is closed")
        answers = self._transact(work, items)
        await self._pause()
        return answers

    def _transact(self, work: Callable[[Connection, Sequence[Q]], Sequence[A]], items: Sequence[Q]) -> list[Any]:
        try:
            answers = list(self.disk.transact(work, items))
        except Exception as error:  # noqa: BLE001 - goes to those who wait
            is_lost, middle = about_the_database(error), len(items) // 2
            if middle and not is_lost:
                return self._transact(work, items[:middle]) + self._transact(work, items[middle:])
            return [Refused(refusal_of(error), is_lost)] * len(items)
        self.transactions += 1
        return answers

    async def read(self, work: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`Database.read`."""
        await self._pause()
        if self._closed:
            raise DatabaseClosed("the database is closed")
        found = self.disk.transact(work, *args, **kwargs)
        await self._pause()
        return found

    async def run(self) -> None:
        """Nothing: writes do not wait."""

    async def close(self) -> None:
        """Take no more; the disk keeps what it has."""
        self._closed = True


def _engine() -> Engine:
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False, "isolation_level": None}
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


@cache
def _migrated(migrations: Migrations) -> bytes:
    """The image of an empty database: migrating takes 50 ms, copying an image none."""
    engine = _engine()
    with engine.begin() as connection:
        migrations.upgrade(connection)
    raw = engine.raw_connection()
    try:
        assert isinstance(raw.dbapi_connection, sqlite3.Connection)
        return raw.dbapi_connection.serialize()
    finally:
        raw.close()
        engine.dispose()
