"""What a gate counts, for operators: plain numbers that only grow, whoever reads them.

Nothing is counted by session, user or address, so that the numbers stay few however many clients there are; what a
client may make up, a route or a close code, counts as "other".
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from skyloom.node.histogram import Histogram
from skyloom_gateway.wire import CloseCode

if TYPE_CHECKING:
    from collections.abc import Iterable

REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""The bounds by which the times of requests are counted."""

CODES_MAX: Final = 64
"""Different error codes of one route that are counted apart; an app makes them up."""

OK: Final = "ok"
OTHER: Final = "other"

_CLOSE_CODES: Final = frozenset({*map(int, CloseCode), 1002, 1003, 1005, 1006, 1008, 1010, 1011})


class RouteTally:
    """The requests of one route: how many ended how, by error code or "ok", and how long they took."""

    __slots__ = ("codes", "seconds")

    def __init__(self) -> None:
        self.codes: dict[str, int] = {OK: 0}
        self.seconds = Histogram(REQUEST_SECONDS)

    def ended(self, code: str, seconds: float) -> None:
        """Count a request that was answered, so many seconds after it came."""
        codes = self.codes
        if code not in codes and len(codes) > CODES_MAX:
            code = OTHER
        codes[code] = codes.get(code, 0) + 1
        self.seconds.add(seconds)


class Tally:
    """What a gate has counted since it started.

    Args:
        requests, notifies, pushes: the routes of the apps.

    Attributes:
        requests: by route; `other` those of routes that nobody has.
        notifies, pushes: by route, pushes once for each client that they were for.
        opened, left: connections that came and that are gone, by transport.
        closed: connections by close code.
        logins: by the error code that the client was told, or "ok".
        resumed: sessions that a client came back to.
        ended: sessions by close code.
        limits: how often limits bit, by the names of their settings, where no close or error code tells.
    """

    def __init__(self, requests: Iterable[str], notifies: Iterable[str], pushes: Iterable[str]) -> None:
        self.requests = {route: RouteTally() for route in requests}
        self.other = RouteTally()
        self.notifies = Counter(dict.fromkeys(notifies, 0))
        self.pushes = Counter(dict.fromkeys(pushes, 0))
        self.opened: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.logins = Counter({OK: 0})
        self.resumed = 0
        self.ended: Counter[str] = Counter()
        self.limits: Counter[str] = Counter()


def close_label(code: int) -> str:
    """What a close code is counted under."""
    return str(int(code)) if code in _CLOSE_CODES else OTHER
