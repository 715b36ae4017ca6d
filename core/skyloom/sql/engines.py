"""Where data is kept: database URLs and the engines made from them.

SQLite is taken with its own locks made explicit. Under SQLAlchemy's defaults a transaction that reads and
then writes loses updates of others, so every writing transaction here begins with BEGIN IMMEDIATE, on one
connection. A transaction is one visit to the thread of that connection: visits for each statement cost
more than the statements do.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

SQLITE_BUSY_TIMEOUT_SECONDS = 10.0
POSTGRES_CONNECT_TIMEOUT_SECONDS = 10.0
POSTGRES_STATEMENT_TIMEOUT_SECONDS = 30.0
READERS_MAX = 4

_SQLITE_HEAD = b"SQLite format 3\0"

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_REMEDY = "write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"


class DatabaseUrlError(ValueError):
    """The database URL cannot be used; the message says why and what to write, and shows no password."""


def normalise_url(url: str) -> URL:
    """The URL with the driver that Skyloom uses for it.

    ``postgresql://...`` becomes postgresql+asyncpg, and libpq's ``sslmode`` asyncpg's ``ssl``, which takes the same
    words.

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
    if driver == "postgresql+asyncpg" and importlib.util.find_spec("asyncpg") is None:
        raise DatabaseUrlError("PostgreSQL needs asyncpg: pip install 'skyloom[postgres]'")
    parsed = parsed.set(drivername=driver)
    if driver == "sqlite" and (parsed.host or parsed.username):
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


def check_file(url: URL) -> None:
    """Look whether a SQLite database could be opened and written; its folder need not be there, but must be possible.

    Raises DatabaseUrlError.
    """
    if url.get_backend_name() != "sqlite" or in_memory(url) or (url.database or "").startswith("file:"):
        return
    file = where = Path(url.database or "")
    try:
        if file.exists():
            with file.open("r+b") as opened:
                if opened.read(len(_SQLITE_HEAD)) not in (b"", _SQLITE_HEAD):
                    raise DatabaseUrlError(f"{file} is not a SQLite database; name another file in the database URL")
        where = next(folder for folder in file.absolute().parents if folder.exists())
        # Leaves nothing behind. Asking for permissions says too little: of a read-only disk, or to root.
        with TemporaryFile(dir=where):
            pass
    except OSError as error:
        raise DatabaseUrlError(
            f"{where} cannot be written: {error.strerror}; give this user the right to, or name another file in the"
            " database URL"
        ) from error


class Engines(Protocol):
    """One connection that writes, and others that read. The work is an ordinary function of a connection."""

    dialect: str
    """"sqlite" or "postgresql"."""

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """``work(connection)`` in a transaction, one at a time; committed when it returns."""
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """``work(connection)`` on a connection that only reads."""
        ...

    async def dispose(self) -> None:
        """Close all connections."""
        ...


def make_engines(url: URL) -> Engines:
    """Engines for a normalised URL; makes the folder of a SQLite file. Nothing is connected yet.

    Raises:
        OSError: the folder cannot be made.
    """
    return SqliteEngines(url) if url.get_backend_name() == "sqlite" else PostgresEngines(url)


class SqliteEngines:
    """`Engines` of SQLite, in threads: one that writes, `READERS_MAX` that read.

    A database in memory has one connection for both, as nobody else can see it.
    """

    dialect = "sqlite"

    def __init__(self, url: URL) -> None:
        memory = in_memory(url)
        if not memory and not (url.database or "").startswith("file:"):
            Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        self._writer = _sqlite_engine(url, 1)
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="skyloom sql writer")
        event.listen(self._writer, "connect", _prepare_writer)
        event.listen(self._writer, "begin", _begin_immediate)
        self._reader, self._reader_threads = self._writer, self._writer_thread
        if not memory:
            self._reader = _sqlite_engine(url, READERS_MAX)
            self._reader_threads = ThreadPoolExecutor(READERS_MAX, thread_name_prefix="skyloom sql reader")
            event.listen(self._reader, "connect", _prepare_reader)
            event.listen(self._reader, "begin", _begin)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """`Engines.transact`."""
        return await _in_thread(self._writer_thread, self._writer, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """`Engines.read`. All that one `work` reads is of one moment."""
        return await _in_thread(self._reader_threads, self._reader, work)

    async def dispose(self) -> None:
        """`Engines.dispose`."""
        await asyncio.get_running_loop().run_in_executor(None, self._dispose)

    def _dispose(self) -> None:
        for threads, engine in ((self._writer_thread, self._writer), (self._reader_threads, self._reader)):
            threads.shutdown()  # after the work that is under way
            engine.dispose()


class PostgresEngines:
    """`Engines` of PostgreSQL, by asyncpg."""

    dialect = "postgresql"

    def __init__(self, url: URL) -> None:
        # Loads SQLAlchemy's ORM, a tenth of a gateway's start that one on SQLite need not wait for.
        from sqlalchemy.ext.asyncio import create_async_engine

        def engine(connections: int, **options: str) -> AsyncEngine:
            return create_async_engine(
                url,
                pool_size=connections,
                max_overflow=0,
                hide_parameters=True,
                connect_args={
                    "timeout": POSTGRES_CONNECT_TIMEOUT_SECONDS,
                    "command_timeout": POSTGRES_STATEMENT_TIMEOUT_SECONDS,
                },
                # A server that was restarted costs nobody a failed message.
                pool_pre_ping=True,
                # Every transaction here ends by commit or rollback before its connection goes back.
                pool_reset_on_return=None,
                **options,
            )

        self._writer = engine(1)
        self._reader = engine(READERS_MAX, isolation_level="AUTOCOMMIT")

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """`Engines.transact`."""
        async with self._writer.begin() as connection:
            return await connection.run_sync(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """`Engines.read`. Each statement reads what is committed then."""
        async with self._reader.connect() as connection:
            return await connection.run_sync(work)

    async def dispose(self) -> None:
        """`Engines.dispose`."""
        await self._writer.dispose()
        await self._reader.dispose()


def _sqlite_engine(url: URL, connections: int) -> Engine:
    # isolation_level None: Python's sqlite3 begins no transactions of its own. hide_parameters: what users wrote does
    # not belong in errors, and so in logs.
    return create_engine(
        url,
        connect_args={"isolation_level": None, "timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
    )


async def _in_thread(threads: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], T]) -> T:
    def transact() -> T:
        with engine.begin() as connection:
            return work(connection)

    return await asyncio.get_running_loop().run_in_executor(threads, transact)


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


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
