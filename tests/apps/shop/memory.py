"""The shop in memory: its real services and SQL on a database without threads, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from skyloom.sql import Database
from skyloom.sql.inline import Disk, InlineDatabase, no_pause
from skyloom.testing import Sim, TestNode
from skyloom_gateway import App
from skyloom_gateway.client import RequestFailed
from skyloom_gateway.testing import Player, TestGateway
from skyloom_shop import make_app
from skyloom_shop.database import ShopDatabase
from skyloom_shop.invariants import violations
from skyloom_shop.inventory import Inventory
from skyloom_shop.migrations import MIGRATIONS
from skyloom_shop.order import OrderService
from skyloom_shop.payment import Payment
from skyloom_shop.relay import Relay

if TYPE_CHECKING:
    from skyloom import Service

Pause = Callable[[], Awaitable[None]]
FINISH_SECONDS = 60.0  # by then, every order has ended


def new_disk() -> Disk:
    return Disk(MIGRATIONS)


def memory_database(disk: Disk, pause: Pause = no_pause) -> type[ShopDatabase]:
    """The service that keeps the database, on `disk`."""

    class MemoryDatabase(ShopDatabase):
        async def open_database(self) -> Database:
            return InlineDatabase(disk, pause=pause)

    return MemoryDatabase


def memory_app(disk: Disk, *, pause: Pause = no_pause, payment: type[Service] = Payment) -> App:
    """The app on `disk`."""
    return make_app(database=memory_database(disk, pause), payment=payment)


@asynccontextmanager
async def open_shop(
    sim: Sim, disk: Disk | None = None, *, pause: Pause = no_pause, payment: type[Service] = Payment, name: str = "shop"
) -> AsyncIterator[TestGateway]:
    """A gateway with the shop. At the end all orders have a minute to end, and then everything must be well."""
    disk = disk or new_disk()
    async with TestGateway(sim, memory_app(disk, pause=pause, payment=payment), name=name) as gateway:
        yield gateway
        await finish(sim, disk)


async def open_node(
    sim: Sim, disk: Disk, *, pause: Pause | None = None, payment: type[Payment] = Payment, name: str = "shop"
) -> TestNode:
    """The services alone, on a node of their own; without `pause` transactions take a hundredth of a second."""

    async def default() -> None:
        await asyncio.sleep(sim.random.random() * 0.01)

    node = await sim.node(name, connected=False)
    services: list[type[Service]] = [memory_database(disk, pause or default), Inventory, payment, OrderService, Relay]
    for service in services:
        await node.spawn(service)
    return node


async def finish(sim: Sim, disk: Disk) -> None:
    """Give all orders a minute to end; then everything must be well."""
    until = sim.now() + FINISH_SECONDS
    while (wrong := disk.transact(violations)) and sim.now() < until:
        await sim.advance(1.0)
    assert wrong == []


async def place(player: Player, order_id: str, *items: tuple[str, int], timeout: float | None = None) -> Any:
    body = {"order_id": order_id, "items": [{"sku": sku, "qty": quantity} for sku, quantity in items]}
    return await player.request("shop.place_order", body, timeout=timeout)


async def code(player: Player, order_id: str, *items: tuple[str, int]) -> str:
    """The code that placing the order is answered with; "" when it is done."""
    try:
        await place(player, order_id, *items)
    except RequestFailed as failed:
        return failed.code
    return ""


async def available(player: Player, sku: str) -> int:
    items = (await player.request("shop.catalog"))["items"]
    return next(int(item["available"]) for item in items if item["sku"] == sku)
