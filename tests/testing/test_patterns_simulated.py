"""The rules of the patterns, each tried under many schedules, on networks that delay and lose, and across crashes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from skyloom import Address, CallError, Failed, NotExecuted
from skyloom.patterns.batcher import BatchExpired
from skyloom.patterns.breaker import State
from skyloom.patterns.saga_store import MemorySagaStore, SagaStatus
from tests.testing.pattern_cast import (
    BATCH_SIZE,
    BATCH_TIMEOUT,
    BATCH_WAIT,
    EPSILON,
    NAMES,
    SETTINGS,
    Bank,
    BreakerModel,
    Client,
    Database,
    Listener,
    Market,
    Shaky,
    Shop,
    Slow,
    Teller,
)
from tests.testing.world import Caller, Refused, two_ends

if TYPE_CHECKING:
    from skyloom.testing import Sim, TestNode

pytestmark = pytest.mark.sim(seeds=100)  # `dev.py ci` runs 1,000 of each


async def ask_prices(sim: Sim, here: TestNode, market: Market) -> tuple[dict[int, tuple[bool, float]], list[Caller]]:
    """Have 2 callers ask for 9 prices."""
    callers = [await here.start_service(Caller) for _ in range(2)]
    chance, asked = sim.random, dict[int, tuple[bool, float]]()
    for number in range(9):
        caller, kind = chance.choice(callers), chance.choice("ab")
        seconds, bad = chance.choice([0.0, 0.02, 0.2, 1.0]), chance.random() < 0.2
        asked[number] = bad, seconds
        caller.fork(caller.ask(number, market.address, "price", number, kind, seconds, bad))
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.03, 0.15]))
    return asked, callers


async def test_batcher_runs_each_kind_when_enough_are_in_or_the_time_has_come(sim: Sim) -> None:
    here, there = await two_ends(sim)
    market = await there.start_service(Market)
    asked, _ = await ask_prices(sim, here, market)
    await sim.advance(3)
    batched = [number for _, numbers, _, _ in market.batches for number in numbers]
    assert sorted(batched) == sorted(asked)  # each once
    for kind in "ab":
        last = float("-inf")
        arrivals = [number for number in market.arrived if number in batched]
        inside = [(when, numbers) for when, numbers, of, _ in market.batches if of == kind]
        order = [number for _, numbers in inside for number in numbers]
        assert order == [number for number in arrivals if number in order]
        for when, numbers in inside:
            assert len(numbers) <= BATCH_SIZE
            first = market.arrived[numbers[0]]
            due = max(first, last + BATCH_WAIT)
            if len(numbers) == BATCH_SIZE and when < due - EPSILON:
                assert when == pytest.approx(market.arrived[numbers[-1]], abs=EPSILON)
            else:
                assert when == pytest.approx(due, abs=EPSILON)
            last = when


async def test_batcher_answers_everybody_in_order_and_in_time(sim: Sim) -> None:
    here, there = await two_ends(sim)
    market = await there.start_service(Market)
    asked, callers = await ask_prices(sim, here, market)
    ending = sim.random.random() < 0.3
    if ending:
        there.services.exit(market._cell, None)
        await sim.advance(1)
    else:
        await sim.advance(3)
    outcomes = {number: outcome for caller in callers for number, outcome in caller.outcomes.items()}
    assert outcomes.keys() == asked.keys()
    sessions: dict[Address | None, list[int]] = {caller.address: [] for caller in callers}
    for event in sim.trace:
        if event.kind == "answer" and event.destination in sessions:
            sessions[event.destination].append(event.session)
    for each in sessions.values():
        assert ending or each == sorted(each)
    begun = {number: (when, seconds) for when, numbers, _, seconds in market.batches for number in numbers}
    turns: dict[Caller, float] = {}
    for number, (bad, _) in asked.items():
        outcome = outcomes[number]
        if number not in begun:
            assert ending
            assert isinstance(outcome, CallError)
            continue
        when, seconds = begun[number]
        (caller,) = [caller for caller in callers if number in caller.outcomes]
        turns[caller] = max(turns.get(caller, 0.0), when + min(seconds, BATCH_TIMEOUT))
        assert when + min(seconds, BATCH_TIMEOUT) - EPSILON <= caller.times[number] or ending
        assert caller.times[number] <= turns[caller] + 0.01  # and the way back
        if not (ending and isinstance(outcome, CallError)):
            expected = BatchExpired if seconds >= BATCH_TIMEOUT else Refused if bad else int
            assert type(outcome) is expected
            assert isinstance(outcome, CallError) or outcome == number


async def test_breaker_opens_refuses_probes_and_closes_as_its_model(sim: Sim) -> None:
    here, there = await two_ends(sim)
    chance = sim.random
    shaky = await there.start_service(Shaky)
    client = await here.start_service(Client, shaky.address, BreakerModel(chance.choice(SETTINGS)))
    sim.network.faults(loss=0.05, delay=(0.0, 0.05))
    for _ in range(3):
        mood = chance.choice([["well"], ["break"], ["well", "refuse", "break"], ["break", "slow"], ["well"]])
        for _ in range(5):
            how = chance.choice(mood)
            seconds = 0.35 if how == "slow" else chance.choice([0.0, 0.05])
            task = client.fork(client.work(how, seconds, chance.choice([0.2, 1.0])))
            if chance.random() < 0.05:
                await asyncio.sleep(0.01)
                task.cancel()
            await asyncio.sleep(chance.choice([0.0, 0.02, 0.1]))
        await asyncio.sleep(chance.choice([0.1, 0.6, 1.2]))
    await sim.advance(2)
    assert client.faults == []
    assert client.passed + client.refused <= 15
    assert [change.after for change in client.told[:1]] in ([], [State.OPEN])
    for earlier, later in zip(client.told, client.told[1:], strict=False):
        assert later.before is earlier.after


async def test_pool_is_bounded_fair_and_loses_nothing(sim: Sim) -> None:
    here = await sim.node()
    chance = sim.random
    database = await here.start_service(Database, chance)
    for number in range(10):
        end = chance.choice(["well", "well", "raise", "break"])
        task = database.fork(database.use(number, chance.choice([0.0, 0.05, 0.3]), end))
        database.tasks.append(task)
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.04, 0.3]))
        if chance.random() < 0.15:
            database.cancelled.add(number)
            task.cancel()
        await sim.settle()
        # Nobody waits while there is a connection for him, or room for one.
        pool = database.pool
        assert pool.waiting <= pool._preparing or (pool.size == database.most and not pool.resting)
    await sim.advance(4)
    asked, served, others, pool = database.asked, database.served, database.others, database.pool
    assert database.links_most <= database.most
    assert database.unfit == []
    assert set(range(10)) - database.cancelled <= served.keys() | others.keys()  # everybody has an answer
    for number, error in others.items():
        if isinstance(error, NotExecuted) and error.code == "skyloom.pool_exhausted":
            assert database.refused[number] == pytest.approx(asked[number] + database.patience, abs=EPSILON)
    assert all(served[number] <= asked[number] + database.patience + EPSILON for number in served)
    in_order = [served[number] for number in sorted(served, key=lambda number: (asked[number], served[number]))]
    assert in_order == sorted(in_order)  # first come, first served
    assert (pool.lent, pool.waiting, pool.size) == (0, 0, pool.resting)
    assert pool.size == database.links  # none was lost
    await database.fork(pool.aclose())
    assert (pool.size, database.links) == (0, 0)


async def test_saga_takes_effect_once_or_not_at_all_whenever_it_crashes(sim: Sim) -> None:
    chance, kept, told = sim.random, MemorySagaStore[str](), dict[str, Any]()
    bank = await (await sim.node("bank")).start_service(Bank, chance)
    sim.network.faults(loss=0.05, delay=(0.0, 0.02))
    ids, life = ["x", "y", "z"], 0
    for life in range(chance.randint(1, 3)):
        node = await sim.node("shop")
        shop = await node.start_service(Shop, bank.address, kept, chance, told)
        shop.fork(shop.order(ids[life]))
        if chance.random() < 0.5:
            node.crash_after(chance.randint(1, 12))
        await sim.advance(chance.random() * 0.3)
        node.crash()
        await sim.advance(chance.choice([0.0, 0.01, 2.0]))
    shop = await (await sim.node("shop")).start_service(Shop, bank.address, kept, chance, told)
    for _ in range(60):
        if not await kept.unfinished("order", 10):
            break
        await sim.advance(10)
    await sim.settle()
    assert shop.saga.running == []
    for id in ids:
        record = await kept.load("order", id)
        effects = [name for name in NAMES if bank.effects[id, name]]
        done = [name for name in bank.order.get(id, []) if not name.startswith("-")]
        assert done == NAMES[: len(done)]  # in order, and none of them twice
        if record is None:  # it crashed before it began
            assert done == []
        elif record.status is SagaStatus.DONE:
            assert effects == NAMES
            assert bank.order[id] == NAMES
            assert told.get(id, id) == id
        else:
            assert record.status is SagaStatus.UNDONE
            assert effects == []
            assert bank.order.get(id, []) == [*done, *(f"-{name}" for name in reversed(done))]
            assert id not in told or isinstance(told[id], Failed)


async def test_topic_tells_each_subscriber_in_order_and_at_most_once(sim: Sim) -> None:
    here, there = await two_ends(sim)
    chance, loss = sim.random, sim.random.choice([0.0, 0.0, 0.15])
    teller = await there.start_service(Teller)
    sim.network.faults(loss=loss, delay=(0.0, 0.03))
    listeners: list[Listener] = []
    left: dict[Listener, int] = {}
    killed: set[Listener] = set()
    for _ in range(8):
        if len(listeners) < 3 and chance.random() < 0.5:
            cls, node = chance.choice([Listener, Listener, Slow]), chance.choice([here, there])
            listener = await node.start_service(cls, 0.0 if cls is Listener else 0.2)
            listeners.append(listener)
            listener.fork(listener.listen(teller, chance.choice([0, 2, 9])))
        if listeners and chance.random() < 0.2:
            one = chance.choice(listeners)
            if one.subscription is not None and one not in left and one not in killed:
                if chance.random() < 0.5:
                    one.subscription.unsubscribe()
                    left[one] = len(one.heard)
                    if chance.random() < 0.6:  # and it comes again, while old messages are under way
                        del left[one]
                        one.subscription = None
                        one.fork(one.listen(teller, 0))
                else:
                    one.node.kill(one.address)
                    killed.add(one)
        await there.call(teller.address, "lua", "tell")
        await asyncio.sleep(chance.choice([0.0, 0.01, 0.05]))
    await sim.advance(12)
    stays = [each for each in listeners if each not in killed and each not in left and each.subscription is not None]
    hearers = set(teller.numbers.subscribers)
    assert {each.address for each in stays} <= hearers or loss
    assert not {each.address for each in [*killed, *left]} & hearers or loss
    for each in listeners:
        assert each.heard == sorted(set(each.heard))
        if each in left:
            assert len(each.heard) == left[each]
    for each in stays:
        assert each.subscription is not None
        heard = each.heard[each.since :]
        assert all(number > each.least for number in heard)
        gaps = heard[-1] - heard[0] + 1 - len(heard) if heard else 0
        if loss or isinstance(each, Slow):
            assert each.subscription.missed >= gaps
        else:
            assert each.subscription.missed == gaps == 0
            first = teller.told - len(heard)
            assert heard == list(range(first + 1, teller.told + 1))
            assert each.least <= first <= each.most
    there.kill(teller.address)
    await sim.advance(1)
    assert all(len(each.ends) == 1 or (loss and not each.ends) for each in stays)
    assert not any(each.ends for each in [*left, *killed])
