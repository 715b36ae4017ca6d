"""The keeper of leases in a network that lives in memory."""

from __future__ import annotations

from typing import NamedTuple

from skyloom.cluster.transport import LEASE_SECONDS


class _Lease(NamedTuple):
    holder: object
    token: int
    until: float


class LeaseKeeper:
    """Stands for the server that all nodes of a network ask; `Transport.hold` says what is promised.

    A holder is any object. Transports give themselves, so that a node which comes back under its name is another
    holder than the one before it. Time is passed in, in seconds.
    """

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}
        self._tokens = 0

    def hold(self, key: str, holder: object, now: float) -> int:
        """Take or renew a lease: its token, or 0 while another has it."""
        lease = self._leases.get(key)
        if lease is None or lease.until <= now:
            self._tokens += 1
            token = self._tokens
        elif lease.holder is holder:
            token = lease.token
        else:
            return 0
        self._leases[key] = _Lease(holder, token, now + LEASE_SECONDS)
        return token

    def release(self, key: str, holder: object) -> None:
        """Take a lease back from its holder."""
        lease = self._leases.get(key)
        if lease is not None and lease.holder is holder:
            del self._leases[key]

    def leave(self, holder: object) -> None:
        """Take back all that a holder has."""
        self._leases = {key: lease for key, lease in self._leases.items() if lease.holder is not holder}
