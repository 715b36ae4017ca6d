"""People who buy in a shop without end, wherever its services run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from tests.e2e.server_process import GatewayProcess
from tests.e2e.shop_process import END_SECONDS, Buyer, Items, codes

BUYERS = 8
PAUSE_SECONDS = 0.05
GOODS = (("potion", 1), ("torch", 1), ("sword", 1), ("dragon-egg", 1), ("arrows", 9))


class Crowd:
    """Buys until `end`. One whose gateway is gone goes to the next."""

    def __init__(self, *gateways: GatewayProcess) -> None:
        self.buyer = Buyer(*gateways)
        self.wait = 0.0
        """How long an order took at most until it was answered, in seconds."""
        self._is_over = False
        self._buying = [asyncio.create_task(self._shop(f"shopper{number}")) for number in range(BUYERS)]

    async def _shop(self, user: str) -> None:
        rng, order = random.Random(user), 0
        while not self._is_over:
            wanted: Items = tuple(rng.sample(GOODS, 2))
            began = monotonic()
            await self.buyer.buy(user, f"o{order}", wanted)
            self.wait = max(self.wait, monotonic() - began)
            order += 1
            await asyncio.sleep(PAUSE_SECONDS)

    @property
    def done(self) -> int:
        """Orders that went well."""
        return codes([answer for _, answer in self.buyer.answers.values()]).count("")

    async def end(self) -> None:
        """Wait until all orders are answered."""
        self._is_over = True
        async with asyncio.timeout(END_SECONDS):
            await asyncio.gather(*self._buying)

    def cancel(self) -> None:
        for task in self._buying:
            task.cancel()


@asynccontextmanager
async def crowd_at(*gateways: GatewayProcess) -> AsyncIterator[Crowd]:
    crowd = Crowd(*gateways)
    try:
        yield crowd
    finally:
        crowd.cancel()
