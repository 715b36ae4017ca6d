"""The shop crashes, at every named point, and comes back: each order ends, its user hears of it, none is doubled."""

import asyncio

import pytest
from sqlalchemy import Connection, select

from skyloom import CallError, Service, Unknown
from skyloom.testing import Sim, TestNode
from skyloom_shop import order_book
from skyloom_shop.crash_points import POINTS, armed
from skyloom_shop.inventory import Inventory
from skyloom_shop.order import SWEEP_EVERY_SECONDS, OrderService
from skyloom_shop.order_book import DRIVE_SECONDS
from skyloom_shop.order_state import OrderState, order_key
from skyloom_shop.outbox import Update
from skyloom_shop.payment import Payment
from skyloom_shop.schema import charges
from skyloom_shop.stock import Restock, release, restock, seed
from tests.apps.shop.followers import Follower, told
from tests.apps.shop.memory import finish, new_disk, open_node
from tests.apps.shop.providers import Card, card_payment

CRASHES = 3
RESTART_SECONDS = 1.0
ASK_AGAIN_SECONDS = 2.0
# Two are sold, what is too dear or not there is refused, and joe has bad luck.
WISHES = [
    ("ada", (("potion", 2), ("sword", 1))),
    ("bob", (("dragon-egg", 2),)),
    ("eve", (("dragon-egg", 4),)),
    ("joe", (("sword", 1),)),
    ("ann", (("horse", 1), ("torch", 2))),
]
INSIDE = [point for point in POINTS if not point.startswith("provider.")]


def take_from_joe(connection: Connection) -> None:
    """Somebody's mistake: what joe has paid for is given back to the shelf."""
    key = order_key("joe", "o1")
    if connection.execute(select(charges).where(charges.c.key == key, charges.c.state == "charged")).first():
        release(connection, [key])


class Everybody(Service):
    """Has all users come, `after` a while."""

    def __init__(self, heard: list[Update], after: float) -> None:
        self.heard = heard
        self.after = after

    async def on_start(self) -> None:
        self.fork(self._come())

    async def _come(self) -> None:
        await self.sleep(self.after)
        for user, _ in WISHES:
            await self.spawn(Follower, user, self.heard)


class _Crashed(BaseException):
    """Ends a transaction that a crash interrupts."""


async def crash_and_return(sim: Sim, point: str, payment: type[Payment]) -> dict[str, str]:
    """Place orders on a shop that crashes whenever it reaches `point`, a few times; how each was answered."""
    disk = new_disk()
    nodes: list[TestNode] = []
    heard: list[Update] = []
    is_down = False
    is_rare = "refund" in point or "sweep" in point
    skipped = 0 if is_rare else sim.random.choice([0, 0, 1])

    def hook(reached: str) -> None:
        nonlocal is_down, skipped
        if reached == "order.before_confirm":
            disk.transact(take_from_joe)
        if reached != point or len(nodes) > CRASHES or is_down:
            return
        skipped -= 1
        if skipped < 0:
            is_down = True
            nodes[-1].crash()
            if ".in_" in point:
                raise _Crashed

    async def buy(user: str, lines: tuple[tuple[str, int], ...]) -> str:
        await asyncio.sleep(sim.random.random() * 3.0)
        while True:
            try:
                shop = OrderService.at(nodes[-1].root, "ORDER", timeout=3.0)
                await shop.create_order(user, "o1", lines)
                return ""
            except CallError as error:
                if not error.code.startswith("skyloom.") and error.code != "shop.storage_failed":
                    return error.code
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def start() -> None:
        nodes.append(await open_node(sim, disk, payment=payment, name=f"shop-{len(nodes)}"))
        await nodes[-1].spawn(Everybody, heard, sim.random.random() * 2.0 if len(nodes) > 1 else 0.0)

    async def restart() -> None:
        nonlocal is_down
        while True:
            await asyncio.sleep(RESTART_SECONDS)
            if is_down:
                is_down = False
                await start()

    await start()
    with armed(hook):
        restarting = asyncio.create_task(restart())
        async with asyncio.timeout(120):
            outcomes = await asyncio.gather(*(buy(*wish) for wish in WISHES))
        await asyncio.sleep(3.0)  # so that it looks for unfinished orders once more
        await finish(sim, disk)
        restarting.cancel()
        await asyncio.sleep(1.0)  # so that the relay has looked once more
    assert set(heard) == disk.transact(told)
    assert len(nodes) > 1, f"it never crashed at {point}"
    return {user: outcome for (user, _), outcome in zip(WISHES, outcomes, strict=True)}


