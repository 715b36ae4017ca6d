"""A PostgreSQL server of the tests' own, for all tests that one process runs; benchmarks start one likewise.

Tests take the fixture `cluster`, and are skipped, with a reason, where there is no PostgreSQL. One that is there but
does not start is a failure.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

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
            raise RuntimeError(f"{program} failed:\n{(self.folder / 'output').read_text()[-2000:]}")

    def start(self, *, durable: bool) -> None:
        data = str(self.folder / "data")
        self.run("initdb", ["-D", data, "-U", "skyloom", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"])
        server = f"-k {self.folder} -c listen_addresses='' -c fsync={'on' if durable else 'off'}"
        self.run("pg_ctl", ["-D", data, "-w", "-l", str(self.folder / "log"), "-o", server, "start"])

    def stop(self) -> None:
        self.run("pg_ctl", ["-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop"])

    def url(self, database: str) -> str:
        return f"postgresql://skyloom@/{database}?host={self.folder}"

    def create(self, database: str) -> str:
        self.run("createdb", ["-h", str(self.folder), "-U", "skyloom", database])
        return self.url(database)


@contextmanager
def running_cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """A server in a temporary folder; with `durable` a commit is on the disk when it returns.

    Raises RuntimeError where there is no PostgreSQL, or it does not start.
    """
    folder = binaries()
    if folder is None:
        raise RuntimeError("there is no PostgreSQL on this machine: neither pg_ctl on the PATH nor /usr/lib/postgresql")
    with tempfile.TemporaryDirectory(prefix="skyloom-pg-", ignore_cleanup_errors=True) as path:
        cluster = Cluster(folder, Path(path))
        cluster.start(durable=durable)
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine: neither pg_ctl on the PATH nor /usr/lib/postgresql")
    with running_cluster() as cluster:
        yield cluster
