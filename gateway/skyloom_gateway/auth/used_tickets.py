"""Which tickets have been used: a memory with a bound, of no more than it must know."""

from __future__ import annotations

from heapq import heappop, heappush


class UsedTickets:
    """Remembers the ids of used tickets until they expire by themselves.

    Args:
        tickets_max: how many it remembers at once. It forgets none before its time, so that nobody can make it
            forget by using others.
    """

    def __init__(self, tickets_max: int) -> None:
        self.tickets_max = tickets_max
        self._ids: set[str] = set()
        self._by_expiry: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id: str) -> bool:
        return id in self._ids

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._ids) >= self.tickets_max

    def forget(self, now: float) -> None:
        """Forget the tickets that have expired. `now` is in seconds since 1970."""
        while self._by_expiry and self._by_expiry[0][0] <= now:
            self._ids.discard(heappop(self._by_expiry)[1])

    def add(self, id: str, until: float) -> None:
        """Remember a ticket that is not remembered yet.

        Args:
            id: the ticket's.
            until: when it may be forgotten, because the ticket is refused for its age from then on; seconds since
                1970.

        Raises:
            OverflowError: it is full.
        """
        if self.full:
            raise OverflowError(f"{self.tickets_max} used tickets are remembered, and that is the limit")
        self._ids.add(id)
        heappush(self._by_expiry, (until, id))
