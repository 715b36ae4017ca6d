"""The order book as functions: who may write of an order, which version, and what its user is to hear."""

from skyloom.patterns.saga_store import SagaConflict, SagaRecord, SagaStatus
from skyloom.sql.inline import Disk
from skyloom_shop import order_book, outbox
from skyloom_shop.order_book import DRIVE_SECONDS, Change, Claim, DrivenElsewhere, Renewal
from skyloom_shop.order_state import STEPS, Order, OrderState
from tests.apps.shop.memory import new_disk

ORDER = Order("ada", "o1", (("potion", 1),), 120)
STATUSES = {len(STEPS): SagaStatus.DONE}


def at_step(steps: int, version: int, *, driver: str = "one", at: float = 0.0) -> Change:
    """ORDER with so many steps done."""
    status = STATUSES.get(steps, SagaStatus.RUNNING)
    return Change(SagaRecord(order_book.SAGA, ORDER.key, ORDER, status, STEPS[:steps], version=version), driver, at)


def create(disk: Disk, driver: str, at: float = 0.0) -> object:
    (answer,) = disk.transact(order_book.create, [at_step(0, 0, driver=driver, at=at)])
    return type(answer) if isinstance(answer, Exception) else answer


def saved(disk: Disk, change: Change) -> bool:
    (answer,) = disk.transact(order_book.save, [change])
    assert answer is None or isinstance(answer, SagaConflict)
    return answer is None


def claimed(disk: Disk, driver: str, at: float) -> bool:
    (records,) = disk.transact(order_book.claim, [Claim(driver, at, 10)])
    return bool(records)


def state(disk: Disk) -> OrderState:
    record = disk.transact(order_book.load, ORDER.key)
    assert record is not None
    return order_book.state_of(record)


def test_only_the_next_version_is_saved_and_only_once() -> None:
    disk = new_disk()
    assert create(disk, "one") is True
    assert not saved(disk, at_step(2, 0))
    assert not saved(disk, at_step(2, 2))
    assert saved(disk, at_step(2, 1))
    assert not saved(disk, at_step(3, 1))
    assert state(disk) is OrderState.CHARGING
    first, second = disk.transact(order_book.save, [at_step(3, 2), at_step(3, 2)])
    assert first is None
    assert isinstance(second, SagaConflict)


def test_a_step_is_neither_skipped_nor_repeated() -> None:
    disk = new_disk()
    create(disk, "one")
    assert not saved(disk, at_step(3, 1))  # paid, but never about to be
    assert saved(disk, at_step(2, 1))
    assert not saved(disk, at_step(2, 2))
    assert not saved(disk, at_step(1, 2))


def test_an_order_belongs_to_who_drives_it_until_it_stands_still() -> None:
    disk, late = new_disk(), DRIVE_SECONDS
    create(disk, "one")
    assert create(disk, "two", late - 0.1) is DrivenElsewhere
    assert not claimed(disk, "two", late - 0.1)
    assert not saved(disk, at_step(2, 1, driver="two"))
    disk.transact(order_book.renew, [Renewal((ORDER.key,), "two", 5.0)])  # who does not drive it
    disk.transact(order_book.renew, [Renewal((ORDER.key,), "one", 3.0)])
    assert not claimed(disk, "two", late + 2.9)
    assert claimed(disk, "two", late + 3.0)
    assert not saved(disk, at_step(2, 1, driver="one"))
    assert saved(disk, at_step(2, 1, driver="two", at=20.0))
    assert create(disk, "three", 20.0 + late) is False  # it stood still again, and is three's now
    assert not saved(disk, at_step(3, 2, driver="two", at=40.0))
    assert saved(disk, at_step(3, 2, driver="three", at=40.0))


def test_who_asks_for_an_order_that_has_ended_takes_nothing_over() -> None:
    disk = new_disk()
    create(disk, "one")
    for version, steps in enumerate((2, 3, 5), 1):
        assert saved(disk, at_step(steps, version))
    assert create(disk, "two", 99.0) is False
    assert not claimed(disk, "two", 99.0)
    _, updates = disk.transact(outbox.after, 0)
    assert [update.status for update in updates] == ["reserved", "charging", "paid", "confirmed"]
    versions = [update.version for update in updates]
    assert versions == sorted(set(versions))
