"""The header by which a proxy says whose connection it passes on: the PROXY protocol of HAProxy, versions 1 and 2.

    PROXY TCP4 203.0.113.7 192.0.2.1 56324 443, CR and LF            version 1, text
    a signature of 12 bytes, 0x21 0x11, length, addresses, more      version 2, binary

It stands before anything else, TLS included. Read exactly as many bytes as are asked for, and what follows the header
is left for whoever comes next::

    header = proxy_header()
    wanted = next(header)
    while True:
        try:
            wanted = header.send(read_exactly(wanted))
        except StopIteration as stop:
            client = stop.value
            break
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
LINE_START: Final = b"PROXY "
LINE_BYTES_MAX: Final = 107  # by the specification, section 2.1
BINARY_BYTES_MAX: Final = 2048  # the addresses take 36 of them at most; the rest is what cloud providers add

_LOCAL, _PROXY = 0x20, 0x21  # version 2 in the upper half
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_BYTES: Final = {_TCP4: 12, _TCP6: 36, _UNIX: 216}

Client = tuple[str, int] | None
"""Who the client is, by IP address and port; None when the proxy speaks for itself, or the client has no address."""


class BadProxyHeader(Exception):
    """What stands there is no PROXY header; the text says why, and repeats nothing of it."""


def proxy_header() -> Generator[int, bytes, Client]:
    """Yields how many bytes it wants, is sent exactly so many, and returns the client.

    Raises:
        BadProxyHeader: it is none, or longer than one may be.
    """
    start = yield len(SIGNATURE)
    if start == SIGNATURE:
        return (yield from _binary())
    if not start.startswith(LINE_START):
        raise BadProxyHeader("there is no PROXY header")
    line = start
    while not line.endswith(b"\r\n"):
        wanted = 1 if line.endswith(b"\r") else 2
        if len(line) + wanted > LINE_BYTES_MAX:
            raise BadProxyHeader(f"a PROXY line has at most {LINE_BYTES_MAX} bytes")
        line += yield wanted
    return _line(line[:-2])


def _line(line: bytes) -> Client:
    parts = line.split(b" ")
    if parts[1] == b"UNKNOWN":
        return None
    if len(parts) != 6 or parts[1] not in (b"TCP4", b"TCP6"):
        raise BadProxyHeader("a PROXY line is PROXY TCP4|TCP6 and two addresses and two ports, or PROXY UNKNOWN")
    version = 4 if parts[1] == b"TCP4" else 6
    client, _ = (_address(part, version) for part in parts[2:4])
    port, _ = (_port(part) for part in parts[4:6])
    return client, port


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        address = None
    if address is None or address.version != version or b"%" in text:
        raise BadProxyHeader(f"a PROXY line's address is no IPv{version} address")
    return str(address)


def _port(text: bytes) -> int:
    if not (text.isdigit() and len(text) <= 5 and int(text) <= 65_535) or (text.startswith(b"0") and text != b"0"):
        raise BadProxyHeader("a PROXY line's port is no number from 0 to 65535")
    return int(text)


def _binary() -> Generator[int, bytes, Client]:
    rest = yield 4
    command, family, length = rest[0], rest[1], int.from_bytes(rest[2:], "big")
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader("a PROXY header's version or command is none that there is")
    if length > BINARY_BYTES_MAX:
        raise BadProxyHeader(f"a PROXY header has at most {BINARY_BYTES_MAX} bytes")
    body = (yield length) if length else b""
    if command == _LOCAL or family == _UNSPECIFIED:
        return None
    needed = _ADDRESS_BYTES.get(family)
    if needed is None:
        raise BadProxyHeader("a PROXY header's family is none of TCP over IPv4 or IPv6, or UNIX")
    if length < needed:
        raise BadProxyHeader("a PROXY header is shorter than its addresses")
    if family == _UNIX:
        return None
    size = 4 if family == _TCP4 else 16
    port = 2 * size
    return str(ipaddress.ip_address(body[:size])), int.from_bytes(body[port : port + 2], "big")
