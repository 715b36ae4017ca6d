"""The rules of the patterns, each tried under many schedules, on networks that delay and lose, and across crashes."""

from __future__ import annotations

import asyncio
from collections import Counter
from math import floor
from typing import TYPE_CHECKING, Any, Final

import pytest

from skyloom import Address, CallError, Failed, NotExecuted, Service, Unknown, rpc
from skyloom.patterns.batcher import BatchExpired, batched
from skyloom.patterns.breaker import BreakerChange, BreakerSettings, Circuits, State
from skyloom.patterns.pool import ConnectionPool
from skyloom.patterns.saga import Saga, SagaUndone, Step
from skyloom.patterns.saga_store import MemorySagaStore, SagaRecord, SagaStatus
from skyloom.patterns.topic import Subscription, Topic
from tests.testing.world import Caller, Refused, two_ends

if TYPE_CHECKING:
    import random

    from skyloom.patterns.circuit import CircuitBreaker
    from skyloom.testing import Sim, TestNode

pytestmark = pytest.mark.sim(seeds=100)  # `dev.py ci` runs 1,000 of each

EPSILON: Final = 1e-6
BATCH_SIZE, BATCH_WAIT, BATCH_TIMEOUT = 3, 0.1, 0.4


# -- the batcher ---------------------------------------------------------------------------------------------


class Market(Service):
    """Prices in batches. A request is its number, kind, the seconds that its batch takes at least, and whether bad."""

    def __init__(self) -> None:
        self.arrived: dict[int, float] = {}
        self.answered: list[tuple[Address, int]] = []
        self.batches: list[tuple[float, list[int], str, float]] = []

    @rpc
    async def price(self, number: int, kind: str, seconds: float, bad: bool) -> int:
        self.arrived[number] = self.clock.now()
        try:
            return await self.prices((number, kind, seconds, bad))
        finally:
            self.answered.append((self.request.source, number))

    @batched(max_size=BATCH_SIZE, max_wait=BATCH_WAIT, timeout=BATCH_TIMEOUT, key=lambda item: item[1])
    async def prices(self, items: list[tuple[int, str, float, bool]]) -> list[int | Failed]:
        seconds = max(item[2] for item in items)
        self.batches.append((self.clock.now(), [item[0] for item in items], items[0][1], seconds))
        assert len({item[1] for item in items}) == 1
        try:
            await self.sleep(seconds)
        except asyncio.CancelledError:
            await self.sleep(0.3)  # it does not give up: what it returns comes too late
        return [Refused("bad") if item[3] else item[0] for item in items]


async def ask_prices(sim: Sim, here: TestNode, market: Market) -> tuple[dict[int, tuple[bool, float]], list[Caller]]:
    """Have 3 callers ask for 12 prices."""
    callers = [await here.start_service(Caller) for _ in range(3)]
    chance, asked = sim.random, dict[int, tuple[bool, float]]()
    for number in range(12):
        caller, kind = chance.choice(callers), chance.choice("ab")
        seconds, bad = chance.choice([0.0, 0.02, 0.2, 1.0]), chance.random() < 0.2
        asked[number] = bad, seconds
        caller.fork(caller.ask(number, market.address, "price", number, kind, seconds, bad))
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.03, 0.15]))
    return asked, callers


async def test_batcher_runs_each_kind_when_10_are_in_or_the_time_has_come_in_order(sim: Sim) -> None:
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


# -- the breaker ---------------------------------------------------------------------------------------------


