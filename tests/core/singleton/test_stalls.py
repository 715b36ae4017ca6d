"""A holder whose loop stands still, whose clock is slow, or whose lease is gone without its knowing."""

import asyncio
from typing import Any

import pytest

from skyloom import MemoryNetwork, Node, NotExecuted, Service, rpc
from skyloom.cluster.singleton import Singleton
from skyloom.cluster.transport import LEASE_SECONDS, RENEW_SECONDS
from skyloom.supervision.child import permanent
from skyloom.testing import Sim
from skyloom.testing.loop import SimLoop
from tests.core.singleton.cast import HELD_SECONDS, KEY, ON_ITS_WAY, Diary, World, join, singleton


async def test_a_node_that_stood_still_ends_it_before_anything_else(sim: Sim) -> None:
    diary = Diary(sim)
    a, b = await join(diary, "a", "b")
    stale = await a.query("WORLD")
    await sim.advance(5)
    diary.pause(a)
    asked = asyncio.ensure_future(b.call(stale, "lua", "where", timeout=100))
    await sim.advance(30)
    diary.check("b")
    assert await b.call("WORLD", "lua", "where") == "b", "the newest of the name, though the old one is not gone"
    await diary.resume(a)
    with pytest.raises(NotExecuted):
        await asked
    diary.check("b")
    assert (singleton(a).token, a.counters["singleton_lost"]) == (0, 1)
    assert await a.call("WORLD", "lua", "where") == "b"


async def test_a_grant_that_comes_after_a_stall_is_not_believed(sim: Sim) -> None:
    diary = Diary(sim)
    a, b = await sim.node("a"), await sim.node("b")
    sim.network.faults(delay=(0.2, 0.3))
    starting = asyncio.ensure_future(a.spawn(Singleton, KEY, permanent(World, diary)))
    await sim.advance(0.1)
    a.pause()  # its question is under way: the keeper says yes to a node that cannot hear
    await sim.advance(LEASE_SECONDS + 1)
    await b.spawn(Singleton, KEY, permanent(World, diary))
    diary.check("b")
    a.resume()
    await starting
    assert singleton(a).token == 0
    await sim.advance(10)
    diary.check("b")


async def test_a_lease_that_was_lost_unseen_is_noticed_with_the_next_renewal(sim: Sim) -> None:
    """So it looks from a machine that was suspended, its clock too."""
    diary = Diary(sim)
    a, b = await join(diary, "a", "b")
    await sim.advance(5.5)
    sim.network.leases._leases.clear()
    sim.network.leases.hold(KEY, "another", sim.loop.time())
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    diary.check()
    assert (singleton(a).token, a.counters["singleton_lost"]) == (0, 1)
    sim.network.leases.leave("another")
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    assert len(diary.running) == 1
    holder = sim.nodes[diary.running.pop()]
    diary.running.add(holder.name)
    # The holder gets it back itself, under a new token: who knows who had it in between.
    token, lines = singleton(holder).token, len(diary.lines)
    sim.network.isolate({"a": "b", "b": "a"}[holder.name])
    sim.network.leases._leases.clear()
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    diary.check(holder.name)
    assert singleton(holder).token > token
    assert len(diary.lines) == lines + 2


class Named(Service):
    """It says what it handles."""

    name = "WORLD"

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = [] if log is None else log

    @rpc
    async def note(self, what: str) -> None:
        self.log.append(what)


def block(seconds: float) -> None:
    """As a handler that does not await does: nothing else runs, and all timers are late."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    loop._now += seconds


async def test_what_came_while_a_handler_blocked_is_not_handled() -> None:
    network = MemoryNetwork()
    log: list[str] = []
    async with (
        Node("a", watch_loop=False, transport=network.transport()) as a,
        Node("b", watch_loop=False, transport=network.transport()) as b,
    ):
        await a.spawn(Singleton, KEY, permanent(Named, log))
        address = await b.query("WORLD")

        def stall() -> None:
            a.send(address, "lua", "note", "before")
            block(30)
            b.send(address, "lua", "note", "meanwhile")

        asyncio.get_running_loop().call_later(1, stall)
        await asyncio.sleep(1.5)
        assert (log, a.counters["singleton_lost"]) == (["before"], 1), "what was ready to run had its turn"
        await asyncio.sleep(RENEW_SECONDS)
        b.send("WORLD", "lua", "note", "after")
        await asyncio.sleep(1)
        assert log == ["before", "after"]


async def test_an_answer_older_than_the_lease_is_not_believed() -> None:
    network = MemoryNetwork()
    async with Node("a", watch_loop=False, transport=network.transport()) as a:
        hold = a.harbor.hold

        async def late(key: str) -> int:
            token = await hold(key)
            block(HELD_SECONDS)
            return token

        a.harbor.hold = late  # type: ignore[method-assign]  # something blocks between the answer and us
        service = a.cells[await a.spawn(Singleton, KEY, permanent(Named))].service
        assert isinstance(service, Singleton)
        assert (service.token, a.names.find("WORLD"), a.counters["singleton_taken"]) == (0, None, 0)
        a.harbor.hold = hold  # type: ignore[method-assign]  # as it was
        await asyncio.sleep(RENEW_SECONDS + ON_ITS_WAY)
        assert a.names.find("WORLD")


async def test_a_clock_that_is_a_quarter_slow_is_within_the_margin() -> None:
    class SlowClock:
        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop

        def now(self) -> float:
            return self._loop.time() * 0.75

        def time(self) -> float:
            return self.now()

        def call_at(self, when: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
            return self._loop.call_at(when / 0.75, callback, *args)

    network, loop = MemoryNetwork(), asyncio.get_running_loop()
    async with (
        Node("slow", clock=SlowClock(loop), watch_loop=False, transport=network.transport()) as slow,
        Node("right", watch_loop=False, transport=network.transport()) as right,
    ):
        for node in (slow, right):
            await node.spawn(Singleton, KEY, permanent(Named))
        await asyncio.sleep(5)
        network.isolate("slow")
        for _ in range(1200):
            assert [node for node in (slow, right) if node.names.find("WORLD")] != [slow, right]
            await asyncio.sleep(0.01)
        assert right.names.find("WORLD")


async def test_a_node_without_others_simply_runs_it() -> None:
    async with Node("alone", watch_loop=False) as node:
        await node.spawn(Singleton, KEY, permanent(Named))
        await asyncio.sleep(101)
        block(100)
        await asyncio.sleep(100)
        found = next(cell.service for cell in node.cells.values() if isinstance(cell.service, Singleton))
        assert (found.token, node.counters["singleton_taken"]) == (1, 1)
        await node.query("WORLD")
