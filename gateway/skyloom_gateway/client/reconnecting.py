"""When a client that lost its connection tries again, and when it gives up."""

import random
from dataclasses import dataclass, fields

FIRST_DELAY_SECONDS = 0.5
DELAY_SECONDS_MAX = 20.0
GIVE_UP_SECONDS = 300.0
WAITING_REQUESTS_MAX = 256
STABLE_SECONDS = 10.0
"""A connection that lived this long starts the back-off anew."""

FINAL_CLOSE_CODES = frozenset({1007, 1009, 4400, 4401, 4403, 4409})
"""Close codes after which coming back cannot help: what this client sends is at fault, it is not allowed, or a newer
connection took its session over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """How a client comes back.

    Args:
        first_delay_seconds: the longest delay before the first attempt; each further one doubles it.
        delay_seconds_max: the longest delay of all.
        give_up_seconds: how long after the loss the last attempt may begin; `math.inf` for never.
        waiting_requests_max: requests that wait for the connection; more of them fail at once.

    Raises:
        ValueError: one of them is not above 0.
    """

    first_delay_seconds: float = FIRST_DELAY_SECONDS
    delay_seconds_max: float = DELAY_SECONDS_MAX
    give_up_seconds: float = GIVE_UP_SECONDS
    waiting_requests_max: int = WAITING_REQUESTS_MAX

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"{field.name} is {value}: it must be above 0")


class Backoff:
    """The delays between attempts: each between half and all of a ceiling that doubles.

    Clients that were dropped together so do not return together, and none is much sooner than the others.
    """

    def __init__(self, reconnect: Reconnect, rng: random.Random) -> None:
        self._reconnect = reconnect
        self._rng = rng
        self._ceiling = reconnect.first_delay_seconds

    def next(self) -> float:
        """Seconds until the next attempt."""
        ceiling = min(self._ceiling, self._reconnect.delay_seconds_max)
        self._ceiling = 2 * ceiling
        return ceiling * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._ceiling = self._reconnect.first_delay_seconds
