"""Requests of many callers, handled together, each with an answer of its own.

What to write::

    class Prices(Service):
        @rpc
        @batched(max_size=10, max_wait=0.1, key=lambda order: order["kind"], timeout=3.0)
        async def price(self, orders: list[Order]) -> list[int | Failed]: ...  # an answer for each, in their order


    cents = await Prices.at(self, prices).price(order)  # callers send one and get one; so does self.call

or, for what is no rpc, ``batcher = Batcher(self, run)`` and ``await batcher.submit(item)``.

A batch runs when `max_size` requests of its kind are in, or when `max_wait` seconds have passed since the last batch of
that kind: so a request waits for `max_wait` at most, and the first one after a quiet time does not wait at all (those
that come in the same moment still go with it). `key` tells the kinds apart; each has batches of its own, and several
may run at once.

    submit -> [ kind "fish" | | | ] --10 are in, or 0.1 s since the last--> run(items) -> answers -> in the order of
              [ kind "wood" | |   ]                                                               each client's requests

Every request is answered. An exception in the place of an answer fails that request alone; one that `run` raises fails
all that were in the batch, unless ``alone_on_error=True`` allows to run each of them again by itself. A batch that
takes longer than `timeout` is cancelled and its callers get `BatchExpired` at once; what it still returns is dropped.
Answers to one client come in the order of its requests, whatever their kinds: one that is ready early waits for those
before it, at most until their batches' timeouts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import structlog

from skyloom.message.errors import (
    CallError,
    Failed,
    NotExecuted,
    error_from_values,
    error_to_values,
)
from skyloom.message.message import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Sequence

    from skyloom.node.clock import Timer
    from skyloom.service.service import Service

Q = TypeVar("Q")
A = TypeVar("A")
S = TypeVar("S", bound="Service")

BATCH_SIZE: Final = 10
"""Requests that start a batch at once."""

BATCH_WAIT_SECONDS: Final = 0.1
"""Seconds after the last batch that start one."""

BATCH_TIMEOUT_SECONDS: Final = 3.0
"""How long a batch may run; less than the 5 s of a call, so that callers hear what was late."""

BATCH_REQUESTS_MAX: Final = 10_000
"""Unanswered requests of one `Batcher`; more are refused with NotExecuted."""

log = structlog.get_logger("skyloom.batcher")


class BatchExpired(Failed, TimeoutError, code="skyloom.batch_expired", kind="deadline_exceeded"):
    """The batch took too long, or the request's own deadline passed in it; it may have had its effect."""


class BatchCancelled(Failed, code="skyloom.batch_cancelled", kind="aborted"):
    """The batch was cancelled, or its service ended; it may have had its effect."""


class Entry(Generic[Q, A]):
    """One request: waits in its kind, then in its batch, then for its turn in its client's line."""

    __slots__ = ("future", "item", "line", "outcome", "timer")

    def __init__(self, item: Q, future: asyncio.Future[None]) -> None:
        self.item = item
        self.future = future
        self.outcome: tuple[A | None, BaseException | None] | None = None
        self.line: _Line | None = None
        self.timer: Timer | None = None

    def settle(self, value: A | None, error: BaseException | None = None) -> bool:
        """Fill in the outcome. False when it had one."""
        if self.outcome is not None:
            return False
        self.outcome = (value, error)
        self.item = None  # type: ignore[assignment]  # nobody needs it any more, and it may be large
        if self.timer is not None:
            self.timer.cancel()
        if self.line is None:
            self.wake()
        else:
            self.line.advance()
        return True

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Line:
    """One client's requests in their order: those that `wait`, and behind whom nobody may pass, and those that `go`."""

    __slots__ = ("going", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Entry[Any, Any]] = deque()
        self.going: deque[Entry[Any, Any]] = deque()

    def advance(self) -> None:
        """Wake all whose turn it is. They wake in the same turn of the loop, and mostly in their order."""
        while self.waiting and self.waiting[0].outcome is not None:
            entry = self.waiting.popleft()
            self.going.append(entry)
            entry.wake()

    def leave(self, entry: Entry[Any, Any]) -> None:
        (self.going if entry in self.going else self.waiting).remove(entry)
        if self.going:
            self.going[0].wake()


class ClientOrder:
    """Answers each client in the order of its requests. Give one to several batchers and it holds across them."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[Hashable, _Line] = {}

    def __len__(self) -> int:
        """Clients that wait for an answer."""
        return len(self._lines)

    def join(self, client: Hashable, entry: Entry[Any, Any]) -> None:
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = _Line()
        line.waiting.append(entry)
        entry.line = line

    def leave(self, client: Hashable, entry: Entry[Any, Any]) -> None:
        """Called by the request itself as it goes on to answer, so that the next one's answer comes after it."""
        line = self._lines[client]
        line.leave(entry)
        if not line.waiting and not line.going:
            del self._lines[client]


