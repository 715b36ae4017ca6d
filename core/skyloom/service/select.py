"""Many calls at once, their answers in the order in which they come: skynet's request:select."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from skyloom.message.errors import CallError, Expired

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from skyloom.service.service import Service

K = TypeVar("K")
T = TypeVar("T")

SELECT_CALLS_MAX: Final = 10_000
"""Calls in one select."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[K, T]):
    """One answer of a select: its key, and the value or the error."""

    key: K
    value: T | None
    error: CallError | None

    def result(self) -> T:
        """The value. Raises the error if that is what came."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # T may itself be optional; without error it is a T


async def select(
    service: Service, calls: Mapping[K, Coroutine[Any, Any, T]], timeout: float | None
) -> AsyncIterator[Answer[K, T]]:
    """See `Service.select`."""
    if len(calls) > SELECT_CALLS_MAX:
        for call in calls.values():
            call.close()
        raise ValueError(f"select: {len(calls)} calls, at most {SELECT_CALLS_MAX}")
    arrivals = _Arrivals(service)
    waiting = {service.fork(_answer(call), inherit=True): key for key, call in calls.items()}
    for task in waiting:
        task.add_done_callback(arrivals.add)
    timer = None if timeout is None else service.clock.call_at(service.clock.now() + timeout, arrivals.close)
    try:
        while waiting:
            ended = await arrivals.next()
            if ended is None:
                break
            key = waiting.pop(ended)
            value, error = ended.result()
            yield Answer(key, value, error)
        for key in waiting.values():
            yield Answer(key, None, Expired("no answer within the select's timeout"))
    finally:
        if timer is not None:
            timer.cancel()
        for task in waiting:
            task.cancel()


class _Arrivals:
    """The tasks that have ended, in that order. Waiting for the next costs the same however many there are."""

    def __init__(self, service: Service) -> None:
        self._loop = service.node.loop
        self._ended: deque[asyncio.Task[Any]] = deque()
        self._closed = False
        self._wake: asyncio.Future[None] | None = None

    def add(self, task: asyncio.Task[Any]) -> None:
        self._ended.append(task)
        self._notify()

    def close(self) -> None:
        self._closed = True
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def next(self) -> asyncio.Task[Any] | None:
        """The next task that has ended; None when there is none and the time is over."""
        while not self._ended and not self._closed:
            self._wake = self._loop.create_future()
            await self._wake
        return self._ended.popleft() if self._ended else None


async def _answer(call: Coroutine[Any, Any, T]) -> tuple[T | None, CallError | None]:
    try:
        return await call, None
    except CallError as error:
        return None, error
