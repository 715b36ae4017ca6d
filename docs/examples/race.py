"""A race that a test finds only under some schedules.

`Bank.pay` looks at the balance, asks another service whether the payment is allowed, and only then takes the money. Two
payments that ask at the same time both see the same balance. Whether they do depends on which handler goes on first,
so an ordinary test passes.

    python docs/examples/race.py                    both payments in the order in which they were written: all is well
    pytest docs/examples/race.py --seeds 200        finds a schedule that breaks it, and prints how to replay it
"""

import asyncio

from skyloom import Failed, Node, Service, rpc
from skyloom.testing import Sim


class TooPoor(Failed, code="race.too_poor", kind="failed_precondition"):
    """There is not that much money."""


class Police(Service):
    """Allows everything, but takes its time for it."""

    @rpc
    async def allows(self, amount: int) -> bool:
        await self.sleep(self.random.uniform(0.001, 0.01))
        return amount > 0


class Bank(Service):
    """One account."""

    def __init__(self, balance: int) -> None:
        self.balance = balance

    async def on_start(self) -> None:
        self.police = Police.at(self, await self.spawn(Police))

    @rpc
    async def pay(self, amount: int) -> int:
        if amount > self.balance:
            raise TooPoor(f"only {self.balance} are left")
        await self.police.allows(amount)
        self.balance -= amount  # wrong: others may have paid while we waited
        return self.balance


async def shop(node: Node, bank: Bank, amount: int, after: float) -> None:
    """Buy something after a while; who is too poor goes without."""
    await asyncio.sleep(after)
    try:
        await node.call(bank.address, "lua", "pay", amount)
    except TooPoor:
        print(f"{amount} were too much")


async def test_nobody_pays_what_he_has_not(sim: Sim) -> None:
    """Run by `--seeds 200`: this fails, as it should."""
    node = await sim.node("bank")
    bank = await node.start_service(Bank, 10)
    # The second shopper comes 9.9 ms after the first: late enough for nearly every schedule.
    await asyncio.gather(shop(node, bank, 8, 0.0), shop(node, bank, 8, 0.0099))
    assert bank.balance >= 0


async def main() -> None:
    """The same, as an ordinary program would see it."""
    async with Node("bank") as node:
        address = await node.spawn(Bank, 10)
        bank = node.cells[address].service
        assert isinstance(bank, Bank)
        await asyncio.gather(shop(node, bank, 8, 0.0), shop(node, bank, 8, 0.05))
        print(f"the balance is {bank.balance}")


if __name__ == "__main__":
    asyncio.run(main())
