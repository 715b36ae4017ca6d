"""SQL for apps: SQLite and PostgreSQL behind one `Database`, with migrations and group commit.

The extra `sql`; nothing of it is loaded by the rest of Skyloom. What to write::

    MIGRATIONS = Migrations("skyloom_shop.migrations", version_table="shop_alembic_version", lock=0x73686F70)

    database = await Database.open("sqlite:///shop.db", MIGRATIONS)
    service.fork(database.run(), critical=True)
    (answer,) = await database.write(hold, [request])  # def hold(connection, requests) -> answers
"""

from skyloom.message.errors import PackageMissing

try:
    import alembic
    import sqlalchemy
except ModuleNotFoundError as missing:
    raise PackageMissing(f"what keeps its data in SQL needs {missing.name}: pip install 'skyloom[sql]'") from missing

from skyloom.sql.database import (
    Database,
    DatabaseBusy,
    DatabaseClosed,
    DatabaseError,
    DatabaseNotOpened,
    RowRefused,
)
from skyloom.sql.engines import DatabaseUrlError, Engines, in_memory, make_engines, normalise_url
from skyloom.sql.migrations import Migrations

del alembic, sqlalchemy

__all__ = [
    "Database",
    "DatabaseBusy",
    "DatabaseClosed",
    "DatabaseError",
    "DatabaseNotOpened",
    "DatabaseUrlError",
    "Engines",
    "Migrations",
    "RowRefused",
    "in_memory",
    "make_engines",
    "normalise_url",
]