class Shaky(Service):
    """Works, refuses or breaks as it is told."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    @rpc
    async def work(self, how: str, seconds: float) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.sleep(seconds)
        finally:
            self.inside -= 1
        if how == "refuse":
            raise Refused("no")
        if how == "break":
            raise ZeroDivisionError
        return how


class BreakerModel:
    """A breaker that remembers every call: what it says must be what the real one does."""

    def __init__(self, settings: BreakerSettings) -> None:
        self.settings = settings
        self.state = State.CLOSED
        self.ended: list[tuple[float, bool, bool]] = []  # when, failed, slow; since the last change
        self.row = self.changes = self.opened = 0
        self.since = 0.0
        self.probing = False

    def may_enter(self, now: float, real: State) -> bool:
        settings = self.settings
        if self.state is State.OPEN:
            shut = min(settings.open_seconds_max, settings.open_seconds * 2 ** (self.opened - 1))
            if real is State.OPEN and now >= self.since + shut * (1 + settings.jitter):
                return True  # so the real one should have let it in
            if now < self.since + shut:
                return False
            if real is State.OPEN:
                return False  # within the jitter
            self.change(State.HALF_OPEN, now)
        if self.state is State.HALF_OPEN:
            if self.probing:
                return False
            self.probing = True
        return True

    def leave(self, entered: int, now: float, outcome: bool | None, seconds: float) -> None:
        if entered != self.changes:
            return
        slow = seconds >= self.settings.slow_seconds
        if self.state is State.HALF_OPEN:
            self.probing = False
            if outcome is None:
                return
            self.row += 1
            if not outcome or (slow and self.settings.failures is None):
                self.change(State.OPEN, now)
            elif self.row >= self.settings.successes:
                self.opened = 0
                self.change(State.CLOSED, now)
        elif outcome is not None:
            self.ended.append((now, not outcome, slow))
            self.row = 0 if outcome else self.row + 1
            if self.must_open(now):
                self.change(State.OPEN, now)

    def must_open(self, now: float) -> bool:
        settings, slot = self.settings, self.settings.window_seconds / 10
        if settings.failures is not None:
            return self.row >= settings.failures
        inside = [each for each in self.ended if floor(each[0] / slot) > floor(now / slot) - 10]
        if len(inside) < settings.calls_min:
            return False
        failed, slow = sum(each[1] for each in inside), sum(each[2] for each in inside)
        return failed >= settings.failure_rate * len(inside) or slow >= settings.slow_rate * len(inside)

    def change(self, state: State, now: float) -> None:
        self.state, self.since = state, now
        self.opened += state is State.OPEN
        self.changes += 1
        self.row, self.probing = 0, False
        self.ended.clear()


class Client(Service):
    """Calls through a breaker, and asks the model each time."""

    def __init__(self, shaky: Address, model: BreakerModel) -> None:
        self.shaky, self.model = shaky, model
        self.circuits = Circuits(self, model.settings)
        self.told: list[BreakerChange] = []
        self.circuits.watch(self.told.append)
        self.faults: list[str] = []
        self.passed = self.refused = 0

    def look(self, breaker: CircuitBreaker, when: str) -> None:
        if breaker.state is not self.model.state:
            self.faults.append(f"{when} it is {breaker.state}, and must be {self.model.state}")

    async def work(self, how: str, seconds: float, timeout: float) -> None:
        breaker, model = self.circuits.of(self.shaky, "work"), self.model
        entered: int | None = None
        began = self.clock.now()

        async def make() -> object:
            nonlocal entered
            if not model.may_enter(began, breaker.state):
                self.faults.append(f"a call passed while {model.state}")
            entered = model.changes
            self.passed += 1
            self.look(breaker, "as a call began")
            return await self.call(self.shaky, "lua", "work", how, seconds, timeout=timeout)

        outcome: bool | None = True
        try:
            await breaker.run(make)
        except NotExecuted as error:
            if error.code == "skyloom.circuit_open":
                self.refused += 1
                if model.may_enter(began, breaker.state):
                    self.faults.append(f"a call was refused while {model.state}")
                return
            outcome = False
        except Failed as error:
            outcome = not error.code.startswith("skyloom.")
        except CallError:
            outcome = False
        except asyncio.CancelledError:
            outcome = None
        assert entered is not None
        model.leave(entered, self.clock.now(), outcome, self.clock.now() - began)
        self.look(breaker, "as a call ended")


SETTINGS: Final = [
    BreakerSettings(calls_min=4, window_seconds=2.0, slow_seconds=0.3, open_seconds=0.5, open_seconds_max=2.0),
    BreakerSettings(calls_min=3, failure_rate=1.0, slow_rate=0.6, slow_seconds=0.2, open_seconds=1.0, successes=1),
    BreakerSettings.consecutive(failures=3, open_seconds=1.0),
]


async def test_breaker_opens_refuses_probes_and_closes_as_its_model(sim: Sim) -> None:
    here, there = await two_ends(sim)
    chance = sim.random
    shaky = await there.start_service(Shaky)
    client = await here.start_service(Client, shaky.address, BreakerModel(chance.choice(SETTINGS)))
    sim.network.faults(loss=0.05, delay=(0.0, 0.05))
    for _ in range(4):
        mood = chance.choice([["well"], ["break"], ["well", "refuse", "break"], ["break", "slow"], ["well"]])
        for _ in range(6):
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
    assert client.passed + client.refused <= 24
    assert [change.after for change in client.told[:1]] in ([], [State.OPEN])
    for earlier, later in zip(client.told, client.told[1:], strict=False):
        assert later.before is earlier.after


# -- the pool ------------------------------------------------------------------------------------------------


class Connection:
    """What a pool keeps."""

    def __init__(self, opened: float) -> None:
        self.opened, self.users, self.alive = opened, 0, True


class Database(Service):
    """Owns a pool, and is the other side of it as well."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.most, self.patience, self.age = chance.randint(1, 3), chance.choice([0.2, 1.0]), 0.8
        self.links = self.links_most = 0
        self.asked: dict[int, float] = {}
        self.served: dict[int, float] = {}
        self.others: dict[int, object] = {}
        self.hasty: list[int] = []
        self.unfit: list[int] = []
        self.pool: ConnectionPool[Connection] = ConnectionPool(
            self,
            self.connect,
            close=self.close,
            check=self.check,
            max_size=self.most,
            acquire_seconds=self.patience,
            connect_seconds=0.3,
            check_seconds=0.1,
            check_idle_seconds=0.1,
            max_age_seconds=self.age,
        )

    async def connect(self) -> Connection:
        self.links += 1
        self.links_most = max(self.links_most, self.links)
        try:
            await self.sleep(self.chance.choice([0.0, 0.01, 0.01, 0.5]))
            if self.chance.random() < 0.1:
                raise ConnectionRefusedError
        except BaseException:
            self.links -= 1
            raise
        return Connection(self.clock.now())

    async def close(self, _: Connection) -> None:
        await self.sleep(0.02)
        self.links -= 1

    async def check(self, connection: Connection) -> bool:
        await self.sleep(self.chance.choice([0.0, 0.01, 0.3]))
        return connection.alive

    async def use(self, number: int, seconds: float, end: str) -> None:
        self.asked[number] = self.clock.now()
        try:
            async with self.pool.connection() as connection:
                self.served[number] = now = self.clock.now()
                connection.users += 1
                if connection.users > 1 or now >= connection.opened + self.age + EPSILON:
                    self.unfit.append(number)
                await self.sleep(seconds)
                connection.users -= 1
                connection.alive = end != "break"
                if end != "well":
                    raise Refused(end)
        except NotExecuted as error:
            self.others[number] = error
            pool = self.pool
            if error.code == "skyloom.pool_exhausted" and (pool.resting or pool.size < self.most):
                self.hasty.append(number)  # it was refused, and could have been served
        except Refused:
            self.others[number] = None


