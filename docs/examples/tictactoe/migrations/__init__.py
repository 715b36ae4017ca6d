"""The revisions of the tables, one file each in `versions`: a change of the tables is one more file."""

from skyloom.sql import Migrations

# Any number that no other user of the database takes.
MIGRATIONS = Migrations(__name__, version_table="tictactoe_alembic_version", lock=0x7474_7400)
