"""Virtual time beside real sockets: it goes on when nothing has come over them for a while."""

import asyncio
import selectors
from typing import Final

QUIET_SECONDS: Final = 0.1
"""Real seconds without anything from outside, before the next timer's time has come."""


class _QuietSelector(selectors.DefaultSelector):
    """Does not wait for timers; it counts the time that they would have taken."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(QUIET_SECONDS)
        if not events:
            self.now += timeout
        return events


class QuietLoop(asyncio.SelectorEventLoop):
    """For tests that speak to a process which answers at once, or not at all: a server of messages."""

    def __init__(self) -> None:
        self._quiet = _QuietSelector()
        super().__init__(self._quiet)

    def time(self) -> float:
        return self._quiet.now

    def stand_still(self, seconds: float) -> None:
        """As if a handler had blocked it for so long."""
        self._quiet.now += seconds
