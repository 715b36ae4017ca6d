"""SHOP_RELAY: tells players of their orders and of the stock, also of what other processes did.

    orders and outbox, one transaction      INVENTORY's items
              |                                   |
              '--------read every 0.25 s-----------'--> relay --call--> the user's agents --> pushes
                                                         '----- stock_changed, fanned out to clients

The outbox is a log that every process reads for its own players, so that a player hears of an order wherever it was
placed. A message is delivered at least once: an agent that does not answer is told again, and after a crash the relay
goes back a minute, and keeps for another one what nobody was there to hear. Agents drop what they have passed on.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import structlog

from skyloom import CallError, Service, rpc
from skyloom.sql import DatabaseError
from skyloom_gateway.push import ClientRef, fan_out
from skyloom_shop import outbox
from skyloom_shop.crash_points import reach
from skyloom_shop.database import Writes, shop_database, storage_failed
from skyloom_shop.messages import Item, Stock, StockChanged
from skyloom_shop.stock import read_items

if TYPE_CHECKING:
    from skyloom import Address
    from skyloom_shop.outbox import Update

RELAY_EVERY_SECONDS: Final = 0.25
"""Between two looks at the database, and so between two pushes about the stock."""

AGAIN_SECONDS: Final = 60.0
"""How far back a relay that starts begins to read; and how long after its start it keeps, for agents that come back,
what no agent of the user was there to hear."""

KEEP_SECONDS: Final = 3_600.0
"""How long messages stay in the outbox; a process that stands still for longer misses some."""

FORGET_EVERY_SECONDS: Final = 600.0

TELL_TRIES_MAX: Final = 20
"""How often an agent is told that does not answer; it is ending then, and its client's next agent asks anew."""

TELL_PAUSE_SECONDS: Final = 0.5

ITEMS_MAX: Final = 500
"""Items that the catalogue shows."""

log = structlog.get_logger("skyloom.shop")


class Relay(Service):
    """See the module's docstring."""

    name = "SHOP_RELAY"
    mailbox_messages_max = 20_000

    async def on_start(self) -> None:
        self._writes = Writes(self)
        self._agents: dict[str, set[Address]] = defaultdict(set)
        self._users: dict[Address, str] = {}
        self._watching: dict[Address, ClientRef] = {}
        self._stock: dict[str, Item] = {}
        self._changed: dict[str, int] = {}
        self._kept: dict[str, list[Update]] = defaultdict(list)
        self._kept_until = self.clock.now() + AGAIN_SECONDS
        self._reading = self.queue()
        self._last = await shop_database(self).read(outbox.position, self.clock.time() - AGAIN_SECONDS)
        self.fork(self._run(), critical=True)
        self.fork(self._forget(), critical=True)

    @rpc
    async def follow(self, user: str) -> None:
        """Have the calling agent told of this user's orders from now on, by its `order_updates`."""
        agent = self.request.source
        if agent not in self._users:
            self._users[agent] = user
            self._agents[user].add(agent)
            self.monitor(agent)
            if user in self._kept:
                self.fork(self._tell(agent, list(self._kept[user])))

    @rpc
    async def catalog(self, client: ClientRef) -> list[Item]:
        """What is for sale; the calling agent's client is told of changes from now on. Raises StorageFailed."""
        try:
            await self._look_at_stock()
        except DatabaseError as error:
            raise storage_failed(error) from None
        # No await from here on: the answer has what came before, and the pushes what comes after.
        self._watching[self.request.source] = client
        return list(self._stock.values())[:ITEMS_MAX]

    async def on_down(self, address: Address, how: str) -> None:
        """An agent has ended."""
        self._watching.pop(address, None)
        user = self._users.pop(address, None)
        if user is not None:
            self._agents[user].discard(address)
            if not self._agents[user]:
                del self._agents[user]

    async def _run(self) -> None:
        while True:
            await self.sleep(RELAY_EVERY_SECONDS)
            try:
                await self._publish()
                if self._watching:
                    await self._look_at_stock()
            except DatabaseError as error:
                log.warning("the relay cannot read the database; tried again soon", error=str(error))
            self._push_stock()

    async def _publish(self) -> None:
        """Pass on what is new in the outbox."""
        while True:
            self._last, updates = await shop_database(self).read(outbox.after, self._last)
            told: dict[Address, list[Update]] = defaultdict(list)
            keeps = self.clock.now() < self._kept_until
            if not keeps:
                self._kept.clear()
            for update in updates:
                agents = self._agents.get(update.user, ())
                if keeps and not agents:
                    self._kept[update.user].append(update)
                for agent in agents:
                    told[agent].append(update)
            if told:
                reach("relay.before_publish")
            for agent in sorted(told, key=lambda address: address.handle):
                self.fork(self._tell(agent, told[agent]))
            if len(updates) < outbox.READ_MAX:
                return

    async def _tell(self, agent: Address, updates: list[Update]) -> None:
        for _ in range(TELL_TRIES_MAX):
            try:
                await self.call(agent, "lua", "order_updates", updates)
                reach("relay.after_publish")
                return
            except CallError as error:
                if agent not in self._users:
                    return
                log.debug("an agent was not told of its orders; it is tried again", agent=str(agent), error=str(error))
            await self.sleep(TELL_PAUSE_SECONDS)

    async def _look_at_stock(self) -> None:
        # One at a time: of two reads the later one must not be overtaken by the earlier.
        async with self._reading:
            rows = await shop_database(self).read(read_items)
            for row in rows:
                before = self._stock.get(row.sku)
                if before is not None and before.available != row.available:
                    self._changed[row.sku] = row.available
            self._stock = {
                row.sku: Item(sku=row.sku, name=row.name, price=row.price, available=row.available) for row in rows
            }

    def _push_stock(self) -> None:
        changed, self._changed = self._changed, {}
        if changed and self._watching:
            stock = [Stock(sku=sku, available=available) for sku, available in changed.items()]
            fan_out(self, self._watching.values(), StockChanged(items=stock[:ITEMS_MAX]))

    async def _forget(self) -> None:
        while True:
            await self.sleep(FORGET_EVERY_SECONDS)
            try:
                await self._writes.one(outbox.forget, self.clock.time() - KEEP_SECONDS)
            except DatabaseError as error:
                log.warning("old messages about orders could not be deleted; tried again later", error=str(error))
