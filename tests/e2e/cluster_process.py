"""Processes that a NATS server joins: gateways, and nodes that run the services of apps."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.server_process import CHAT, SETTINGS, START_SECONDS, GatewayProcess, ServerProcess

ROOT = Path(__file__).parents[2]
CHAT_AND_SHOP = (*CHAT, "tests.e2e.quick_shop:wallet")
TAKEOVER_SECONDS = 20.0
LOOK_SECONDS = 0.02
TAKEN, ENDED, RESTS = "a singleton runs here", "a singleton has ended here", "a singleton cannot run here, which rests"


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what processes write to their logs."""
    async with asyncio.timeout(TAKEOVER_SECONDS):
        while not holds():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(LOOK_SECONDS)


def _environment(given: Mapping[str, str] | None) -> dict[str, str]:
    """Apps of the tests' own are found, too."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, **(given or {})}


class Member(ServerProcess):
    """A process of a cluster."""

    _before = 0

    async def start(self, environment: Mapping[str, str] | None = None) -> None:
        raise NotImplementedError

    async def _begin(self, environment: Mapping[str, str] | None, *arguments: str) -> None:
        self._before = self._log.stat().st_size if self._log.exists() else 0
        await super()._begin(_environment(environment), *arguments)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it has logged since it was started last."""
        logged = self._log.read_bytes()[self._before :].decode()
        # The last line may be half written.
        lines = [line for line in logged.splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def tracebacks(self) -> list[str]:
        return [f"{event['event']}: {event['exception']}" for event in self.events if "exception" in event]

    def has(self, app: str) -> bool:
        """Whether it has taken the services of that app, and not lost them since."""
        told = [
            event for event in self.events if event["event"] in (TAKEN, ENDED, RESTS) and event["key"] == f"app.{app}"
        ]
        return bool(told) and told[-1]["event"] == TAKEN and self.runs

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    async def logs(self, event: str, times: int = 1) -> None:
        """Wait until it has said so."""
        await until(lambda: [logged["event"] for logged in self.events].count(event) >= times)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert await self.wait() == -signal.SIGKILL, self.log[-2000:]


class NodeProcess(Member):
    """`skyloom node`."""

    def __init__(self, folder: Path, apps: tuple[str, ...], *arguments: str) -> None:
        super().__init__(folder, "node.log")
        self._command = ("node", *apps, *arguments)

    async def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Returns once it has joined, and runs the services or stands by."""
        await self._begin(environment, *self._command)
        async with asyncio.timeout(START_SECONDS):
            line = await self._line()
        assert line.startswith("skyloom node "), f"{line!r}, and in its log: {self.log[-2000:]}"


class MemberGateway(Member, GatewayProcess):
    """`skyloom gateway` in a cluster."""

    start = GatewayProcess.start


class ClusterProcesses:
    """The processes of one cluster, and their database."""

    def __init__(
        self, folder: Path, nats: str, name: str, *, apps: tuple[str, ...] = CHAT, database: str | None = None
    ) -> None:
        self.folder = folder
        self.database = database or f"sqlite:///{folder}/cluster.db"
        self.members: list[Member] = []
        self._nats, self._name, self._apps = nats, name, apps

    def node(self, name: str) -> NodeProcess:
        """One that has not started yet."""
        arguments = ["--nats", self._nats, "--name", name, "--database", self.database]
        return NodeProcess(self._make_folder(name), self._apps, *arguments, "--set", f"cluster.name={self._name}")

    def gateway(self, name: str, *, services: bool = False) -> MemberGateway:
        """One that has not started yet."""
        cluster = (f"cluster.nats={self._nats}", f"cluster.name={self._name}", f"cluster.services={services}")
        return MemberGateway(
            self._make_folder(name), settings=(*SETTINGS, *cluster), apps=self._apps, database=self.database
        )

    def _make_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    async def start(self, *members: Member) -> None:
        """Start them side by side."""
        self.members += members
        async with asyncio.TaskGroup() as starting:
            for member in members:
                starting.create_task(member.start())

    def holder(self, app: str) -> Member | None:
        return next((member for member in self.members if member.has(app)), None)

    async def took(self, app: str, member: Member) -> None:
        """Wait until that one runs the services of the app."""
        await until(lambda: member.has(app))


@asynccontextmanager
async def cluster_of(folder: Path, nats: str, name: str, **options: Any) -> AsyncIterator[ClusterProcesses]:
    """A cluster without processes yet; in the end those that run are stopped, and none has logged a traceback."""
    cluster = ClusterProcesses(folder, nats, name, **options)
    try:
        yield cluster
    finally:
        await asyncio.gather(*(member.stop() for member in cluster.members))
    for member in cluster.members:
        assert member.tracebacks == [], "\n\n".join(member.tracebacks)
