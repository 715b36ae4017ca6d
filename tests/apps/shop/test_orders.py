"""The shop as its players see it: catalogue, balance, orders, what is refused, and what is repeated."""

import asyncio

import pytest

from skyloom import Failed
from skyloom.testing import Sim
from skyloom_gateway.client import RequestFailed
from skyloom_shop.inventory import Inventory
from skyloom_shop.messages import OrderUpdated, StockChanged
from skyloom_shop.order import OrderService
from tests.apps.shop.memory import available, code, new_disk, open_shop, place


@pytest.mark.sim(seeds=5)
async def test_an_order_is_paid_and_its_stock_sold(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada = await shop.connect("ada")
        assert await ada.request("shop.balance") == {"balance": 10_000}
        before = await available(ada, "potion")
        placed = await place(ada, "o1", ("potion", 2), ("torch", 1))
        assert placed["order_id"] == "o1"
        assert placed["status"] == "confirmed"
        assert placed["total"] == 2 * 120 + 250
        assert placed["transaction_id"]
        assert await ada.request("shop.balance") == {"balance": 10_000 - placed["total"]}
        assert await available(ada, "potion") == before - 2
        assert await ada.request("shop.order", {"order_id": "o1"}) == {
            "order_id": "o1",
            "status": "confirmed",
            "transaction_id": placed["transaction_id"],
            "total": placed["total"],
            "items": [{"sku": "potion", "qty": 2}, {"sku": "torch", "qty": 1}],
        }


@pytest.mark.sim(seeds=5)
async def test_orders_are_listed_newest_first(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada = await shop.connect("ada")
        for number in range(3):
            await place(ada, f"o{number}", ("potion", 1))
            await sim.advance(1.0)
        assert await code(ada, "dear", ("dragon-egg", 3)) == "shop.insufficient_funds"
        listed = (await ada.request("shop.orders"))["orders"]
        assert [order["order_id"] for order in listed] == ["dear", "o2", "o1", "o0"]
        assert [order["status"] for order in listed] == ["failed", "confirmed", "confirmed", "confirmed"]
        assert listed[0].get("transaction_id") is None
        assert len((await ada.request("shop.orders", {"limit": 2}))["orders"]) == 2


@pytest.mark.sim(seeds=5)
async def test_what_is_refused_has_a_code_and_leaves_nothing(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada = await shop.connect("ada")
        stock = await available(ada, "dragon-egg")
        assert await code(ada, "o1", ("dragon-egg", 4)) == "shop.out_of_stock"
        assert await code(ada, "o2", ("dragon-egg", 2)) == "shop.insufficient_funds"
        assert await code(ada, "o3", ("unicorn", 1)) == "shop.unknown_sku"
        assert await available(ada, "dragon-egg") == stock
        assert await ada.request("shop.balance") == {"balance": 10_000}
        with pytest.raises(RequestFailed) as caught:
            await place(ada, "o1", ("dragon-egg", 4))
        assert caught.value.details == {"skus": ["dragon-egg"]}
        with pytest.raises(RequestFailed, match="shop.order_not_found"):
            await ada.request("shop.order", {"order_id": "o3"})
        assert (await ada.request("shop.order", {"order_id": "o2"}))["status"] == "failed"


@pytest.mark.sim(seeds=10)
async def test_a_repeated_order_is_answered_as_the_first_was(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada, tab = await shop.connect("ada"), await shop.connect("ada")
        first = await place(ada, "o1", ("sword", 1))
        assert await place(tab, "o1", ("sword", 1)) == first
        assert await code(ada, "o2", ("sword", 4)) == "shop.insufficient_funds"
        await place(ada, "o3", ("potion", 1))
        assert await code(tab, "o2", ("sword", 4)) == "shop.insufficient_funds"
        assert await ada.request("shop.balance") == {"balance": 10_000 - 2_500 - 120}


@pytest.mark.sim(seeds=10)
async def test_an_order_that_was_refused_stays_refused_when_it_could_be_had_later(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada = await shop.connect("ada")
        assert await code(ada, "o1", ("horse", 13)) == "shop.out_of_stock"
        await Inventory.at(shop.node.root, "INVENTORY").restock("more", "horse", 50)
        assert await code(ada, "o1", ("horse", 13)) == "shop.out_of_stock"
        assert await code(ada, "o2", ("horse", 1)) == ""


@pytest.mark.sim(seeds=8)
async def test_one_order_placed_fifty_times_at_once_is_one_order(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        tabs = [await shop.connect("ada") for _ in range(5)]
        answers = await asyncio.gather(*(place(tab, "o1", ("sword", 1)) for tab in tabs * 10))
        assert all(answer == answers[0] for answer in answers)
        assert await tabs[0].request("shop.balance") == {"balance": 7_500}


@pytest.mark.sim(seeds=20)
async def test_other_items_are_a_mismatch_and_the_same_ones_otherwise_written_are_not(
    sim: Sim,
) -> None:
    async def pause() -> None:  # so that who comes second finds the first one's order under way
        await asyncio.sleep(sim.random.choice([0.0, 0.01]))

    async with open_shop(sim, pause=pause) as shop:
        ada = await shop.connect("ada")
        outcomes = await asyncio.gather(
            code(ada, "o1", ("sword", 1), ("potion", 2)),
            code(ada, "o1", ("potion", 1), ("sword", 1), ("potion", 1)),
            code(ada, "o1", ("sword", 1)),
            code(ada, "o2", ("dragon-egg", 9)),
            code(ada, "o2", ("dragon-egg", 8)),
        )
        assert sorted(outcomes[:3]) in (
            ["", "", "shop.order_mismatch"],
            ["", "shop.order_mismatch", "shop.order_mismatch"],
        )
        assert sorted(outcomes[3:]) == ["shop.order_mismatch", "shop.out_of_stock"]


@pytest.mark.sim(seeds=10)
async def test_two_users_may_choose_the_same_id_and_see_nothing_of_each_other(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada, bob = await shop.connect("ada"), await shop.connect("bob")
        await place(ada, "o1", ("sword", 1))
        with pytest.raises(RequestFailed, match="shop.order_not_found"):
            await bob.request("shop.order", {"order_id": "o1"})
        assert (await bob.request("shop.orders")) == {"orders": []}
        assert (await place(bob, "o1", ("potion", 1)))["total"] == 120
        assert (await ada.request("shop.order", {"order_id": "o1"}))["total"] == 2_500


@pytest.mark.sim(seeds=10)
async def test_every_tab_of_a_user_hears_of_each_change_once_and_nobody_else(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada, tab, bob = [await shop.connect(name) for name in ("ada", "ada", "bob")]
        for player in (ada, tab, bob):
            await player.request("shop.balance")
        await place(ada, "o1", ("sword", 1))
        await sim.advance(1.0)
        for player in (ada, tab):
            heard = [(await player.expect_push(OrderUpdated)).status for _ in range(4)]
            assert heard == ["reserved", "charging", "paid", "confirmed"]
            await player.expect_no_push(OrderUpdated)
        await bob.expect_no_push(OrderUpdated)


@pytest.mark.sim(seeds=3)
async def test_what_a_relay_tells_again_after_its_own_crash_is_not_pushed_again(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada = await shop.connect("ada")
        await place(ada, "o1", ("sword", 1))
        await sim.advance(1.0)
        for _ in range(4):
            await ada.expect_push(OrderUpdated)
        shop.node.kill(await shop.node.find("SHOP_RELAY", 0.0))
        await sim.advance(10.0)
        await ada.expect_no_push(OrderUpdated)
        await place(ada, "o2", ("potion", 1))
        assert (await ada.expect_push(OrderUpdated)).order_id == "o2"


@pytest.mark.sim(seeds=10)
async def test_who_asked_for_the_catalogue_hears_of_the_stock_at_most_four_times_a_second(sim: Sim) -> None:
    async with open_shop(sim) as shop:
        ada, bob, eve = [await shop.connect(name) for name in ("ada", "bob", "eve")]
        before = await available(ada, "potion")
        await eve.request("shop.balance")
        began = sim.now()
        await asyncio.gather(*(place(bob, f"o{number}", ("potion", 1)) for number in range(8)))
        await sim.advance(1.0)
        seen = [await ada.expect_push(StockChanged)]
        while seen[-1].items[-1].available != before - 8:
            seen.append(await ada.expect_push(StockChanged))
        assert len(seen) <= (sim.now() - began) / 0.25 + 1
        await ada.expect_no_push(StockChanged)
        await eve.expect_no_push(StockChanged)


@pytest.mark.sim(seeds=2)
async def test_two_hundred_buyers_get_the_fifty_that_there_are(sim: Sim) -> None:
    disk = new_disk()
    async with open_shop(sim, disk) as shop:
        await Inventory.at(shop.node.root, "INVENTORY").restock("more", "dragon-egg", 47)
        orders = OrderService.at(shop.node.root, "ORDER", timeout=60.0)

        async def buy(user: str) -> str:
            try:
                await orders.create_order(user, "o", (("dragon-egg", 1),))
            except Failed as failed:
                return failed.code
            return ""

        outcomes = await asyncio.gather(*(buy(f"user-{number}") for number in range(200)))
        assert outcomes.count("") == 50
        assert outcomes.count("shop.out_of_stock") == 150
