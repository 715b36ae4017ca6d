"""Whatever becomes of the nodes, and whenever: never two run it, and once all is calm one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyloom import CallError
from skyloom.cluster.singleton import Singleton
from skyloom.cluster.transport import LEASE_SECONDS, RENEW_SECONDS
from skyloom.supervision.child import permanent
from tests.core.singleton.cast import KEY, Diary, World

if TYPE_CHECKING:
    from skyloom.testing import Sim, TestNode

NODES = ("a", "b", "c")
STEPS = 40


class Cluster:
    """Three nodes, and what may happen to them."""

    def __init__(self, sim: Sim) -> None:
        self.sim, self.random = sim, sim.random
        self.diary = Diary(sim)
        self.paused: set[str] = set()

    async def start(self, name: str) -> None:
        node = await self.sim.node(name)
        takes = self.random.choice([0.0, 0.0, 0.3, 3.0])
        child = permanent(World, self.diary, start_takes=takes, stop_takes=self.random.choice([0.0, 0.3, 4.0]))
        # As a task of the node's own: it may crash or stand still in the middle of it.
        node.run_task(node.root._cell, node.spawn(Singleton, KEY, child), "spawn")

    async def happen(self) -> None:
        """Something, to some node."""
        name = self.random.choice(NODES)
        node = self.sim.nodes.get(name)
        if node is None:
            await self.start(name)
        elif name in self.paused:
            await self.go_on(node)
        else:
            what = self.random.choice([self.crash, self.stop, self.isolate, self.rejoin, self.rejoin, self.pause])
            await what(node)

    async def crash(self, node: TestNode) -> None:
        node.crash()
        self.diary.ended(node.name)

    async def stop(self, node: TestNode) -> None:
        await node.stop()

    async def isolate(self, node: TestNode) -> None:
        self.sim.network.isolate(node.name)

    async def rejoin(self, node: TestNode) -> None:
        self.sim.network.rejoin(node.name)

    async def pause(self, node: TestNode) -> None:
        self.diary.pause(node)
        self.paused.add(node.name)

    async def go_on(self, node: TestNode) -> None:
        self.paused.discard(node.name)
        await self.diary.resume(node)


@pytest.mark.sim(seeds=60)
async def test_never_two_and_always_one_in_the_end(sim: Sim) -> None:
    cluster = Cluster(sim)
    diary = cluster.diary
    for name in NODES:
        await cluster.start(name)
    for _ in range(STEPS):
        loss = sim.random.choice([0.0, 0.0, 0.1, 0.5])
        sim.network.faults(loss=loss, delay=sim.random.choice([(0.0005, 0.005), (0.0, 0.3), (0.2, 0.9)]))
        await cluster.happen()
        await sim.advance(sim.random.choice([0.0, 0.5, 3.0, 8.0, 13.0]))
        assert not diary.faults
        assert [node.failure for node in sim.nodes.values() if node.failure] == []
    # calm
    sim.network.faults()
    sim.network.heal()
    for name in NODES:
        node = sim.nodes.get(name)
        if node is None:
            await cluster.start(name)
        elif name in cluster.paused:
            await cluster.go_on(node)
    await sim.advance(LEASE_SECONDS + 3 * RENEW_SECONDS + 3)
    (holder,) = diary.running
    diary.check(holder)
    for node in sim.nodes.values():
        try:
            assert await node.call("WORLD", "lua", "where") == holder
        except CallError as error:
            raise AssertionError(f"{node.name} does not reach it") from error
    lines = len(diary.lines)
    await sim.advance(60)
    diary.check(holder)
    assert len(diary.lines) == lines, "nothing moves without need"