async def test_pool_is_bounded_fair_and_loses_nothing(sim: Sim) -> None:
    here = await sim.node()
    chance = sim.random
    database = await here.start_service(Database, chance)
    cancelled: set[int] = set()
    for number in range(10):
        end = chance.choice(["well", "well", "raise", "break"])
        task = database.fork(database.use(number, chance.choice([0.0, 0.05, 0.3]), end))
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.04, 0.3]))
        if chance.random() < 0.15:
            cancelled.add(number)
            task.cancel()
    await sim.advance(4)
    asked, served, others, pool = database.asked, database.served, database.others, database.pool
    assert database.links_most <= database.most
    assert database.unfit == database.hasty == []
    assert set(range(10)) - cancelled <= served.keys() | others.keys()  # everybody has an answer
    for number, error in others.items():
        if isinstance(error, NotExecuted) and error.code == "skyloom.pool_exhausted":
            assert here.now() > asked[number] + database.patience - EPSILON
    assert all(served[number] <= asked[number] + database.patience + EPSILON for number in served)
    in_order = [served[number] for number in sorted(served, key=lambda number: (asked[number], served[number]))]
    assert in_order == sorted(in_order)  # first come, first served
    assert (pool.lent, pool.waiting, pool.size) == (0, 0, pool.resting)
    assert pool.size == database.links  # none was lost
    await database.fork(pool.aclose())
    assert (pool.size, database.links) == (0, 0)


# -- the saga ------------------------------------------------------------------------------------------------

NAMES: Final = ["hold", "charge", "record"]


class Bank(Service):
    """Where the steps take effect, once for each saga however often they come. Some it refuses, some it breaks off."""

    serial = True

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.effects: Counter[tuple[str, str]] = Counter()
        self.order: dict[str, list[str]] = {}

    @rpc
    async def do(self, name: str, id: str) -> None:
        await self.sleep(self.chance.choice([0.0, 0.0, 0.05]))
        luck = self.chance.random()
        if luck < 0.06:
            raise Refused("no")
        self.note(name, id, 1)
        if luck < 0.15:
            raise ZeroDivisionError  # it has done it, and says that it broke

    @rpc
    async def undo(self, name: str, id: str) -> None:
        if self.chance.random() < 0.3:
            raise ZeroDivisionError
        self.note(name, id, 0)

    def note(self, name: str, id: str, there: int) -> None:
        if self.effects[id, name] != there:
            self.effects[id, name] = there
            self.order.setdefault(id, []).append(name if there else f"-{name}")


