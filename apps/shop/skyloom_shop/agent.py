"""The shop's agent: checks what a client asks, asks the services, and passes on what they tell."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog

from skyloom import CallError, rpc
from skyloom_gateway import Agent, request
from skyloom_shop.errors import (
    ChargeVoided,
    HoldLost,
    InsufficientFunds,
    OrderFailed,
    OrderMismatch,
    OrderNotFound,
    OutOfStock,
    StorageFailed,
    TooManyOrders,
    UnknownSku,
)
from skyloom_shop.messages import (
    Balance,
    BalanceQuery,
    Catalog,
    CatalogQuery,
    Line,
    OrderInfo,
    OrderQuery,
    Orders,
    OrdersQuery,
    OrderUpdated,
    Placed,
    PlaceOrder,
)
from skyloom_shop.order import OrderService
from skyloom_shop.order_state import STATUS, Order, OrderState, order_lines
from skyloom_shop.payment import Payment
from skyloom_shop.relay import Relay

if TYPE_CHECKING:
    from skyloom import Address
    from skyloom_shop.outbox import Update

RELAY_WAIT_SECONDS: Final = 3.0
"""How long the first frame of a session waits for the relay: less than a request may take, so that its client is told
that nothing was done."""

RELAY_BACK_SECONDS: Final = 60.0
"""How often a session that waits for a relay says so."""

RELAY_PAUSE_SECONDS: Final = 5.0
"""The longest pause before a relay that did not answer is asked again."""

ORDERS_REMEMBERED_MAX: Final = 1_000
"""Orders of which an agent knows what it has told its client."""

log = structlog.get_logger("skyloom.shop")


class ShopAgent(Agent):
    """One client of the shop."""

    calls_first = True

    async def on_start(self) -> None:
        # By name, so that each call finds the services of the moment.
        self._orders = OrderService.at(self, "ORDER")
        self._payment = Payment.at(self, "PAYMENT")
        self._relay = Relay.at(self, "SHOP_RELAY")
        self._told: OrderedDict[str, int] = OrderedDict()
        self._is_watching = False
        self.monitor(await self.query("SHOP_RELAY", wait=RELAY_WAIT_SECONDS))
        await self._relay.follow(self.user)

    async def on_down(self, address: Address, how: str) -> None:
        """The relay has ended, or is out of sight: the one that comes back does not know us."""
        while True:
            try:
                self.monitor(await self.query("SHOP_RELAY", wait=RELAY_BACK_SECONDS))
                await self._relay.follow(self.user)
                if self._is_watching:
                    await self._relay.catalog(self.client)
                return
            except CallError as error:
                log.warning(
                    "a client is not told of its orders yet; tried again soon", user=self.user, reason=str(error)
                )
            await self.sleep(self.random.random() * RELAY_PAUSE_SECONDS)

    @request("shop.catalog", errors=[StorageFailed])
    async def catalog(self, body: CatalogQuery) -> Catalog:
        self._is_watching = True
        return Catalog(items=await self._relay.catalog(self.client))

    @request("shop.balance", errors=[StorageFailed])
    async def balance(self, body: BalanceQuery) -> Balance:
        return Balance(balance=await self._payment.balance(self.user))

    @request(
        "shop.place_order",
        # Beside others: the client sees where an order stands while it waits for it, and a double click is one order.
        concurrent=True,
        errors=[
            OutOfStock,
            InsufficientFunds,
            UnknownSku,
            OrderMismatch,
            OrderFailed,
            TooManyOrders,
            StorageFailed,
            HoldLost,
            ChargeVoided,
        ],
    )
    async def place_order(self, body: PlaceOrder) -> Placed:
        lines = order_lines((line.sku, line.qty) for line in body.items)
        order = await self._orders.create_order(self.user, body.order_id, lines)
        return Placed(
            order_id=order.id,
            status=STATUS[OrderState.DONE],
            transaction_id=order.transaction_id,
            total=order.total,
        )

    @request("shop.order", errors=[OrderNotFound, StorageFailed])
    async def order(self, body: OrderQuery) -> OrderInfo:
        return _info(*await self._orders.get_order(self.user, body.order_id))

    @request("shop.orders", errors=[StorageFailed])
    async def orders(self, body: OrdersQuery) -> Orders:
        found = await self._orders.list_orders(self.user, body.limit)
        return Orders(orders=[_info(order, status) for order, status in found])

    @rpc
    async def order_updates(self, updates: list[Update]) -> None:
        """The relay tells of orders of this user, at least once; the client hears of each change once."""
        for update in updates:
            if self._told.get(update.order_id, -1) >= update.version:
                continue
            self._told[update.order_id] = update.version
            self._told.move_to_end(update.order_id)
            if len(self._told) > ORDERS_REMEMBERED_MAX:
                self._told.popitem(last=False)
            self.push(OrderUpdated(order_id=update.order_id, status=update.status))


def _info(order: Order, status: str) -> OrderInfo:
    return OrderInfo(
        order_id=order.id,
        status=status,
        transaction_id=order.transaction_id or None,
        total=order.total,
        items=[Line.model_construct(sku=sku, qty=quantity) for sku, quantity in order.lines],
    )
