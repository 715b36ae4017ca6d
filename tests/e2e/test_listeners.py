"""The listeners on real sockets; what can be shown in memory is in tests/gateway/listener."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
import websockets.asyncio.client as client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from skyloom_gateway.listener import Link, ListenerSettings, Pages, Receiver, TcpListener, WebSocketListener
from skyloom_gateway.listener.tls import server_context

pytestmark = pytest.mark.real_time
JSON = [Subprotocol("skyloom.v1.json")]


class Echo:
    """Answers each message with itself."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def received(self, data: bytes) -> None:
        self.link.send(data)

    def closed(self, code: int, reason: str) -> None:
        self.code.set_result(code)


class Server:
    def __init__(self) -> None:
        self.echoes: list[Echo] = []
        self.first: asyncio.Future[Echo] = asyncio.get_running_loop().create_future()
        self.listeners: list[WebSocketListener | TcpListener] = []

    def accept(self, link: Link) -> Receiver:
        echo = Echo(link)
        self.echoes.append(echo)
        if len(self.echoes) == 1:
            self.first.set_result(echo)
        return echo

    async def websocket(self, settings: ListenerSettings | None = None, *, fast_path: bool = True) -> str:
        pages = Pages()
        pages.add("/", b"hello " * 50_000, "text/plain")
        listener = WebSocketListener(self.accept, pages, settings or ListenerSettings(port=0), fast_path=fast_path)
        self.listeners.append(listener)
        host, port = await listener.start()
        return f"{host}:{port}"

    async def tcp(self, settings: ListenerSettings | None = None) -> tuple[str, int]:
        listener = TcpListener(self.accept, settings or ListenerSettings(port=0))
        self.listeners.append(listener)
        return await listener.start()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    for listener in server.listeners:
        await listener.close()
        assert listener.streams == ()
        assert listener.connections.admitted == 0


async def read(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


@pytest.mark.parametrize("fast_path", [True, False])
async def test_websocket_echo(server: Server, fast_path: bool) -> None:
    address = await server.websocket(fast_path=fast_path)
    async with client.connect(f"ws://{address}/ws", subprotocols=JSON, compression=None) as ws:
        for message in ("", "hällo", "x" * 65_536):
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(iter(["a", "b", "c"]))
        assert await ws.recv() == "abc"
        await (await ws.ping())
    assert await server.echoes[0].code == 1000


async def test_tcp_echo_and_its_end(server: Server) -> None:
    reader, writer = await asyncio.open_connection(*await server.tcp())
    writer.write(b"\x00\x05hello\x00\x00")
    assert [await read(reader), await read(reader)] == [b"hello", b""]
    writer.write_eof()
    assert await reader.read() == b""
    assert await server.echoes[0].code == 1001
    writer.close()


async def test_small_writes_do_not_wait(server: Server) -> None:
    reader, writer = await asyncio.open_connection(*await server.tcp())
    writer.write(b"\x00\x01x")
    assert await read(reader) == b"x"
    (stream,) = server.listeners[0].streams
    sock = stream._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 256 * 1024  # Linux doubles it
    writer.close()


async def test_the_server_closes_its_clients(server: Server) -> None:
    address = await server.websocket()
    async with client.connect(f"ws://{address}/ws", compression=None) as ws:
        closing = asyncio.create_task(server.listeners[0].close(1012, "restart"))
        with pytest.raises(ConnectionClosed) as caught:
            await ws.recv()
        await closing
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1012, "restart")
    with pytest.raises(ConnectionRefusedError):
        await client.connect(f"ws://{address}/ws")


async def test_close_does_not_wait_for_the_unwilling(server: Server) -> None:
    settings = ListenerSettings(port=0, close_timeout_seconds=0.2)
    address = await server.websocket(settings)
    half_open = [await asyncio.open_connection(*address.split(":")) for _ in range(3)]
    await asyncio.sleep(0.01)
    started = asyncio.get_running_loop().time()
    await server.listeners[0].close()
    assert asyncio.get_running_loop().time() - started < 2
    for _, writer in half_open:
        writer.close()


