"""The promises of the runtime, each tried under many schedules and, where it matters, a bad network."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from skyloom import CallError, Expired, Failed, NotExecuted, Unknown
from skyloom.supervision.child import permanent, temporary, transient
from skyloom.supervision.intensity import BACKOFF_SECONDS, BACKOFF_SHARE
from skyloom.supervision.supervisor import STRATEGIES, Supervisor
from tests.testing.world import Caller, Family, Log, Member, Refused, SerialLog, two_ends

if TYPE_CHECKING:
    from skyloom import Address
    from skyloom.testing import Sim, TestNode

pytestmark = pytest.mark.sim(seeds=100)  # `dev.py ci` runs 1,000 of each


async def test_promise_1_messages_of_one_sender_start_in_order(sim: Sim) -> None:
    here, there = await two_ends(sim)
    log = await there.start_service(sim.random.choice([Log, SerialLog]))
    senders = [await here.start_service(Caller) for _ in range(3)]
    chance = sim.random

    async def send(sender: Caller, which: int) -> None:
        for number in range(6):
            value = (which, number)
            way = chance.randrange(5)
            if way == 0:
                assert await sender.call(log.address, "lua", "note", value) == value
            elif way == 1:
                sender.send(log.address, "snax", value)
            elif way == 2:
                sender.send(log.address, "queue", "note", value)
            elif way == 3:
                sender.send(log.address, "lua", "work", value, chance.random() * 0.01)
            else:
                sender.fork(sender.ask(value, log.address, "note", value))
                await sender.sleep(0)
                await asyncio.sleep(chance.random() * 0.01)

    await asyncio.gather(*(senders[n].fork(send(senders[n], n)) for n in range(3)))
    await sim.advance(1)
    for which in range(3):
        assert [value for value in log.started if value[0] == which] == [(which, n) for n in range(6)]  # type: ignore[index]  # pairs


async def test_promise_2_a_serial_service_and_a_section_let_one_in_at_a_time(sim: Sim) -> None:
    here, there = await two_ends(sim)
    cls, method = sim.random.choice([(SerialLog, "work"), (Log, "guarded")])
    log = await there.start_service(cls)
    caller = await here.start_service(Caller)
    for number in range(8):
        caller.fork(caller.ask(number, log.address, method, number, sim.random.choice([0.0, 0.01]), timeout=60))
        if sim.random.random() < 0.5:
            await asyncio.sleep(sim.random.random() * 0.02)
    await sim.advance(2)
    assert caller.outcomes == {number: number for number in range(8)}
    assert log.inside == 0
    assert log.ended == log.started


async def test_promise_2_a_section_whose_waiters_are_killed_fails_nowhere_else(sim: Sim) -> None:
    here, there = await two_ends(sim)
    log = await there.start_service(Log)
    caller = await here.start_service(Caller)
    for number in range(4):
        caller.fork(caller.ask(number, log.address, "guarded", number, 1.0))
    await asyncio.sleep(0.5)
    with capture_logs() as logs:
        there.kill(log.address)
        await sim.settle()
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    assert [type(outcome) for outcome in caller.outcomes.values()] == [Unknown] * 4


async def test_promise_3_nothing_is_delivered_twice(sim: Sim) -> None:
    here, there = await sim.node("here"), await sim.node("there")
    log = await there.start_service(Log)
    caller = await here.start_service(Caller)
    sim.network.faults(loss=0.2, delay=(0.0, 0.5))
    for number in range(10):
        if sim.random.random() < 0.5:
            caller.fork(caller.ask(number, log.address, "work", number, 0.1, timeout=sim.random.random()))
        else:
            caller.send(log.address, "lua", "note", number)
        if sim.random.random() < 0.1:
            sim.network.partition({"here"}, {"there"}, detect=sim.random.random())
            await asyncio.sleep(sim.random.random())
            sim.network.heal()
        await asyncio.sleep(sim.random.random() * 0.3)
    await sim.advance(30)
    assert len(log.started) == len(set(map(str, log.started)))


async def test_promise_4_every_call_ends_and_nothing_late_starts(sim: Sim) -> None:
    here, there = await two_ends(sim)
    log = await there.start_service(sim.random.choice([Log, SerialLog]))
    caller = await here.start_service(Caller)
    sim.network.faults(loss=0.1, delay=(0.0, 0.3))
    began, tasks = here.now(), []
    cancelled, slow = set(), set()
    for number in range(8):
        method, *args = sim.random.choice([("work", 0.4), ("fail", 0.2), ("keep",), ("note",), ("guarded", 0.3)])
        timeout = sim.random.choice([None, 0.3, 1.0])
        if method in ("work", "guarded"):
            slow.add(number)
        tasks.append(caller.fork(caller.ask(number, log.address, str(method), number, *args, timeout=timeout)))
        await asyncio.sleep(sim.random.choice([0.0, 0.05]))
        if sim.random.random() < 0.2:
            cancelled.add(number)
            tasks[-1].cancel()
    await sim.advance(20)
    assert all(task.done() for task in tasks)
    assert set(caller.outcomes) >= set(range(8)) - cancelled
    assert all(time <= began + 0.5 + 5.0 + 1e-6 for time in caller.times.values())
    assert log.late == []
    assert log.inside == log.in_section == 0
    assert set(log.ended) == slow & set(log.started)  # cancelling a caller cancelled no handler
    here.send(log.address, "lua", "note", "end")
    log.kept.clear()


async def test_promise_5_calls_to_what_dies_fail_at_once(sim: Sim) -> None:
    here, there = await two_ends(sim)
    log = await there.start_service(sim.random.choice([Log, SerialLog]))
    caller = await here.start_service(Caller)
    for number in range(6):
        method, *args = sim.random.choice([("work", 100.0), ("guarded", 100.0), ("keep",)])
        caller.fork(caller.ask(number, log.address, str(method), number, *args, timeout=50))
    await asyncio.sleep(1 + sim.random.random())
    answered = len(caller.outcomes)
    grace = 0.05  # the network's
    end = sim.random.choice(["kill", "exit", "crash"])
    if end == "kill":
        there.kill(log.address)
    elif end == "exit":
        there.services.exit(log._cell, None)
    elif here is not there:
        there.crash()
        grace = 1.05  # until the crash is noticed
    else:
        here.kill(log.address)
    ended = here.now()
    await sim.advance(5 if end == "exit" else 2)
    assert len(caller.outcomes) == 6
    assert answered == 0
    for number in range(6):
        assert isinstance(caller.outcomes[number], Unknown if number in log.started else NotExecuted | Unknown)
        assert not isinstance(caller.outcomes[number], Expired)
        assert caller.times[number] <= ended + grace
    began = here.now()
    with pytest.raises(NotExecuted):
        await here.call(log.address, "lua", "note", 1)
    assert here.now() <= began + grace


async def test_promise_6_errors_say_what_happened(sim: Sim) -> None:
    here, there = await two_ends(sim)

    class Small(SerialLog):
        mailbox_messages_max = 3

    log = await there.start_service(sim.random.choice([Log, SerialLog, Small]))
    caller = await here.start_service(Caller)
    sim.network.faults(loss=0.05, delay=(0.0, 0.1))
    for number in range(8):
        method, *args = sim.random.choice([("work", 0.2), ("fail", 0.1), ("note",), ("nothing",), ("note", "more")])
        caller.fork(caller.ask(number, log.address, str(method), number, *args, timeout=sim.random.random() + 0.1))
        if number == 5 and sim.random.random() < 0.3:
            there.services.exit(log._cell, None) if sim.random.random() < 0.5 else there.kill(log.address)
        await asyncio.sleep(sim.random.choice([0.0, 0.03]))
    await sim.advance(10)
    for key, outcome in caller.outcomes.items():
        started = key in log.started
        if isinstance(outcome, NotExecuted):
            assert not started
        elif isinstance(outcome, Failed):
            assert type(outcome) is Refused
            assert started
        elif not isinstance(outcome, CallError):
            assert outcome == key
            assert started
        else:
            assert isinstance(outcome, Unknown)


async def test_promise_7_what_crosses_is_a_value(sim: Sim) -> None:
    here, there = await two_ends(sim)
    log = await there.start_service(Log)
    caller = await here.start_service(Caller)
    chance = sim.random

    def anything(depth: int) -> object:
        kind = chance.randrange(8 if depth else 4)
        if kind < 4:
            return [None, chance.randrange(2**70), chance.random(), "x" * chance.randrange(9)][kind]
        inner = [anything(depth - 1) for _ in range(chance.randrange(3))]
        return [inner, tuple(inner), {str(n): each for n, each in enumerate(inner)}, {"s": {1, 2}}][kind - 4]

    for _ in range(5):
        mine = [anything(3)]
        before = copy.deepcopy(mine)
        await caller.ask("take", log.address, "take", mine)
        back = caller.outcomes["take"]
        assert mine == before
        assert back == [*before, "taken"] == log.started[-1]
        assert isinstance(back, list)
        back.append("mine")
        assert log.started[-1] == [*before, "taken"]
        assert type(back[0]) is type(before[0])


async def test_promise_8_mailboxes_are_bounded(sim: Sim) -> None:
    here, there = await two_ends(sim)
    most = sim.random.randrange(1, 6)

    class Small(SerialLog):
        mailbox_messages_max = most

    log = await there.start_service(Small)
    caller = await here.start_service(Caller)
    sent = calls = 0
    for number in range(10):
        if sim.random.random() < 0.5:
            calls += 1
            caller.fork(caller.ask(number, log.address, "work", number, 0.05, timeout=60))
        else:
            sent += 1
            caller.send(log.address, "lua", "work", number, 0.05)
        await asyncio.sleep(sim.random.choice([0.0, 0.0, 0.02]))
        assert there.mailbox(log.address) <= most
    await sim.advance(3)
    refused = [outcome for outcome in caller.outcomes.values() if isinstance(outcome, NotExecuted)]
    assert all(error.kind == "resource_exhausted" for error in refused)
    assert len(caller.outcomes) == calls
    assert len(log.ended) == sent + calls - len(refused) - there.dead_letters.total
    assert there.dead_letters.by_reason.keys() <= {"skyloom.overloaded"}
    assert len(set(log.ended)) == len(log.ended)


async def test_promise_9_what_crashes_comes_back_within_its_intensity(sim: Sim) -> None:
    here, there = await two_ends(sim)
    chance, period = sim.random, 2.0
    family = Family(chance.choice(STRATEGIES), restarts_max=chance.randrange(3), period=period)
    born: list[tuple[str, float]] = []
    make = {name: chance.choice([permanent, permanent, transient, temporary]) for name in "abc"}
    family.kinds = {name: each.__name__ for name, each in make.items()}
    await there.spawn(
        Supervisor,
        *(each(Member, name, born).but(id=name) for name, each in make.items()),
        strategy=family.strategy,
        restarts_max=family.restarts_max,
        period_seconds=period,
    )
    stranger = await there.start_service(Member, "stranger", born)
    there.register("stranger", stranger.address)
    for address, member in members(there).items():
        if member is not stranger:
            there.register(member.role, address)  # the supervisor's to move, later
    caller = await here.start_service(Caller)
    for _ in range(3):
        await asyncio.sleep(chance.random())
        born.clear()
        family.touched.clear()
        caller.outcomes.clear()
        before, now = members(there), there.now()
        at_once = 2 if family.strategy == "one_for_one" else 1
        victims = chance.sample(family.running, min(len(family.running), chance.randint(1, at_once)))
        hows = [chance.choice(["kill", "exit", "crash", "fork"]) for _ in victims]
        asks = [
            caller.fork(caller.ask(("meanwhile", name), name, "who"))
            for name in [*"abc", "stranger"]
            if name not in victims and chance.random() < 0.7
        ]
        await asyncio.gather(*(end(there, victim, how) for victim, how in zip(victims, hows, strict=True)))
        back: list[str] = []
        for victim, how in zip(victims, hows, strict=True):
            back += family.ended(victim, how, now)
        await asyncio.gather(*asks)
        for name in [*family.untouched, "stranger"]:
            assert caller.outcomes.pop(("meanwhile", name), name) == name
        await sim.advance(now + 0.05 - there.now())
        for name in [*family.untouched, "stranger"]:  # the others keep answering, and are the same ones
            await caller.ask(name, name, "who")
            assert caller.outcomes[name] == name
        same = {address for address in members(there) if address in before}
        assert {before[address].role for address in same} == {*family.untouched, "stranger"}
        await sim.advance(0.5)
        assert (there.failure is not None) == family.gave_up
        after = members(there)
        assert sorted(member.role for member in after.values()) == sorted([*family.running, "stranger"])
        if family.gave_up:
            break
        assert sorted(name for name, _ in born) == sorted(back)
        assert family.strategy == "one_for_one" or [name for name, _ in born] == back
        # The 1st restart within a period waits for nothing, the 2nd for 0.1 s at most, and so on.
        earlier = len(family.crashes) - 1
        longest = min(BACKOFF_SECONDS * 2 ** (earlier - 1), period * BACKOFF_SHARE / max(1, family.restarts_max))
        assert all(time <= now + (longest if earlier > 0 else 0.0) + 1e-6 for _, time in born)
        for address, member in after.items():  # names move
            assert there.names.find(member.role) == address
        for name in family.running:
            await caller.ask(name, name, "who")
            assert caller.outcomes[name] == name


def members(node: TestNode) -> dict[Address, Member]:
    return {address: cell.service for address, cell in node.cells.items() if isinstance(cell.service, Member)}


async def end(node: TestNode, name: str, how: str) -> None:
    """End a service in one of the ways in which services end."""
    address = node.names.find(name)
    assert address is not None
    if how == "kill":
        node.kill(address)
    else:
        try:
            await node.call(address, "lua", "end", how)
        except (Unknown, NotExecuted):
            return
