"""python-socketio for comparison: a server that echoes and broadcasts, and clients that know its protocol.

Its packages are the extra `bench`; where they are missing, what compares with them is left out.
"""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

INSTALLED = all(importlib.util.find_spec(name) for name in ("socketio", "aiohttp"))
INSTALL = ".venv/bin/pip install -e '.[bench]' -c constraints.txt"
REQUEST = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASK = b"\0\0\0\0"


class SocketIoServer:
    """`say` goes to all others in the room, `echo` is answered."""

    def __init__(self) -> None:
        import socketio

        self.server: Any = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*")
        self.server.on("connect", self._connect)
        self.server.on("echo", self._echo)
        self.server.on("say", self._say)

    async def _connect(self, sid: str, environ: object) -> None:
        await self.server.enter_room(sid, "den")

    async def _echo(self, sid: str, text: str) -> str:
        return text

    async def _say(self, sid: str, text: str) -> str:
        await self.server.emit("said", text, room="den", skip_sid=sid)
        return "ok"

    @property
    def clients(self) -> int:
        """Clients that are connected."""
        return len(self.server.eio.sockets)

    async def start(self, stack: AsyncExitStack) -> int:
        """Listen on loopback; the port."""
        from aiohttp import web

        app = web.Application()
        self.server.attach(app)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        port: int = runner.addresses[0][1]
        return port


class SocketIoClient:
    """One client over WebSocket, without any polling before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> SocketIoClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self = cls(reader, writer)
        await self.enter()
        return self

    async def enter(self) -> None:
        """Shake hands and join the default namespace."""
        self._writer.write(REQUEST.encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            raise ConnectionError(head.decode(errors="replace"))
        self._send("40")
        while not (await self._read()).startswith(b"40"):
            pass

    async def ask(self, number: int) -> None:
        """`Asker.ask`."""
        self._send(f'42{number}["echo","x"]')
        wanted = f"43{number}[".encode()
        while not (await self._read()).startswith(wanted):
            pass

    def say(self, text: str) -> None:
        """Have the server send all others a text."""
        self._send(f'42["say","{text}"]')

    async def read_on(self) -> None:
        """Read whatever comes until the server ends the connection."""
        while True:
            await self._read()

    async def close(self) -> None:
        self._writer.transport.abort()

    def _send(self, text: str) -> None:
        size = len(text)
        head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
        self._writer.write(head + _MASK + text.encode())

    async def _read(self) -> bytes:
        reader = self._reader
        while True:
            first, length = await reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await reader.readexactly(2), "big")
            elif length == 127:
                length = int.from_bytes(await reader.readexactly(8), "big")
            data = await reader.readexactly(length)
            if first & 0x0F == 8:
                raise ConnectionError("the server closed the connection")
            if data == b"2":  # its ping
                self._send("3")
            else:
                return data
