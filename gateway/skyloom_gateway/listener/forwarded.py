"""Who a proxy says a client is, in an HTTP header: Forwarded (RFC 7239) or X-Forwarded-For.

Each proxy adds at the end whom it got the request from; what stands before that it was told, and may be a lie. So
one reads from the end, and only as long as the speaker is a trusted proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

FORWARDED: Final = "forwarded"
HOPS_MAX: Final = 16  # proxies in a row; nobody has so many

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rf'\s*(?:({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*"))?\s*([;,]|\Z)')

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The proxies whose word is taken.

    Args:
        networks: their addresses, as in "10.0.0.0/8" or "::1".
        header: where they say it, in small letters: "x-forwarded-for" or "forwarded"; the other one is not looked at,
            for a proxy that sets one passes the other on as it came from the client.

    Raises:
        ValueError: a network is none.
    """

    def __init__(self, networks: Sequence[str], header: str) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in networks]
        self.header = header

    def trusts(self, address: str | None) -> bool:
        """Whether an IP address is a proxy's."""
        if not self._networks or address is None:
            return False
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._networks)

    def client(self, peer: str | None, values: Sequence[str]) -> str | None:
        """The client's IP address.

        Args:
            peer: the address that the connection comes from, None for a Unix socket.
            values: the header's values, in the order of the lines.

        Returns:
            `peer` when it is no trusted proxy; else the last address that a trusted proxy vouches for.
        """
        hops = [hop for value in values for hop in (_forwarded(value) if self.header == FORWARDED else _list(value))]
        for hop in hops[: -HOPS_MAX - 1 : -1]:
            if hop is None or not self.trusts(peer):
                break
            peer = hop
        return peer


def _list(value: str) -> list[str | None]:
    return [_address(part.strip()) for part in value.split(",")]


def _forwarded(value: str) -> list[str | None]:
    """The `for` of each element; None alone for a line that does not parse, of which no part can be believed."""
    hops: list[str | None] = []
    hop: str | None = None
    position = 0
    while True:
        match = _PAIR.match(value, position)
        if match is None:
            return [None]
        name, text, end = match.groups()
        if name is not None and name.lower() == "for":
            hop = _address(re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text)
        if end != ";":
            hops.append(hop)
            hop = None
        if not end:
            return hops
        position = match.end()


def _address(text: str) -> str | None:
    """The IP address of "ip", "ip:port", "[ip]" or "[ip]:port"; None for anything else, such as "unknown"."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
    else:
        host = text.partition(":")[0] if text.count(":") == 1 else text
    try:
        return str(ipaddress.ip_address(host)) if "%" not in host else None
    except ValueError:
        return None
