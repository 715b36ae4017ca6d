"""Stock and ledger as functions: whatever is asked, in whatever batches, adds up, and asking again is free."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from skyloom import Failed
from skyloom.sql.inline import Disk
from skyloom_shop import ledger, stock
from skyloom_shop.catalogue import Ware
from skyloom_shop.errors import HoldLost, InsufficientFunds, OutOfStock
from skyloom_shop.invariants import violations
from skyloom_shop.ledger import Charge, Visit
from skyloom_shop.order_state import order_lines
from skyloom_shop.schema import accounts, items
from skyloom_shop.stock import Hold, Restock
from tests.apps.shop.memory import new_disk

WARES = (Ware("a", "A", 3, 5), Ware("b", "B", 7, 2))
KEYS = [f"3:ada:{number}" for number in range(4)]


def stocked() -> Disk:
    disk = new_disk()
    disk.transact(stock.seed, [1.0], WARES)
    return disk


def left(disk: Disk) -> dict[str, tuple[int, int, int]]:
    rows = disk.transact(stock.read_items)
    return {row.sku: (row.available, row.held, row.sold) for row in rows}


def sound(disk: Disk) -> None:
    wrong = [fault for fault in disk.transact(violations, all_ended=False) if "no such order" not in fault]
    assert wrong == []


class Shelf:
    """What the stock should do, said simply."""

    def __init__(self) -> None:
        self.available = {ware.sku: ware.quantity for ware in WARES}
        self.orders: dict[str, tuple[str, tuple[tuple[str, int], ...]]] = {}

    def hold(self, key: str, lines: tuple[tuple[str, int], ...]) -> type[Failed] | None:
        if key not in self.orders:
            enough = all(self.available.get(sku, 0) >= quantity for sku, quantity in lines)
            self.orders[key] = ("held" if enough else "refused", lines)
            for sku, quantity in lines if enough else ():
                self.available[sku] -= quantity
        state = self.orders[key][0]
        return OutOfStock if state == "refused" else HoldLost if state == "released" else None

    def confirm(self, key: str) -> type[Failed] | None:
        state, lines = self.orders.get(key, ("", ()))
        if state not in ("held", "sold"):
            return HoldLost
        self.orders[key] = ("sold", lines)
        return None

    def release(self, key: str) -> type[Failed] | None:
        state, lines = self.orders.get(key, ("", ()))
        for sku, quantity in lines if state in ("held", "sold") else ():
            self.available[sku] += quantity
        self.orders[key] = ("refused" if state == "refused" else "released", lines)
        return None


@given(
    batches=st.lists(
        st.tuples(
            st.sampled_from(["hold", "confirm", "release"]), st.lists(st.sampled_from(KEYS), min_size=1, max_size=4)
        ),
        max_size=12,
    ),
    wanted=st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=3), min_size=4, max_size=4
    ),
)
@settings(max_examples=60, deadline=None)
def test_the_stock_does_what_a_simple_shelf_does(
    batches: list[tuple[str, list[str]]], wanted: list[list[tuple[str, int]]]
) -> None:
    disk, shelf = stocked(), Shelf()
    lines = {key: order_lines(wish) for key, wish in zip(KEYS, wanted, strict=True)}
    for what, keys in batches:
        answers: Sequence[Failed | None]
        if what == "hold":
            answers = disk.transact(stock.hold, [Hold(key, lines[key], 9.0) for key in keys])
            expected = [shelf.hold(key, lines[key]) for key in keys]
        elif what == "confirm":
            answers = disk.transact(stock.confirm, keys)
            expected = [shelf.confirm(key) for key in keys]
        else:
            answers = disk.transact(stock.release, keys)
            expected = [shelf.release(key) for key in keys]
        assert [answer if answer is None else type(answer) for answer in answers] == expected
        assert {sku: pieces[0] for sku, pieces in left(disk).items()} == shelf.available
        sound(disk)


@given(
    batches=st.lists(
        st.tuples(st.sampled_from(["charge", "refund"]), st.lists(st.integers(0, 5), min_size=1, max_size=5)),
        max_size=12,
    ),
    amounts=st.lists(st.integers(1, 6_000), min_size=6, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_the_ledger_keeps_exactly_what_was_charged_and_not_refunded(
    batches: list[tuple[str, list[int]]], amounts: list[int]
) -> None:
    disk = stocked()
    wishes = [Charge(f"o{n}", "ada" if n % 2 else "bob", amount, 1.0) for n, amount in enumerate(amounts)]
    money = {"ada": ledger.GRANT_MINOR_UNITS, "bob": ledger.GRANT_MINOR_UNITS}
    fate: dict[int, str] = {}
    for what, numbers in batches:
        chosen = [wishes[number] for number in numbers]
        if what == "charge":
            answers = disk.transact(ledger.charge, chosen)
            for number, wish, answer in zip(numbers, chosen, answers, strict=True):
                if number not in fate:
                    fate[number] = "charged" if money[wish.user] >= wish.amount else "refused"
                    money[wish.user] -= wish.amount if fate[number] == "charged" else 0
                assert isinstance(answer, Failed) == (fate[number] != "charged")
                assert isinstance(answer, InsufficientFunds) == (fate[number] == "refused")
        else:
            assert disk.transact(ledger.begin_refund, chosen) == [True] * len(chosen)
            for number, wish in zip(numbers, chosen, strict=True):
                money[wish.user] += wish.amount if fate.get(number) == "charged" else 0
                fate[number] = "refused" if fate.get(number) == "refused" else "refunded"
        sound(disk)
        assert disk.transact(ledger.balance, [Visit(user, 1.0) for user in money]) == list(money.values())


def test_what_is_held_too_long_is_released_and_cannot_be_confirmed() -> None:
    disk = stocked()
    disk.transact(stock.hold, [Hold("k1", (("a", 2),), 10.0), Hold("k2", (("a", 1),), 20.0)])
    assert disk.transact(stock.expire, [15.0]) == [1]
    assert left(disk)["a"] == (4, 1, 0)
    (late,) = disk.transact(stock.confirm, ["k1"])
    assert isinstance(late, HoldLost)
    assert disk.transact(stock.confirm, ["k2"]) == [None]
    assert disk.transact(stock.expire, [99.0]) == [0]
    sound(disk)


def test_a_restock_comes_once_for_each_key() -> None:
    disk = stocked()
    wish = Restock("r1", "a", 3, 1.0)
    assert disk.transact(stock.restock, [wish, wish]) == [True, False]
    assert disk.transact(stock.restock, [wish]) == [False]
    assert left(disk)["a"] == (8, 0, 0)
    sound(disk)


def test_the_demo_is_stocked_once() -> None:
    disk = new_disk()
    assert disk.transact(stock.seed, [1.0, 1.0]) == [8, 8]
    before = left(disk)
    assert disk.transact(stock.seed, [2.0]) == [0]
    assert left(disk) == before
    sound(disk)


@pytest.mark.parametrize("change", [{"available": -1}, {"held": -1}, {"sold": 1}, {"available": 6}])
def test_the_schema_itself_refuses_stock_that_does_not_add_up(change: dict[str, int]) -> None:
    def spoil(connection: Connection) -> None:
        connection.execute(update(items).where(items.c.sku == "a").values(**change))

    with pytest.raises(IntegrityError):
        stocked().transact(spoil)


def test_the_schema_itself_refuses_an_overdrawn_wallet() -> None:
    disk = stocked()
    disk.transact(ledger.balance, [Visit("ada", 1.0)])

    def spoil(connection: Connection) -> None:
        connection.execute(update(accounts).where(accounts.c.kind == "wallet").values(balance=-1))

    with pytest.raises(IntegrityError):
        disk.transact(spoil)


def test_the_invariants_see_what_is_wrong() -> None:
    disk = stocked()
    disk.transact(stock.hold, [Hold("k1", (("a", 2),), 10.0)])
    disk.transact(ledger.charge, [Charge("k2", "ada", 5, 1.0)])

    def spoil(connection: Connection) -> None:
        connection.execute(update(items).where(items.c.sku == "a").values(held=1, sold=1))
        connection.execute(update(accounts).where(accounts.c.name == "sales").values(balance=6))

    disk.transact(spoil)
    wrong = "\n".join(disk.transact(violations))
    for words in ("1 held, but the holds say 2", "1 sold, but", "'sales' has 6, but its entries say 5", "'k1', but no"):
        assert words in wrong


def test_the_same_user_opens_one_wallet_in_a_batch() -> None:
    disk = stocked()
    assert disk.transact(ledger.balance, [Visit("ada", 1.0), Visit("ada", 2.0)]) == [10_000, 10_000]
    names = disk.transact(lambda connection: connection.execute(select(accounts.c.name)).scalars().all())
    assert sorted(names) == ["grants", "outside", "sales", "wallet:ada"]
    sound(disk)
