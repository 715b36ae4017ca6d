"""The PROXY protocol: what is read, and that not a byte more is."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skyloom_gateway.listener.proxy_header import (
    BINARY_BYTES_MAX,
    LINE_BYTES_MAX,
    SIGNATURE,
    BadProxyHeader,
    Client,
    proxy_header,
)


class TooShort(Exception):
    """The header wants more than there is."""


def read(data: bytes) -> tuple[Client, int]:
    """The client, and how many bytes were taken."""
    header = proxy_header()
    wanted, position = next(header), 0
    while True:
        assert wanted > 0
        if position + wanted > len(data):
            raise TooShort
        chunk = data[position : position + wanted]
        position += wanted
        try:
            wanted = header.send(chunk)
        except StopIteration as stop:
            return stop.value, position


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


V4 = bytes((203, 0, 113, 7, 192, 0, 2, 1)) + (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")
V6 = ipaddress.ip_address("2001:db8::7").packed * 2 + (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")
TLVS = b"\x03\x00\x04abcd" + b"\x20\x00\x10" + b"x" * 16
GOOD: list[tuple[bytes, Client]] = [
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n", ("203.0.113.7", 56324)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0)),
    (b"PROXY TCP6 2001:DB8::0:7 ::1 1 2\r\n", ("2001:db8::7", 1)),
    (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", ("ffff:" * 7 + "ffff", 65535)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", None),
    (binary(0x21, 0x11, V4), ("203.0.113.7", 56324)),
    (binary(0x21, 0x21, V6), ("2001:db8::7", 56324)),
    (binary(0x21, 0x11, V4 + TLVS), ("203.0.113.7", 56324)),
    (binary(0x21, 0x31, b"/tmp/a".ljust(216, b"\0")), None),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x00, b"anything"), None),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, V4), None),  # a health check of the proxy's own
    (binary(0x20, 0xFF, b"x"), None),
    (binary(0x21, 0x11, V4 + b"x" * (BINARY_BYTES_MAX - 12)), ("203.0.113.7", 56324)),
]


@pytest.mark.parametrize(("header", "client"), GOOD)
@pytest.mark.parametrize("rest", [b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"])
def test_a_header_is_read_and_what_follows_is_not(header: bytes, client: Client, rest: bytes) -> None:
    assert read(header + rest) == (client, len(header))


@pytest.mark.parametrize("header", [header for header, _ in GOOD])
def test_a_header_is_not_done_before_its_end(header: bytes) -> None:
    for length in range(len(header)):
        with pytest.raises(TooShort):
            read(header[:length])


BAD = [
    (b"GET / HTTP/1.1\r\n\r\n", "there is no PROXY header"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00", "there is no PROXY header"),
    (b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n", "there is no PROXY header"),
    (b"PROXY  TCP4 203.0.113.7 192.0.2.1 1 2\r\n", "a PROXY line is"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n", "a PROXY line is"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n", "a PROXY line is"),
    (b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n", "a PROXY line is"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 \r\n", "a PROXY line is"),
    (b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n", "no IPv4 address"),
    (b"PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n", "no IPv6 address"),
    (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "no IPv6 address"),
    (b"PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n", "no IPv4 address"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.256 1 2\r\n", "no IPv4 address"),
    (b"PROXY TCP4 \xc0.0.113.7 192.0.2.1 1 2\r\n", "no IPv4 address"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 2\r\n", "port is no number"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 -2\r\n", "port is no number"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n", "port is no number"),
    ("PROXY TCP4 203.0.113.7 192.0.2.1 ١ 2\r\n".encode(), "port is no number"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 " + b"9" * 60 + b" 2\r\n", "port is no number|at most 107"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n" + b"x" * 200, "at most 107 bytes"),
    (b"PROXY UNKNOWN" + b" x" * 100 + b"\r\n", "at most 107 bytes"),
    (binary(0x11, 0x11, V4), "version or command"),
    (binary(0x22, 0x11, V4), "version or command"),
    (binary(0x21, 0x12, V4), "family is none of"),
    (binary(0x21, 0x22, V6), "family is none of"),
    (binary(0x21, 0x41, V4), "family is none of"),
    (binary(0x21, 0x11, V4[:-1]), "shorter than its addresses"),
    (binary(0x21, 0x21, V4), "shorter than its addresses"),
    (SIGNATURE + b"\x21\x11\xff\xff", "at most 2048 bytes"),
]


@pytest.mark.parametrize(("data", "why"), BAD)
def test_what_is_no_header(data: bytes, why: str) -> None:
    with pytest.raises(BadProxyHeader, match=why):
        read(data)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
@example(b"\r" * 200, b"PROXY UNKNOWN")
@example(b"\n" * 200, b"PROXY TCP6 ")
def test_any_bytes_end_in_a_client_or_a_refusal(data: bytes, start: bytes) -> None:
    try:
        client, taken = read(start + data)
    except (BadProxyHeader, TooShort):
        return
    assert taken <= max(LINE_BYTES_MAX, 16 + BINARY_BYTES_MAX)
    if client is not None:
        ipaddress.ip_address(client[0])
        assert 0 <= client[1] <= 65_535


@given(st.ip_addresses(), st.integers(0, 65_535), st.binary(max_size=50))
def test_both_versions_say_the_same(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, rest: bytes
) -> None:
    version = address.version
    line = f"PROXY TCP{version} {address} {address} {port} 1\r\n".encode()
    family = 0x11 if version == 4 else 0x21
    packed = binary(0x21, family, address.packed * 2 + port.to_bytes(2, "big") * 2)
    for header in (line, packed):
        assert read(header + rest) == ((str(address), port), len(header))
