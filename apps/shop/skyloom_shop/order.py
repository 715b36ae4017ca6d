"""ORDER: takes orders through their steps, each exactly once, whatever crashes in between.

    agent --create_order--> ORDER --hold, confirm, release--> INVENTORY
                              |  '--process_payments, refund--> PAYMENT
                              '-- the order book: each step is written down before the next

Orders that come to the same step in the same moment are asked for in one message, and written in one transaction; each
has an answer of its own.

The tutorial's `process_order` makes the same calls one after the other. The differences: the stock is held before the
money is taken, so that nothing is sold twice; the order's id is the key of every call, so that none takes effect
twice; a step that fails is compensated; and what a crash leaves half done is finished by whoever looks next.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, cast

import structlog

from skyloom import Expired, Failed, NotExecuted, Service, rpc
from skyloom.patterns.batcher import Batcher
from skyloom.patterns.breaker import BreakerSettings, Circuits
from skyloom.patterns.circuit import CIRCUIT_OPEN
from skyloom.patterns.retry import Retry, RetryBudget, RetrySettings
from skyloom.patterns.saga import Saga, SagaUndone, Step
from skyloom.patterns.saga_store import SagaConflict, SagaRecord
from skyloom.sql import DatabaseError
from skyloom_shop import order_book
from skyloom_shop.answers import heard
from skyloom_shop.crash_points import reach
from skyloom_shop.database import read_for_client, storage_failed
from skyloom_shop.errors import OrderFailed, OrderMismatch, OrderNotFound
from skyloom_shop.inventory import HOLD_SECONDS, Inventory
from skyloom_shop.ledger import Charge, Charged
from skyloom_shop.order_book import SAGA, DrivenElsewhere, state_of
from skyloom_shop.order_state import STATUS, STEPS, Lines, Order, order_key
from skyloom_shop.order_store import BATCH_SIZE, OrderStore
from skyloom_shop.stock import Hold

SWEEP_EVERY_SECONDS: Final = 2.0
"""Between two looks for orders that stand still, and two words that ours do not."""

ORDERS_RUNNING_MAX: Final = 10_000
"""Orders that one process drives at once."""

STEP_SECONDS: Final = 30.0
"""How long a step may take, all its tries together, before it is taken back."""

TRY_SECONDS: Final = 10.0
"""How long one try of a step may take."""

UNDO_PAUSE_MAX_SECONDS: Final = 5.0
"""The longest pause between two tries to take a step back."""

LOOK_SECONDS: Final = 0.25
"""Between two looks for the end of an order that another process drives."""

REFUSED_PAUSE_SECONDS: Final = 1.0
"""The longest pause before a call that the circuit breaker has refused is tried again."""

DRIVER_BITS: Final = 64

BREAKER: Final = BreakerSettings(slow_seconds=TRY_SECONDS, open_seconds_max=UNDO_PAUSE_MAX_SECONDS)
"""A busy database makes every call slow: to refuse them would fail orders that can be carried out. Nor is it open for
longer than the pause between two tries to take a step back, or orders would stay unfinished for minutes."""

RETRIES: Final = RetrySettings(attempts=10, backoff_seconds=0.1, backoff_seconds_max=2.0)
"""Enough to bridge the restart of a service, about 5 s: an order that failed has to be ordered anew."""

RETRY_SHARE: Final = 1.0
RETRIES_PER_SECOND: Final = 10.0
"""The budget of retries: as many as there are calls, and so many a second. When more calls than that fail, the circuit
breaker has opened."""

log = structlog.get_logger("skyloom.shop")


class OrderService(Service):
    """See the module's docstring."""

    name = "ORDER"
    mailbox_messages_max = 10_000
    handlers_max = 20_000

    async def on_start(self) -> None:
        driver = f"{self.random.getrandbits(DRIVER_BITS):016x}"  # of this life of the service: the next is another
        self._store = OrderStore(self, driver)
        budget = RetryBudget(self.clock.now, share=RETRY_SHARE, per_second=RETRIES_PER_SECOND)
        self._retry = Retry(self, idempotent=True, timeout=STEP_SECONDS, settings=RETRIES, budget=budget)
        self._circuits = Circuits(self, BREAKER)
        self._holds: Batcher[Hold, None] = self._together("INVENTORY", "hold")
        self._confirms: Batcher[str, None] = self._together("INVENTORY", "confirm")
        self._releases: Batcher[str, None] = self._together("INVENTORY", "release")
        self._charges: Batcher[Charge, Charged | None] = self._together("PAYMENT", "process_payments")
        reserve, intend, charge, confirm, record = STEPS
        self._saga: Saga[Order] = Saga(
            self,
            SAGA,
            [
                Step(reserve, self._reserve, self._release, timeout=STEP_SECONDS),
                Step(intend),
                Step(charge, self._charge, self._refund, timeout=STEP_SECONDS),
                Step(confirm, self._confirm, timeout=STEP_SECONDS),
                Step(record),
            ],
            self._store,
            on_progress=self._progressed,
            running_max=ORDERS_RUNNING_MAX,
            pause_max=UNDO_PAUSE_MAX_SECONDS,
        )
        self.fork(self._sweep(), critical=True)

    @rpc
    async def create_order(self, user: str, order_id: str, lines: Lines) -> Order:
        """Take an order, and answer when it is done; one that was taken before is answered as then.

        Raises OutOfStock, InsufficientFunds, UnknownSku, OrderMismatch, TooManyOrders; OrderFailed when a part of the
        shop failed and the order was taken back; StorageFailed when nobody knows: ask again.
        """
        order = Order(user, order_id, lines, await Inventory.at(self, "INVENTORY").price(lines))
        while True:
            try:
                done = await self._saga.run(order.key, order)
                break
            except (DrivenElsewhere, SagaConflict):
                await self._look_later()
            except DatabaseError as error:
                raise storage_failed(error) from None
            except Failed as failure:
                # Who joined an order that runs here has not been compared with it yet.
                found = await read_for_client(self, order_book.load, order.key)
                if found is not None and found.state.lines != lines:
                    raise OrderMismatch("there is an order of this id with other items") from None
                raise self._told(failure) from None
        if done.lines != lines:
            raise OrderMismatch("there is an order of this id with other items")
        return done

    @rpc
    async def get_order(self, user: str, order_id: str) -> tuple[Order, str]:
        """An order of this user and its status, as clients are told it. Raises OrderNotFound, StorageFailed."""
        found = await read_for_client(self, order_book.load, order_key(user, order_id))
        if found is None:
            raise OrderNotFound("you have no order of this id")
        return found.state, STATUS[state_of(found)]

    @rpc
    async def list_orders(self, user: str, count: int) -> list[tuple[Order, str]]:
        """A user's orders with their statuses, the newest first. Raises StorageFailed."""
        found = await read_for_client(self, order_book.of_user, user, count)
        return [(record.state, STATUS[state_of(record)]) for record in found]

    # -- the steps -------------------------------------------------------------------------------------------

    async def _reserve(self, order: Order) -> Order:
        reach("order.before_reserve")
        await self._holds.submit(Hold(order.key, order.lines, self.clock.time() + HOLD_SECONDS))
        reach("order.after_reserve")
        return order

    async def _charge(self, order: Order) -> Order:
        reach("order.before_charge")
        payment = self._payment(order)
        charged = await self._charges.submit(payment)
        if charged is None:  # it would have kept the others waiting
            charged = cast("Charged", await self._ask("PAYMENT", "process_payment", payment))
        reach("order.after_charge")
        return replace(order, transaction_id=charged.transaction_id)

    async def _confirm(self, order: Order) -> Order:
        reach("order.before_confirm")
        await self._confirms.submit(order.key)
        reach("order.after_confirm")
        return order

    async def _refund(self, order: Order) -> None:
        reach("order.before_refund")
        await self._ask("PAYMENT", "refund", self._payment(order))
        reach("order.after_refund")

    async def _release(self, order: Order) -> None:
        reach("order.before_release")
        await self._releases.submit(order.key)
        reach("order.after_release")

    def _together(self, service: str, method: str) -> Batcher[Any, Any]:
        """Asks for many orders in one message; each has an answer of its own."""

        async def run(wishes: list[Any]) -> list[Any]:
            return heard(await self._ask(service, method, tuple(wishes)))

        return Batcher(self, run, max_size=BATCH_SIZE, max_wait=0.0, timeout=STEP_SECONDS)

    def _payment(self, order: Order) -> Charge:
        return Charge(order.key, order.user, order.total, self.clock.time())

    async def _ask(self, service: str, method: str, wish: object) -> Any:
        """Call through the circuit breaker, again when it may help; all these calls are harmless when repeated."""
        return await self._retry.run(self._call, service, method, wish)

    async def _call(self, service: str, method: str, wish: object) -> Any:
        """Call when the circuit breaker lets it through; the step's own time ends the wait.

        What is refused here was not asked of the service, so it costs that nothing to wait; to give up at once would
        take orders back, paid ones too, for a trouble that is over in seconds.
        """
        while True:
            try:
                return await self._circuits.call(self, service, "lua", method, wish, timeout=TRY_SECONDS)
            except NotExecuted as refused:
                if refused.code != CIRCUIT_OPEN:
                    raise
            await self.sleep(self.random.random() * REFUSED_PAUSE_SECONDS)

    # -- what goes wrong -------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Take up what stands still, and keep what is in hand."""
        while True:
            try:
                await self._store.renew(self._saga.running)
                reach("sweep.before_resume")
                taken = await self._saga.resume()
            except DatabaseError as error:
                log.warning("could not look for unfinished orders; tried again soon", error=str(error))
            else:
                if taken:
                    log.info("took up unfinished orders", orders=taken)
                    self.node.counters["shop_orders_resumed"] += taken
            await self.sleep(SWEEP_EVERY_SECONDS)

    def _progressed(self, record: SagaRecord[Order]) -> None:
        if record.tries:
            self.node.counters["shop_undo_failures"] += 1  # the saga has logged which, and goes on trying
        else:
            self.node.counters[f"shop_orders_{state_of(record).value}"] += 1

    async def _look_later(self) -> None:
        if self.clock.now() + LOOK_SECONDS >= self.deadline:
            raise Expired("the order goes on in another process: ask again")
        await self.sleep(LOOK_SECONDS)

    def _told(self, failure: Failed) -> Failed:
        """A failure as its client is told it."""
        if isinstance(failure, SagaUndone):
            return OrderFailed("the order could not be carried out and was taken back: order again with a new id")
        if failure.code.startswith("skyloom."):
            return storage_failed(failure)
        return failure
