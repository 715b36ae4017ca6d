"""Where data is kept: database URLs and the engines made from them.

SQLite is taken with its own locks made explicit. Under SQLAlchemy's defaults a transaction that reads and
then writes loses updates of others, so every writing transaction here begins with BEGIN IMMEDIATE, on one
connection.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

SQLITE_BUSY_TIMEOUT_SECONDS = 10.0
POSTGRES_CONNECT_TIMEOUT_SECONDS = 10.0
POSTGRES_STATEMENT_TIMEOUT_SECONDS = 30.0
READERS_MAX = 4

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_REMEDY = "write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
_EXTRAS = {"sqlite+aiosqlite": ("aiosqlite", "sql"), "postgresql+asyncpg": ("asyncpg", "postgres")}


class DatabaseUrlError(ValueError):
    """The database URL cannot be used; the message says why and what to write, and shows no password."""


@dataclass(frozen=True, slots=True)
class Engines:
    """One connection that writes, and others that read.

    For a SQLite database in memory both are the same engine with one connection, as nobody else can see it.
    """

    writer: AsyncEngine
    reader: AsyncEngine

    async def dispose(self) -> None:
        """Close all connections."""
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()


def normalise_url(url: str) -> URL:
    """The URL with the driver that Skyloom uses for it.

    ``sqlite:///FILE`` becomes sqlite+aiosqlite and ``postgresql://...`` postgresql+asyncpg. libpq's
    ``sslmode`` becomes asyncpg's ``ssl``, which takes the same words.

    Raises:
        DatabaseUrlError: it is no URL, another database, or the driver is not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The cause is left out on purpose: it may quote the URL, and with it the password.
        raise DatabaseUrlError(f"the database URL (text of {len(url)} characters) is not a URL; {_REMEDY}") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise DatabaseUrlError(f"the database URL begins with {parsed.drivername[:40]!r}; {_REMEDY}")
    module, extra = _EXTRAS[driver]
    if importlib.util.find_spec(module) is None:
        raise DatabaseUrlError(f"{driver} needs {module}: pip install 'skyloom[{extra}]'")
    parsed = parsed.set(drivername=driver)
    if driver == "sqlite+aiosqlite" and (parsed.host or parsed.username):
        raise DatabaseUrlError(f"a SQLite URL has three slashes before a file name, four before a path; {_REMEDY}")
    if driver == "postgresql+asyncpg" and not parsed.database:
        raise DatabaseUrlError(f"the database URL names no database; {_REMEDY}")
    if driver == "postgresql+asyncpg" and "sslmode" in parsed.query:
        mode = parsed.query["sslmode"]
        parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return parsed


def in_memory(url: URL) -> bool:
    """True for a SQLite database that lives only in this process."""
    return url.get_backend_name() == "sqlite" and (url.database or ":memory:") == ":memory:"


def make_engines(url: URL) -> Engines:
    """Engines for a normalised URL; makes the folder of a SQLite file. Nothing is connected yet.

    Raises:
        OSError: the folder cannot be made.
    """
    # hide_parameters, below: what users wrote does not belong in errors, and so in logs.
    if url.get_backend_name() == "sqlite":
        return _sqlite_engines(url)
    options: dict[str, Any] = {
        "hide_parameters": True,
        "connect_args": {
            "timeout": POSTGRES_CONNECT_TIMEOUT_SECONDS,
            "command_timeout": POSTGRES_STATEMENT_TIMEOUT_SECONDS,
        },
        # A server that was restarted costs nobody a failed message.
        "pool_pre_ping": True,
        # Every transaction here ends by commit or rollback before its connection goes back.
        "pool_reset_on_return": None,
    }
    return Engines(
        writer=create_async_engine(url, pool_size=1, max_overflow=0, **options),
        reader=create_async_engine(url, pool_size=READERS_MAX, max_overflow=0, isolation_level="AUTOCOMMIT", **options),
    )


def _sqlite_engines(url: URL) -> Engines:
    # isolation_level None: Python's sqlite3 begins no transactions of its own.
    arguments = {"isolation_level": None, "timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
    memory = in_memory(url)
    if not memory and not (url.database or "").startswith("file:"):
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    # One connection that is kept: with a second one a database in memory would be a second database.
    writer = create_async_engine(
        url,
        connect_args=arguments,
        poolclass=AsyncAdaptedQueuePool,
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
    )
    event.listen(writer.sync_engine, "connect", _prepare_writer)
    event.listen(writer.sync_engine, "begin", _begin_immediate)
    if memory:
        return Engines(writer, writer)
    reader = create_async_engine(
        url,
        connect_args=arguments,
        poolclass=AsyncAdaptedQueuePool,
        hide_parameters=True,
        pool_size=READERS_MAX,
        max_overflow=0,
    )
    event.listen(reader.sync_engine, "connect", _prepare_reader)
    return Engines(writer, reader)


def _prepare_writer(connection: DBAPIConnection, _: object) -> None:
    # WAL: readers and the writer do not wait for each other. FULL: a commit is on the disk when it returns,
    # so that what was answered survives a power cut as well as a kill.
    _run(connection, "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON")


def _prepare_reader(connection: DBAPIConnection, _: object) -> None:
    _run(connection, "PRAGMA query_only = ON")


def _run(connection: DBAPIConnection, *statements: str) -> None:
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
