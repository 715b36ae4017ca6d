"""The chat's history on a PostgreSQL server of the test's own.

Skipped, with a reason, where there is no PostgreSQL. One that is there but does not start is a failure.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from skyloom.sql import DatabaseError, make_engines, normalise_url
from skyloom_chat.history import History, HistoryLimits, RoomMissing
from skyloom_chat.migrations import MIGRATIONS
from skyloom_chat.schema import metadata
from skyloom_gateway.auth.identity import USER_CHARS_MAX
from tests.postgres import Cluster

pytestmark = pytest.mark.real_time


@pytest.fixture
def url(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    return cluster.create(f"chat_{abs(hash(request.node.name))}")


@pytest.fixture
async def history(url: str) -> AsyncIterator[History]:
    history = await History.open(url, HistoryLimits(kept=20, trim=5))
    writer = asyncio.create_task(history.run())
    await history.create_room("lobby")
    yield history
    await history.close()
    await writer


async def test_messages_come_back_in_order_with_their_ids(history: History) -> None:
    before = history.transactions
    ids = await asyncio.gather(*(history.append("lobby", "ada", f"{n} 🎲", 0.25) for n in range(200)))
    assert ids == sorted(set(ids))
    assert history.transactions - before <= 3
    page = await history.last("lobby", 5)
    assert [(message.id, message.text) for message in page] == [(ids[n], f"{n} 🎲") for n in range(195, 200)]
    assert page[0].time == 0.25
    older = await history.before("lobby", page[0].id, 100)
    assert [message.text for message in older] == [f"{n} 🎲" for n in range(180, 195)]


async def test_rooms_are_made_once(history: History) -> None:
    assert await asyncio.gather(*(history.create_room(name) for name in ("b", "B", "b", "lobby"))) == [
        True,
        True,
        False,
        False,
    ]
    assert await history.rooms() == ["B", "b", "lobby"]


async def test_a_bad_row_fails_alone(history: History) -> None:
    answers = await asyncio.gather(
        history.append("lobby", "ada", "one", 1.0),
        history.append("lobby", "ada", "null\0", 1.0),
        history.append("nowhere", "ada", "lost", 1.0),
        history.append("lobby", "x" * (USER_CHARS_MAX + 1), "name too long", 1.0),
        history.append("lobby", "ada", "\ud800", 1.0),
        history.append("lobby", "ü" * USER_CHARS_MAX, "two", 1.0),
        return_exceptions=True,
    )
    kinds = [type(answer) for answer in answers]
    assert kinds == [int, DatabaseError, RoomMissing, DatabaseError, DatabaseError, int]
    assert [message.text for message in await history.last("lobby", 9)] == ["one", "two"]


async def test_opening_at_once_upgrades_once(url: str) -> None:
    histories = await asyncio.gather(*(History.open(url) for _ in range(5)))
    for history in histories:
        await history.close()


async def test_migrations_make_the_tables_of_the_schema(url: str) -> None:
    engines = make_engines(normalise_url(url))

    def differences(connection: Connection) -> list[object]:
        MIGRATIONS.upgrade(connection)
        options = {"version_table": MIGRATIONS.version_table, "compare_type": True}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        return found

    assert await engines.transact(differences) == []
    await engines.dispose()


async def test_a_connection_that_was_cut_is_made_again(history: History, cluster: Cluster, url: str) -> None:
    await history.append("lobby", "ada", "one", 1.0)
    database = normalise_url(url).database
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    cluster.run("psql", ["-h", str(cluster.folder), "-U", "skyloom", "-d", "postgres", "-c", kill])
    await history.append("lobby", "ada", "two", 1.0)
    assert [message.text for message in await history.last("lobby", 5)] == ["one", "two"]


async def test_a_server_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot be opened at postgresql") as caught:
        await History.open(f"postgresql://chat:secret@/chat?host={tmp_path}")
    assert "secret" not in str(caught.value)
