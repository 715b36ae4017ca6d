"""A saga: stock is held, the card is charged; when that fails the stock is free again."""

import asyncio
from dataclasses import dataclass, replace

from skyloom import Failed, Node, Service, rpc
from skyloom.patterns.saga import Saga, Step
from skyloom.patterns.saga_store import MemorySagaStore, SagaRecord


class CardDeclined(Failed, code="example.card_declined", kind="failed_precondition"):
    """The bank said no."""


@dataclass(frozen=True)
class Order:
    """The state that goes from step to step."""

    id: str
    price: int
    transaction: str = ""


class Orders(Service):
    """Sells one sword after the other."""

    async def on_start(self) -> None:
        self.held: set[str] = set()
        steps = [Step("hold", self.hold, undo=self.release), Step("charge", self.charge)]
        self.saga = Saga(self, "example.order", steps, MemorySagaStore[Order](), on_progress=self.show)
        await self.saga.resume()

    @rpc
    async def order(self, order: Order) -> Order:
        return await self.saga.run(order.id, order)

    async def hold(self, order: Order) -> Order:
        self.held.add(order.id)  # by the order's id, so that doing it twice does nothing
        return order

    async def release(self, order: Order) -> None:
        self.held.discard(order.id)

    async def charge(self, order: Order) -> Order:
        if order.price > 100:
            raise CardDeclined(f"{order.price} is too much")
        return replace(order, transaction=f"T-{order.id}")

    def show(self, record: SagaRecord[Order]) -> None:
        print(f"  {record.id}: {record.status}, done {list(record.done)}, held {sorted(self.held)}")


async def main() -> None:
    async with Node("example") as node:
        orders = Orders.at(node.root, await node.spawn(Orders))
        done = await orders.order(Order("a", 50))
        print("paid by", done.transaction, "- and again:", (await orders.order(Order("a", 50))).transaction)
        try:
            await orders.order(Order("b", 500))
        except CardDeclined as error:
            print("declined:", error.message)


if __name__ == "__main__":
    asyncio.run(main())
