"""Many buyers want the few pieces that there are, of several processes, on bad networks and across crashes.

ORDER runs on two nodes, INVENTORY and PAYMENT on a third, the buyers on a fourth; all share one database. Messages
are lost and delayed, and nodes and services crash, as the seed will have it. Exactly what there is is sold.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings
from sqlalchemy import select

from skyloom import CallError, Service
from skyloom.sql import Database
from skyloom.sql.inline import Disk, InlineDatabase
from skyloom_shop.database import ShopDatabase
from skyloom_shop.invariants import violations
from skyloom_shop.inventory import Inventory
from skyloom_shop.migrations import MIGRATIONS
from skyloom_shop.order import OrderService
from skyloom_shop.payment import Payment
from skyloom_shop.schema import items
from skyloom_shop.stock import Restock, restock, seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from skyloom.testing import Sim, TestNode

# A run takes 0.25 s of a processor with few buyers, 1.5 s with many. `--seeds 2000 --timeout 9000` tries more.
IN_CI: Final = settings.get_current_profile_name() == "ci"
FEW: Final = pytest.mark.sim(seeds=150 if IN_CI else 6)
MANY: Final = pytest.mark.sim(seeds=12)

FRONT: Final[Sequence[type[Service]]] = (OrderService,)
BACK: Final[Sequence[type[Service]]] = (Inventory, Payment)
ROUNDS_MAX: Final = 6
END_SECONDS: Final = 60.0
REFUSED: Final = {"shop.out_of_stock", "shop.order_failed", "shop.hold_lost", "shop.charge_voided"}


class Market:
    """The database, the nodes that share it, and the buyers."""

    def __init__(self, sim: Sim, buyers: int, pieces: int) -> None:
        self.sim = sim
        self.buyers = buyers
        self.pieces = pieces
        self.disk = Disk(MIGRATIONS)
        self.disk.transact(seed, [0.0])
        self.disk.transact(restock, [Restock("more", "dragon-egg", pieces - 3, 0.0)])
        self.nodes: dict[str, TestNode] = {}
        self.served: dict[str, Sequence[type[Service]]] = {"front-a": FRONT, "front-b": FRONT, "back": BACK}
        self.lives = 0
        self.outcomes: dict[tuple[str, str], set[str]] = {}

    async def open(self) -> None:
        for name in self.served:
            await self.start(name)
        self.street = await self.sim.node("street")

    async def start(self, name: str) -> None:
        """Start a node under this name, or its next life."""
        disk, chance = self.disk, self.sim.random

        class SimDatabase(ShopDatabase):
            async def open_database(self) -> Database:
                return InlineDatabase(disk, pause=lambda: self.sleep(chance.random() * 0.01))

        self.lives += 1
        node = await self.sim.node(f"{name}-{self.lives}")
        services: list[type[Service]] = [SimDatabase, *self.served[name]]
        for service in services:
            await node.spawn(service)
        self.nodes[name] = node

    async def buy(self, user: str, order_id: str) -> None:
        """Order one, and ask for it again, here or there, until there is an answer."""
        lines = (("dragon-egg", 1),)
        outcome = None
        while outcome is None:
            node = self.nodes[self.sim.random.choice(["front-a", "front-b"])]
            try:
                address = None if node.crashed else node.names.find("ORDER")
                if address is not None:
                    await OrderService.at(self.street.root, address, timeout=4.0).create_order(user, order_id, lines)
                    outcome = ""
            except CallError as error:
                if error.code in REFUSED:
                    outcome = error.code
            if outcome is None:
                await asyncio.sleep(self.sim.random.uniform(0.5, 1.5))
        self.outcomes.setdefault((user, order_id), set()).add(outcome)

    def sold(self) -> tuple[int, int, int]:
        def look(connection: Connection) -> tuple[int, int, int]:
            row = connection.execute(select(items).where(items.c.sku == "dragon-egg")).one()
            return row.available, row.held, row.sold

        return self.disk.transact(look)

    async def trade(self) -> None:
        """All buy at once, some of them twice; whose order failed tries anew until all is sold."""
        for number in range(ROUNDS_MAX):
            has = {user for (user, _), outcomes in self.outcomes.items() if "" in outcomes}
            without = [f"user{at}" for at in range(self.buyers) if f"user{at}" not in has]
            buying = [user for user in without for _ in range(1 + (self.sim.random.random() < 0.25))]
            async with asyncio.timeout(400):
                await asyncio.gather(*(self.buy(user, f"o{number}") for user in buying))
            await self.end()
            if self.sold() == (0, 0, self.pieces):
                break
        for key, outcomes in self.outcomes.items():
            assert len(outcomes) == 1, f"{key} was answered with {outcomes}"
        assert sum(outcomes == {""} for outcomes in self.outcomes.values()) == self.pieces
        assert self.sold() == (0, 0, self.pieces)

    async def end(self) -> None:
        until = self.sim.now() + END_SECONDS
        while (wrong := self.disk.transact(violations)) and self.sim.now() < until:
            await self.sim.advance(3.0)
        assert wrong == []

    async def crash(self, times: int) -> None:
        """Crash nodes, or services as a supervisor restarts them, at moments between which things are under way."""
        chance = self.sim.random
        for _ in range(times):
            await asyncio.sleep(chance.choice([0.05, 0.3, 2.0]) * chance.random())
            name = chance.choice(list(self.served))
            node = self.nodes[name]
            if node.crashed:
                continue
            if chance.random() < 0.5:
                node.crash()
                await asyncio.sleep(chance.random() * 2.0)
                await self.start(name)
            else:
                service = chance.choice(self.served[name])
                if (address := node.names.find(service.name or "")) is not None:
                    node.kill(address)
                await asyncio.sleep(0.1)
                await node.spawn(service)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("buyers", "pieces"), [pytest.param(12, 5, marks=FEW), pytest.param(200, 50, marks=[MANY, pytest.mark.ci])]
)
async def test_exactly_what_there_is_is_sold_whatever_is_lost_late_or_crashes(
    sim: Sim, buyers: int, pieces: int
) -> None:
    market, chance = Market(sim, buyers, pieces), sim.random
    await market.open()
    sim.network.faults(loss=chance.choice([0.0, 0.02, 0.1, 0.2]), delay=(0.0005, chance.choice([0.005, 0.3])))
    async with asyncio.TaskGroup() as both:  # a fault of either ends the other
        both.create_task(market.crash(chance.randint(0, 3)))
        both.create_task(market.trade())
    await market.end()
