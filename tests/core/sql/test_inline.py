"""The database of the tests: it leaves nothing open behind."""

import gc
import sqlite3

import pytest

from skyloom.sql.inline import Disk
from skyloom_shop.migrations import MIGRATIONS


def test_a_disk_that_nobody_has_any_more_is_closed() -> None:
    disk = Disk(MIGRATIONS)
    raw = disk.engine.raw_connection()
    connection = raw.dbapi_connection
    raw.close()
    assert isinstance(connection, sqlite3.Connection)
    connection.execute("SELECT 1")
    del disk
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
