"""A client on real sockets that knows no more than the protocol, and can break it byte by byte."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from skyloom_gateway.wire import JSON, MSGPACK, Codec
from skyloom_gateway.wire.codes import CLOSE_CAUSES
from skyloom_gateway.wire.frame import ErrorFrame, Pong, Push, Response, ServerFrame, Welcome
from tests.gateway.listener.fakes import BINARY, CLOSE, PONG, TEXT, frame, tcp_frame, upgrade

if TYPE_CHECKING:
    from types import TracebackType

KINDS = ("websocket-json", "websocket-msgpack", "tcp")
PATIENCE_SECONDS = 10.0
BROKEN = 1006
_CLOSE_CODES = {cause.code: int(code) for code, cause in CLOSE_CAUSES.items()}


class Wire:
    """One connection. `close_code` is that of the close frame; on TCP that of the last error with id 0, or 1000."""

    def __init__(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.kind = kind
        self.codec: Codec = JSON if kind == "websocket-json" else MSGPACK
        self.reader, self.writer = reader, writer
        self.close_code: int | None = None
        self.pushes: list[Push] = []
        self._told = 1000
        self._last_id = 0

    @classmethod
    async def open(
        cls, kind: str, ports: tuple[int, int], receive_bytes: int | None = None, source: str = "127.0.0.1"
    ) -> Wire:
        """Connect from `source`, and for WebSocket shake hands; `ports` are those of WebSocket and TCP."""
        sock = socket.socket()
        sock.bind((source, 0))
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        port = ports[1] if kind == "tcp" else ports[0]
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock)
        self = cls(kind, reader, writer)
        if kind != "tcp":
            writer.write(upgrade(self.codec.subprotocol))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head
        return self

    @classmethod
    async def guest(
        cls,
        kind: str,
        ports: tuple[int, int],
        name: str = "ada",
        receive_bytes: int | None = None,
        source: str = "127.0.0.1",
    ) -> Wire:
        self = await cls.open(kind, ports, receive_bytes, source)
        self.hello(name)
        assert isinstance(await self.read(), Welcome)
        return self

    def wrap(self, data: bytes) -> bytes:
        """A frame as it goes over the socket."""
        if self.kind == "tcp":
            return tcp_frame(data)
        return frame(TEXT if self.codec.text else BINARY, data)

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(map(self.wrap, frames)))

    def hello(self, name: str = "ada") -> None:
        self.send(self.codec.hello({"auth": {"scheme": "guest", "name": name}}))

    def request(self, route: str, **body: object) -> int:
        self._last_id += 1
        self.send(self.codec.request(self._last_id, route, self.codec.encode_body(body)))
        return self._last_id

    async def read(self) -> ServerFrame | None:
        """The next frame; None when the connection has ended, and `close_code` says how."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                data = await self._payload()
        except (asyncio.IncompleteReadError, ConnectionError):
            if self.close_code is None:
                self.close_code = self._told if self.kind == "tcp" else BROKEN
            return None
        if data is None:
            return None
        found = self.codec.decode_server(data)
        if isinstance(found, ErrorFrame) and found.id == 0:
            self._told = _CLOSE_CODES.get(found.error.code, self._told)
        return found

    async def _payload(self) -> bytes | None:
        reader = self.reader
        if self.kind == "tcp":
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        while True:
            first, length = await reader.readexactly(2)
            if length >= 126:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            data = await reader.readexactly(length)
            if first & 0x0F == CLOSE:
                self.close_code = int.from_bytes(data[:2], "big")
                return None
            if first & 0x0F in (TEXT, BINARY):
                return data

    async def ask(self, route: str, **body: object) -> object:
        """The body of the answer; pushes that come before it are kept."""
        id = self.request(route, **body)
        while True:
            found = await self.read()
            if isinstance(found, Push):
                self.pushes.append(found)
            elif not isinstance(found, Pong):
                assert isinstance(found, Response), (found, self.close_code)
                assert found.id == id
                return found.body

    async def end(self) -> int:
        """Read until the connection ends; its close code."""
        while await self.read() is not None:
            pass
        assert self.close_code is not None
        return self.close_code

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:  # reset by the server, which is as good
            pass

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


__all__ = ["BROKEN", "KINDS", "PONG", "Wire"]
