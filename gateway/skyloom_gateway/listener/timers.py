"""Timers on the running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skyloom_gateway.listener.link import TimerHandle


class LoopTimers:
    """`Timers` that follow an event loop's clock.

    Args:
        loop: the loop; the running one when None.

    Raises:
        RuntimeError: no loop is given and none is running.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()

    def now(self) -> float:
        """The loop's monotonic time in seconds."""
        return self._loop.time()

    def call_later(self, seconds: float, callback: Callable[..., object], /, *args: object) -> TimerHandle:
        """Call `callback(*args)` after `seconds` in a turn of the loop of its own."""
        return self._loop.call_later(seconds, callback, *args)
