"""The network's troubles, and nodes that crash and stand still."""

import asyncio
import gc

import pytest

from skyloom import Expired, NotExecuted, Service, Unknown, rpc
from skyloom.testing import Diverged, Event, Sim, simulate
from skyloom.testing.trace import Trace
from tests.testing.world import Caller, Log

pytestmark = pytest.mark.sim(seeds=30)


async def test_order_within_a_pair_is_kept_and_pairs_overtake_each_other(sim: Sim) -> None:
    hub, one, two = await sim.node("hub"), await sim.node("one"), await sim.node("two")
    log = await hub.start_service(Log)
    sim.network.faults(delay=(0.0, 1.0))
    for number in range(10):
        one.send(log.address, "lua", "note", (1, number))
        two.send(log.address, "lua", "note", (2, number))
    await sim.advance(30)
    for which in (1, 2):
        assert [value for value in log.started if value[0] == which] == [(which, n) for n in range(10)]  # type: ignore[index]  # pairs
    assert log.started != [(which, number) for number in range(10) for which in (1, 2)]


async def test_what_is_lost_is_lost_and_the_rest_comes(sim: Sim) -> None:
    hub, one = await sim.node("hub"), await sim.node("one")
    log = await hub.start_service(Log)
    sim.network.faults(loss=0.5)
    for number in range(40):
        one.send(log.address, "lua", "note", number)
    await sim.settle()
    assert len(log.started) == 40 - sim.network.lost
    assert 5 < sim.network.lost < 35
    sim.network.faults(loss=1.0, pair=("hub", "one"))
    sim.network.faults(loss=0.0)
    with pytest.raises(Expired):
        await one.call(log.address, "lua", "note", "answer lost")
    assert log.started[-1] == "answer lost"


async def test_a_partition_is_silent_then_seen_then_healed(sim: Sim) -> None:
    hub, one = await sim.node("hub"), await sim.node("one")
    log, caller = await hub.start_service(Log), await one.start_service(Caller)
    sim.network.partition({"hub"}, {"one"}, detect=2)
    began = one.now()
    with pytest.raises(Unknown):
        await one.call(log.address, "lua", "note", 1)
    assert one.now() == pytest.approx(began + 2)
    with pytest.raises(NotExecuted):
        await one.call(log.address, "lua", "note", 2)
    sim.network.heal()
    await caller.ask("after", log.address, "note", 3)
    assert log.started == [caller.outcomes["after"]] == [3]


class Careful(Service):
    """Would clean up, if it were let."""

    cleaned: list[str]

    def __init__(self, cleaned: list[str]) -> None:
        self.cleaned = cleaned

    @rpc
    async def work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._inner())
                await self.sleep(100)
        finally:
            self.cleaned.append("finally")

    async def _inner(self) -> None:
        try:
            await asyncio.sleep(200)
        finally:
            self.cleaned.append("inner")

    async def on_stop(self) -> None:
        self.cleaned.append("on_stop")


async def test_a_crash_runs_no_finally_and_others_see_it(sim: Sim) -> None:
    hub, one = await sim.node("hub"), await sim.node("one")
    cleaned: list[str] = []
    careful = await hub.start_service(Careful, cleaned)
    watcher = await one.start_service(Caller)
    down: list[str] = []

    async def on_down(address: object, how: str) -> None:
        down.append(how)

    watcher.on_down = on_down  # type: ignore[method-assign]  # only here
    watcher.monitor(careful.address)
    asking = asyncio.create_task(one.call(careful.address, "lua", "work", timeout=50))
    own = asyncio.create_task(hub.call(careful.address, "lua", "work", timeout=50))
    await sim.advance(1)
    hub.crash(detect=3)
    with pytest.raises(Unknown):
        await own
    began = sim.now()
    with pytest.raises(Unknown):
        await asking
    assert sim.now() == pytest.approx(began + 3)
    await sim.advance(300)
    address = careful.address
    assert cleaned == []
    assert down == ["its node was lost"]
    again = await sim.node("hub")
    assert not again.crashed
    with pytest.raises(NotExecuted):
        await one.call(address, "lua", "work")


class Bank(Service):
    """Has a name that all nodes know."""

    name = "BANK"


