"""The opening of a connection on the WebSocket port."""

from __future__ import annotations

import logging

import pytest

from skyloom_gateway.listener import Connections, ListenerSettings, Pages
from tests.gateway.listener.fakes import PING, TEXT, FakeTransport, Peer, Rig, frame, upgrade


def status(transport: FakeTransport) -> int:
    return int(transport.written.split(b" ", 2)[1]) if transport.written else 0


@pytest.fixture
def rig() -> Rig:
    pages = Pages()
    pages.add("/", b"<h1>hello</h1>", "text/html; charset=utf-8")
    pages.add_dynamic("/healthz", lambda: (200, "text/plain", b"ok\n"))
    return Rig(pages=pages)


def test_a_head_that_comes_byte_by_byte(rig: Rig) -> None:
    transport = rig.connect()
    for byte in upgrade():
        rig.feed(transport, bytes([byte]))
    assert status(transport) == 101
    assert len(rig.recorders) == 1


@pytest.mark.parametrize("fast_path", [True, False])
def test_frames_in_the_same_read_as_the_request_come_after_the_answer(fast_path: bool) -> None:
    rig = Rig(fast_path=fast_path)
    transport = rig.connect()
    rig.feed(transport, upgrade() + frame(PING, b"p") + frame(TEXT, b"hello"))
    assert transport.written.startswith(b"HTTP/1.1 101")
    assert rig.recorders[0].messages == [b"hello"]
    peer = Peer(transport)
    assert [data for _, data in peer.frames()] == [b"p"]


@pytest.mark.parametrize("sent", [b"", b"G", upgrade()[:-2]])
def test_a_half_open_handshake_is_cut_off_after_five_seconds(rig: Rig, sent: bytes) -> None:
    transport = rig.connect()
    if sent:
        rig.feed(transport, sent)
    rig.timers.advance(3)
    if sent:
        rig.feed(transport, b"X-A: b\r\n" if len(sent) > 1 else b"E")  # dribbling buys no time
    rig.timers.advance(1.9)
    assert not transport.aborted
    rig.timers.advance(0.2)
    assert transport.aborted
    transport.settle()
    assert rig.timers.pending == 0
    assert rig.connections.admitted == 0
    assert rig.recorders == []


def test_a_handshake_that_never_ends_is_bounded(rig: Rig) -> None:
    transport = rig.connect()
    rig.feed(transport, b"GET /ws HTTP/1.1\r\n")
    for n in range(20):
        rig.feed(transport, b"X-%d: " % n + b"a" * 1000 + b"\r\n")
    assert status(transport) == 431
    assert transport.eof


