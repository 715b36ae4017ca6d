"""Brings an app's tables to the newest revision, from inside a running event loop.

Revisions are ordinary Alembic revision files in a package's folder `versions`, but take their operations as an
argument, ``def upgrade(op: Operations)``, and there is no env.py. Alembic's `alembic.op` and `alembic.context` are
process-wide: two apps that upgrade at once on one loop would run each other's operations, since each statement may
switch tasks.
"""

from __future__ import annotations

from importlib.resources import as_file, files

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text


class Migrations:
    """The revisions of one app.

    Args:
        package: the package whose folder `versions` holds them.
        version_table: where the database says which it has; of this app alone, so that apps can share a database.
        lock: any number below 2**63 that no other user of the database takes, for PostgreSQL's advisory locks; the
            app's name in ASCII will do.
    """

    def __init__(self, package: str, *, version_table: str, lock: int) -> None:
        self.package = package
        self.version_table = version_table
        self.lock = lock

    def upgrade(self, connection: Connection) -> None:
        """Run the revisions that the database does not have yet, within the transaction of `connection`.

        Safe when several processes start at once: the others wait, and then find nothing to do. On SQLite the
        caller's transaction has to be one that began with BEGIN IMMEDIATE; PostgreSQL takes the lock for it.

        Raises:
            alembic.util.CommandError: the database has a revision that this version of the app does not know.
        """
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self.lock})
        with as_file(files(self.package)) as folder:
            scripts = ScriptDirectory(folder)
            context = MigrationContext.configure(
                connection,
                opts={
                    "version_table": self.version_table,
                    "render_as_batch": connection.dialect.name == "sqlite",
                    "fn": lambda revision, _: scripts._upgrade_revs("head", revision),
                },
            )
            context.run_migrations(op=Operations(context))
