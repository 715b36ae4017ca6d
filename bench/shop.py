"""Orders: the shop's services, with and without batching, beside a bare loop of the same transactions.

200 buyers order at the same time, each one order after the other, from the services of the shop on one node: prices,
holds, charges, order book, outbox and its relay; no gateway. Without batching they are the same services on a database
that takes one item in a transaction. The bare loop does the transactions of 200 orders, step by step, with the shop's
own functions: the same statements on the same tables, as durable, each transaction for all 200. It leaves out what the
framework does: the services and their messages, the saga with its deadlines and its readiness to undo, breakers and
retries, the relay that reads the outbox, and the lock that lets several processes share PostgreSQL.

Each has a database of its own: SQLite files with synchronous FULL, and, where PostgreSQL is installed, databases of a
server that is started for the run, with fsync on. At the end the shop's invariants must hold in all of them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from bench.rig.costs import Costs, ThisProcess, in_turns
from bench.rig.report import Row, main
from bench.rig.turns import run_on
from skyloom import Node, Service
from skyloom.patterns.saga_store import SagaRecord, SagaStatus
from skyloom.sql import Database, make_engines, normalise_url
from skyloom_shop import ledger, order_book, stock
from skyloom_shop.catalogue import DEMO
from skyloom_shop.database import ShopDatabase, shop_database
from skyloom_shop.invariants import violations
from skyloom_shop.inventory import HOLD_SECONDS, Inventory
from skyloom_shop.ledger import Charge
from skyloom_shop.migrations import MIGRATIONS
from skyloom_shop.order import OrderService
from skyloom_shop.order_book import SAGA, Change
from skyloom_shop.order_state import STEPS, Order
from skyloom_shop.payment import Payment
from skyloom_shop.relay import Relay
from skyloom_shop.stock import Hold, Restock
from tests.postgres import binaries, running_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

BUYERS: Final = 200
ROUNDS: Final = 5
"""Orders of each buyer in a run; without batching there is one run of one, which is long enough."""
TURNS: Final = 6
WARE: Final = DEMO[0]
ORDERS_OF_A_USER: Final = 50
"""Then the wallet is nearly empty, and the buyer goes on as somebody new."""
STOCKED: Final = 1_000_000_000
DRIVER: Final = "bare"
ORDER_SECONDS: Final = 60.0

BARE: Final = "bare loop"
SHOP: Final = "shop"
UNBATCHED: Final = "shop without batching"


class Subject(Protocol):
    """What takes orders."""

    async def open(self) -> None:
        """Make the tables, and stock them."""

    async def order(self, count: int) -> None:
        """Have so many orders carried out, by all buyers at the same time."""

    async def close(self) -> None:
        """End, and look whether all is well."""


def wishes(buyers: int, number: int) -> Iterator[Order]:
    """The next order of each buyer, who has ordered `number` times before."""
    for buyer in range(buyers):
        user = f"buyer-{buyer}-{number // ORDERS_OF_A_USER}"
        yield Order(user, f"order-{number}", ((WARE.sku, 1),), WARE.price)


class BareLoop:
    """The transactions of an order, by hand."""

    def __init__(self, buyers: int, url: str) -> None:
        self._buyers = buyers
        self._engines = make_engines(normalise_url(url))
        self._number = 0

    async def open(self) -> None:
        now = time.time()
        await self._engines.transact(MIGRATIONS.upgrade)
        await self._all(stock.seed, [now])
        await self._all(stock.restock, [Restock("bench", WARE.sku, STOCKED, now)])

    async def order(self, count: int) -> None:
        for _ in range(count // self._buyers):
            await self._carry_out(list(wishes(self._buyers, self._number)))
            self._number += 1

    async def _carry_out(self, orders: Sequence[Order]) -> None:
        now = time.time()
        records = [SagaRecord(SAGA, order.key, order) for order in orders]
        created = await self._all(order_book.create, [Change(record, DRIVER, now) for record in records])
        held = await self._all(stock.hold, [Hold(order.key, order.lines, now + HOLD_SECONDS) for order in orders])
        records = await self._save(records, 2)
        charges = [Charge(order.key, order.user, order.total, now) for order in orders]
        charged = await self._all(ledger.charge, charges)
        records = [
            replace(record, state=replace(record.state, transaction_id=charge.transaction_id))
            for record, charge in zip(records, charged, strict=True)
        ]
        records = await self._save(records, 3)
        confirmed = await self._all(stock.confirm, [order.key for order in orders])
        await self._save(records, 5)
        if not all(created) or any(held) or any(confirmed):
            raise RuntimeError("an order was refused")

    async def _save(self, records: Sequence[SagaRecord[Order]], steps: int) -> list[SagaRecord[Order]]:
        status = SagaStatus.DONE if steps == len(STEPS) else SagaStatus.RUNNING
        saved = [replace(record, status=status, done=STEPS[:steps], version=record.version + 1) for record in records]
        now = time.time()
        if any(await self._all(order_book.save, [Change(record, DRIVER, now) for record in saved])):
            raise RuntimeError("an order was not saved")
        return saved

    async def _all(self, work: Callable[[Connection, Sequence[Any]], Sequence[Any]], items: Sequence[Any]) -> Any:
        return await self._engines.transact(lambda connection: work(connection, items))

    async def close(self) -> None:
        wrong = await self._engines.read(violations)
        await self._engines.dispose()
        _sound(wrong)


class Unbatched(ShopDatabase):
    """A transaction for each write."""

    async def open_database(self) -> Database:
        url = self.getenv("database_url")
        assert url is not None
        return await Database.open(url, MIGRATIONS, transaction_max=1)


class Shop:
    """The shop's services on a node."""

    def __init__(self, buyers: int, url: str, database: type[ShopDatabase] = ShopDatabase) -> None:
        self._buyers = buyers
        self._node = Node("shop", env={"database_url": url}, watch_loop=False)
        self._services: list[type[Service]] = [database, Inventory, Payment, OrderService, Relay]
        self._number = 0

    async def open(self) -> None:
        await self._node.start()
        for service in self._services:
            await self._node.spawn(service)
        await Inventory.at(self._node.root, "INVENTORY").restock("bench", WARE.sku, STOCKED)

    async def order(self, count: int) -> None:
        numbers = range(self._number, self._number + count // self._buyers)
        rounds = [list(wishes(self._buyers, number)) for number in numbers]
        self._number += len(rounds)
        shop = OrderService.at(self._node.root, "ORDER", timeout=ORDER_SECONDS)

        async def buy(buyer: int) -> None:
            for orders in rounds:
                wish = orders[buyer]
                await shop.create_order(wish.user, wish.id, wish.lines)

        await asyncio.gather(*(buy(buyer) for buyer in range(self._buyers)))

    async def close(self) -> None:
        wrong = await shop_database(self._node.root).read(violations)
        await self._node.stop()
        _sound(wrong)


async def measure_database(loop: str, scale: float, database: str, new_url: Callable[[str], str]) -> list[Row]:
    """All three on one kind of database."""
    buyers = max(10, round(BUYERS * min(1.0, scale)))
    subjects: dict[str, Subject] = {
        BARE: BareLoop(buyers, new_url("bare")),
        SHOP: Shop(buyers, new_url("shop")),
        UNBATCHED: Shop(buyers, new_url("unbatched"), Unbatched),
    }
    for subject in subjects.values():
        await subject.open()
    costs = {name: Costs(ThisProcess(), subject.order) for name, subject in subjects.items()}
    count = buyers * ROUNDS
    ratio, cpu_ratio = await in_turns(costs[BARE], costs[SHOP], max(1, round(TURNS * scale)), count, count)
    await costs[UNBATCHED].measure(buyers, buyers)
    for subject in subjects.values():
        await subject.close()
    batching = max(costs[SHOP].rates) / max(costs[UNBATCHED].rates)

    def row(name: str, ratio: float, baseline: str, title: str = "", note: str = "", **details: float) -> Row:
        return Row(
            name=f"{title or name}, {database}",
            loop=loop,
            per_second=max(costs[name].rates),
            ratio=ratio,
            baseline=baseline,
            details={"cpu_us_each": costs[name].cpu_microseconds, **details},
            note=note,
        )

    left_out = "no services, messages, saga, deadlines, retries, relay of the outbox"
    return [
        row(BARE, 1.0, BARE, note=left_out),
        row(SHOP, ratio, BARE, cpu_ratio=cpu_ratio),
        row(UNBATCHED, 1.0, UNBATCHED),
        row(SHOP, batching, UNBATCHED, f"{SHOP} with batching"),
    ]


def _sound(wrong: Sequence[str]) -> None:
    if wrong:
        raise RuntimeError("\n".join(wrong))


def measure(loop: str, scale: float) -> list[Row]:
    """On SQLite, and on PostgreSQL if it is here."""
    with tempfile.TemporaryDirectory(prefix="skyloom-bench-") as folder:
        rows = run_on(loop, measure_database(loop, scale, "SQLite", lambda name: f"sqlite:///{folder}/{name}.db"))
    if binaries() is not None:
        with running_cluster(durable=True) as cluster:
            rows += run_on(loop, measure_database(loop, scale, "PostgreSQL", cluster.create))
    return rows


if __name__ == "__main__":
    sys.exit(main("shop", measure, sys.argv[1:]))
