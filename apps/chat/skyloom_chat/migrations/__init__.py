"""Brings the chat's tables to the newest revision, from inside the running event loop.

Revisions are ordinary Alembic revision files in `versions`, but take their operations as an argument,
``def upgrade(op: Operations)``, and there is no env.py. Alembic's `alembic.op` and `alembic.context` are
process-wide: two apps that upgrade at once on one loop would run each other's operations, since each
statement may switch tasks.
"""

from __future__ import annotations

from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

VERSION_TABLE = "chat_alembic_version"
"""Of the chat alone, so that other apps can keep their tables in the same database."""

# Any number that no other user of the database takes: "chat" in ASCII.
_ADVISORY_LOCK = 0x63686174


def upgrade(connection: Connection) -> None:
    """Run the revisions that the database does not have yet, within the transaction of `connection`.

    Safe when several processes start at once: the others wait, and then find nothing to do. On SQLite the
    caller's transaction has to be one that began with BEGIN IMMEDIATE; PostgreSQL takes a lock of its own for
    it.

    Raises:
        alembic.util.CommandError: the database has a revision that this version of the chat does not know.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    scripts = ScriptDirectory(Path(__file__).parent)
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "render_as_batch": connection.dialect.name == "sqlite",
            "fn": lambda revision, _: scripts._upgrade_revs("head", revision),
        },
    )
    context.run_migrations(op=Operations(context))
