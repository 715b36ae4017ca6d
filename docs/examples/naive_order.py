"""An order in three calls: look, charge, take from the shelf. It sells what is not there, and charges twice.

The tutorial's flow, written as one would at first. Each call is right by itself.

python docs/examples/naive_order.py                    one buyer after the other: all is well
pytest docs/examples/naive_order.py --seeds 200        finds both faults, and prints how to replay each
"""

import asyncio

from skyloom import CallError, Failed, Node, Service, rpc
from skyloom.testing import Sim


class NotThere(Failed, code="naive.not_there", kind="failed_precondition"):
    """Nothing is left."""


class Inventory(Service):
    """What there is of one item."""

    name = "INVENTORY"

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces

    @rpc
    async def check_inventory(self) -> bool:
        return self.pieces > 0

    @rpc
    async def update_inventory(self) -> None:
        self.pieces -= 1


class Payment(Service):
    """Charges."""

    name = "PAYMENT"

    def __init__(self) -> None:
        self.charged: list[str] = []

    @rpc
    async def process_payment(self, order_id: str) -> int:
        await self.sleep(self.random.uniform(0.001, 0.01))  # it asks the bank
        self.charged.append(order_id)
        return len(self.charged)


class Orders(Service):
    """The flow that looks right."""

    name = "ORDER"

    async def on_start(self) -> None:
        self.done: dict[str, int] = {}

    @rpc
    async def process_order(self, order_id: str) -> int:
        inventory = Inventory.at(self, "INVENTORY")
        if not await inventory.check_inventory():
            raise NotThere("somebody was faster")
        transaction = await Payment.at(self, "PAYMENT").process_payment(order_id)
        await inventory.update_inventory()
        self.done[order_id] = transaction
        return transaction


async def open_shop(node: Node, pieces: int) -> tuple[Inventory, Payment]:
    """Start the three services; two of them to look at."""
    addresses = [await node.spawn(Inventory, pieces), await node.spawn(Payment), await node.spawn(Orders)]
    inventory, payment, _ = (node.cells[address].service for address in addresses)
    assert isinstance(inventory, Inventory)
    assert isinstance(payment, Payment)
    return inventory, payment


async def test_no_more_is_sold_than_there_is(sim: Sim) -> None:
    """Run by `--seeds 200`: this fails, as it should."""
    node = await sim.node("shop")
    inventory, _ = await open_shop(node, 1)

    async def buy(order_id: str, after: float) -> None:
        await asyncio.sleep(after)
        try:
            await node.call("ORDER", "lua", "process_order", order_id)
        except NotThere:
            pass

    # The second buyer comes 9.9 ms after the first: late enough for nearly every schedule.
    await asyncio.gather(buy("ada's", 0.0), buy("bob's", 0.0099))
    assert inventory.pieces >= 0


async def test_an_order_is_charged_once(sim: Sim) -> None:
    """Run by `--seeds 200`: this fails, as it should."""
    shop, phone = await sim.node("shop"), await sim.node("phone")
    _, payment = await open_shop(shop, 5)
    sim.network.faults(loss=0.02)  # now and then an answer is lost, and who has none asks again
    while True:
        try:
            await phone.call("ORDER", "lua", "process_order", "ada's", timeout=1.0)
            break
        except CallError:
            continue
    assert payment.charged.count("ada's") == 1


async def main() -> None:
    """The same, as a demonstration would show it."""
    async with Node("shop") as node:
        inventory, payment = await open_shop(node, 1)
        for order_id in ("ada's", "bob's"):
            try:
                print(order_id, "order is transaction", await node.call("ORDER", "lua", "process_order", order_id))
            except NotThere:
                print(order_id, "order came too late")
        print(f"{inventory.pieces} left, charged: {payment.charged}")


if __name__ == "__main__":
    asyncio.run(main())
