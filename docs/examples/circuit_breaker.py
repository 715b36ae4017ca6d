"""A service that does not answer is left alone for a while."""

import asyncio

from skyloom import CallError, Node, Service, rpc
from skyloom.patterns.breaker import BreakerSettings, Circuits


class Payment(Service):
    """Broken, for a while."""

    name = "PAYMENT"
    broken = True

    @rpc
    async def charge(self, cents: int) -> str:
        if Payment.broken:
            await self.sleep(60)  # the bank does not answer
        return f"charged {cents}"


class Till(Service):
    """Calls it through a breaker."""

    async def on_start(self) -> None:
        # The tutorial's breaker, but for the 60 seconds.
        self.circuits = Circuits(self, BreakerSettings.consecutive(failures=5, open_seconds=0.1))
        self.circuits.watch(
            lambda change: print(f"{change.service}: {change.before} -> {change.after}, {change.reason}")
        )

    @rpc
    async def pay(self, cents: int) -> str:
        try:
            return str(await self.circuits.call(self, "PAYMENT", "lua", "charge", cents, timeout=0.01))
        except CallError as error:
            return f"not paid: {error.code}"


async def main() -> None:
    async with Node("shop") as node:
        await node.spawn(Payment)
        till = Till.at(node.root, await node.spawn(Till))
        for _ in range(6):
            print(await till.pay(100))
        Payment.broken = False
        await asyncio.sleep(0.11)
        print(await till.pay(100))


if __name__ == "__main__":
    asyncio.run(main())
