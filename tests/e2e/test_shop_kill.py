"""A shop that is killed at each of its crash points loses nothing and doubles nothing.

The clients are real ones of the real gateway process. They ask again until they have an answer, and in the end once
more. `SHOP_KILLS=full` kills three times in a row at each point on both databases, and looks after each point whether
every order ends; otherwise each point has one kill, on one of the databases.
"""

import asyncio
import sqlite3
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Connection, select

from skyloom_shop.crash_points import POINTS
from skyloom_shop.order_state import OrderState
from skyloom_shop.schema import orders
from tests.e2e.bank import BANK, UNLUCKY
from tests.e2e.shop_process import (
    DATABASES,
    FULL,
    Buyer,
    Items,
    ShopProcess,
    Watcher,
    check,
    end_well,
    look,
    make_database,
)

CRASHES: Final = 3 if FULL else 1
# Reached as soon as the server starts, before anybody can buy: so not the first time.
TIMES: Final = {"sweep.before_resume": 8}

pytestmark = [pytest.mark.ci, pytest.mark.timeout(1800 if FULL else 300)]


def points(database: str, *, outside: bool) -> list[str]:
    """Where it is killed on this database: everywhere in full, else at every second point, others than on the other."""
    mine = [point for at, point in enumerate(POINTS) if FULL or DATABASES[(at + at // 2) % 2] == database]
    return [point for point in mine if point.startswith("provider.") == outside]


def wishes(life: int) -> list[tuple[str, str, Items]]:
    """What is ordered in one life of the server: two are sold, the others fail, each in its own way."""
    return [
        (f"ada{life}", "o1", (("potion", 1), ("arrows", 2))),
        (f"bob{life}", "o1", (("torch", 1),)),
        (f"eve{life}", "o1", (("dragon-egg", 4),)),
        (f"joe{life}", "o1", (("sword", 5),)),
        (f"{UNLUCKY}{life}", "o1", (("potion", 2),)),
    ]


EXPECTED: Final = {
    "ada": {""},
    "bob": {""},
    "eve": {"shop.out_of_stock"},
    "joe": {"shop.insufficient_funds", "shop.out_of_stock"},  # the orders that a crash left standing hold swords
}
# What was interrupted with the stock gone is taken back, under whatever name.
UNLUCKY_CODES: Final = {"shop.hold_lost", "shop.order_failed"}


async def crash_at_each(url: str, folder: Path, app: str, points: list[str]) -> Buyer:
    shop = ShopProcess(folder, url, f"tests.e2e.quick_shop:{app}")
    buyer, buying, watchers, life = Buyer(shop), list[asyncio.Task[object]](), list[Watcher](), 0
    try:
        for point in points:
            for _ in range(CRASHES):
                await shop.start_to_die(f"{point}:{TIMES.get(point, 1)}")
                if point.startswith("relay."):  # there must be somebody whom it can tell
                    watchers.append(await Watcher.open(shop, f"ada{life}"))
                buying += [asyncio.create_task(buyer.buy(*wish)) for wish in wishes(life)]
                life += 1
                await shop.death(f"at {point}")
                await check(url, all_ended=False)
            if FULL and point != points[-1]:
                await end_well(shop, url, buying)
                await shop.stop()
        await end_well(shop, url, buying)
        for watcher in watchers:
            await watcher.hears("confirmed")
        await buyer.ask_all_again()
    finally:
        for task in [*buying, *(watcher.task for watcher in watchers)]:
            task.cancel()
        await shop.stop()
    assert len(buyer.answers) == 5 * life
    for (user, _), (_, (code, transaction, _)) in buyer.answers.items():
        expected = EXPECTED.get(user.rstrip("0123456789"), UNLUCKY_CODES)
        assert code in expected, (user, code)
        assert bool(transaction) == (code == "")
    return buyer


@pytest.mark.parametrize("database", DATABASES)
async def test_killed_at_each_point_it_finishes_every_order(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = make_database(request, database, tmp_path)
    await crash_at_each(url, tmp_path, "wallet", points(database, outside=False))


@pytest.mark.parametrize("database", DATABASES)
async def test_killed_around_a_payment_outside_it_finishes_every_order(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = make_database(request, database, tmp_path)
    buyer = await crash_at_each(url, tmp_path, "card", points(database, outside=True))
    with sqlite3.connect(tmp_path / BANK) as bank:
        amounts = dict(bank.execute("SELECT key, amount FROM transfers WHERE kind = 'charge'").fetchall())
        refunded = {key for (key,) in bank.execute("SELECT key FROM transfers WHERE kind = 'refund'")}
    assert refunded <= amounts.keys()
    kept = {key: amount for key, amount in amounts.items() if key not in refunded}
    assert kept == await look(url, done_orders)
    paid = sum(total for _, (_, _, total) in buyer.answers.values())
    assert sum(kept.values()) == paid


def done_orders(connection: Connection) -> dict[str, int]:
    rows = connection.execute(select(orders.c.key, orders.c.total).where(orders.c.state == OrderState.DONE.value))
    return {row.key: row.total for row in rows}
