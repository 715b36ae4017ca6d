"""SHOP_DATABASE: keeps the shop's database open, for the services beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import structlog

from skyloom import Service
from skyloom.sql import Database, DatabaseClosed, DatabaseError
from skyloom_shop.errors import StorageFailed
from skyloom_shop.migrations import MIGRATIONS
from skyloom_shop.stock import seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

DEFAULT_DATABASE: Final = "sqlite:///skyloom.db"

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")
P = ParamSpec("P")

log = structlog.get_logger("skyloom.shop")


class ShopDatabase(Service):
    """Opens the database that the node's settings name, and writes what the other services of the shop ask for.

    They get it by `shop_database`: what they write is functions, which cannot be sent.
    """

    name = "SHOP_DATABASE"

    @classmethod
    def on_check(cls, env: Mapping[str, str]) -> None:
        Database.check(env.get("database_url", DEFAULT_DATABASE))

    async def on_start(self) -> None:
        self.database = await self.open_database()
        self.fork(self._keep_database(), critical=True)
        await self.database.write(seed, [self.clock.time()])
        self.node.shared[ShopDatabase] = self.database

    async def open_database(self) -> Database:
        """Where the shop keeps its data."""
        return await Database.open(self.getenv("database_url") or DEFAULT_DATABASE, MIGRATIONS)

    async def on_stop(self) -> None:
        self.node.shared.pop(ShopDatabase, None)
        await self.database.close()

    async def _keep_database(self) -> None:
        try:
            await self.database.run()
        except BaseException:
            self.node.shared.pop(ShopDatabase, None)
            raise


def shop_database(service: Service) -> Database:
    """The database of the shop on this service's node. Raises DatabaseClosed while there is none."""
    database: Database | None = service.node.shared.get(ShopDatabase)
    if database is None:
        raise DatabaseClosed("the shop's database is not open just now")
    return database


async def read_for_client(
    service: Service, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """`Database.read` for a client's answer: what goes wrong is logged, and told as no more than StorageFailed."""
    try:
        return await shop_database(service).read(work, *args, **kwargs)
    except DatabaseError as error:
        raise storage_failed(error) from None


def storage_failed(error: Exception) -> StorageFailed:
    """What a client is told in the place of `error`, which is logged."""
    log.error("the shop's database failed", exc_info=error)
    return StorageFailed("the shop cannot read or write its data now: try again")


class Writes:
    """The writes of one service."""

    __slots__ = ("_service",)

    def __init__(self, service: Service) -> None:
        self._service = service

    async def many(
        self, work: Callable[[Connection, Sequence[Q]], Sequence[A]], items: Sequence[Q]
    ) -> list[A | Exception]:
        """`Database.write_each`."""
        return await shop_database(self._service).write_each(work, items)

    async def one(self, work: Callable[[Connection, Sequence[Q]], Sequence[A]], item: Q) -> A:
        """`Database.write` of a single item: its answer."""
        return (await shop_database(self._service).write(work, [item]))[0]