@pytest.mark.parametrize("kind", ["websocket", "tcp"])
async def test_a_client_that_never_reads_is_cut_off(server: Server, kind: str) -> None:
    settings = ListenerSettings(port=0, stall_seconds=0.5, output_bytes_max=1 << 30, output_messages_max=1 << 30)
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    if kind == "tcp":
        await loop.sock_connect(sock, await server.tcp(settings))
    else:
        host, port = (await server.websocket(settings)).split(":")
        await loop.sock_connect(sock, (host, int(port)))
        await loop.sock_sendall(
            sock,
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
    echo = await server.first
    for _ in range(100):
        echo.link.send(b"x" * 60_000)
    assert echo.link.buffered_bytes > 0
    started = loop.time()
    async with asyncio.timeout(10):
        assert await echo.code == 1013
    assert loop.time() - started < 4
    sock.close()


async def test_a_large_page_arrives_whole(server: Server) -> None:
    address = await server.websocket()
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b"hello " * 50_000
    writer.close()


async def test_origins_of_a_server_for_all(server: Server) -> None:
    address = await server.websocket(ListenerSettings(host="0.0.0.0", port=0, origins=("http://game.example",)))
    port = address.rpartition(":")[2]
    for origin in ("http://evil.example", f"http://127.0.0.1:{port}"):
        with pytest.raises(InvalidStatus, match="403"):
            await client.connect(f"ws://127.0.0.1:{port}/ws", origin=Origin(origin))
    async with client.connect(f"ws://127.0.0.1:{port}/ws", origin=Origin("http://game.example")):
        pass


async def test_a_port_in_use_is_told(server: Server) -> None:
    host, port = await server.tcp()
    with pytest.raises(OSError, match=f"{host}:{port} is already in use; stop"):
        await server.tcp(ListenerSettings(port=port))
    server.listeners.pop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    made = subprocess.run([*command.split(), "-keyout", key, "-out", cert], capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    return cert, key


async def test_tls(server: Server, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    settings = ListenerSettings(port=0, certificate_file=cert, key_file=key)
    context = ssl.create_default_context(cafile=cert)
    address = await server.websocket(settings)
    async with client.connect(f"wss://{address}/ws", ssl=context, compression=None) as ws:
        await ws.send("x" * 60_000)
        assert await ws.recv() == "x" * 60_000
    assert await server.echoes[0].code == 1000
    host, port = await server.tcp(settings)
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.write(b"\x00\x02hi")
    assert await read(reader) == b"hi"
    server.echoes[1].link.close(1000, "bye")
    assert await reader.read() == b""
    writer.close()


async def test_handshakes_under_way_are_counted_and_end(server: Server, certificate: tuple[Path, Path]) -> None:
    """300 clients that say nothing, half a record or noise, on a port for 100."""
    cert, key = certificate
    settings = ListenerSettings(
        port=0,
        certificate_file=cert,
        key_file=key,
        connections_max=100,
        connections_refused_max=30,
        open_timeout_seconds=2,
    )
    context = ssl.create_default_context(cafile=cert)
    address = await server.websocket(settings)
    connections = server.listeners[0].connections
    async with client.connect(f"wss://{address}/ws", ssl=context, compression=None) as ws:
        host, port = address.split(":")
        before = resident_bytes()
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(300)]
        for _, writer in opened[::2]:
            writer.write(b"\x16\x03\x01\x02\x00\x01")
        for _, writer in opened[1::4]:
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(10):
            for reader, _ in opened[200:]:  # over both limits: closed at once
                assert await ended(reader)
        assert connections.admitted <= 100
        assert connections.refused <= 30
        assert resident_bytes() - before < 130 * 150 * 1024
        await ws.send("still here")
        assert await ws.recv() == "still here"
        async with asyncio.timeout(10):
            for reader, writer in opened:
                assert await ended(reader)
                writer.close()
        assert connections.admitted == 1
    # There is room again.
    async with client.connect(f"wss://{address}/ws", ssl=context, compression=None) as ws:
        await ws.send("room")
        assert await ws.recv() == "room"


async def test_a_full_tls_port_says_why(server: Server, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    settings = ListenerSettings(port=0, certificate_file=cert, key_file=key, connections_max=1)
    context = ssl.create_default_context(cafile=cert)
    address = await server.websocket(settings)
    async with client.connect(f"wss://{address}/ws", ssl=context, compression=None):
        with pytest.raises(InvalidStatus) as found:
            await client.connect(f"wss://{address}/ws", ssl=context, compression=None)
        assert found.value.response.status_code == 503


async def test_close_does_not_wait_for_handshakes(server: Server, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    address = await server.websocket(ListenerSettings(port=0, certificate_file=cert, key_file=key))
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, port)
    # Connections are accepted in turn: when this one is in, the silent one is at its handshake.
    context = ssl.create_default_context(cafile=cert)
    async with client.connect(f"wss://{address}/ws", ssl=context, compression=None):
        assert server.listeners[0].connections.admitted == 2
    async with asyncio.timeout(3):
        await server.listeners[0].close()
        assert await ended(reader)
    writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection(host, port)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_client_whose_handshake_ends_as_the_server_closes_is_told_of_the_end(
    new_loop: Callable[[], asyncio.AbstractEventLoop], certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate

    async def run() -> list[int]:
        codes: list[int] = []
        came = asyncio.Event()

        class Last:
            """Comes in as the last one: the port closes before its opening is over."""

            def __init__(self, link: Link) -> None:
                listener.stop_accepting()
                came.set()

            def received(self, data: bytes) -> None:
                """Nothing comes."""

            def closed(self, code: int, reason: str) -> None:
                codes.append(code)

        listener = TcpListener(Last, ListenerSettings(port=0, certificate_file=cert, key_file=key))
        host, port = await listener.start()
        _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context(cafile=cert))
        async with asyncio.timeout(5):
            await came.wait()
            await listener.close()
        writer.transport.abort()
        assert listener.streams == ()
        assert listener.connections.admitted == 0
        return codes

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert len(runner.run(run())) == 1


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until the server has ended a connection, whatever it says before."""
    try:
        await reader.read()
    except ConnectionError:
        pass
    return True


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_old_tls_is_refused(certificate: tuple[Path, Path]) -> None:
    # What OpenSSL is built with today refuses TLS 1.1 by itself, so no handshake can show the setting.
    assert server_context(*certificate).minimum_version is ssl.TLSVersion.TLSv1_2


async def test_tls_files_that_are_none(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="certificate_file .* cannot be read"):
        await server.tcp(ListenerSettings(port=0, certificate_file=tmp_path / "no", key_file=tmp_path / "no"))
    (tmp_path / "x.pem").write_text("x")
    file = tmp_path / "x.pem"
    with pytest.raises(ValueError, match="are not a PEM certificate"):
        await server.tcp(ListenerSettings(port=0, certificate_file=file, key_file=file))
    server.listeners.clear()


DESCRIPTORS = """
import asyncio, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
from skyloom_gateway.listener import *

class Echo:
    def __init__(self, link): self.received = link.send
    def closed(self, code, reason): pass

async def main():
    settings = ListenerSettings(port=0)
    listener = WebSocketListener(Echo, Pages(), settings)
    # As if something else had taken the descriptors that the listener keeps free.
    listener.connections.connections_max = listener.connections.refused_max = 10_000
    host, port = await listener.start()
    print(port, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_at_the_descriptor_limit_the_server_lives(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = DESCRIPTORS.replace("FILES", "300")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 400
        async with client.connect(f"ws://127.0.0.1:{port}/ws", compression=None) as ws:
            crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(330)]
            await ws.send("still there?")
            async with asyncio.timeout(5):
                assert await ws.recv() == "still there?"
            for sock in crowd:
                sock.close()
            async with asyncio.timeout(10):
                async with client.connect(f"ws://127.0.0.1:{port}/ws", compression=None) as late:
                    await late.send("and now?")
                    assert await late.recv() == "and now?"
    finally:
        process.kill()
        await process.wait()