@pytest.mark.sim(seeds=len(INSIDE))
async def test_a_shop_that_crashes_finishes_every_order(sim: Sim) -> None:
    outcomes = await crash_and_return(sim, INSIDE[sim.seed % len(INSIDE)], Payment)
    assert outcomes["ada"] == outcomes["ann"] == ""
    assert outcomes["eve"] == "shop.out_of_stock"
    assert outcomes["bob"] == "shop.insufficient_funds"
    assert outcomes["joe"] != ""


@pytest.mark.ci
@pytest.mark.sim(seeds=len(POINTS))
async def test_a_shop_that_crashes_finishes_every_order_with_a_provider_outside(sim: Sim) -> None:
    card = Card(rng=sim.chance("card"))
    outcomes = await crash_and_return(sim, POINTS[sim.seed % len(POINTS)], card_payment(card))
    assert outcomes["eve"] == "shop.out_of_stock"
    assert outcomes["bob"] in ("card.declined", "shop.order_failed")
    done = {order_key(user, "o1") for user, outcome in outcomes.items() if not outcome}
    assert set(card.kept()) == done


@pytest.mark.sim(seeds=1)
async def test_orders_end_within_seconds_when_a_service_is_back_that_was_away_for_minutes(sim: Sim) -> None:
    disk = new_disk()
    disk.transact(seed, [0.0])
    disk.transact(restock, [Restock("more", "horse", 100, 0.0)])
    node = await open_node(sim, disk)
    orders = OrderService.at(node.root, "ORDER", timeout=300.0)

    def lose_inventory(reached: str) -> None:
        if reached == "order.before_charge" and (there := node.names.find("INVENTORY")) is not None:
            node.kill(there)

    async def order_too_much(user: str) -> str:
        with pytest.raises(CallError) as caught:
            await orders.create_order(user, "o1", (("horse", 2),))
        return caught.value.code

    with armed(lose_inventory):
        all_order = asyncio.gather(*(order_too_much(f"user{number}") for number in range(12)))
        await sim.advance(5.0)
    await sim.advance(100.0)
    assert not all_order.done()
    await node.spawn(Inventory)
    async with asyncio.timeout(20.0):
        codes = await all_order
    assert set(codes) <= {"shop.insufficient_funds", "shop.order_failed"}
    await finish(sim, disk)


ALONE = ["order.after_create", "order.after_reserve", "order.after_charge", "order.after_confirm", "order.before_save"]


@pytest.mark.sim(seeds=len(ALONE))
async def test_an_order_that_nobody_asks_for_again_is_finished_too(sim: Sim) -> None:
    disk = new_disk()
    node = await open_node(sim, disk)

    def hook(reached: str) -> None:
        if reached == ALONE[sim.seed % len(ALONE)] and not node.crashed:
            node.crash()

    with armed(hook), pytest.raises(CallError):
        await OrderService.at(node.root, "ORDER").create_order("ada", "o1", (("sword", 1),))
    await open_node(sim, disk, name="shop-1")
    await finish(sim, disk)
    record = disk.transact(order_book.load, order_key("ada", "o1"))
    assert record is not None
    assert order_book.state_of(record) is OrderState.DONE


@pytest.mark.sim(seeds=3)
async def test_who_repeats_an_order_after_a_crash_waits_until_it_is_taken_up(sim: Sim) -> None:
    disk = new_disk()
    node = await open_node(sim, disk)

    def crash_once(reached: str) -> None:
        if reached == "order.after_reserve" and not node.crashed:
            node.crash()

    with armed(crash_once):
        with pytest.raises(Unknown):
            await OrderService.at(node.root, "ORDER").create_order("ada", "o1", (("sword", 1),))
        crashed = sim.loop.time()
        orders = OrderService.at((await open_node(sim, disk, name="again")).root, "ORDER", timeout=5.0)
        fates = []
        while "confirmed" not in fates:
            try:
                await orders.create_order("ada", "o1", (("sword", 1),))
                fates.append("confirmed")
            except CallError as error:
                fates.append(error.kind)
    assert fates == ["deadline_exceeded"] * 2 + ["confirmed"]
    assert DRIVE_SECONDS <= sim.loop.time() - crashed < DRIVE_SECONDS + SWEEP_EVERY_SECONDS + 1.0
    await finish(sim, disk)
