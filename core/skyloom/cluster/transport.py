"""What a node needs from whatever connects it to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyloom.message.address import Address

MESSAGE_BYTES_MAX = 1024 * 1024
"""The largest message between nodes; a larger one is refused at its sender."""

LEASE_SECONDS = 10.0
"""How long a lease lasts after it was last renewed."""

RENEW_SECONDS = 2.0
"""How often a holder renews its lease, and how often those who stand by ask for it."""

LEASE_MARGIN_SECONDS = 3.0
"""How long before the end of a lease that it could not renew a holder stops, for clocks that differ."""


class NotConnected(Exception):
    """There is no connection to that node, so that nothing was sent."""


class Transport(Protocol):
    """Carries bytes between nodes: in order for each pair of nodes, at most once, never blocking.

    ``receive(peer, data)`` and ``lost(peer)`` are called on the event loop's thread. After ``lost(peer)`` nothing
    that was under way from that peer arrives any more. A node that comes back under its name was lost before: nothing
    comes from the new one until ``lost(peer)`` was called for the old one.
    """

    async def start(self, node: str, receive: Callable[[str, bytes], None], lost: Callable[[str], None]) -> None:
        """Join the network under the node's name."""

    def send(self, node: str, data: bytes) -> None:
        """Hand over one message. Raises NotConnected when it surely will not arrive."""

    def nodes(self) -> list[str]:
        """The other nodes that are connected now."""

    def announce(self, name: str, address: Address) -> None:
        """Let the other nodes find a service by name."""

    def withdraw(self, name: str, address: Address) -> None:
        """Take back an announcement."""

    async def resolve(self, name: str) -> Address | None:
        """The service that some other node announced under the name; of several the newest."""

    async def hold(self, key: str) -> int:
        """Take the lease `key`, or renew it. Returns its fencing token: above 0, the same while this holder renews it
        in time, higher for each later holder; 0 while another node has it.

        It ends `LEASE_SECONDS` after it was last renewed, and when the node leaves. A key is 1 to 64 letters, digits,
        ``_.-``. Raises NotConnected when it cannot be known.
        """

    async def release(self, key: str) -> None:
        """Give a lease back at once; nothing happens when it is not held. Raises NotConnected."""

    async def stop(self) -> None:
        """Leave the network; the other nodes see this one as lost."""
