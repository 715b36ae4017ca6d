"""The shop's services on a node, without gateway and agents, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import Connection, select

from skyloom import Failed, Node, Service
from skyloom_shop.database import ShopDatabase, shop_database
from skyloom_shop.invariants import violations
from skyloom_shop.inventory import Inventory
from skyloom_shop.order import OrderService
from skyloom_shop.order_state import Order
from skyloom_shop.payment import Payment
from skyloom_shop.relay import Relay
from skyloom_shop.schema import items

FINISH_SECONDS = 30.0


class Shop:
    """A node with the shop's services; several may share a database."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.orders = OrderService.at(node.root, "ORDER", timeout=30.0)
        self.inventory = Inventory.at(node.root, "INVENTORY", timeout=30.0)
        self.payment = Payment.at(node.root, "PAYMENT", timeout=30.0)

    async def buy(self, user: str, order_id: str, *lines: tuple[str, int]) -> Order:
        return await self.orders.create_order(user, order_id, tuple(sorted(lines)))

    async def outcome(self, user: str, order_id: str, *lines: tuple[str, int]) -> str:
        """ "" for an order that is done, else the code of its failure."""
        try:
            await self.buy(user, order_id, *lines)
        except Failed as failed:
            return failed.code
        return ""

    async def read(self, sku: str) -> tuple[int, int, int]:
        """How many are available, held and sold."""

        def look(connection: Connection) -> tuple[int, int, int]:
            row = connection.execute(select(items).where(items.c.sku == sku)).one()
            return row.available, row.held, row.sold

        return await shop_database(self.node.root).read(look)

    async def check(self) -> None:
        """Wait for all orders to end; then everything must be well."""
        wrong = ["not looked at yet"]
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                while wrong:
                    wrong = await shop_database(self.node.root).read(violations)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError("\n".join(wrong)) from None


@asynccontextmanager
async def open_services(url: str, *others: type[Service], payment: type[Service] = Payment) -> AsyncIterator[Shop]:
    async with Node("shop", env={"database_url": url}, watch_loop=False) as node:
        services: list[type[Service]] = [ShopDatabase, Inventory, payment, OrderService, Relay, *others]
        for service in services:
            await node.spawn(service)
        yield Shop(node)


async def count(shop: Shop, users: Sequence[str], sku: str) -> list[str]:
    """Every user buys one at the same time: how each fares."""
    return await asyncio.gather(*(shop.outcome(user, "one", (sku, 1)) for user in users))
