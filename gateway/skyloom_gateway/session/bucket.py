"""A token bucket on a clock that its caller reads."""

_NANOSECONDS = 1_000_000_000


class Bucket:
    """Lets `burst` tokens go at once and `per_second` in the long run; starts full.

    Kept as the one instant at which the bucket will be full again (generic cell rate algorithm, ITU-T I.371),
    in whole nanoseconds: sums of floats would drift.

    Args:
        per_second: tokens that come back in a second, above 0.
        burst: tokens it holds, at least 1.
    """

    __slots__ = ("_depth", "_full_at", "_interval")

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = max(1, round(_NANOSECONDS / per_second))
        # A token may go while the debt, its own included, is at most this.
        self._depth = self._interval * burst
        self._full_at: int | None = None

    def take(self, now: float, tokens: int = 1) -> float:
        """Take tokens if they are there, all or none.

        Args:
            now: seconds on a clock that never goes back.
            tokens: how many; more than the burst are never there.

        Returns:
            0.0 when they were taken, else the seconds until they will be there.
        """
        at = round(now * _NANOSECONDS)
        full_at = self._full_at
        price = self._interval * tokens
        debt = price if full_at is None or full_at <= at else full_at - at + price
        if debt > self._depth:
            return (debt - self._depth) / _NANOSECONDS
        self._full_at = at + debt
        return 0.0

    def give_back(self, tokens: int = 1) -> None:
        """Undo a `take`."""
        if self._full_at is not None:
            self._full_at -= self._interval * tokens
