"""Sagas: each rule of the pattern by its name."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from skyloom import Expired, Failed, Node, NotExecuted, Service, Unknown
from skyloom.patterns import saga_store
from skyloom.patterns.saga import Saga, SagaUndone, Step, TooManySagas
from skyloom.patterns.saga_store import MemorySagaStore, SagaConflict, SagaRecord, SagaStatus, SagaStore
from skyloom.testing import SimLoop
from tests.core.cast import start
from tests.examples import examples
from tests.patterns.saga_world import Order, SoldOut, World

NAMES = ["hold", "charge", "record"]


class Shop(Service):
    def __init__(self, world: World, store: SagaStore[Order], **limits: Any) -> None:
        self.progress: list[SagaRecord[Order]] = []
        steps = [Step(name, world.step(name), world.undo(name), timeout=10) for name in NAMES]
        self.saga = Saga(self, "test.order", steps, store, on_progress=self.progress.append, **limits)


async def test_steps_run_in_order_and_hand_on_the_state(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    shop = await start(node, Shop, world, store)
    given = Order("a")
    assert await shop.saga.run("a", given) == Order("a", NAMES)
    assert (world.log, given.trail, shop.saga.running) == (NAMES, [], [])


async def test_a_step_that_fails_is_compensated_in_reverse_order_and_its_error_reaches_the_caller(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    world.faults["record"] = [SoldOut("none left", details={"item": "sword"})]
    shop = await start(node, Shop, world, store)
    with pytest.raises(SoldOut, match="none left") as caught:
        await shop.saga.run("a", Order("a"))
    assert caught.value.details == {"item": "sword"}
    assert world.log == ["hold", "charge", "record", "-charge", "-hold"]
    assert world.effects["a"] == set()


@pytest.mark.parametrize(
    ("error", "undone"),
    [
        (SoldOut(), False),
        (NotExecuted(), False),
        (Unknown(), True),
        (Expired(), True),
        (Failed(code="skyloom.internal"), True),
        (ZeroDivisionError(), True),
        (asyncio.CancelledError(), True),
    ],
)
async def test_a_step_that_may_have_run_is_undone_too_and_one_that_refused_is_not(
    node: Node, world: World, store: MemorySagaStore[Order], error: BaseException, undone: bool
) -> None:
    world.faults["charge"] = [error]
    world.after = {"charge"} if undone else set()
    shop = await start(node, Shop, world, store)
    with pytest.raises(SoldOut if isinstance(error, SoldOut) else SagaUndone):
        await shop.saga.run("a", Order("a"))
    assert world.log == ["hold", "charge", *(["-charge"] if undone else []), "-hold"]
    assert world.effects["a"] == set()


async def test_a_first_step_that_refuses_leaves_nothing_to_undo(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    world.faults["hold"] = [SoldOut()]
    shop = await start(node, Shop, world, store)
    with pytest.raises(SoldOut):
        await shop.saga.run("a", Order("a"))
    assert world.log == ["hold"]


async def test_a_step_that_takes_too_long_is_undone(node: Node, world: World, store: MemorySagaStore[Order]) -> None:
    world.faults["charge"] = [3600.0]
    shop = await start(node, Shop, world, store)
    with pytest.raises(SagaUndone) as caught:
        await shop.saga.run("a", Order("a"))
    assert caught.value.details == {"saga": "test.order", "id": "a", "cause": "skyloom.expired"}
    assert world.log == ["hold", "charge", "-charge", "-hold"]


async def test_compensation_is_retried_with_back_off_and_never_dropped(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    world.faults = {"record": [SoldOut()], "-charge": [Unknown(), Expired(), ZeroDivisionError(), Failed()] * 10}
    shop = await start(
        node,
        Shop,
        world,
        store,
    )
    times: list[float] = []
    shop.saga._on_progress = lambda record: times.append(shop.clock.now()) if record.tries else None
    with capture_logs(), pytest.raises(SoldOut):  # forty tracebacks take seconds to render
        await shop.saga.run("a", Order("a"))
    assert world.log == ["hold", "charge", "record", *["-charge"] * 41, "-hold"]
    pauses = [later - before for before, later in zip(times, times[1:], strict=False)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(0.05 * 2**n <= pause <= 0.1 * 2**n for n, pause in enumerate(pauses[:8]))
    assert all(30 <= pause <= 60 for pause in pauses[12:])
    assert len(set(pauses)) > 20  # jitter


async def test_progress_can_be_observed(node: Node, world: World, store: MemorySagaStore[Order]) -> None:
    world.faults = {"record": [SoldOut()], "-charge": [Unknown()]}
    shop = await start(node, Shop, world, store)
    with pytest.raises(SoldOut):
        await shop.saga.run("a", Order("a"))
    assert [(str(record.status), record.done, record.tries) for record in shop.progress] == [
        ("running", (), 0),
        ("running", ("hold",), 0),
        ("running", ("hold", "charge"), 0),
        ("undoing", ("hold", "charge"), 0),
        ("undoing", ("hold", "charge"), 1),
        ("undoing", ("hold",), 0),
        ("undone", (), 0),
    ]
    found = await shop.saga.status("a")
    assert found == shop.progress[-1]
    assert isinstance(found.failure, SoldOut)
    assert await shop.saga.status("b") is None


async def test_an_observer_that_fails_harms_no_saga(node: Node, world: World, store: MemorySagaStore[Order]) -> None:
    shop = await start(node, Shop, world, store)
    shop.saga._on_progress = lambda _: 1 / 0
    await shop.saga.run("a", Order("a"))
    assert world.log == NAMES


async def test_nobody_who_keeps_a_state_can_change_it(node: Node, store: MemorySagaStore[Order]) -> None:
    kept: list[Order] = []
    undone: list[list[str]] = []

    async def first(order: Order) -> Order:
        kept.append(order)
        mine = Order(order.id, [*order.trail, "first"])
        kept.append(mine)
        return mine

    async def second(order: Order) -> Order:
        for seen in kept:
            seen.trail.append("kept by the caller or the first step")
        order.trail.append("left by a step that failed")
        raise SoldOut

    async def undo(order: Order) -> None:
        undone.append(list(order.trail))
        order.trail.append("left by an undo that failed")
        if len(undone) < 3:
            raise OSError

    steps = [Step("first", first, undo), Step("second", second, undo)]
    records: list[SagaRecord[Order]] = []
    saga = Saga(node.root, "test.kept", steps, store, on_progress=records.append)
    given = Order("a", ["given"])
    kept.append(given)
    with pytest.raises(SoldOut):
        await saga.run("a", given)
    assert undone == [["given", "first"]] * 3
    assert [record.state.trail for record in records] == [["given"]] + [["given", "first"]] * (len(records) - 1)


async def test_each_who_waits_for_a_saga_has_a_state_of_its_own(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    shop = await start(node, Shop, world, store)
    one, other = await asyncio.gather(shop.saga.run("a", Order("a")), shop.saga.run("a", Order("a")))
    one.trail.clear()
    assert other.trail == shop.progress[-1].state.trail == NAMES


async def test_the_id_is_the_key(node: Node, world: World, store: MemorySagaStore[Order]) -> None:
    world.faults["charge"] = [1.0]
    shop = await start(node, Shop, world, store)
    first, second = await asyncio.gather(shop.saga.run("a", Order("a")), shop.saga.run("a", Order("a")))
    assert first == second == await shop.saga.run("a", Order("a"))
    assert world.log == NAMES
    world.faults["hold"] = [SoldOut()]
    for _ in range(2):
        with pytest.raises(SoldOut):
            await shop.saga.run("b", Order("b"))
    assert world.log == [*NAMES, "hold"]


async def test_cancelling_who_waits_does_not_end_the_saga(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    world.faults["charge"] = [5.0]
    shop = await start(node, Shop, world, store)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await shop.saga.run("a", Order("a"))
    await asyncio.sleep(10)
    assert world.effects["a"] == set(NAMES)


async def test_a_saga_that_a_crash_left_is_resumed_where_it_was(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    world.faults["charge"] = [5.0]
    shop = await start(node, Shop, world, store)
    shop.fork(shop.saga.run("a", Order("a")))
    await asyncio.sleep(1)
    node.kill(shop.address)
    again = await start(node, Shop, world, store)
    assert await again.saga.resume() == 1
    assert await again.saga.resume() == 0  # it runs already
    assert await again.saga.run("a", Order("a")) == Order("a", NAMES)
    assert world.log == ["hold", "charge", "charge", "record"]
    assert await again.saga.resume() == 0


async def test_a_step_that_ran_before_a_crash_and_refuses_after_it_is_undone(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    world.effects["a"] = {"hold"}  # it had its effect, and the crash came before the record was saved
    await store.create(SagaRecord("test.order", "a", Order("a")))
    world.faults["hold"] = [SoldOut()]
    shop = await start(node, Shop, world, store)
    await shop.saga.resume()
    with pytest.raises(SoldOut):
        await shop.saga.run("a", Order("a"))
    assert (world.log, world.effects["a"]) == (["hold", "-hold"], set())


async def test_the_end_of_the_service_compensates_nothing(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    world.faults["charge"] = [5.0]
    shop = await start(node, Shop, world, store)
    shop.fork(shop.saga.run("a", Order("a")))
    await asyncio.sleep(1)
    shop.exit()
    await asyncio.sleep(30)
    assert world.log == ["hold", "charge"]
    assert [record.done for record in await store.unfinished("test.order", 10)] == [("hold",)]


class Flaky(MemorySagaStore[Order]):
    """Fails as told: before the write, or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    async def save(self, record: SagaRecord[Order]) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault != "before":
            await super().save(record)
        if fault:
            raise ConnectionError(fault)


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_record_that_cannot_be_saved_is_saved_later(node: Node, world: World, fault: str) -> None:
    store = Flaky()
    store.faults = [fault, fault]
    shop = await start(node, Shop, world, store)
    assert await shop.saga.run("a", Order("a")) == Order("a", NAMES)
    found = await store.load("test.order", "a")
    assert found is not None
    assert (world.log, found.status, found.version) == (NAMES, SagaStatus.DONE, 3)


