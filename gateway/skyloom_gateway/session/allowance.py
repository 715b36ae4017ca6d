"""What one session may send: from its own bucket, and from those that it shares."""

from collections.abc import Sequence

from skyloom_gateway.session.bucket import Bucket

ADVANCE_MESSAGES = 8  # taken from shared buckets at once, so that most messages cost one bucket's time


class Allowance:
    """A session's own bucket, and those of its user and its address.

    Args:
        own: the session's.
        shared: others; each holds at least `ADVANCE_MESSAGES`.
    """

    __slots__ = ("_advance", "_own", "_shared")

    def __init__(self, own: Bucket, shared: Sequence[Bucket]) -> None:
        self._own = own
        self._shared = shared
        self._advance = 0

    def take(self, now: float) -> float:
        """Take a token from each bucket, those of shared ones `ADVANCE_MESSAGES` at a time.

        Args:
            now: seconds on a clock that never goes back.

        Returns:
            0.0 when the message may go, else the seconds until one may.
        """
        wait = self._own.take(now)
        if wait:
            return wait
        if self._advance:
            self._advance -= 1
            return 0.0
        for bucket in self._shared:
            wait = bucket.take(now, ADVANCE_MESSAGES)
            if wait:
                return wait
        self._advance = ADVANCE_MESSAGES - 1
        return 0.0
