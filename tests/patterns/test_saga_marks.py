"""Steps of a saga that do nothing: marks in its record."""

from typing import Any

import pytest

from skyloom import Node, Service
from skyloom.patterns.saga import Saga, Step
from skyloom.patterns.saga_store import MemorySagaStore, SagaRecord, SagaStatus, SagaStore
from tests.core.cast import start
from tests.patterns.saga_world import Order, SoldOut, World


class Marked(Service):
    """A saga with steps that are marks: they do nothing."""

    def __init__(self, world: World, store: SagaStore[Order]) -> None:
        self.progress: list[SagaRecord[Order]] = []
        hold, charge = (Step(name, world.step(name), world.undo(name)) for name in ("hold", "charge"))
        steps = [hold, Step[Order]("charging"), charge, Step[Order]("sold")]
        self.saga = Saga(self, "test.order", steps, store, on_progress=self.progress.append)


async def test_a_step_without_effect_is_saved_with_the_one_before_it(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    shop = await start(node, Marked, world, store)
    assert await shop.saga.run("a", Order("a")) == Order("a", ["hold", "charge"])
    world.faults["charge"] = [SoldOut()]
    with pytest.raises(SoldOut):
        await shop.saga.run("b", Order("b"))
    assert world.effects == {"a": {"hold", "charge"}, "b": set()}
    done, undone, held = SagaStatus.DONE, SagaStatus.UNDONE, ("hold", "charging")
    assert [(record.id, record.version, record.status, record.done) for record in shop.progress] == [
        ("a", 0, SagaStatus.RUNNING, ()),
        ("a", 1, SagaStatus.RUNNING, held),
        ("a", 2, done, (*held, "charge", "sold")),
        ("b", 0, SagaStatus.RUNNING, ()),
        ("b", 1, SagaStatus.RUNNING, held),
        ("b", 2, SagaStatus.UNDOING, held),
        ("b", 3, SagaStatus.UNDOING, ("hold",)),
        ("b", 4, undone, ()),
    ]


async def test_a_record_that_ends_before_a_mark_goes_on_with_it(
    node: Node, world: World, store: MemorySagaStore[Order]
) -> None:
    as_json_has_it: Any = ["hold"]
    await store.create(SagaRecord("test.order", "a", Order("a"), done=as_json_has_it))
    shop = await start(node, Marked, world, store)
    assert await shop.saga.resume() == 1
    assert await shop.saga.run("a", Order("a")) == Order("a", ["charge"])
    assert [record.done for record in shop.progress] == [
        ("hold", "charging"),
        ("hold", "charging", "charge", "sold"),
    ]
