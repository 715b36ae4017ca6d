"""The order book as the store of the sagas: many orders' changes in one batch, each with its own answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from skyloom.patterns.batcher import Batcher
from skyloom_shop import order_book
from skyloom_shop.crash_points import reach
from skyloom_shop.database import Writes, shop_database
from skyloom_shop.order_book import Change, Claim, Record, Renewal

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from skyloom import Service

A = TypeVar("A")

BATCH_SIZE: Final = 200
"""Changes that are written together."""

BATCH_TIMEOUT_SECONDS: Final = 20.0
"""How long that may take; after that nobody knows whether they are written, and they are looked up."""


class OrderStore:
    """A `SagaStore` in SQL, for the sagas of one service; `driver` is who it is among the processes."""

    def __init__(self, service: Service, driver: str) -> None:
        self._service = service
        self.driver = driver
        self._writes = Writes(service)
        self._creates = self._batcher(order_book.create)
        self._saves = self._batcher(order_book.save)

    def _batcher(
        self, work: Callable[[Connection, Sequence[Change]], Sequence[A | Exception]]
    ) -> Batcher[Change, tuple[A | Exception]]:
        async def run(changes: list[Change]) -> list[tuple[A | Exception]]:
            # In tuples, so that the batcher takes no answer for an exception of its own.
            return [(answer,) for answer in await self._writes.many(work, changes)]

        return Batcher(self._service, run, max_size=BATCH_SIZE, max_wait=0.0, timeout=BATCH_TIMEOUT_SECONDS)

    async def create(self, record: Record) -> bool:
        """`SagaStore.create`. Raises OrderMismatch, TooManyOrders, DrivenElsewhere."""
        reach("order.before_create")
        (answer,) = await self._creates.submit(self._change(record))
        reach("order.after_create")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def save(self, record: Record) -> None:
        """`SagaStore.save`."""
        reach("order.before_save")
        (conflict,) = await self._saves.submit(self._change(record))
        reach("order.after_save")
        if conflict is not None:
            raise conflict

    async def load(self, saga: str, id: str) -> Record | None:
        """`SagaStore.load`."""
        return await shop_database(self._service).read(order_book.load, id)

    async def unfinished(self, saga: str, limit: int) -> Sequence[Record]:
        """`SagaStore.unfinished`: those that nobody drives. They are ours to drive from now on."""
        return await self._writes.one(order_book.claim, Claim(self.driver, self._now(), limit))

    async def renew(self, keys: Sequence[str]) -> None:
        """Say of orders that we drive that we still do."""
        if keys:
            await self._writes.one(order_book.renew, Renewal(tuple(keys), self.driver, self._now()))

    def _change(self, record: Record) -> Change:
        return Change(record, self.driver, self._now())

    def _now(self) -> float:
        return self._service.clock.time()
