"""Requests of many clients, handled ten at a time, answered one by one."""

import asyncio

from skyloom import Failed, Node, Service, rpc
from skyloom.patterns.batcher import BatchExpired, batched


class Market(Service):
    """Handles the orders that it gets in batches."""

    @rpc
    @batched(max_size=10, max_wait=0.1, key=lambda order: order[0], timeout=0.2)
    async def price(self, orders: list[tuple[str, int]]) -> list[int | Failed]:
        kind = orders[0][0]  # a batch holds one kind only
        print(f"a batch of {len(orders)} {kind}")
        if kind == "unicorn":
            await self.sleep(60)
        return [amount * 5 if amount > 0 else Failed("how many?") for _, amount in orders]


async def main() -> None:
    async with Node("shop") as node:
        market = await node.spawn(Market)
        buyer = Market.at(node.root, market)
        orders = [("fish", 1), ("wood", 2), ("fish", 0), ("fish", 4)]
        answers = await asyncio.gather(*(buyer.price(order) for order in orders), return_exceptions=True)
        for order, answer in zip(orders, answers, strict=True):
            print(order, "->", answer)
        await asyncio.gather(*(buyer.price(("fish", amount)) for amount in range(1, 11)))
        try:
            await buyer.price(("unicorn", 1))
        except BatchExpired as error:
            print("unicorns:", error.message)


if __name__ == "__main__":
    asyncio.run(main())
