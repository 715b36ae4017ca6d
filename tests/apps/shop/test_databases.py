"""The shop's services on a SQLite file and on PostgreSQL: the same code, the same tests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from skyloom import Failed
from skyloom.sql import DatabaseError, make_engines, normalise_url
from skyloom_gateway.auth.identity import USER_CHARS_MAX
from skyloom_shop.answers import heard
from skyloom_shop.database import shop_database
from skyloom_shop.ledger import Charge, Charged
from skyloom_shop.messages import ORDER_ID_CHARS_MAX
from skyloom_shop.migrations import MIGRATIONS
from skyloom_shop.schema import metadata
from tests.apps.shop.services import Shop, count, open_services
from tests.postgres import Cluster

pytestmark = pytest.mark.real_time


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.create(f"shop_{abs(hash(request.node.name))}")


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Shop]:
    async with open_services(url) as shop:
        yield shop
        await shop.check()


async def test_an_order_is_paid_and_its_stock_sold(shop: Shop) -> None:
    order = await shop.buy("ada", "o1", ("potion", 2))
    assert order.total == 240
    assert order.transaction_id
    assert await shop.payment.balance("ada") == 10_000 - 240
    assert await shop.read("potion") == (498, 0, 2)
    assert await shop.orders.get_order("ada", "o1") == (order, "confirmed")


async def test_two_hundred_buyers_get_the_fifty_that_there_are(shop: Shop) -> None:
    await shop.inventory.restock("more", "dragon-egg", 47)
    users = [f"buyer-{number}" for number in range(200)]
    outcomes = await count(shop, users, "dragon-egg")
    assert outcomes.count("") == 50
    assert outcomes.count("shop.out_of_stock") == 150
    assert await shop.read("dragon-egg") == (0, 0, 50)
    assert await count(shop, users, "dragon-egg") == outcomes  # and the same to each who asks again


async def test_one_order_placed_fifty_times_at_once_is_one_order(shop: Shop) -> None:
    orders = await asyncio.gather(*(shop.buy("ada", "o1", ("sword", 1)) for _ in range(50)))
    assert len(set(orders)) == 1
    assert await shop.payment.balance("ada") == 10_000 - 2_500
    assert await shop.read("sword") == (39, 0, 1)


async def test_an_order_is_answered_after_a_restart_as_before(url: str) -> None:
    async with open_services(url) as shop:
        first = await shop.buy("ada", "o1", ("sword", 1))
        assert await shop.outcome("ada", "o2", ("dragon-egg", 4)) == "shop.out_of_stock"
    async with open_services(url) as shop:
        assert await shop.buy("ada", "o1", ("sword", 1)) == first
        assert await shop.outcome("ada", "o2", ("dragon-egg", 4)) == "shop.out_of_stock"
        assert await shop.outcome("ada", "o1", ("sword", 2)) == "shop.order_mismatch"
        await shop.check()


async def test_many_orders_share_few_transactions(shop: Shop) -> None:
    database = shop_database(shop.node.root)
    before = database.transactions
    await asyncio.gather(*(shop.buy(f"user-{number}", "o", ("potion", 1)) for number in range(100)))
    assert database.transactions - before <= 50  # each order by itself takes seven


async def test_an_order_that_cannot_be_written_fails_alone(shop: Shop) -> None:
    users = [f"user-{number}" for number in range(20)]
    outcomes = await count(shop, [*users[:10], "\ud800", *users[10:]], "potion")
    assert outcomes == [""] * 10 + ["shop.storage_failed"] + [""] * 10


async def test_a_wish_that_cannot_be_written_fails_alone(url: str) -> None:
    bad, good = Charge("\ud800", "ada", 1, 0.0), Charge("3:ada:o1", "ada", 1, 0.0)
    async with open_services(url) as shop:
        first, second = heard(await shop.payment.process_payments((bad, good)))
        assert isinstance(first, Failed)
        assert first.code == "skyloom.internal"
        assert isinstance(second, Charged)
        assert await shop.payment.balance("ada") == 9_999


async def test_the_longest_names_that_the_gateway_lets_in_can_buy(shop: Shop) -> None:
    user = "ü" * USER_CHARS_MAX
    assert await shop.outcome(user, "i" * ORDER_ID_CHARS_MAX, ("potion", 1)) == ""
    assert await shop.payment.balance(user) == 10_000 - 120


async def test_processes_that_share_a_database_sell_each_piece_once(url: str) -> None:
    async with open_services(url) as one, open_services(url) as two:
        outcomes = await asyncio.gather(
            count(one, [f"a{number}" for number in range(20)], "dragon-egg"),
            count(two, [f"b{number}" for number in range(20)], "dragon-egg"),
        )
        assert sum(outcome.count("") for outcome in outcomes) == 3
        both = await asyncio.gather(*(shop.buy("ada", "o1", ("sword", 1)) for shop in [one, two] * 10))
        assert len(set(both)) == 1
        await one.check()


async def test_the_ledger_is_append_only(shop: Shop) -> None:
    await shop.payment.balance("ada")

    def change(connection: Connection, statements: object) -> list[None]:
        connection.execute(text("UPDATE shop_entries SET amount = amount + 1"))
        return [None]

    def delete(connection: Connection, statements: object) -> list[None]:
        connection.execute(text("DELETE FROM shop_entries"))
        return [None]

    for work in (change, delete):
        with pytest.raises(DatabaseError, match="append-only"):
            await shop_database(shop.node.root).write(work, [None])


async def test_migrations_make_the_tables_of_the_schema(url: str) -> None:
    engines = make_engines(normalise_url(url))

    def differences(connection: Connection) -> list[object]:
        MIGRATIONS.upgrade(connection)
        options = {"version_table": MIGRATIONS.version_table, "compare_type": True}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        return found

    assert await engines.transact(differences) == []
    await engines.dispose()
