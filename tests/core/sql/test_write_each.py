"""Items that are written together fail each for itself, in a real file and in the database of the simulator alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from skyloom.sql import Database, DatabaseError, RowRefused
from skyloom.sql.inline import Disk, InlineDatabase
from skyloom_shop.migrations import MIGRATIONS

pytestmark = pytest.mark.real_time

INSERT = text("INSERT INTO shop_accounts (name, kind, balance) VALUES (:name, 'wallet', :balance)")


def insert(connection: Connection, items: Sequence[tuple[str, int]]) -> list[str]:
    """Stores accounts; one with a negative balance breaks a constraint."""
    for name, balance in items:
        if name == "bug":
            raise ZeroDivisionError
        if name == "lost":
            raise OSError("the disk is gone")
        connection.execute(INSERT, {"name": name, "balance": balance})
    return [name for name, _ in items]


def names(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT name FROM shop_accounts WHERE kind = 'wallet'")).scalars())


@pytest.fixture(params=["file", "inline"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "inline":
        yield InlineDatabase(Disk(MIGRATIONS))
        return
    database = await Database.open(f"sqlite:///{tmp_path}/data.db", MIGRATIONS)
    running = asyncio.create_task(database.run())
    yield database
    await database.close()
    await running


async def test_what_is_refused_stands_in_the_place_of_its_answer(database: Database) -> None:
    answers = await database.write_each(insert, [("a", 1), ("b", -1), ("bug", 1), ("c", 2), ("a", 3)])
    assert [answer if isinstance(answer, str) else type(answer) for answer in answers] == [
        "a",
        RowRefused,
        ZeroDivisionError,
        "c",
        RowRefused,
    ]
    assert await database.read(names) == {"a", "c"}


async def test_write_raises_for_the_first_that_is_refused(database: Database) -> None:
    with pytest.raises(RowRefused):
        await database.write(insert, [("a", 1), ("b", -1), ("bug", 1)])
    assert await database.read(names) == {"a"}


async def test_a_database_that_is_lost_fails_all(database: Database) -> None:
    with pytest.raises(DatabaseError, match="the disk is gone"):
        await database.write_each(insert, [("a", 1), ("lost", 1), ("c", 2)])
    assert await database.read(names) == set()
    assert await database.write_each(insert, [("d", 1)]) == ["d"]