async def test_an_observer_that_fails_is_logged_and_the_saga_goes_on(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no eyes")

    shop = await start(node, Shop, world, store)
    shop.saga._on_progress = fail
    with capture_logs() as logged:
        assert await shop.saga.run("a", Order("a")) == Order("a", NAMES)
    assert {line["event"] for line in logged} == {"a saga's on_progress failed"}


async def test_who_runs_anothers_saga_is_stopped_by_the_version(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    world.faults["hold"] = [5.0]
    shop = await start(node, Shop, world, store)
    waiting = shop.fork(shop.saga.run("a", Order("a")))
    await asyncio.sleep(1)
    found = await store.load("test.order", "a")
    assert found is not None
    await store.save(replace(found, version=1, done=("hold",)))
    with capture_logs() as logged, pytest.raises(SagaConflict):
        await waiting
    assert world.log == ["hold"]
    ours = [line for line in logged if line.get("task") != waiting.get_name()]
    assert [(line["log_level"], line["event"], line["id"]) for line in ours] == [
        ("warning", "saga left to whoever has it now", "a")
    ]


async def test_losing_a_saga_that_was_taken_up_is_one_line_in_the_log(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    await store.create(SagaRecord("test.order", "a", Order("a"), done=("paint",)))
    with capture_logs() as logged:
        shop = await start(node, Shop, world, store)
        assert await shop.saga.resume() == 1
        await asyncio.sleep(1)
    assert shop.saga.running == []
    assert [(line["event"], "exc_info" in line) for line in logged] == [("saga left to whoever has it now", False)]
    assert "paint" in logged[0]["reason"]


async def test_records_that_name_steps_which_are_gone_are_left_alone(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    await store.create(SagaRecord("test.order", "a", Order("a"), done=("paint",)))
    shop = await start(node, Shop, world, store)
    with pytest.raises(SagaConflict, match="paint"):
        await shop.saga.run("a", Order("a"))
    assert world.log == []


async def test_sagas_under_way_are_bounded(node: Node, world: World, store: MemorySagaStore[Order]) -> None:
    world.faults["hold"] = [1.0, 1.0]
    shop = await start(node, Shop, world, store)
    shop.saga._running_max = 2
    for id in "ab":
        shop.fork(shop.saga.run(id, Order(id)))
    await asyncio.sleep(0.1)
    with pytest.raises(TooManySagas):
        await shop.saga.run("c", Order("c"))
    assert await store.load("test.order", "c") is None
    await store.create(SagaRecord("test.order", "d", Order("d")))
    assert await shop.saga.resume() == 0
    await asyncio.sleep(5)
    assert await shop.saga.resume() == 1


async def test_step_names_are_unique(node: Node, world: World, store: MemorySagaStore[Order]) -> None:
    step = Step("hold", world.step("hold"))
    for steps in ([], [step, step]):
        with pytest.raises(ValueError, match="steps"):
            Saga(node.root, "test.bad", steps, store)


async def test_the_memory_store_is_bounded_and_keeps_copies(
    store: MemorySagaStore[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saga_store, "RECORDS_MAX", 2)
    order = Order("a")
    assert await store.create(SagaRecord("s", "a", order))
    assert not await store.create(SagaRecord("s", "a", order))
    order.trail.append("x")
    found = await store.load("s", "a")
    assert found is not None
    assert found.state.trail == []
    await store.create(SagaRecord("s", "b", order, SagaStatus.DONE))
    await store.create(SagaRecord("s", "c", order))
    assert await store.load("s", "b") is None
    with pytest.raises(RuntimeError, match="unfinished"):
        await store.create(SagaRecord("s", "d", order))


FAULTS: list[Callable[[], BaseException | float]] = [
    lambda: 0.0,
    lambda: 0.0,
    lambda: 1.0,
    lambda: 1000.0,
    SoldOut,
    NotExecuted,
    Unknown,
    ZeroDivisionError,
]


async def run_crashes(seed: int) -> None:
    """Sagas with random faults, in a service that is killed again and again: all or nothing, in the end."""
    chance = random.Random(seed)
    world, store = World(), Flaky()
    for name in NAMES:
        world.faults[name] = [chance.choice(FAULTS)() for _ in range(6)]
        world.faults[f"-{name}"] = [chance.choice(FAULTS)() for _ in range(6)]
        # A refusal comes before any effect; what else goes wrong may come after it.
        refusals = any(isinstance(fault, SoldOut | NotExecuted) for fault in world.faults[name])
        if not refusals and chance.random() < 0.5:
            world.after.add(name)
    store.faults = [chance.choice(["", "", "", "before", "after"]) for _ in range(10)]
    ids = [str(number) for number in range(3)]
    async with Node("solo", watch_loop=False, rng=random.Random(seed)) as node:
        for _ in range(5):
            shop = await start(node, Shop, world, store)
            await shop.saga.resume()
            for id in ids:
                shop.fork(shop.saga.run(id, Order(id)))
            await asyncio.sleep(chance.choice([0.0, 0.5, 2.0, 15.0]))
            node.kill(shop.address)
        shop = await start(node, Shop, world, store)
        await shop.saga.resume()
        await asyncio.sleep(3600)
        for id in ids:
            try:
                await shop.saga.run(id, Order(id))
            except Failed:
                assert world.effects.get(id, set()) == set(), world.log
            else:
                assert world.effects[id] == set(NAMES), world.log
        assert await store.unfinished("test.order", 10) == []


@examples(150)
@given(st.integers(0, 1_000_000))
def test_property_after_any_crashes_and_faults_all_steps_have_taken_effect_or_none(seed: int) -> None:
    with capture_logs(), asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(run_crashes(seed))
