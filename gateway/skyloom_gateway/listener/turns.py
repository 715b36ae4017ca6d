"""Work that waits for its turn of the loop, so that nobody else waits for all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from skyloom_gateway.listener.link import Timers

if TYPE_CHECKING:
    from skyloom_gateway.listener.stream import Stream


class Turns:
    """Streams that wait for something to be done with them, a few in each turn of the loop, first come first served.

    Args:
        timers: the clock.
        at_once: streams in one turn of the loop.
        work: what is done with each. Should it raise, that is the loop's to report, and the others have their turn.
    """

    def __init__(self, timers: Timers, at_once: int, work: Callable[[Stream], None]) -> None:
        self._timers = timers
        self._at_once = at_once
        self._work = work
        self._waiting: deque[Stream] = deque()
        self._is_due = False

    def add(self, stream: Stream) -> None:
        """Have the work done with a stream in one of the loop's next turns, after those that wait already."""
        self._waiting.append(stream)
        if not self._is_due:
            self._is_due = True
            self._timers.call_later(0, self._turn)

    def _turn(self) -> None:
        waiting = self._waiting
        try:
            for _ in range(min(self._at_once, len(waiting))):
                self._work(waiting.popleft())
        finally:
            self._is_due = bool(waiting)
            if waiting:
                self._timers.call_later(0, self._turn)
