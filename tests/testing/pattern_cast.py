"""Services that use each pattern and write down what becomes of it, and models that say what must."""

from __future__ import annotations

import asyncio
from collections import Counter
from math import floor
from typing import TYPE_CHECKING, Any, Final

from skyloom import Address, CallError, Failed, NotExecuted, Service, rpc
from skyloom.patterns.batcher import batched
from skyloom.patterns.breaker import BreakerChange, BreakerSettings, Circuits, State
from skyloom.patterns.pool import ConnectionPool
from skyloom.patterns.saga import Saga, SagaUndone, Step
from skyloom.patterns.saga_store import MemorySagaStore, SagaRecord
from skyloom.patterns.topic import Subscription, Topic
from tests.testing.world import Refused

if TYPE_CHECKING:
    import random

    from skyloom.patterns.circuit import CircuitBreaker


EPSILON: Final = 1e-6
BATCH_SIZE, BATCH_WAIT, BATCH_TIMEOUT = 3, 0.1, 0.4


def broken() -> Failed:
    """What callers see of a handler that broke; to raise it costs no traceback in the log."""
    return Failed("it broke", code="skyloom.internal")


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
            raise broken()
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
        self.refused: dict[int, float] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.cancelled: set[int] = set()
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
            if self.chance.random() < 0.2:
                self.cancel_next()
        except NotExecuted as error:
            self.others[number] = error
            self.refused[number] = self.clock.now()
        except Refused:
            self.others[number] = None

    def cancel_next(self) -> None:
        """Cancel the one who waits longest, or who was just given what we gave back."""
        for number in self.asked:
            if number not in self.served and number not in self.others and number not in self.cancelled:
                self.cancelled.add(number)
                self.tasks[number].cancel()
                return


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
            raise broken()  # it has done it, and says that it broke

    @rpc
    async def undo(self, name: str, id: str) -> None:
        if self.chance.random() < 0.3:
            raise broken()
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
        self.least = self.most = self.since = 0
        self.subscription: Subscription[int] | None = None

    async def listen(self, teller: Teller, last: int) -> None:
        self.least, self.since = max(0, teller.told - min(last, 4)), len(self.heard)
        self.subscription = None
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
