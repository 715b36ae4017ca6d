"""The chat's history on a PostgreSQL server of the test's own.

Skipped, with a reason, where there is no PostgreSQL. One that is there but does not start is a failure.
"""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from skyloom_chat.database import make_engines, normalise_url
from skyloom_chat.history import History, HistoryError, HistoryLimits, RoomMissing
from skyloom_chat.migrations import VERSION_TABLE, upgrade
from skyloom_chat.schema import metadata

pytestmark = pytest.mark.real_time

START_TIMEOUT_SECONDS = 50


def binaries() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps them off the PATH."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class Cluster:
    """A throw-away server that listens on a socket in its own folder, so that no port is taken."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        self.user: str | None = None
        if os.geteuid() == 0:
            # The server refuses to run as root.
            names = {entry.pw_name for entry in pwd.getpwall()}
            self.user = "postgres" if "postgres" in names else "nobody"
            entry = pwd.getpwnam(self.user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def run(self, program: str, arguments: Sequence[str]) -> None:
        # Not a pipe: the server inherits it, and reading it would wait for the server's end.
        with (self.folder / "output").open("ab") as output:
            ran = subprocess.run(
                [str(self.binaries / program), *arguments],
                user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=START_TIMEOUT_SECONDS,
                check=False,
            )
        if ran.returncode != 0:
            pytest.fail(f"{program} failed:\n{(self.folder / 'output').read_text()[-2000:]}")

    def start(self) -> None:
        data = str(self.folder / "data")
        self.run("initdb", ["-D", data, "-U", "chat", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"])
        server = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self.run("pg_ctl", ["-D", data, "-w", "-l", str(self.folder / "log"), "-o", server, "start"])

    def stop(self) -> None:
        self.run("pg_ctl", ["-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop"])

    def url(self, database: str) -> str:
        return f"postgresql://chat@/{database}?host={self.folder}"

    def create(self, database: str) -> str:
        self.run("createdb", ["-h", str(self.folder), "-U", "chat", database])
        return self.url(database)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = binaries()
    if folder is None:
        pytest.skip("there is no PostgreSQL on this machine: neither pg_ctl on the PATH nor /usr/lib/postgresql")
    with tempfile.TemporaryDirectory(prefix="skyloom-pg-", ignore_cleanup_errors=True) as path:
        cluster = Cluster(folder, Path(path))
        cluster.start()
        yield cluster
        cluster.stop()


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
        history.append("lobby", "x" * 65, "name too long", 1.0),
        history.append("lobby", "ada", "\ud800", 1.0),
        history.append("lobby", "ada", "two", 1.0),
        return_exceptions=True,
    )
    kinds = [type(answer) for answer in answers]
    assert kinds == [int, HistoryError, RoomMissing, HistoryError, HistoryError, int]
    assert [message.text for message in await history.last("lobby", 9)] == ["one", "two"]


async def test_opening_at_once_upgrades_once(url: str) -> None:
    histories = await asyncio.gather(*(History.open(url) for _ in range(5)))
    for history in histories:
        await history.close()


async def test_migrations_make_the_tables_of_the_schema(url: str) -> None:
    engines = make_engines(normalise_url(url))

    def differences(connection: Connection) -> list[object]:
        upgrade(connection)
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        return found

    async with engines.writer.begin() as connection:
        assert await connection.run_sync(differences) == []
    await engines.dispose()


async def test_a_connection_that_was_cut_is_made_again(history: History, cluster: Cluster, url: str) -> None:
    await history.append("lobby", "ada", "one", 1.0)
    database = normalise_url(url).database
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    cluster.run("psql", ["-h", str(cluster.folder), "-U", "chat", "-d", "postgres", "-c", kill])
    await history.append("lobby", "ada", "two", 1.0)
    assert [message.text for message in await history.last("lobby", 5)] == ["one", "two"]


async def test_a_server_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="cannot be opened at postgresql") as caught:
        await History.open(f"postgresql://chat:secret@/chat?host={tmp_path}")
    assert "secret" not in str(caught.value)