class Disk:
    """What of the store outlives a crash, and takes its time; some confirmations of a save are lost."""

    def __init__(self, service: Service, kept: MemorySagaStore[str], chance: random.Random) -> None:
        self.service, self.kept, self.chance = service, kept, chance

    async def take_time(self) -> None:
        await self.service.sleep(self.chance.choice([0.0, 0.01]))

    async def create(self, record: SagaRecord[str]) -> bool:
        await self.take_time()
        created = await self.kept.create(record)
        await self.take_time()
        return created

    async def load(self, saga: str, id: str) -> SagaRecord[str] | None:
        await self.take_time()
        return await self.kept.load(saga, id)

    async def save(self, record: SagaRecord[str]) -> None:
        await self.take_time()
        await self.kept.save(record)
        await self.take_time()
        if self.chance.random() < 0.05:
            raise OSError("nobody heard that it was saved")

    async def unfinished(self, saga: str, limit: int) -> list[SagaRecord[str]]:
        return await self.kept.unfinished(saga, limit)


class Shop(Service):
    """Runs the sagas; takes up what its predecessor left."""

    def __init__(self, bank: Address, kept: MemorySagaStore[str], chance: random.Random, told: dict[str, Any]) -> None:
        self.bank, self.told = bank, told
        self.saga = Saga(self, "order", [self.step(name) for name in NAMES], Disk(self, kept, chance))

    async def on_start(self) -> None:
        await self.saga.resume()

    def step(self, name: str) -> Step[str]:
        async def do(id: str) -> str:
            await self.call(self.bank, "lua", "do", name, id, timeout=0.5)
            return id

        async def undo(id: str) -> None:
            await self.call(self.bank, "lua", "undo", name, id, timeout=0.5)

        return Step(name, do, undo, timeout=5)

    async def order(self, id: str) -> None:
        try:
            self.told[id] = await self.saga.run(id, id)
        except (Refused, SagaUndone) as error:
            self.told[id] = error


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


# -- topics --------------------------------------------------------------------------------------------------

NUMBERS: Final = Topic[int]("numbers")


class Teller(Service):
    """Publishes the numbers from 1 on."""

    def __init__(self) -> None:
        self.numbers = NUMBERS.open(self, keep=4)
        self.told = 0

    @rpc
    async def tell(self) -> None:
        self.told += 1
        self.numbers.publish(self.told)


class Listener(Service):
    """Hears numbers, at its own pace."""

    mailbox_messages_max = 100

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.heard: list[int] = []
        self.ends: list[str] = []
        self.least = self.most = 0
        self.subscription: Subscription[int] | None = None

    async def listen(self, teller: Teller, last: int) -> None:
        self.least = max(0, teller.told - min(last, 4))
        try:
            self.subscription = await NUMBERS.subscribe(
                self, teller.address, self.on_number, last=last, on_end=self.on_end
            )
        except CallError:
            return
        self.most = max(0, teller.told - min(last, 4))

    async def on_number(self, number: int) -> None:
        self.heard.append(number)
        await self.sleep(self.pace)

    async def on_end(self, how: str) -> None:
        self.ends.append(how)


class Slow(Listener):
    serial = True
    mailbox_messages_max = 2


async def test_topic_tells_each_subscriber_in_order_and_at_most_once(sim: Sim) -> None:
    here, there = await two_ends(sim)
    chance, loss = sim.random, sim.random.choice([0.0, 0.0, 0.15])
    teller = await there.start_service(Teller)
    sim.network.faults(loss=loss, delay=(0.0, 0.03))
    listeners: list[Listener] = []
    left: dict[Listener, int] = {}
    killed: set[Listener] = set()
    for _ in range(12):
        if len(listeners) < 4 and chance.random() < 0.5:
            cls, node = chance.choice([Listener, Listener, Slow]), chance.choice([here, there])
            listener = await node.start_service(cls, 0.0 if cls is Listener else 0.2)
            listeners.append(listener)
            listener.fork(listener.listen(teller, chance.choice([0, 2, 9])))
        if listeners and chance.random() < 0.1:
            one = chance.choice(listeners)
            if one.subscription is not None and one not in left and one not in killed:
                if chance.random() < 0.5:
                    one.subscription.unsubscribe()
                    left[one] = len(one.heard)
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
        gaps = each.heard[-1] - each.heard[0] + 1 - len(each.heard) if each.heard else 0
        if loss or isinstance(each, Slow):
            assert each.subscription.missed >= gaps
        else:
            assert each.subscription.missed == gaps == 0
            assert each.heard == list(range(teller.told - len(each.heard) + 1, teller.told + 1))
            first = teller.told - len(each.heard)
            assert each.least <= first <= each.most
    there.kill(teller.address)
    await sim.advance(1)
    assert all(len(each.ends) == 1 for each in stays)
    assert not any(each.ends for each in [*left, *killed])