def test_the_librarys_own_limits_are_lowered(rig: Rig) -> None:
    transport = rig.connect()
    rig.feed(transport, b"GET /ws HTTP/1.1\r\n" + b"A: b\r\n" * 40 + b"\r\n")
    assert status(transport) == 431
    transport = rig.connect()
    rig.feed(transport, b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n")
    assert status(transport) == 414


BAD_REQUESTS = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "one word": b"GET\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    "bare newlines": b"GET / HTTP/1.1\nHost: x\n\r\n\r\n",
    "a body": b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a path in UTF-8": "GET /ä HTTP/1.1\r\n\r\n".encode(),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_what_is_no_request_is_answered_400(rig: Rig, name: str) -> None:
    transport = rig.connect()
    rig.feed(transport, BAD_REQUESTS[name])
    assert status(transport) == 400
    assert transport.eof
    rig.feed(transport, b"more")
    rig.timers.advance(5.1)
    assert transport.aborted


UPGRADES = {
    "no key": (upgrade().replace(b"Sec-WebSocket-Key", b"X-Key"), 400),
    "short key": (upgrade().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhl"), 400),
    "old version": (upgrade().replace(b"Version: 13", b"Version: 8"), 400),
    "no upgrade": (b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
    "HTTP/1.0": (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
    "POST": (upgrade(method="POST"), 405),
    "elsewhere": (upgrade(path="/other"), 404),
    "two origins": (upgrade().replace(b"Upgrade: w", b"Origin: a\r\nOrigin: b\r\nUpgrade: w"), 403),
    "with a query": (upgrade(path="/ws?x=1"), 101),
    "deflate is not taken": (upgrade(Sec_WebSocket_Extensions="permessage-deflate"), 101),
}


@pytest.mark.parametrize("name", UPGRADES)
def test_upgrades(rig: Rig, name: str) -> None:
    data, wanted = UPGRADES[name]
    transport = rig.connect()
    rig.feed(transport, data)
    assert status(transport) == wanted
    assert b"permessage-deflate" not in transport.written
    assert len(rig.recorders) == (wanted == 101)


def test_a_page_in_a_browser_needs_an_origin_that_may_connect() -> None:
    rig = Rig(settings=ListenerSettings(host="0.0.0.0", origins=("https://app.example",)))
    for origin, wanted in (("https://app.example", 101), ("https://evil.example", 403), (None, 101)):
        transport = rig.connect()
        headers = {} if origin is None else {"Origin": origin}
        rig.feed(transport, upgrade(host="app.example", **headers))
        assert status(transport) == wanted
    assert b"gateway.origins names the ones that may" not in transport.written


def test_a_refused_page_is_told_why(rig: Rig) -> None:
    transport = rig.connect()
    rig.feed(transport, upgrade(Origin="https://evil.example"))
    assert status(transport) == 403
    assert transport.written.endswith(b"This page's origin may not connect; gateway.origins names the ones that may.\n")


@pytest.mark.parametrize("path", ["/ws", "/", "/healthz"])
def test_a_name_that_dns_points_here_opens_nothing(rig: Rig, path: str) -> None:
    transport = rig.connect()
    rig.feed(transport, upgrade(path=path, host="evil.example:8000", Origin="http://evil.example:8000"))
    assert status(transport) == 403
    assert b"names no loopback address" in transport.written
    assert rig.recorders == []


def test_pages_are_for_everybody() -> None:
    pages = Pages()
    pages.add("/", b"<h1>hello</h1>")
    rig = Rig(settings=ListenerSettings(host="0.0.0.0"), pages=pages)
    transport = rig.connect()
    rig.feed(transport, b"GET / HTTP/1.1\r\nHost: game.example\r\nOrigin: https://elsewhere.example\r\n\r\n")
    assert status(transport) == 200


def test_two_hosts(rig: Rig) -> None:
    transport = rig.connect()
    rig.feed(transport, upgrade().replace(b"Upgrade: w", b"Host: localhost\r\nUpgrade: w"))
    assert status(transport) == 403


@pytest.mark.parametrize(
    ("connections", "wanted"),
    [
        (Connections(1, 10, files_max=10_000), 503),
        (Connections(10, 1, loopback_is_limited=True, files_max=10_000), 429),
    ],
)
def test_over_a_limit_links_are_refused_but_pages_served(rig: Rig, connections: Connections, wanted: int) -> None:
    rig = Rig(pages=rig.listener.pages, connections=connections)  # type: ignore[union-attr] # a WebSocket rig
    first, _, _ = rig.open()
    second = rig.connect()
    rig.feed(second, upgrade())
    assert status(second) == wanted
    assert b"Retry-After: 5\r\n" in second.written
    third = rig.connect()
    rig.feed(third, b"GET /healthz HTTP/1.1\r\n\r\n")
    assert status(third) == 200
    for transport in (first, second, third):
        transport.lose()
    assert connections.admitted == connections.refused == 0
    rig.open()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_is_served_and_the_connection_ended(rig: Rig, method: str) -> None:
    transport = rig.connect()
    rig.feed(transport, f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = bytes(transport.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 14" in head
    assert b"Connection: close" in head
    assert body == (b"<h1>hello</h1>" if method == "GET" else b"")
    assert transport.eof
    assert transport.writes == 1
    rig.feed(transport, b"GET / HTTP/1.1\r\n\r\n")  # pipelining is not served
    assert transport.writes == 1
    transport.lose()
    assert rig.timers.pending == 0


def test_a_page_that_nobody_reads_is_cut_off(rig: Rig) -> None:
    transport = rig.connect()
    transport.room = 10
    rig.feed(transport, b"GET / HTTP/1.1\r\n\r\n")
    rig.timers.advance(10)
    assert transport.aborted


def test_a_page_read_slowly_has_thirty_seconds(rig: Rig) -> None:
    transport = rig.connect()
    transport.room = 10
    rig.feed(transport, b"GET / HTTP/1.1\r\n\r\n")
    for _ in range(5):
        rig.timers.advance(5)
        transport.take(1)
    assert not transport.aborted
    rig.timers.advance(5.1)
    assert transport.aborted


def test_a_fault_in_a_page_ends_its_connection_only(rig: Rig) -> None:
    def fail() -> tuple[int, str, bytes]:
        raise RuntimeError("a bug")

    rig.listener.pages.add_dynamic("/bug", fail)  # type: ignore[union-attr] # a WebSocket rig
    transport = rig.connect()
    rig.feed(transport, b"GET /bug HTTP/1.1\r\n\r\n")
    assert status(transport) == 500
    assert transport.eof
    rig.open()


def test_the_library_never_logs_frames() -> None:
    assert logging.getLogger("skyloom.listener.websockets").getEffectiveLevel() >= logging.WARNING


def test_after_stop_accepting_a_late_connection_is_cut(rig: Rig) -> None:
    rig.listener.stop_accepting()
    assert rig.connect().aborted
