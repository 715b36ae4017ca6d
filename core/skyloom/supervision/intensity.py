"""How many restarts are too many, and how long to wait before the next one. Time is passed in."""

from __future__ import annotations

import random
from collections import deque
from typing import Final

BACKOFF_SECONDS: Final = 0.1
"""The wait before the second restart within a period; it doubles with each one more. The first has none."""

BACKOFF_SHARE: Final = 0.5
"""All waits within one period take at most this part of it, or else a crash loop would never be over it."""


class Intensity:
    """At most `restarts_max` restarts within any `period` seconds.

    What waits grows from none through 0.1 s, doubling, up to its share of the period, each less up to half of
    itself by chance, so that those who crashed together do not come back together.
    """

    __slots__ = ("_times", "period", "restarts_max")

    def __init__(self, restarts_max: int, period: float) -> None:
        if restarts_max < 0 or not period > 0:
            raise ValueError(f"intensity: 0 or more restarts in more than 0 s are needed, got {restarts_max}, {period}")
        self.restarts_max = restarts_max
        self.period = period
        self._times: deque[float] = deque(maxlen=restarts_max + 1)

    def crashed(self, now: float) -> bool:
        """Note a crash. False when it is over the intensity: there must be no further restart."""
        while self._times and self._times[0] <= now - self.period:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self.restarts_max

    def delay(self, rng: random.Random) -> float:
        """Seconds to wait before the restart that the crash noted last asks for."""
        earlier = len(self._times) - 1
        if earlier <= 0:
            return 0.0
        longest = self.period * BACKOFF_SHARE / self.restarts_max
        # 2.0 ** 1000 is a float still; restarts_max may be larger, and the longest wait far smaller.
        return min(BACKOFF_SECONDS * 2.0 ** min(earlier - 1, 64), longest) * rng.uniform(0.5, 1.0)
