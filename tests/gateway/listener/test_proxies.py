"""Connections that come through a proxy: whom they are counted as, and whose word is not taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skyloom_gateway.listener import Connections, Link, ListenerSettings, Pages, TcpListener, WebSocketListener
from skyloom_gateway.wire import MSGPACK
from skyloom_gateway.wire.frame import ErrorFrame
from tests.gateway.listener.fakes import FakeTransport, Recorder, Rig, tcp_frame, upgrade
from tests.gateway.listener.test_proxy_header import V4, binary

PROXY, CLIENT = "10.0.0.1", "203.0.113.7"
LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"
HTTP = ListenerSettings(host="0.0.0.0", trusted_proxies=("10.0.0.0/8",))


def come(rig: Rig, address: str, **headers: str) -> FakeTransport:
    transport = rig.connect(address)
    rig.feed(transport, upgrade(**headers))
    return transport


def test_a_trusted_proxy_says_who_the_client_is() -> None:
    rig = Rig(settings=HTTP)
    come(rig, PROXY, X_Forwarded_For=f"1.1.1.1, {CLIENT}")
    come(rig, PROXY, X_Forwarded_For="2001:db8::7")
    come(rig, PROXY)
    assert [recorder.link.peer for recorder in rig.recorders] == [f"{CLIENT}:0", "[2001:db8::7]:0", f"{PROXY}:5"]


def test_others_are_not_believed() -> None:
    rig = Rig(settings=HTTP)
    come(rig, "11.0.0.1", X_Forwarded_For=CLIENT)
    come(rig, PROXY, Forwarded=f"for={CLIENT}")  # not the header that was named
    assert [recorder.link.peer for recorder in rig.recorders] == ["11.0.0.1:5", f"{PROXY}:5"]


def test_limits_are_the_clients_and_not_the_proxys() -> None:
    connections = Connections(100, 2, files_max=10_000)
    rig = Rig(settings=HTTP, connections=connections)
    transports = [come(rig, PROXY, X_Forwarded_For=CLIENT) for _ in range(3)]
    assert [transport.written.split(b" ")[1] for transport in transports] == [b"101", b"101", b"429"]
    transports += [come(rig, PROXY, X_Forwarded_For=f"198.51.100.{n}") for n in range(20)]
    assert len(rig.recorders) == 22
    for transport in transports:
        transport.lose()
    assert connections.admitted == connections.refused == 0
    assert connections._by_network == {}


def test_a_client_too_many_is_cut_off_though_its_proxy_is_not() -> None:
    connections = Connections(100, 1, refused_max=0, files_max=10_000)
    rig = Rig(settings=HTTP, connections=connections)
    first = come(rig, PROXY, X_Forwarded_For=CLIENT)
    second = come(rig, PROXY, X_Forwarded_For=CLIENT)
    assert second.aborted
    assert second.written == b""
    for transport in (first, second):
        transport.lose()
    assert connections.admitted == connections.refused == 0


def test_a_page_through_a_proxy_counts_for_its_client() -> None:
    rig = Rig(settings=HTTP)
    transport = rig.connect(PROXY)
    rig.feed(transport, b"GET /healthz HTTP/1.1\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
    assert transport.written.startswith(b"HTTP/1.1 404")
    assert rig.connections._by_network == {CLIENT: 1}
    transport.lose()
    assert rig.connections._by_network == {}


@pytest.mark.parametrize("header", [LINE, binary(0x21, 0x11, V4)])
def test_a_proxy_header_that_nobody_asked_for_is_malformed(header: bytes) -> None:
    rig = Rig("tcp", settings=HTTP)
    for address in (PROXY, "11.0.0.1"):
        transport = rig.connect(address)
        rig.feed(transport, header)
        (told,) = [MSGPACK.decode_server(data) for data in Wire(transport).frames()]
        assert isinstance(told, ErrorFrame)
        assert told.error.code == "gateway.malformed_frame"
        assert told.error.message == "a PROXY header, which is taken from trusted proxies only"
        assert rig.recorders[-1].messages == []
    rig = Rig(settings=HTTP)
    transport = rig.connect(PROXY)
    rig.feed(transport, header)
    assert transport.written.startswith(b"HTTP/1.1 400")


class Wire:
    """What a TCP client reads."""

    def __init__(self, transport: FakeTransport) -> None:
        transport.turn()
        self.data = bytes(transport.written)

    def frames(self) -> list[bytes]:
        frames = []
        while self.data:
            length = int.from_bytes(self.data[:2], "big")
            frames.append(self.data[2 : 2 + length])
            self.data = self.data[2 + length :]
        return frames


# Over real sockets, since a header is read before there is a transport.


class House:
    """A listener on loopback whose clients are all one proxy's, or no proxy's."""

    def __init__(self) -> None:
        self.recorders: list[Recorder] = []
        self.connections = Connections(100, 3, files_max=10_000, loopback_is_limited=True)
        self.arrived = asyncio.Event()
        self.listener: TcpListener | WebSocketListener

    def accept(self, link: Link) -> Recorder:
        recorder = Recorder(link)
        recorder.on_message = link.send
        self.recorders.append(recorder)
        self.arrived.set()
        return recorder

    async def open(self, kind: str, **settings: Any) -> int:
        usual: dict[str, Any] = {"port": 0, "trusted_proxies": ("127.0.0.1",), "proxy_protocol": True}
        given = ListenerSettings(**usual | settings)
        self.listener = (
            TcpListener(self.accept, given, None, self.connections)
            if kind == "tcp"
            else WebSocketListener(self.accept, Pages(), given, None, self.connections)
        )
        return (await self.listener.start())[1]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.listener.close()
    assert house.connections.admitted == house.connections.refused == 0


async def connect(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return reader, writer


@pytest.mark.parametrize(
    ("header", "peer"),
    [(LINE, f"{CLIENT}:56324"), (binary(0x21, 0x11, V4), f"{CLIENT}:56324"), (b"PROXY UNKNOWN\r\n", None)],
)
async def test_a_proxy_header_comes_before_the_first_frame(house: House, header: bytes, peer: str | None) -> None:
    reader, writer = await connect(await house.open("tcp"), header + tcp_frame(b"hello"))
    assert await reader.readexactly(7) == tcp_frame(b"hello")
    assert house.recorders[0].link.peer == (peer or "127.0.0.1:" + str(writer.get_extra_info("sockname")[1]))
    assert house.connections._by_network == ({CLIENT: 1} if peer else {})
    writer.close()


async def test_a_proxy_header_comes_before_the_handshake(house: House) -> None:
    reader, writer = await connect(await house.open("websocket"), LINE + upgrade(X_Forwarded_For="1.1.1.1"))
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 101")
    await house.arrived.wait()
    assert house.recorders[0].link.peer == f"{CLIENT}:56324"  # who is no proxy forwards nothing
    writer.close()


async def test_a_proxy_behind_a_proxy(house: House) -> None:
    port = await house.open("websocket", trusted_proxies=("127.0.0.1", CLIENT))
    reader, writer = await connect(port, LINE + upgrade(X_Forwarded_For="198.51.100.1"))
    await reader.readuntil(b"\r\n")
    await house.arrived.wait()
    assert house.recorders[0].link.peer == "198.51.100.1:0"
    writer.close()


async def test_a_header_in_small_pieces(house: House) -> None:
    port = await house.open("tcp")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for byte in LINE + tcp_frame(b"x"):
        writer.write(bytes((byte,)))
        await asyncio.sleep(0.01)
    assert await reader.readexactly(3) == tcp_frame(b"x")
    writer.close()


@pytest.mark.parametrize(
    "data", [tcp_frame(b"hello hello hello"), b"PROXY TCP4 x y 1 2\r\n", b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_a_trusted_proxy_that_speaks_otherwise_is_closed(house: House, data: bytes) -> None:
    reader, writer = await connect(await house.open("tcp"), data)
    assert await closed(reader)
    assert house.recorders == []
    writer.close()


async def test_a_proxy_that_says_nothing_is_closed_in_time(house: House) -> None:
    port = await house.open("tcp")
    started = asyncio.get_running_loop().time()
    reader, writer = await connect(port, LINE[:20])
    assert await closed(reader)
    assert asyncio.get_running_loop().time() - started == pytest.approx(5, abs=0.2)
    writer.close()


async def test_limits_behind_the_proxy_protocol(house: House) -> None:
    port = await house.open("tcp")
    writers = []
    for n in range(12):  # four clients with three connections each
        line = f"PROXY TCP4 203.0.113.{n % 4} 192.0.2.1 1 2\r\n".encode()
        reader, writer = await connect(port, line + tcp_frame(b"x"))
        assert await reader.readexactly(3) == tcp_frame(b"x")
        writers.append(writer)
    reader, writer = await connect(port, b"PROXY TCP4 203.0.113.1 192.0.2.1 1 2\r\n")
    told = MSGPACK.decode_server((await reader.read())[2:])
    assert isinstance(told, ErrorFrame)
    assert told.error.message == "too many connections from this address"
    for each in (*writers, writer):
        each.close()


async def test_one_who_is_no_proxy_comes_without_a_header(house: House) -> None:
    port = await house.open("tcp", trusted_proxies=("10.0.0.1",))
    reader, writer = await connect(port, tcp_frame(b"hello"))
    assert await reader.readexactly(7) == tcp_frame(b"hello")
    assert house.recorders[0].link.peer.startswith("127.0.0.1:")
    writer.close()
    reader, writer = await connect(port, LINE)
    told = MSGPACK.decode_server((await reader.read())[2:])
    assert isinstance(told, ErrorFrame)
    assert told.error.code == "gateway.malformed_frame"
    writer.close()


async def test_closing_does_not_wait_for_a_header(house: House) -> None:
    port = await house.open("tcp")
    sock = socket.create_connection(("127.0.0.1", port))
    await asyncio.sleep(0.01)
    await house.listener.close()
    sock.close()


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:  # reset, with what it sent unread
        return True