class _Kind(Generic[Q, A]):
    """The requests of one kind that wait for a batch; it is forgotten `max_wait` after its last batch."""

    __slots__ = ("key", "timer", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiting: list[Entry[Q, A]] = []
        self.timer: Timer | None = None


class Batcher(Generic[Q, A]):
    """Collects items and hands them to `run`, a list at a time; see the module's docstring.

    ``await run(items)`` returns a sequence with an answer, or an exception, for each item in their order. Times are in
    seconds. `order` may be shared with other batchers. For those who watch: `batches` were run, `late` of them took
    longer than `timeout`, and `unanswered` requests wait for an answer.
    """

    def __init__(
        self,
        service: Service,
        run: Callable[[list[Q]], Coroutine[Any, Any, Sequence[A | BaseException]]],
        *,
        max_size: int = BATCH_SIZE,
        max_wait: float = BATCH_WAIT_SECONDS,
        timeout: float = BATCH_TIMEOUT_SECONDS,
        key: Callable[[Q], Hashable] | None = None,
        alone_on_error: bool = False,
        order: ClientOrder | None = None,
    ) -> None:
        check(max_size, max_wait, timeout)
        self._service, self._run, self._key = service, run, key
        self._max_size, self._max_wait, self._timeout = max_size, max_wait, timeout
        self._alone_on_error = alone_on_error
        self._order = ClientOrder() if order is None else order  # an empty one is false
        self._kinds: dict[Hashable, _Kind[Q, A]] = {}
        self.batches = self.late = self.unanswered = 0

    async def submit(self, item: Q, *, client: Hashable = None) -> A:
        """Have `item` handled in a batch, and get its answer.

        `client` names who asks, for the order of the answers; None is in no order. Raises the exception that came in
        the place of the answer; BatchExpired when the batch was too slow or the request's deadline passed; NotExecuted
        over `BATCH_REQUESTS_MAX`; BatchCancelled when the batch was cancelled.
        """
        key = None if self._key is None else self._key(item)
        if self.unanswered >= BATCH_REQUESTS_MAX:
            text = f"{self.unanswered} requests wait for their batches"
            raise NotExecuted(text, code="skyloom.overloaded", kind="resource_exhausted")
        clock = self._service.clock
        entry: Entry[Q, A] = Entry(item, self._service.node.loop.create_future())
        deadline = self._service.deadline
        if deadline < NEVER:
            entry.timer = clock.call_at(deadline, entry.settle, None, BatchExpired("its deadline passed in the batch"))
        if client is not None:
            self._order.join(client, entry)
        self.unanswered += 1
        try:
            self._add(key, entry)
            await entry.future
            while entry.line is not None and entry.line.going[0] is not entry:  # woken before those before it
                entry.future = self._service.node.loop.create_future()
                await entry.future
            assert entry.outcome is not None
            value, error = entry.outcome
            if error is not None:
                raise error
            return cast("A", value)
        finally:
            self.unanswered -= 1
            if entry.outcome is None:  # so that no batch takes it
                entry.settle(None, BatchCancelled("the request was cancelled"))
            if client is not None:
                self._order.leave(client, entry)

    def _add(self, key: Hashable, entry: Entry[Q, A]) -> None:
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(key)
            # Its last batch is long ago; the timer lets the messages of this moment in before.
            self._arm(kind, 0.0)
        kind.waiting.append(entry)
        if len(kind.waiting) >= self._max_size:
            # Those who went away meanwhile leave their places to others.
            kind.waiting = [waiting for waiting in kind.waiting if waiting.outcome is None]
            if len(kind.waiting) >= self._max_size:
                self._start(kind)

    def _arm(self, kind: _Kind[Q, A], seconds: float) -> None:
        if kind.timer is not None:
            kind.timer.cancel()
        clock = self._service.clock
        kind.timer = clock.call_at(clock.now() + seconds, self._tick, kind)

    def _tick(self, kind: _Kind[Q, A]) -> None:
        """It is `max_wait` since the last batch of this kind."""
        kind.waiting = [waiting for waiting in kind.waiting if waiting.outcome is None]
        if kind.waiting:
            self._start(kind)
        else:
            del self._kinds[kind.key]

    def _start(self, kind: _Kind[Q, A]) -> None:
        batch, kind.waiting = kind.waiting, []
        self._arm(kind, self._max_wait)
        self.batches += 1
        running = self._run_batch(batch, [entry.item for entry in batch])
        try:
            task = self._service.fork(running)
        except NotExecuted as ended:
            _settle_all(batch, ended)
            return
        clock = self._service.clock
        timer = clock.call_at(clock.now() + self._timeout, self._expire, batch, task)

        def over(_: asyncio.Task[None]) -> None:
            timer.cancel()
            _settle_all(batch, BatchCancelled("the batch was cancelled"))  # those that have no answer yet

        task.add_done_callback(over)

    def _expire(self, batch: list[Entry[Q, A]], task: asyncio.Task[None]) -> None:
        late = BatchExpired(f"the batch took longer than {self._timeout} s")
        _settle_all(batch, late)
        self.late += 1
        task.cancel()

    async def _run_batch(self, batch: list[Entry[Q, A]], items: list[Q]) -> None:
        try:
            answers = await self._answers(items)
        except Exception as error:  # noqa: BLE001  # every caller is told, and `_told` logs it
            if self._alone_on_error and len(batch) > 1:
                for entry, item in zip(batch, items, strict=True):
                    if entry.outcome is None:
                        await self._run_batch([entry], [item])
            else:
                _settle_all(batch, self._told(error))
            return
        for entry, answer in zip(batch, answers, strict=True):
            if isinstance(answer, BaseException):
                entry.settle(None, answer if isinstance(answer, CallError) else self._told(answer))
            else:
                entry.settle(answer)

    async def _answers(self, items: list[Q]) -> Sequence[A | BaseException]:
        count = len(items)
        answers = await self._run(items)
        if len(answers) != count:
            raise Failed(f"the batch gave {len(answers)} answers to {count} requests", code="skyloom.batch_answers")
        return answers

    def _told(self, error: BaseException) -> CallError:
        """What callers are told of an exception; its traceback is for the log."""
        if isinstance(error, CallError):
            return error
        log.error("batch failed", service=self._service.title, exc_info=error)
        return Failed(f"{type(error).__name__}: {error}", code="skyloom.internal")


def check(max_size: int, max_wait: float, timeout: float) -> None:
    """Raise ValueError for settings that cannot be."""
    if max_size < 1:
        raise ValueError("max_size: at least 1 request is needed")
    if not 0 <= max_wait < NEVER:
        raise ValueError("max_wait: 0 or more seconds are needed")
    if not 0 < timeout < NEVER:
        raise ValueError("timeout: more than 0 seconds are needed, and an end, for every request is answered")


def _settle_all(batch: Sequence[Entry[Any, Any]], error: CallError) -> None:
    waiting = [entry for entry in batch if entry.outcome is None]
    values = error_to_values(error) if waiting else ()
    for entry in waiting:
        entry.settle(None, error_from_values(values))  # each its own, for raising writes into an exception


def batched(
    *,
    max_size: int = BATCH_SIZE,
    max_wait: float = BATCH_WAIT_SECONDS,
    key: Callable[[Any], Hashable] | None = None,
    timeout: float = BATCH_TIMEOUT_SECONDS,
    alone_on_error: bool = False,
) -> Callable[
    [Callable[[S, list[Q]], Coroutine[Any, Any, Sequence[A | BaseException]]]],
    Callable[[S, Q], Coroutine[Any, Any, A]],
]:
    """Turn a method that handles a list into one that is called with a single item; put ``@rpc`` above it.

    The arguments are those of `Batcher`. The batched methods of one service share a `ClientOrder`, in which a client is
    the service that the request came from. Raises ValueError for settings that cannot be.
    """
    check(max_size, max_wait, timeout)

    def decorate(
        method: Callable[[S, list[Q]], Coroutine[Any, Any, Sequence[A | BaseException]]],
    ) -> Callable[[S, Q], Coroutine[Any, Any, A]]:
        @wraps(method)
        async def submit(self: S, item: Q) -> A:
            kept: _Kept = vars(self).get(_KEPT) or vars(self).setdefault(_KEPT, _Kept())
            batcher = kept.batchers.get(method)
            if batcher is None:
                batcher = kept.batchers[method] = Batcher(
                    self,
                    partial(method, self),
                    max_size=max_size,
                    max_wait=max_wait,
                    timeout=timeout,
                    key=key,
                    alone_on_error=alone_on_error,
                    order=kept.order,
                )
            try:
                client = self.request.source
            except RuntimeError:  # called by the service itself, for nobody
                client = None
            return cast("A", await batcher.submit(item, client=client))

        return submit

    return decorate


_KEPT: Final = "_skyloom_batched"
"""Where a service keeps the batchers of its methods."""


class _Kept:
    def __init__(self) -> None:
        self.order = ClientOrder()
        self.batchers: dict[Callable[..., object], Batcher[Any, Any]] = {}
