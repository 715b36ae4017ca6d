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
from sqlalchemy.exc import SQLAlchemyError

from skyloom.sql.database import Database, DatabaseClosed, DatabaseError, reason_of

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

    async def write(self, work: Callable[[Connection, Sequence[Q]], Sequence[A]], items: Sequence[Q]) -> list[A]:
        """`Database.write`, in a transaction of its own."""
        await self._pause()
        if self._closed:
            raise DatabaseClosed("the database is closed")
        try:
            answers = list(self.disk.transact(work, items))
        except SQLAlchemyError as error:
            raise DatabaseError(f"the database cannot be written: {reason_of(error)}") from error
        self.transactions += 1
        await self._pause()
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