async def test_the_name_of_a_crashed_node_s_service_goes_to_its_successor(sim: Sim) -> None:
    first, one = await sim.node("first"), await sim.node("one")
    bank = await first.spawn(Bank)
    assert await one.find("BANK", 0.0) == bank
    first.crash(detect=3)
    successor = await (await sim.node("second")).spawn(Bank)
    assert await one.find("BANK", 0.0) == successor
    await sim.advance(5)  # the loss of the first is seen now
    assert await one.find("BANK", 0.0) == successor


def test_no_finally_runs_when_the_world_of_a_crash_is_gone() -> None:
    cleaned: list[str] = []

    async def main(sim: Sim) -> None:
        node = await sim.node()
        careful = await node.start_service(Careful, cleaned)
        node.send(careful.address, "lua", "work")
        await sim.settle()
        node.crash()

    simulate(main, seeds=range(3))
    gc.collect()
    assert cleaned == []


def test_a_run_that_is_over_keeps_no_trace() -> None:
    traces: list[Trace] = []

    async def main(sim: Sim) -> None:
        traces.append(sim.trace)
        node = await sim.node()
        await node.start_service(Careful, [])
        node.crash()

    simulate(main, seeds=range(3))
    assert [(trace.count > 0, list(trace)) for trace in traces] == [(True, [])] * 4


async def test_a_crash_at_any_event_leaves_every_call_with_an_end(sim: Sim) -> None:
    hub, one = await sim.node("hub"), await sim.node("one")
    log, caller = await hub.start_service(Log), await one.start_service(Caller)
    hub.crash_after(1 + sim.seed)
    for number in range(10):
        caller.fork(caller.ask(number, log.address, "work", number, 0.01))
    await sim.advance(10)
    assert len(caller.outcomes) == 10
    assert hub.crashed == (sim.seed < 20)  # ten starts and ten messages posted


async def test_a_crash_point_is_any_condition(sim: Sim) -> None:
    hub = await sim.node("hub")
    log = await hub.start_service(Log)

    def third_note(event: Event) -> bool:
        return event.kind == "start" and event.method == "note" and len(log.started) == 2

    hub.crash_when(third_note)
    for number in range(5):
        hub.send(log.address, "lua", "note", number)
    await sim.settle()
    assert hub.crashed
    assert log.started == [0, 1]


async def test_a_paused_node_is_late_and_loses_nothing(sim: Sim) -> None:
    hub, one = await sim.node("hub"), await sim.node("one")
    log, caller = await hub.start_service(Log), await one.start_service(Caller)
    hub.send(log.address, "lua", "work", "before", 1)
    await sim.settle()
    hub.pause()
    caller.fork(caller.ask("during", log.address, "note", "during", timeout=50))
    await sim.advance(10)
    assert caller.outcomes == {}
    assert log.ended == []
    hub.resume()
    await sim.advance(1)
    assert caller.outcomes == {"during": "during"}
    assert log.ended == ["before"]
    hub.assert_no_dead_letters()
    hub.send(log.address, "lua", "no such method")
    await sim.settle()
    with pytest.raises(AssertionError, match="1 dead letters"):
        hub.assert_no_dead_letters()


def test_what_does_not_follow_the_seed_is_found() -> None:
    outlives: list[int] = []

    async def main(sim: Sim) -> None:
        node = await sim.node()
        log = await node.start_service(Log)
        outlives.append(1)
        await node.call(log.address, "lua", "note", len(outlives))

    with pytest.raises(Diverged, match="the first difference is event 1"):
        simulate(main, seeds=[5])
    assert len(simulate(main, seeds=[5, 6, 7], twice=False)) == 3


@pytest.mark.sim(seeds=20)
async def test_a_node_that_comes_back_gets_no_answer_that_its_predecessor_asked_for(sim: Sim) -> None:
    there = await sim.node("there")
    log = await there.start_service(Log)
    here = await sim.node("here")
    here.root.fork(here.call(log.address, "lua", "work", "old", 0.2))
    await sim.advance(0.1)
    here.crash()
    again = await sim.node("here")  # before anybody has noticed; its addresses and sessions are the same ones
    assert await again.call(log.address, "lua", "work", "new", 1.0) == "new"
    assert log.ended == ["old", "new"]
    there.assert_idle()
