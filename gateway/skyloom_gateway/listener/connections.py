"""How many connections there are, whether there may be one more, and what waits for them all."""

from __future__ import annotations

import ipaddress
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING

from skyloom_gateway.listener.backlog import Backlog
from skyloom_gateway.session.bucket import Bucket
from skyloom_gateway.session.buckets import Buckets

if TYPE_CHECKING:
    from typing import Self

    from skyloom_gateway.listener.settings import ListenerSettings

CONNECTS_PER_SECOND = 20.0
CONNECTS_BURST = 200
ACCEPTS_PER_SECOND = 1000.0
ACCEPTS_BURST = 1000
OUTPUT_BYTES_MAX = 64 * 1024 * 1024
ADDRESSES_MAX = 10_000  # addresses whose rate of connections is remembered
FILES_KEPT_FREE = 256  # for databases, logs, pages and for connections that are told to go away


class Refusal(Enum):
    """Why a connection is over a limit."""

    FULL = "the server has as many connections as it takes; try again later"
    ADDRESS = "too many connections from this address"
    RATE = "too many connections from this address in a short time; try again later"
    FLOOD = "too many connections are being refused at once"


LIMITS = {
    Refusal.FULL: "connections",
    Refusal.ADDRESS: "connections_per_address",
    Refusal.RATE: "connects_per_second_per_address",
}
"""The settings behind refusals; FLOOD has one of them too."""


class Traffic:
    """Bytes that came in and went out, as the transports saw them."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = self.sent = 0


def open_files_max() -> int | None:
    """The process's limit of open files, or None where there is none."""
    try:
        import resource
    except ImportError:  # Windows has no such limit to ask for
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


class Connections:
    """Counts connections, in all and by address. Listeners that share one share its limits.

    Args:
        connections_max: connections in all; lowered to the process's limit of open files less 256.
        per_address_max: connections of one IPv4 address or IPv6 /64 network.
        connects_per_second, connects_burst: connections that one such network may open in the long run and at once,
            refused ones among them.
        accepts_per_second, accepts_burst: connections taken from the kernel, of all addresses.
        refused_max: connections over a limit that may wait to be told why.
        output_bytes_max: output that may wait for all clients together.
        loopback_is_limited: whether the limits of an address hold for loopback.
        files_max: limit of open files; asked of the system when None.
    """

    accepts: Bucket
    """Lets a connection be accepted."""

    backlog: Backlog
    """What waits for all of them."""

    hits: Counter[str]
    """How often limits bit, by the names of their settings."""

    traffic: dict[str, Traffic]
    """What they carried, those that are gone among them, by their kind."""

    def __init__(
        self,
        connections_max: int,
        per_address_max: int,
        *,
        connects_per_second: float = CONNECTS_PER_SECOND,
        connects_burst: int = CONNECTS_BURST,
        accepts_per_second: float = ACCEPTS_PER_SECOND,
        accepts_burst: int = ACCEPTS_BURST,
        refused_max: int = 64,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        loopback_is_limited: bool = False,
        files_max: int | None = None,
    ) -> None:
        files = open_files_max() if files_max is None else files_max
        self.connections_max = (
            connections_max if files is None else max(1, min(connections_max, files - FILES_KEPT_FREE))
        )
        self.per_address_max = per_address_max
        self.refused_max = refused_max
        self.loopback_is_limited = loopback_is_limited
        self.admitted = 0
        self.refused = 0
        self.hits = Counter()
        self.traffic = {"websocket": Traffic(), "tcp": Traffic()}
        self._by_network: dict[str, int] = {}
        self.accepts = Bucket(accepts_per_second, accepts_burst)
        self.backlog = Backlog(output_bytes_max)
        self._connects = Buckets(connects_per_second, connects_burst, ADDRESSES_MAX)

    @classmethod
    def within(cls, settings: ListenerSettings) -> Self:
        """A count with the limits of a listener's settings."""
        return cls(
            settings.connections_max,
            settings.connections_per_address_max,
            connects_per_second=settings.connects_per_second_max,
            connects_burst=settings.connects_burst_max,
            accepts_per_second=settings.accepts_per_second_max,
            accepts_burst=settings.accepts_burst_max,
            refused_max=settings.connections_refused_max,
            output_bytes_max=settings.output_bytes_total_max,
            loopback_is_limited=settings.loopback_is_limited,
        )

    def admit(self, address: str | None, now: float) -> Ticket:
        """Count a connection in.

        Args:
            address: the client's IP address, None for a Unix socket.
            now: seconds on a clock that never goes back.

        Returns:
            A ticket to give back with `Ticket.release`; its `refusal` is None when the connection is welcome.
        """
        network = network_of(address, loopback_is_limited=self.loopback_is_limited)
        refusal = self._refusal(network, now)
        if refusal is not None:
            self.refused += 1
            return Ticket(self, None, refusal)
        self.admitted += 1
        if network is not None:
            self._by_network[network] = self._by_network.get(network, 0) + 1
        return Ticket(self, network, None)

    def _refusal(self, network: str | None, now: float) -> Refusal | None:
        if network is not None and self._connects.of(network).take(now):
            refusal = Refusal.RATE
        elif self.admitted >= self.connections_max:
            refusal = Refusal.FULL
        elif network is not None and self._by_network.get(network, 0) >= self.per_address_max:
            refusal = Refusal.ADDRESS
        else:
            return None
        self.hits[LIMITS[refusal]] += 1
        return refusal if self.refused < self.refused_max else Refusal.FLOOD

    def _release(self, ticket: Ticket) -> None:
        if ticket.refusal is not None:
            self.refused -= 1
            return
        self.admitted -= 1
        network = ticket.network
        if network is not None:
            left = self._by_network[network] - 1
            if left:
                self._by_network[network] = left
            else:
                del self._by_network[network]


def network_of(address: str | None, *, loopback_is_limited: bool) -> str | None:
    """The key that a client's address is counted under, None when it is not counted by address.

    Args:
        address: its IP address, None for a Unix socket.
        loopback_is_limited: whether loopback is counted too.
    """
    if address is None:
        return None
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback and not loopback_is_limited:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        # One home or one attacker has a whole /64, so addresses within it are free to invent.
        return str(ipaddress.IPv6Network((ip, 64), strict=False))
    return str(ip)


class Ticket:
    """One connection's place in the count."""

    __slots__ = ("_connections", "network", "refusal")

    def __init__(self, connections: Connections, network: str | None, refusal: Refusal | None) -> None:
        self._connections: Connections | None = connections
        self.network = network
        self.refusal = refusal

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        connections, self._connections = self._connections, None
        if connections is not None:
            connections._release(self)
