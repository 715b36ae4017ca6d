"""Time, chance and tasks: the only three things a node takes from the outside world, all injected."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context


class Timer(Protocol):
    """A callback that is due some time from now."""

    def cancel(self) -> None:
        """Call it off; too late is no error."""


class Clock(Protocol):
    """One clock for a whole node. Seconds, as float."""

    def now(self) -> float:
        """Monotonic seconds; only differences mean anything."""

    def time(self) -> float:
        """Seconds since 1970, for what people read."""

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call back once `now()` is at least `when`."""


class LoopClock:
    """The clock of the running event loop, virtual where the loop's is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # asyncio's own `time` is time.monotonic with a Python call around it, on the path of every message.
        own = type(loop).time is asyncio.BaseEventLoop.time
        self.now: Callable[[], float] = time.monotonic if own else loop.time
        self.call_at = loop.call_at
        # For measuring. uvloop's `time` is in milliseconds, and stands still while a handler runs.
        self.exact: Callable[[], float] = time.monotonic if own or type(loop).__module__ == "uvloop" else loop.time
        # Wall time advances with the loop's clock, so that under virtual time it is virtual too.
        self._offset = time.time() - loop.time()

    def time(self) -> float:
        return self._offset + self.now()


class Spawner(Protocol):
    """Makes the tasks of a node; every one is awaited or cancelled by the node."""

    def spawn(
        self, coroutine: Coroutine[Any, Any, Any], *, name: str, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a task."""


class LoopSpawner:
    """Tasks of the running event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def spawn(
        self, coroutine: Coroutine[Any, Any, Any], *, name: str, context: Context | None = None
    ) -> asyncio.Task[Any]:
        return self._loop.create_task(coroutine, name=name, context=context)
