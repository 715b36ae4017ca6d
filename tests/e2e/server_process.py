"""A gateway in a process of its own, as people run it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from skyloom_gateway.client import Client, Reconnect, connect

START_SECONDS = 20.0
STOP_SECONDS = 20.0
ANSWER_SECONDS = 10.0
CHAT = ("skyloom_chat:app",)
# The tests speak faster than people, and wait less long for a restart and for clients that do not come back.
SETTINGS = (
    "gateway.messages_per_second=100000",
    "gateway.messages_burst=100000",
    "gateway.drain_reconnect_seconds=0.5",
    "gateway.resume_seconds=3",
)


class ServerProcess:
    """A `skyloom` command that serves, with its log in `folder`."""

    def __init__(self, folder: Path, log: str) -> None:
        self.folder = folder
        self._log = folder / log
        self._process: asyncio.subprocess.Process

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def _begin(self, environment: Mapping[str, str] | None, *arguments: str) -> None:
        """Start `skyloom` with these arguments. `environment` is added to this process's own."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "skyloom_gateway.cli", *arguments],
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
            )

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        assert line, f"it said no more; in its log: {self.log[-2000:]}"
        return line

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Its exit status; minus the signal when one ended it."""
        async with asyncio.timeout(STOP_SECONDS):
            await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode

    async def stop(self) -> None:
        if self._process.returncode is None:
            self.signal(signal.SIGTERM)
            try:
                await self.wait()
            finally:
                if self._process.returncode is None:
                    self._process.kill()


class GatewayProcess(ServerProcess):
    """`skyloom gateway` with these apps, its database and its log in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        settings: tuple[str, ...] = SETTINGS,
        apps: tuple[str, ...] = CHAT,
        database: str | None = None,
    ) -> None:
        super().__init__(folder, "gateway.log")
        self.port = port
        self.tcp_port = 0
        self._settings = settings
        self._apps = apps
        self._database = database or f"sqlite:///{folder}/chat.db"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def tcp(self) -> str:
        return f"tcp://127.0.0.1:{self.tcp_port}"

    async def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Returns once it listens. `environment` is added to this process's own."""
        arguments = ["--port", str(self.port), "--tcp-port", "0", "--database", self._database]
        for setting in self._settings:
            arguments += ["--set", setting]
        await self._begin(environment, "gateway", *self._apps, *arguments)
        async with asyncio.timeout(START_SECONDS):
            line = await self._line()
        found = re.search(r"listens on http://127\.0\.0\.1:(\d+) and tcp://127\.0\.0\.1:(\d+)$", line.strip())
        assert found, f"{line!r}, and in its log: {self.log[-2000:]}"
        self.port, self.tcp_port = int(found[1]), int(found[2])

    async def admin_port(self) -> int:
        """The port that it picked for metrics and console; ask once, and only where it has one."""
        async with asyncio.timeout(START_SECONDS):
            while (found := re.search(r"metrics: http://127\.0\.0\.1:(\d+)/", await self._line())) is None:
                pass
        return int(found[1])

    async def client(
        self,
        user: str,
        *,
        tcp: bool = False,
        timeout: float = ANSWER_SECONDS,
        reconnect: Reconnect | None = None,
    ) -> Client:
        auth = {"scheme": "guest", "name": user}
        return await connect(self.tcp if tcp else self.ws, auth=auth, timeout=timeout, reconnect=reconnect)


@asynccontextmanager
async def running_gateway(folder: Path, **options: Any) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(folder, **options)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()
