"""The relay tells every agent of a user's orders, again if need be, and not what was heard before it came."""

import pytest

from skyloom import Failed, rpc
from skyloom.testing import Sim, TestNode
from skyloom_shop.order import OrderService
from skyloom_shop.outbox import Update
from tests.apps.shop.followers import Follower, told
from tests.apps.shop.memory import new_disk, open_node

pytestmark = pytest.mark.sim(seeds=3)


class NotNow(Failed, code="test.not_now", kind="unavailable"):
    """An agent's trouble."""


class Troubled(Follower):
    """Answers only when it is told for the third time."""

    told = 0

    @rpc
    async def order_updates(self, updates: list[Update]) -> None:
        self.told += 1
        if self.told < 3:
            raise NotNow("not now")
        self.heard.extend(updates)


async def order(node: TestNode, order_id: str) -> None:
    await OrderService.at(node.root, "ORDER", timeout=30.0).create_order("ada", order_id, (("potion", 1),))


async def test_an_agent_that_cannot_hear_is_told_again(sim: Sim) -> None:
    disk, heard = new_disk(), list[Update]()
    node = await open_node(sim, disk)
    await node.spawn(Troubled, "ada", heard)
    await order(node, "o1")
    await sim.advance(10.0)
    assert heard
    assert set(heard) == disk.transact(told)


async def test_who_comes_in_the_minute_after_a_start_hears_what_nobody_was_there_to_hear(sim: Sim) -> None:
    disk, heard, too_late = new_disk(), list[Update](), list[Update]()
    node = await open_node(sim, disk)
    await order(node, "o1")
    await sim.advance(30.0)
    await node.spawn(Follower, "ada", heard)
    await node.spawn(Follower, "bob", too_late)
    await sim.advance(40.0)
    assert [update.status for update in heard] == ["reserved", "charging", "paid", "confirmed"]
    await node.spawn(Follower, "ada", too_late)
    await sim.advance(2.0)
    assert too_late == []


async def test_a_tab_that_is_opened_later_hears_nothing_of_what_another_heard(sim: Sim) -> None:
    disk, heard, later = new_disk(), list[Update](), list[Update]()
    node = await open_node(sim, disk)
    await node.spawn(Follower, "ada", heard)
    await order(node, "o1")
    await sim.advance(1.0)
    await node.spawn(Follower, "ada", later)
    await order(node, "o2")
    await sim.advance(1.0)
    assert set(heard) == disk.transact(told)
    assert {update.order_id for update in later} == {"o2"}
