"""INVENTORY: what there is to sell, and for whom it is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from skyloom import Service, rpc
from skyloom.sql import DatabaseError
from skyloom_shop import stock
from skyloom_shop.answers import Answers, told
from skyloom_shop.crash_points import reach
from skyloom_shop.database import Writes, read_for_client
from skyloom_shop.errors import UnknownSku
from skyloom_shop.messages import Item
from skyloom_shop.order_state import Lines
from skyloom_shop.stock import Hold, Restock

HOLD_SECONDS: Final = 900.0
"""How long stock is held for an order that does not come to its end; then others can have it."""

EXPIRE_EVERY_SECONDS: Final = 5.0
"""Between two looks for holds that have expired."""

log = structlog.get_logger("skyloom.shop")


@dataclass(frozen=True, slots=True)
class Quote:
    """What an order costs, in minor units, and whether all of it was there just now."""

    total: int
    available: bool


class Inventory(Service):
    """See the module's docstring. Each request names its order, and is harmless when it comes again."""

    name = "INVENTORY"
    mailbox_messages_max = 10_000
    handlers_max = 10_000

    async def on_start(self) -> None:
        self._writes = Writes(self)
        self._prices: dict[str, int] = {}
        self.fork(self._expire(), critical=True)

    @rpc
    async def read_catalog(self) -> list[Item]:
        """All items, with what is available now. Raises StorageFailed."""
        rows = await read_for_client(self, stock.read_items)
        self._prices = {row.sku: row.price for row in rows}
        return [Item(sku=row.sku, name=row.name, price=row.price, available=row.available) for row in rows]

    @rpc
    async def check_inventory(self, lines: Lines) -> Quote:
        """What these lines cost, and whether they are there just now, which holds nothing. Raises UnknownSku."""
        available = {item.sku: item.available for item in await self.read_catalog()}
        return Quote(self._price(lines), all(available[sku] >= quantity for sku, quantity in lines))

    @rpc
    async def price(self, lines: Lines) -> int:
        """What these lines cost, in minor units. Raises UnknownSku."""
        if any(sku not in self._prices for sku, _ in lines):
            await self.read_catalog()  # it may be new
        return self._price(lines)

    def _price(self, lines: Lines) -> int:
        unknown = [sku for sku, _ in lines if sku not in self._prices]
        if unknown:
            raise UnknownSku(f"there is no {', '.join(unknown)[:200]} in the catalogue", details={"skus": unknown})
        return sum(self._prices[sku] * quantity for sku, quantity in lines)

    @rpc
    async def hold(self, wishes: tuple[Hold, ...]) -> Answers[None]:
        """Hold stock for each order until a time. Refused with OutOfStock; HoldLost when it was released before."""
        answers = await self._writes.many(stock.hold, wishes)
        reach("stock.after_hold")
        return told(answers)

    @rpc
    async def confirm(self, keys: tuple[str, ...]) -> Answers[None]:
        """What is held for each order is sold. Refused with HoldLost when nothing is held for it any more."""
        answers = await self._writes.many(stock.confirm, keys)
        reach("stock.after_confirm")
        return told(answers)

    @rpc
    async def release(self, keys: tuple[str, ...]) -> Answers[None]:
        """What was held for each order, or sold to it, is available again, and a hold that comes later is refused."""
        answers = await self._writes.many(stock.release, keys)
        reach("stock.after_release")
        return told(answers)

    @rpc
    async def restock(self, key: str, sku: str, quantity: int) -> bool:
        """Put more pieces on the shelf, once for each `key`: whether this was the time. Raises UnknownSku."""
        await self.price(((sku, 1),))
        return await self._writes.one(stock.restock, Restock(key, sku, quantity, self.clock.time()))

    async def _expire(self) -> None:
        while True:
            await self.sleep(EXPIRE_EVERY_SECONDS)
            try:
                count = await self._writes.one(stock.expire, self.clock.time())
            except DatabaseError as error:
                log.warning("holds that have expired could not be released; tried again soon", error=str(error))
            else:
                if count:
                    log.info("released stock that was held too long", orders=count)
