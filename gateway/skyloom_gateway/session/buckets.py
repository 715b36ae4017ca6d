"""Token buckets by key, for limits that several sessions share: those of one user, those of one address."""

from skyloom_gateway.session.bucket import Bucket


class Buckets:
    """Gives each key the same bucket each time, as long as it is among those that were asked for last.

    A key that is forgotten begins anew with a full bucket; whoever can invent so many keys is not held by a limit
    for each of them, but by those in all.

    Args:
        per_second, burst: of each bucket.
        keys_max: buckets kept.
    """

    def __init__(self, per_second: float, burst: int, keys_max: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._keys_max = keys_max
        self._by_key: dict[str, Bucket] = {}

    def of(self, key: str) -> Bucket:
        """The bucket of a key."""
        bucket = self._by_key.pop(key, None)
        if bucket is None:
            bucket = Bucket(self._per_second, self._burst)
            if len(self._by_key) >= self._keys_max:
                del self._by_key[next(iter(self._by_key))]  # the one that was asked for longest ago
        self._by_key[key] = bucket
        return bucket

    def __len__(self) -> int:
        return len(self._by_key)
