"""Processes that serve the shop, buyers who never give up, and a look at the database from outside."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, select

from skyloom.sql import Database
from skyloom_gateway.client import Client, ClientError, Push, RequestFailed
from skyloom_shop.crash_points import CRASH_AT
from skyloom_shop.invariants import violations
from skyloom_shop.migrations import MIGRATIONS
from skyloom_shop.schema import items
from skyloom_shop.stock import Restock, restock, seed
from tests.e2e.server_process import SETTINGS, GatewayProcess
from tests.postgres import Cluster

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("SHOP_KILLS") == "full"
DATABASES = ("sqlite", "postgresql")
END_SECONDS = 60.0  # by then every order has ended
DEATH_SECONDS = 45.0
RETRY_SECONDS = 0.1
FINAL = {
    "shop.out_of_stock",
    "shop.insufficient_funds",
    "shop.order_mismatch",
    "shop.hold_lost",
    "shop.charge_voided",
    "shop.order_failed",
}

Items = tuple[tuple[str, int], ...]
Answer = tuple[str, str, int]  # code, or "" for a done order; transaction; total


class ShopProcess(GatewayProcess):
    """`skyloom gateway` with the shop."""

    def __init__(self, folder: Path, database: str, app: str = "tests.e2e.quick_shop:wallet") -> None:
        super().__init__(folder, settings=(*SETTINGS, "log.level=warning"), apps=(app,), database=database)

    async def start(self, environment: Mapping[str, str] | None = None) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        await super().start({"PYTHONPATH": path, **(environment or {})})

    async def start_to_die(self, point: str) -> None:
        """Start it with a crash point armed; it may be reached before the process listens."""
        try:
            await self.start({CRASH_AT: point})
        except AssertionError:
            if self._process.returncode is None:
                await self.wait()
            if self._process.returncode != -signal.SIGKILL:
                raise

    async def death(self, where: str = "") -> None:
        """Wait until it is killed, or has killed itself `where` it was to."""
        try:
            async with asyncio.timeout(DEATH_SECONDS):
                await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"it did not crash {where}; its log:\n{self.log[-4000:]}") from None
        assert self._process.returncode == -signal.SIGKILL, self.log[-2000:]

    async def kill(self) -> None:
        self._process.kill()
        await self.death()


@asynccontextmanager
async def running_shops(*shops: ShopProcess) -> AsyncIterator[None]:
    """Start these, and in the end see to it that none is left."""
    try:
        for shop in shops:
            await shop.start()
        yield
    finally:
        for shop in shops:
            await shop.stop()


def make_database(request: pytest.FixtureRequest, database: str, folder: Path) -> str:
    """The URL of a new database, of one of `DATABASES`."""
    if database == "sqlite":
        return f"sqlite:///{folder}/shop.db"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.create(f"shop_{abs(hash(request.node.nodeid))}")


async def look(url: str, work: Any, *args: Any, **kwargs: Any) -> Any:
    """Read from the database, past the servers."""
    database = await Database.open(url, MIGRATIONS)
    try:
        return await database.read(work, *args, **kwargs)
    finally:
        await database.close()


async def stock_up(url: str, sku: str, quantity: int) -> None:
    """Make the tables, and put more on the shelf."""
    database = await Database.open(url, MIGRATIONS)
    running = asyncio.create_task(database.run())
    await database.write(seed, [0.0])
    await database.write(restock, [Restock("more", sku, quantity, 0.0)])
    await database.close()
    await running


def pieces(connection: Connection, sku: str) -> tuple[int, int, int]:
    """How many of an item are available, held and sold."""
    row = connection.execute(select(items).where(items.c.sku == sku)).one()
    return row.available, row.held, row.sold


async def check(url: str, *, all_ended: bool) -> None:
    """Everything is well; with `all_ended`, once every order has ended, which it may take `END_SECONDS` for."""
    wrong = [""]
    until = asyncio.get_running_loop().time() + (END_SECONDS if all_ended else 5.0)
    while wrong and asyncio.get_running_loop().time() < until:
        # More than once in any case: PostgreSQL may still commit what a process that was killed had sent.
        wrong = await look(url, violations, all_ended=all_ended)
        if wrong:
            await asyncio.sleep(0.2)
    assert wrong == []


async def end_well(shop: ShopProcess, url: str, buying: list[asyncio.Task[object]]) -> None:
    """Started for good, all that was ordered ends."""
    await shop.start()
    async with asyncio.timeout(END_SECONDS):
        await asyncio.gather(*buying)
    await check(url, all_ended=True)


class Buyer:
    """Places orders and keeps the answers; asks again, over a new connection, until there is one."""

    def __init__(self, *shops: GatewayProcess) -> None:
        self.shops = shops
        self.refusals: set[str] = set()
        """Codes that say nothing about the order."""
        self.answers: dict[tuple[str, str], tuple[Items, Answer]] = {}

    async def buy(self, user: str, order_id: str, wanted: Items) -> Answer:
        """Buy, whatever crashes meanwhile. Who asks a second time gets the same answer."""
        tries = 0
        while True:
            try:
                client = await self.shops[tries % len(self.shops)].client(user)
                try:
                    answer = await place(client, order_id, wanted)
                finally:
                    await client.close()
                break
            except RequestFailed as failed:
                if failed.code.startswith("shop.") and not failed.retryable:
                    raise
                self.refusals.add(failed.code)
            except (ClientError, OSError):
                pass
            tries += 1
            await asyncio.sleep(RETRY_SECONDS)
        _, first = self.answers.setdefault((user, order_id), (wanted, answer))
        assert answer == first, f"{user}'s {order_id} was answered {first}, and then {answer}"
        return answer

    async def ask_all_again(self) -> None:
        for (user, order_id), (wanted, _) in list(self.answers.items()):
            await self.buy(user, order_id, wanted)


class Watcher:
    """A client that stays, and hears what becomes of a user's orders; it comes back whenever the server does."""

    def __init__(self, shop: ShopProcess, user: str) -> None:
        self._shop = shop
        self._user = user
        self._heard: set[str] = set()
        self._news = asyncio.Event()
        self._is_there = asyncio.Event()
        self.task = asyncio.create_task(self._stay())

    @classmethod
    async def open(cls, shop: ShopProcess, user: str) -> Watcher:
        """One that is connected, unless the server dies first."""
        watcher = cls(shop, user)
        either = [asyncio.create_task(watcher._is_there.wait()), asyncio.create_task(shop.death())]
        done, late = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        for task in done:
            task.result()
        return watcher

    async def hears(self, status: str) -> None:
        """Wait until it has heard of an order of that status."""
        async with asyncio.timeout(END_SECONDS):
            while status not in self._heard:
                self._news.clear()
                await self._news.wait()

    async def _stay(self) -> None:
        while True:
            try:
                client = await self._shop.client(self._user)
                client.on("shop.order_updated", self._hear)
                await client.request("shop.balance")
                self._is_there.set()
                await client.wait_closed()
            except (ClientError, OSError):
                await asyncio.sleep(RETRY_SECONDS)

    def _hear(self, push: Push[Any]) -> None:
        self._heard.add(push.body["status"])
        self._news.set()


async def place(client: Client, order_id: str, wanted: Items) -> Answer:
    """Place an order: how it is answered in the end. Raises RequestFailed for what says nothing about the order."""
    body = {"order_id": order_id, "items": [{"sku": sku, "qty": quantity} for sku, quantity in wanted]}
    try:
        answer: Any = await client.request("shop.place_order", body)
    except RequestFailed as failed:
        if failed.code in FINAL:
            return failed.code, "", 0
        raise
    assert answer["status"] == "confirmed"
    assert answer["order_id"] == order_id
    return "", answer["transaction_id"], answer["total"]


def codes(answers: Sequence[Answer]) -> list[str]:
    return [code for code, _, _ in answers]
