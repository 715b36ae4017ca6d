"""Many calls at once, their answers in the order in which they come: skynet's request:select."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from skyloom.message.errors import CallError, Expired

if TYPE_CHECKING:
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
    tasks = {service.fork(_answer(call), inherit=True): key for key, call in calls.items()}
    clock = service.node.clock
    deadline = None if timeout is None else clock.now() + timeout
    waiting = set(tasks)
    try:
        while waiting:
            left = None if deadline is None else max(0.0, deadline - clock.now())
            done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            # One turn may bring several; `tasks` keeps them in the order of the calls.
            for task in [task for task in tasks if task in done]:
                value, error = task.result()
                yield Answer(tasks[task], value, error)
        for task in [task for task in tasks if task in waiting]:
            yield Answer(tasks[task], None, Expired("no answer within the select's timeout"))
    finally:
        for task in waiting:
            task.cancel()


async def _answer(call: Coroutine[Any, Any, T]) -> tuple[T | None, CallError | None]:
    try:
        return await call, None
    except CallError as error:
        return None, error
