"""The chat's history on real SQLite files."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from skyloom.sql import DatabaseBusy, DatabaseClosed, DatabaseError, make_engines, normalise_url
from skyloom_chat.history import DEFAULT_LIMITS, History, HistoryLimits, RoomMissing
from skyloom_chat.messages import Message
from skyloom_chat.migrations import MIGRATIONS
from skyloom_chat.schema import metadata
from tests.examples import examples

# SQLite works in threads, which know nothing of virtual time.
pytestmark = pytest.mark.real_time

MEMORY = "sqlite://"
Open = Callable[..., Awaitable[History]]


@asynccontextmanager
async def running(url: str, limits: HistoryLimits = DEFAULT_LIMITS) -> AsyncIterator[History]:
    history = await History.open(url, limits)
    writer = asyncio.create_task(history.run())
    try:
        yield history
    finally:
        await history.close()
        await writer


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/folder/chat.db"


@pytest.fixture
async def history(url: str) -> AsyncIterator[History]:
    async with running(url) as history:
        await history.create_room("lobby")
        yield history


def texts(page: list[Message]) -> list[str]:
    return [message.text for message in page]


async def test_a_message_reads_back_as_it_was_said(history: History) -> None:
    text = 'Ünïcode 🎲 "quotes" \n <b>%s :x</b>'
    number = await history.append("lobby", "ada", text, 1234.5)
    assert await history.last("lobby", 10) == [Message(id=number, room="lobby", user="ada", text=text, time=1234.5)]


async def test_rooms_are_made_once_and_listed_by_name(history: History) -> None:
    assert await asyncio.gather(*(history.create_room(name) for name in ("b", "B", "b", "lobby"))) == [
        True,
        True,
        False,
        False,
    ]
    assert await history.rooms() == ["B", "b", "lobby"]


async def test_many_messages_at_once_share_few_transactions_and_keep_their_order(history: History) -> None:
    before = history.transactions
    ids = await asyncio.gather(*(history.append("lobby", "ada", str(n), float(n)) for n in range(200)))
    assert ids == sorted(set(ids))
    assert texts(await history.last("lobby", 200)) == [str(n) for n in range(200)]
    assert 1 <= history.transactions - before <= 3


async def test_a_batch_gathers_while_the_one_before_commits(url: str) -> None:
    async with running(url, HistoryLimits(batch=10)) as history:
        await history.create_room("lobby")
        before = history.transactions
        await asyncio.gather(*(history.append("lobby", "ada", str(n), 0.0) for n in range(95)))
        assert history.transactions - before == 10


async def test_what_was_answered_is_there_after_reopening(url: str) -> None:
    async with running(url) as history:
        await history.create_room("lobby")
        first = await history.append("lobby", "ada", "one", 1.0)
    async with running(url) as history:
        assert not await history.create_room("lobby")
        second = await history.append("lobby", "bob", "two", 2.0)
        assert second > first
        assert texts(await history.last("lobby", 5)) == ["one", "two"]


async def test_the_answer_comes_after_the_commit(history: History, url: str) -> None:
    number = await history.append("lobby", "ada", "hello", 1.0)
    other = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert other.execute("SELECT body FROM chat_messages WHERE id = ?", (number,)).fetchall() == [("hello",)]
    assert other.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    other.close()


async def test_commits_reach_the_disk(url: str) -> None:
    engines = make_engines(normalise_url(url))

    def pragmas(connection: Connection) -> list[object]:
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "foreign_keys")]

    assert await engines.transact(pragmas) == [2, 1]
    await engines.dispose()


async def test_a_missing_room_fails_alone(history: History) -> None:
    answers = await asyncio.gather(
        history.append("lobby", "ada", "one", 1.0),
        history.append("nowhere", "ada", "lost", 1.0),
        history.append("lobby", "ada", "two", 1.0),
        return_exceptions=True,
    )
    assert isinstance(answers[1], RoomMissing)
    assert "nowhere" in str(answers[1])
    assert texts(await history.last("lobby", 5)) == ["one", "two"]


async def test_a_row_that_cannot_be_encoded_fails_alone(history: History) -> None:
    answers = await asyncio.gather(
        *(history.append("lobby", "ada", "\ud800" if n == 7 else str(n), 1.0) for n in range(20)),
        return_exceptions=True,
    )
    assert [n for n, answer in enumerate(answers) if isinstance(answer, BaseException)] == [7]
    assert isinstance(answers[7], DatabaseError)
    assert texts(await history.last("lobby", 50)) == [str(n) for n in range(20) if n != 7]


async def test_a_database_that_fails_fails_every_waiter_and_the_writer_lives_on(history: History, url: str) -> None:
    other = sqlite3.connect(url.removeprefix("sqlite:///"))
    other.execute("ALTER TABLE chat_messages RENAME TO away")
    answers = await asyncio.gather(
        *(history.append("lobby", "ada", "private", 1.0) for _ in range(5)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [DatabaseError] * 5
    assert "INSERT" not in str(answers[0])
    # The cause is logged with its text; what users wrote must not be in it.
    assert "private" not in str(getattr(answers[0], "__cause__", "private"))
    other.execute("ALTER TABLE away RENAME TO chat_messages")
    other.close()
    assert await history.append("lobby", "ada", "again", 1.0) > 0


async def test_a_caller_that_gave_up_is_not_stored(url: str) -> None:
    history = await History.open(url)
    room = asyncio.create_task(history.create_room("lobby"))
    gone = asyncio.create_task(history.append("lobby", "ada", "gone", 1.0))
    stays = asyncio.create_task(history.append("lobby", "ada", "stays", 1.0))
    await asyncio.sleep(0)
    gone.cancel()
    writer = asyncio.create_task(history.run())
    await asyncio.gather(room, stays)
    assert texts(await history.last("lobby", 5)) == ["stays"]
    await history.close()
    await writer


async def test_too_many_waiting_are_refused(url: str) -> None:
    history = await History.open(url, HistoryLimits(waiting=2))
    waiting = [asyncio.create_task(history.create_room(name)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(DatabaseBusy, match="2 writes"):
        await history.append("a", "ada", "x", 1.0)
    await history.close()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(failure) for failure in failures] == [DatabaseClosed, DatabaseClosed]


async def test_close_writes_what_waits_and_refuses_more(url: str) -> None:
    history = await History.open(url)
    writer = asyncio.create_task(history.run())
    await history.create_room("lobby")
    waiting = [asyncio.create_task(history.append("lobby", "ada", str(n), 1.0)) for n in range(20)]
    await asyncio.sleep(0)
    await history.close()
    await writer
    assert len(set(await asyncio.gather(*waiting))) == 20
    with pytest.raises(DatabaseClosed):
        await history.append("lobby", "ada", "late", 1.0)
    with pytest.raises(DatabaseClosed):
        await history.last("lobby", 1)
    await history.close()


async def test_waiters_fail_when_the_writer_is_cancelled(url: str) -> None:
    history = await History.open(url)
    writer = asyncio.create_task(history.run())
    await history.create_room("lobby")
    waiting = [asyncio.create_task(history.append("lobby", "ada", str(n), 1.0)) for n in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writer.cancel()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(failure) for failure in failures] == [DatabaseClosed] * 3
    with pytest.raises(DatabaseClosed):
        await history.append("lobby", "ada", "x", 1.0)
    await history.close()


async def test_a_cancelled_writer_closes_the_database(url: str) -> None:
    before = set(threading.enumerate())
    history = await History.open(url)
    writer = asyncio.create_task(history.run())
    await history.create_room("lobby")
    assert set(threading.enumerate()) - before
    writer.cancel()
    await asyncio.wait([writer])
    assert writer.cancelled()
    assert not [thread for thread in set(threading.enumerate()) - before if "sql" in thread.name]


async def test_run_is_for_one_task(history: History) -> None:
    with pytest.raises(RuntimeError, match="once"):
        await history.run()


async def test_a_limit_below_one_is_refused(history: History) -> None:
    with pytest.raises(ValueError, match="limit is 0"):
        await history.last("lobby", 0)


@given(
    kept=st.integers(1, 12),
    trim=st.integers(1, 6),
    batch=st.integers(1, 8),
    bursts=st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=10), max_size=8),
    page=st.integers(1, 7),
)
@examples(40)
async def test_pages_show_exactly_the_messages_kept(
    kept: int, trim: int, batch: int, bursts: list[list[str]], page: int
) -> None:
    limits = HistoryLimits(kept=kept, trim=trim, batch=batch)
    async with running(MEMORY, limits) as history:
        said: dict[str, list[str]] = {"a": [], "b": []}
        for room in said:
            await history.create_room(room)
        count = 0
        for burst in bursts:
            appends = []
            for room in burst:
                count += 1
                said[room].append(str(count))
                appends.append(history.append(room, "ada", str(count), float(count)))
            await asyncio.gather(*appends)
        for room, expected in said.items():
            assert texts(await history.last(room, page)) == expected[-kept:][-page:]
            shown: list[Message] = await history.last(room, page)
            while shown and (older := await history.before(room, shown[0].id, page)):
                assert len(older) <= page
                shown = older + shown
            assert texts(shown) == expected[-kept:]


async def test_old_messages_are_deleted_in_batches(url: str) -> None:
    async with running(url, HistoryLimits(kept=10, trim=5, batch=7)) as history:
        await history.create_room("lobby")
        for start in range(0, 100, 20):
            numbers = range(start, start + 20)
            await asyncio.gather(*(history.append("lobby", "ada", str(n), 0.0) for n in numbers))
    other = sqlite3.connect(url.removeprefix("sqlite:///"))
    stored = [body for (body,) in other.execute("SELECT body FROM chat_messages ORDER BY id")]
    other.close()
    assert stored[-10:] == [str(n) for n in range(90, 100)]
    assert len(stored) <= 10 + 5


async def test_a_room_grows_no_further_over_restarts(url: str) -> None:
    for _ in range(6):
        async with running(url, HistoryLimits(kept=3, trim=100)) as history:
            await history.create_room("lobby")
            for n in range(4):
                await history.append("lobby", "ada", str(n), 0.0)
    other = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert other.execute("SELECT count(*) FROM chat_messages").fetchone()[0] <= 3 + 3
    other.close()


async def test_opening_at_once_upgrades_once(url: str) -> None:
    histories = await asyncio.gather(*(History.open(url) for _ in range(6)))
    for history in histories:
        await history.close()
    other = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert other.execute(f"SELECT count(*) FROM {MIGRATIONS.version_table}").fetchone() == (1,)
    other.close()


async def test_migrations_make_the_tables_of_the_schema(url: str) -> None:
    engines = make_engines(normalise_url(url))

    def differences(connection: Connection) -> list[object]:
        MIGRATIONS.upgrade(connection)
        options = {"version_table": MIGRATIONS.version_table, "compare_type": True}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        return found

    assert await engines.transact(differences) == []
    await engines.dispose()


async def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    await (await History.open(url)).close()
    other = sqlite3.connect(url.removeprefix("sqlite:///"))
    other.execute(f"UPDATE {MIGRATIONS.version_table} SET version_num = '9999'")
    other.commit()
    other.close()
    with pytest.raises(DatabaseError, match="newer version"):
        await History.open(url)


async def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DatabaseError, match="cannot be opened at sqlite"):
        await History.open(f"sqlite:///{tmp_path}/file/chat.db")


async def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "chat.db").write_text("this is not a database, and long enough to be seen as one\n" * 20)
    with pytest.raises(DatabaseError, match="not a database"):
        await History.open(f"sqlite:///{tmp_path}/chat.db")


@pytest.mark.parametrize("package", ["sqlalchemy", "alembic"])
def test_a_missing_package_names_the_extra(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import skyloom_chat.history"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"needs {package}" in ran.stderr.splitlines()[-1]
    assert "pip install 'skyloom[sql]'" in ran.stderr.splitlines()[-1]
