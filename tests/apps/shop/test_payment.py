"""PAYMENT and its providers, one outside in each of its moods: what was asked once is charged once, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from skyloom import CallError, Failed
from skyloom.sql.inline import Disk
from skyloom.testing import Sim, TestNode
from skyloom_shop.answers import heard
from skyloom_shop.errors import ChargeVoided, InsufficientFunds
from skyloom_shop.inventory import Inventory
from skyloom_shop.ledger import Charge, Charged
from skyloom_shop.order import STEP_SECONDS, OrderService
from skyloom_shop.payment import Payment
from tests.apps.shop.memory import finish, new_disk, open_node
from tests.apps.shop.providers import Card, card_payment

BUYERS = 30  # more than the failures that open a circuit breaker
WISH = Charge("3:ada:o1", "ada", 500, 1.0)


@asynccontextmanager
async def open_card(sim: Sim, *moods: str) -> AsyncIterator[tuple[Disk, Card, OrderService, Payment]]:
    """A shop that takes money by a card; at the end everything must be well, also with the card."""
    disk, card = new_disk(), Card(list(moods))
    node = await open_node(sim, disk, payment=card_payment(card))
    orders = OrderService.at(node.root, "ORDER", timeout=100.0)
    yield disk, card, orders, Payment.at(node.root, "PAYMENT", timeout=100.0)
    await finish(sim, disk)


async def buy(orders: OrderService, user: str = "ada") -> str:
    try:
        await orders.create_order(user, "o1", (("sword", 1),))
    except Failed as failed:
        return failed.code
    return ""


@pytest.mark.parametrize("mood", ["", "lost", "broken", "twice", "late", "silent"])
@pytest.mark.sim(seeds=2)
async def test_an_order_is_charged_once_whatever_the_provider_does(sim: Sim, mood: str) -> None:
    async with open_card(sim, mood) as (_, card, orders, _payment):
        assert await buy(orders) == ""
        assert card.kept() == {"3:ada:o1": 2_500}
        assert await buy(orders) == ""
    assert card.kept() == {"3:ada:o1": 2_500}


@pytest.mark.parametrize("moods", [["broken"] * 10, ["broken"] * 9 + ["lost"], ["broken"] + ["silent"] * 3])
@pytest.mark.sim(seeds=2)
async def test_an_order_whose_charge_stays_unknown_is_taken_back(sim: Sim, moods: list[str]) -> None:
    async with open_card(sim, *moods, "lost", "broken") as (_, card, orders, _payment):
        assert await buy(orders) == "shop.order_failed"
        assert card.kept() == {}
        assert await buy(orders) == "shop.order_failed"
    assert card.kept() == {}


async def test_a_provider_outside_is_asked_for_each_order_alone(sim: Sim) -> None:
    async with open_card(sim, "late") as (_, card, _orders, payment):
        assert await payment.process_payments((WISH, replace(WISH, key="3:bob:o1"))) == (None, None)
        assert card.calls == 0


async def test_wallets_are_charged_for_many_orders_in_one_message_each_for_itself(sim: Sim) -> None:
    disk = new_disk()
    payment = Payment.at((await open_node(sim, disk)).root, "PAYMENT")
    dear, other = replace(WISH, key="3:ada:o2", amount=10_001), replace(WISH, key="3:ada:o3")
    answers = heard(await payment.process_payments((WISH, dear, other, WISH)))
    assert [type(answer) for answer in answers] == [Charged, InsufficientFunds, Charged, Charged]
    assert answers[0] == answers[3]
    assert await payment.balance("ada") == 10_000 - 2 * WISH.amount


@pytest.mark.sim(seeds=2)
async def test_a_charge_that_never_reached_the_provider_is_settled_before_it_is_taken_back(sim: Sim) -> None:
    async with open_card(sim, *["lost"] * 10) as (_, card, orders, _payment):
        assert await buy(orders) == "shop.order_failed"
        assert card.charged.keys() == card.refunded == {"3:ada:o1"}


@pytest.mark.sim(seeds=3)
async def test_what_the_provider_refuses_stays_refused(sim: Sim) -> None:
    async with open_card(sim) as (_, card, orders, _payment):
        with pytest.raises(Failed, match="card.declined"):
            await orders.create_order("ada", "o1", (("horse", 2),))
        asked = card.calls
        with pytest.raises(Failed, match="card.declined"):
            await orders.create_order("ada", "o1", (("horse", 2),))
        assert card.calls == asked
        assert card.charged == {}


@pytest.mark.sim(seeds=3)
async def test_a_refund_before_the_charge_refuses_the_charge(sim: Sim) -> None:
    node = await open_node(sim, new_disk())
    payment = Payment.at(node.root, "PAYMENT")
    await payment.refund(WISH)
    for _ in range(2):
        with pytest.raises(Failed, match="shop.charge_voided"):
            await payment.process_payment(WISH)
    assert await payment.balance("ada") == 10_000


@pytest.mark.sim(seeds=20)
async def test_a_refund_that_overtakes_a_charge_under_way_leaves_nothing_charged(sim: Sim) -> None:
    # The charge's answer comes before the refund, while it asks, or after it.
    disk, card = new_disk(), Card(["late", sim.random.choice(["", "late"])])
    payment = Payment.at((await open_node(sim, disk, payment=card_payment(card))).root, "PAYMENT", timeout=100.0)
    charging = asyncio.create_task(payment.process_payment(WISH))
    await asyncio.sleep(sim.random.random() * 6.0)
    await payment.refund(WISH)
    (outcome,) = await asyncio.gather(charging, return_exceptions=True)
    assert isinstance(outcome, ChargeVoided | Charged), outcome
    assert card.kept() == {}
    with pytest.raises(Failed, match="shop.charge_voided"):
        await payment.process_payment(WISH)


@pytest.mark.sim(seeds=3)
async def test_charges_and_refunds_that_come_again_do_nothing(sim: Sim) -> None:
    node = await open_node(sim, new_disk())
    payment = Payment.at(node.root, "PAYMENT")
    answers = await asyncio.gather(*(payment.process_payment(WISH) for _ in range(5)))
    assert len(set(answers)) == 1
    assert await payment.balance("ada") == 9_500
    await asyncio.gather(*(payment.refund(WISH) for _ in range(5)))
    assert await payment.balance("ada") == 10_000


@pytest.mark.sim(seeds=3)
async def test_while_payment_is_away_orders_fail_and_nothing_is_held(sim: Sim) -> None:
    disk = new_disk()
    node = await open_node(sim, disk)
    node.kill(await node.find("PAYMENT", 0.0))
    orders = OrderService.at(node.root, "ORDER", timeout=100.0)
    with pytest.raises(CallError, match="shop.order_failed"):
        await orders.create_order("ada", "o1", (("sword", 1),))
    await finish(sim, disk)


@pytest.mark.sim(seeds=3)
async def test_while_payment_is_restarted_orders_wait(sim: Sim) -> None:
    disk = new_disk()
    node = await open_node(sim, disk)
    node.kill(await node.find("PAYMENT", 0.0))
    orders = OrderService.at(node.root, "ORDER", timeout=100.0)
    ordering = asyncio.create_task(orders.create_order("ada", "o1", (("sword", 1),)))
    await sim.advance(2.0)
    assert not ordering.done()
    await node.spawn(Payment)
    await ordering
    await finish(sim, disk)


async def order_past_the_breaker(sim: Sim, disk: Disk, card: Card) -> tuple[TestNode, asyncio.Future[list[str]]]:
    """Orders while the card is away, until the circuit breaker before PAYMENT opens."""
    node = await open_node(sim, disk, payment=card_payment(card))
    await Inventory.at(node.root, "INVENTORY").restock("more", "sword", BUYERS)
    orders = OrderService.at(node.root, "ORDER", timeout=200.0)
    card.away = True
    ordering = asyncio.gather(*(buy(orders, f"user{number}") for number in range(BUYERS)))
    async with asyncio.timeout(20.0):
        while not node.counters["circuit_open"]:
            await sim.advance(0.05)
    return node, ordering


@pytest.mark.sim(seeds=3)
async def test_while_the_breaker_is_open_nothing_is_asked_and_orders_wait(sim: Sim) -> None:
    disk, card = new_disk(), Card()
    _, ordering = await order_past_the_breaker(sim, disk, card)
    await sim.advance(0.1)  # those that were let through before
    asked = card.calls
    await sim.advance(4.5)
    assert card.calls == asked
    card.away = False
    assert set(await ordering) == {""}
    assert len(card.kept()) == BUYERS
    await finish(sim, disk)


@pytest.mark.sim(seeds=3)
async def test_orders_wait_no_longer_than_a_step_may_take(sim: Sim) -> None:
    disk, card = new_disk(), Card()
    node, ordering = await order_past_the_breaker(sim, disk, card)
    await sim.advance(STEP_SECONDS)
    assert node.counters["shop_orders_refunding"] == BUYERS
    card.away = False
    assert set(await ordering) == {"shop.order_failed"}
    assert card.kept() == {}
    await finish(sim, disk)


@pytest.mark.sim(seeds=2)
async def test_a_slow_database_makes_orders_slow_and_fails_none(sim: Sim) -> None:
    disk = new_disk()

    async def pause() -> None:
        await asyncio.sleep(1.0)

    node = await open_node(sim, disk, pause=pause)
    orders = OrderService.at(node.root, "ORDER", timeout=100.0)

    async def buy_some(user: str) -> None:
        for number in range(3):
            await orders.create_order(user, f"o{number}", (("potion", 1),))

    await asyncio.gather(*(buy_some(f"u{number}") for number in range(40)))
    await finish(sim, disk)
