"""One of a cluster's nodes runs the child; what becomes of that when nodes stop, die, stall and lose touch."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from skyloom import CallError, Failed, Service
from skyloom.cluster.singleton import REST_SECONDS, Singleton, fencing_token
from skyloom.cluster.transport import LEASE_MARGIN_SECONDS, LEASE_SECONDS, RENEW_SECONDS
from skyloom.supervision.child import permanent
from skyloom.testing import Sim
from skyloom.testing.network import DETECT_SECONDS
from tests.core.singleton.cast import HELD_SECONDS, KEY, ON_ITS_WAY, Diary, World, join, singleton

Logs = list[MutableMapping[str, Any]]


async def test_the_first_node_runs_it_and_the_others_stand_by(sim: Sim) -> None:
    diary = Diary(sim)
    a, b, c = await join(diary, "a", "b", "c")
    token = singleton(a).token
    assert token > 0
    await sim.advance(60)
    diary.check("a")
    assert [singleton(node).token for node in (a, b, c)] == [token, 0, 0]
    assert [len(diary.lines), a.counters["singleton_taken"], b.counters["singleton_taken"]] == [1, 1, 0]
    assert await singleton(b).on_info() == {"key": KEY, "token": 0}
    for node in (a, b, c):
        assert await node.call("WORLD", "lua", "where") == "a"


async def test_after_a_death_another_takes_over_once_the_lease_has_ended(sim: Sim) -> None:
    diary = Diary(sim)
    a, b, _ = await join(diary, "a", "b", "c")
    await sim.advance(5)
    before, died = singleton(a).token, sim.now()
    a.crash()
    diary.ended("a")
    await sim.advance(LEASE_SECONDS + RENEW_SECONDS + ON_ITS_WAY)
    (holder,) = diary.running
    assert diary.last("began", holder) >= died + LEASE_SECONDS - RENEW_SECONDS
    assert singleton(sim.nodes[holder]).token > before
    assert await b.call("WORLD", "lua", "where") == holder
    again = await sim.node("a")
    await again.spawn(Singleton, KEY, permanent(World, diary))
    await sim.advance(30)
    diary.check(holder)


async def test_after_a_clean_stop_another_takes_over_at_once(sim: Sim) -> None:
    diary = Diary(sim)
    a, b = await join(diary, "a", "b", child=permanent(World, diary, stop_takes=3))
    await sim.advance(5)
    service, before = singleton(a), singleton(a).token
    began = sim.now()
    await a.stop()
    assert diary.last("ended", "a") == pytest.approx(began + 3), "it stopped, and was not killed"
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    diary.check("b")
    assert singleton(b).token > before
    assert await b.call("WORLD", "lua", "where") == "b"
    assert (service.token, a.counters["singleton_lost"], a.failure) == (0, 0, None)
    a.assert_no_dead_letters()


async def test_a_stop_waits_for_the_answer_that_is_under_way(sim: Sim) -> None:
    """Or else the keeper might grant the lease after it was given back."""
    diary = Diary(sim)
    a, b = await join(diary, "a", "b")
    sim.network.faults(delay=(0.4, 0.4))
    await sim.advance(5)
    hold = a.harbor.hold
    asked: list[float] = []

    async def ask(key: str) -> int:
        asked.append(sim.now())
        token = await hold(key)
        asked.append(sim.now())
        return token

    a.harbor.hold = ask  # type: ignore[method-assign]  # to see when
    while len(asked) % 2 == 0:
        await sim.advance(0.1)
    sim.network.faults(delay=(0, 0))  # who gives it back now would overtake
    a.services.exit(singleton(a)._cell, None)
    await sim.advance(2 * 0.4 + RENEW_SECONDS + ON_ITS_WAY)
    diary.check("b")
    assert await b.call("WORLD", "lua", "where") == "b"


async def test_who_stops_while_it_is_granted_the_lease_does_not_begin(sim: Sim) -> None:
    diary = Diary(sim)
    sim.network.faults(delay=(0.4, 0.4))
    a = await sim.node("a")
    sim.network.isolate("a")
    await a.spawn(Singleton, KEY, permanent(World, diary))
    sim.network.rejoin("a")
    while KEY not in sim.network.leases._leases:
        await sim.advance(0.1)
    a.services.exit(singleton(a)._cell, None)
    await sim.advance(2)
    assert diary.lines == []
    await join(diary, "b")
    diary.check("b")


async def test_only_the_singleton_stops_and_the_node_goes_on(sim: Sim) -> None:
    diary = Diary(sim)
    a, b = await join(diary, "a", "b")
    a.services.exit(singleton(a)._cell, None)
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    diary.check("b")
    assert await a.call("WORLD", "lua", "where") == "b"
    await a.spawn(Singleton, KEY, permanent(World, diary))
    await b.stop()
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    diary.check("a")


async def test_who_is_isolated_ends_it_before_another_begins(sim: Sim, logs: Logs) -> None:
    diary = Diary(sim)
    a, b = await join(diary, "a", "b")
    await sim.advance(5)
    before, isolated = singleton(a).token, sim.now()
    sim.network.isolate("a")
    await sim.advance(LEASE_SECONDS + RENEW_SECONDS)
    diary.check("b")
    ended, began = diary.last("ended", "a") - isolated, diary.last("began", "b") - isolated
    assert HELD_SECONDS - RENEW_SECONDS - ON_ITS_WAY <= ended <= HELD_SECONDS
    assert ended + LEASE_MARGIN_SECONDS <= began
    assert (singleton(a).token, a.counters["singleton_lost"]) == (0, 1)
    assert singleton(b).token > before
    assert await a.call("WORLD", "lua", "where") == "b"
    sim.network.rejoin("a")
    await sim.advance(30)
    diary.check("b")
    assert a.failure is None
    said = [line["event"] for line in logs if line.get("key") == KEY and line["log_level"] != "debug"]
    assert said[-3:] == ["a singleton runs here", "a singleton has ended here", "a singleton runs here"]


async def test_a_transport_that_hangs_is_not_waited_for(sim: Sim) -> None:
    diary = Diary(sim)
    (a,) = await join(diary, "a")
    hold = a.harbor.hold
    asked: list[str] = []

    async def hang(key: str) -> int:
        asked.append(key)
        await asyncio.Event().wait()
        return 0

    a.harbor.hold = hang  # type: ignore[method-assign]  # what no transport should do
    await sim.advance(HELD_SECONDS + ON_ITS_WAY)
    diary.check()
    assert len(asked) >= 3
    a.harbor.hold = hold  # type: ignore[method-assign]  # as it was
    await sim.advance(2 * RENEW_SECONDS + ON_ITS_WAY)
    diary.check("a")


async def test_a_short_isolation_changes_nothing(sim: Sim) -> None:
    diary = Diary(sim)
    a, _ = await join(diary, "a", "b")
    token = singleton(a).token
    for _ in range(5):
        sim.network.isolate("a")
        await sim.advance(3)
        sim.network.rejoin("a")
        await sim.advance(4)
    diary.check("a")
    assert (singleton(a).token, len(diary.lines)) == (token, 1)


async def test_a_lost_renewal_counts_from_when_it_was_sent(sim: Sim) -> None:
    """The question takes a second to the keeper, and so does the answer: what counts is the earliest that it can be."""
    diary = Diary(sim)
    sim.network.faults(delay=(0.9, 0.95))
    await join(diary, "a", "b")
    sim.network.faults(loss=1.0)
    began = diary.last("began", "a")
    await sim.advance(HELD_SECONDS)
    assert began + HELD_SECONDS - 1.9 <= diary.last("ended", "a") <= began + HELD_SECONDS - 1.8


async def test_children_that_take_long_to_start_are_held_for(sim: Sim) -> None:
    diary = Diary(sim)
    child = permanent(World, diary, start_takes=29)
    a, b = await sim.node("a"), await sim.node("b")
    starting = asyncio.ensure_future(a.spawn(Singleton, KEY, child))
    await sim.advance(1)
    await b.spawn(Singleton, KEY, child)
    await sim.advance(20)
    diary.check("a")
    assert not starting.done()
    sim.network.isolate("a")
    await sim.advance(HELD_SECONDS)
    diary.check()
    await starting  # it stands by
    assert singleton(a).token == 0
    await sim.advance(RENEW_SECONDS + LEASE_SECONDS)
    diary.check("b")
    sim.network.rejoin("a")
    await sim.advance(60)
    diary.check("b")
    assert a.names.find("WORLD") is None


async def test_children_that_take_long_to_stop_are_held_for_until_that_cannot_be(sim: Sim) -> None:
    diary = Diary(sim)
    a, b = await join(diary, "a", "b", child=permanent(World, diary, stop_takes=100).but(stop_seconds=200))
    stopping = asyncio.ensure_future(a.stop())
    await sim.advance(50)
    diary.check("a")
    sim.network.isolate("a")
    await sim.advance(HELD_SECONDS)
    diary.check()
    assert not any(cell.service.title.startswith("World") for cell in a.cells.values())
    await sim.advance(LEASE_SECONDS)
    assert stopping.done()
    await stopping
    diary.check("b")


async def test_a_crash_is_mended_in_place_and_after_a_crash_loop_others_try(sim: Sim) -> None:
    diary = Diary(sim)
    a, b = await join(diary, "a", "b")

    async def crash() -> None:
        with pytest.raises(CallError):
            await b.call("WORLD", "lua", "die")
        await sim.advance(1)

    await crash()
    diary.check("a")
    before = singleton(a).token
    for _ in range(3):
        await crash()
    await sim.advance(2 * RENEW_SECONDS + ON_ITS_WAY)
    diary.check("b")
    assert singleton(b).token > before
    assert (a.failure, a.counters["singleton_failed"], singleton(a).token) == (None, 1, 0)
    await b.stop()
    await sim.advance(REST_SECONDS + RENEW_SECONDS + ON_ITS_WAY)
    diary.check("a")  # it has had its rest


class Broken(Service):
    name = "WORLD"

    async def on_start(self) -> None:
        raise ValueError("no database")


async def test_children_that_do_not_start_are_left_to_others(sim: Sim) -> None:
    diary = Diary(sim)
    broken = await sim.node("broken")
    with pytest.raises(Failed, match=r"Broken:\w+@broken did not start: ValueError: no database"):
        await broken.spawn(Singleton, KEY, permanent(Broken))
    assert not any(isinstance(cell.service, Singleton) for cell in broken.cells.values())
    assert broken.failure is None, "the caller of spawn knows"
    a = await sim.node("a")
    await sim.advance(LEASE_SECONDS)
    await a.spawn(Singleton, KEY, permanent(World, diary))
    await broken.spawn(Singleton, KEY, permanent(Broken))
    await a.stop()
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    assert (broken.failure, broken.counters["singleton_failed"]) == (None, 1)
    await join(diary, "b")
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    diary.check("b")


async def test_rests_grow_and_end_with_a_good_run(sim: Sim) -> None:
    broken = await sim.node("broken")
    sim.network.isolate("broken")
    await broken.spawn(Singleton, KEY, permanent(Broken))
    sim.network.rejoin("broken")
    await sim.advance(300)
    # After 5, 10, 20, 40, then 60 s each, and up to 2 for each next question.
    assert 7 <= broken.counters["singleton_failed"] <= 8
    assert singleton(broken).token == 0


async def test_the_token_goes_up_when_a_holder_lapses_and_has_it_again(sim: Sim) -> None:
    diary = Diary(sim)
    (a,) = await join(diary, "a")
    tokens = [singleton(a).token]
    for _ in range(3):
        sim.network.isolate("a")
        await sim.advance(HELD_SECONDS)
        diary.check()
        sim.network.rejoin("a")
        await sim.advance(2 * RENEW_SECONDS + ON_ITS_WAY)
        diary.check("a")
        tokens.append(singleton(a).token)
    assert sorted(set(tokens)) == tokens


async def test_children_know_the_token_that_they_run_under(sim: Sim) -> None:
    diary = Diary(sim)
    (a,) = await join(diary, "a")
    world = a.cells[await a.query("WORLD")].service
    assert fencing_token(world) == singleton(a).token > 0
    assert fencing_token(a.root) == 0


async def test_to_kill_it_is_its_nodes_failure(sim: Sim) -> None:
    diary = Diary(sim)
    a, b = await join(diary, "a", "b")
    a.kill(singleton(a).address)
    await sim.settle()
    diary.check()
    assert a.failure is not None
    await sim.advance(LEASE_SECONDS + RENEW_SECONDS)
    diary.check("b")
    await join(diary, "c")
    standing_by = singleton(sim.nodes["c"])
    standing_by.node.kill(standing_by.address)
    assert (b.failure, standing_by.node.failure) == (None, f"node c cannot go on: {standing_by.title} was killed")


async def test_who_cannot_ask_stands_by_and_asks_again(sim: Sim) -> None:
    diary = Diary(sim)
    a = await sim.node("a")
    sim.network.isolate("a")
    await a.spawn(Singleton, KEY, permanent(World, diary))
    assert sim.now() <= DETECT_SECONDS + ON_ITS_WAY
    diary.check()
    sim.network.rejoin("a")
    await sim.advance(RENEW_SECONDS + ON_ITS_WAY)
    diary.check("a")


async def test_mistakes_are_refused(sim: Sim) -> None:
    diary = Diary(sim)
    (a,) = await join(diary, "a")
    for key in ("", "a b", "x" * 65, "é", "a\n"):
        with pytest.raises(ValueError, match="key: 1 to 64 letters"):
            await a.spawn(Singleton, key)
    with pytest.raises(Failed, match="this node has a singleton 'game.world' already"):
        await a.spawn(Singleton, KEY, permanent(World, diary))
    diary.check("a")
    await a.spawn(Singleton, "x" * 64)
