"""A gateway's other end, as small as can be: it speaks the protocol with the server side of the codecs.

`serve` runs a handler for each connection, over WebSocket or TCP; `obedient` is the handler that most tests
want.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import CloseCode, ErrorKind, WireError, close_error
from skyloom_gateway.wire.frame import ClientFrame, Hello, Notify, Ping, Request
from skyloom_gateway.wire.json import JSON
from skyloom_gateway.wire.msgpack import MSGPACK

KINDS = ("websocket-json", "websocket-msgpack", "tcp")
WELCOME = {
    "session": "s-1",
    "key": "k-1",
    "user": "ada",
    "recovered": False,
    "heartbeat": 20,
    "limits": {"frame_bytes": 4096, "messages_per_second": 50},
    "contract": "sha256:0",
}


@dataclass
class Peer:
    """One client's connection, seen from the gateway. `received` keeps every frame that came."""

    codec: Codec
    send: Callable[[bytes], Awaitable[None]]
    read: Callable[[], Awaitable[bytes]]
    hang_up: Callable[[int, str], Awaitable[None]]
    cut: Callable[[], None]
    received: list[ClientFrame] = field(default_factory=list)
    seq: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> ClientFrame:
        frame = self.codec.decode(await self.read())
        self.received.append(frame)
        return frame

    async def close(self, code: CloseCode, reason: str) -> None:
        """Say why, as PROTOCOL has it, and close."""
        error = close_error(code, reason)
        if error is not None:
            await self.send(self.codec.error(0, error))
        await self.hang_up(int(code), reason)

    async def push(self, route: str, body: object) -> None:
        self.seq += 1
        tail = self.codec.push_tail(route, self.codec.encode_body(body))
        await self.send(self.codec.push(self.seq, tail))

    async def respond(self, request: Request, body: object) -> None:
        await self.send(self.codec.response(request.id, self.codec.encode_body(body)))

    async def fail(self, request: Request, error: WireError) -> None:
        await self.send(self.codec.error(request.id, error))


Handler = Callable[[Peer], Awaitable[None]]


async def welcomed(peer: Peer, **fields: object) -> Hello:
    hello = await peer.receive()
    assert isinstance(hello, Hello)
    await peer.send(peer.codec.welcome(WELCOME | fields))
    return hello


def scripted(*handlers: Handler) -> Handler:
    """One handler for each connection in turn; the last one serves all that follow."""
    rest = iter(handlers)

    async def handle(peer: Peer) -> None:
        await next(rest, handlers[-1])(peer)

    return handle


async def obedient(peer: Peer) -> None:
    """Do what the routes say: test.echo, fail, silent, late {seconds}, push {count}, close {code}."""
    await welcomed(peer)
    while True:
        frame = await peer.receive()
        if isinstance(frame, Ping):
            await peer.send(peer.codec.pong())
        elif isinstance(frame, Notify):
            await peer.push("test.noted", peer.codec.decode_body(frame.body))
        elif isinstance(frame, Request):
            await _obey(peer, frame)


async def _obey(peer: Peer, request: Request) -> None:
    body: Any = peer.codec.decode_body(request.body)
    match request.route:
        case "test.echo":
            await peer.respond(request, body)
        case "test.fail":
            details = {"room": "attic"}
            await peer.fail(request, WireError("test.no_room", ErrorKind.NOT_FOUND, "no such room", True, details))
        case "test.silent":
            pass
        case "test.late":
            await asyncio.sleep(body["seconds"])
            await peer.respond(request, {})
        case "test.push":
            for n in range(body["count"]):
                await peer.push("test.tick", {"n": n})
            await peer.respond(request, {})
        case "test.drain":
            await peer.send(peer.codec.drain("restart", 3.5))
            await peer.respond(request, {})
        case "test.complain":
            await peer.send(
                peer.codec.error(0, WireError("gateway.rate_limited", ErrorKind.RESOURCE_EXHAUSTED, "slow"))
            )
            await peer.respond(request, {})
        case "test.raw":
            await peer.send(body["frame"].encode())
        case "test.close":
            await peer.close(CloseCode(body["code"]), "as you asked")


@contextlib.asynccontextmanager
async def serve(kind: str, handler: Handler = obedient) -> AsyncIterator["Served"]:
    """Listen on loopback; gives the address, the encoding to ask for, and the peers that came."""
    served = Served(kind)
    if kind == "tcp":
        server = await asyncio.start_server(served.tcp(handler), "127.0.0.1", 0)
        async with server:
            served.port = server.sockets[0].getsockname()[1]
            yield served
            await served.end()
    else:
        codec = served.codec
        protocols = [Subprotocol(codec.subprotocol)]
        listener = serve_websocket(
            served.websocket(handler), "127.0.0.1", 0, subprotocols=protocols, ping_interval=None
        )
        async with listener as websockets:
            served.port = websockets.sockets[0].getsockname()[1]
            yield served
            await served.end()


class Served:
    """A listening double."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.port = 0
        self.codec = JSON if kind == "websocket-json" else MSGPACK
        self.peers: list[Peer] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        scheme, path = ("tcp", "") if self.kind == "tcp" else ("ws", "/ws")
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    @property
    def encoding(self) -> Any:
        return self.codec.name

    def websocket(self, handler: Handler) -> Callable[[ServerConnection], Awaitable[None]]:
        async def connected(connection: ServerConnection) -> None:
            async def send(frame: bytes) -> None:
                await connection.send(frame, text=self.codec.text)

            async def read() -> bytes:
                return await connection.recv(decode=False)

            await self._run(handler, Peer(self.codec, send, read, connection.close, connection.transport.abort))

        return connected

    def tcp(self, handler: Handler) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async def send(frame: bytes) -> None:
                writer.write(struct.pack(">H", len(frame)) + frame)
                await writer.drain()

            async def read() -> bytes:
                (length,) = struct.unpack(">H", await reader.readexactly(2))
                return await reader.readexactly(length)

            async def hang_up(code: int, reason: str) -> None:
                writer.close()

            try:
                await self._run(handler, Peer(self.codec, send, read, hang_up, writer.transport.abort))
            finally:
                writer.close()

        return connected

    async def end(self) -> None:
        """Stop every handler that still runs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, handler: Handler, peer: Peer) -> None:
        self.peers.append(peer)
        task = asyncio.ensure_future(handler(peer))
        self._tasks.add(task)
        try:
            await task
        except (ConnectionClosed, asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the client, or the test, is done
        finally:
            self._tasks.discard(task)
            peer.gone.set()
