"""A service that may run once, and a diary of where and when it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skyloom import Service, rpc
from skyloom.cluster.singleton import Singleton
from skyloom.cluster.transport import LEASE_MARGIN_SECONDS, LEASE_SECONDS
from skyloom.supervision.child import Child, permanent

if TYPE_CHECKING:
    from skyloom.testing import Sim, TestNode

KEY = "game.world"
BEAT_SECONDS = 0.1

ON_ITS_WAY = 0.05
"""Questions and answers take a few milliseconds each."""

HELD_SECONDS = LEASE_SECONDS - LEASE_MARGIN_SECONDS
"""How long a holder counts on a renewal."""


@dataclass
class Diary:
    """When the child began and ended on which node; what must never be is in `faults`.

    `running` is where it runs, `stalled` where it did when its node was paused.
    """

    sim: Sim
    lines: list[tuple[str, str, float]] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    stalled: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def began(self, node: str) -> None:
        self._note("began", node)
        if self.running:
            self.faults.append(f"{node} began at {self.sim.now():g} s while {sorted(self.running)} ran")
        self.running.add(node)

    def ended(self, node: str) -> None:
        if node in self.running | self.stalled:
            self.running.discard(node)
            self.stalled.discard(node)
            self._note("ended", node)

    def lived(self, node: str) -> None:
        if self.running - {node} or node not in self.running | self.stalled:
            self.faults.append(f"{node} did something at {self.sim.now():g} s while {sorted(self.running)} ran")

    def pause(self, node: TestNode) -> None:
        """Let a node stand still: others may begin meanwhile."""
        node.pause()
        if node.name in self.running:
            self.running.discard(node.name)
            self.stalled.add(node.name)

    async def resume(self, node: TestNode) -> None:
        """Let a node go on: its child may only if it is still the one."""
        node.resume()
        await self.sim.loop.settle()
        if node.name in self.stalled:
            self.stalled.discard(node.name)
            self.running.add(node.name)
            self.lived(node.name)

    def _note(self, what: str, node: str) -> None:
        self.lines.append((what, node, self.sim.now()))

    def last(self, what: str, node: str) -> float:
        return max(time for line, name, time in self.lines if (line, name) == (what, node))

    def check(self, *running: str) -> None:
        assert not self.faults
        assert sorted(self.running) == sorted(running)


class World(Service):
    """There may be one."""

    name = "WORLD"

    def __init__(self, diary: Diary, *, start_takes: float = 0, stop_takes: float = 0) -> None:
        self.diary, self.start_takes, self.stop_takes = diary, start_takes, stop_takes

    async def on_start(self) -> None:
        self.diary.began(self.node.name)
        self.fork(self._live())
        await self.sleep(self.start_takes)

    async def on_stop(self) -> None:
        await self.sleep(self.stop_takes)

    async def _live(self) -> None:
        try:
            while True:
                await self.sleep(BEAT_SECONDS)
                self.diary.lived(self.node.name)
        finally:
            self.diary.ended(self.node.name)

    @rpc
    async def where(self) -> str:
        self.diary.lived(self.node.name)
        return self.node.name

    @rpc
    async def die(self) -> None:
        self.crash("its state is bad")


async def join(diary: Diary, *names: str, child: Child | None = None) -> list[TestNode]:
    """Nodes that may run the child, started one after the other: the first one does."""
    nodes = [await diary.sim.node(name) for name in names]
    for node in nodes:
        await node.spawn(Singleton, KEY, child or permanent(World, diary))
    return nodes


def singleton(node: TestNode) -> Singleton:
    return next(cell.service for cell in node.cells.values() if isinstance(cell.service, Singleton))
