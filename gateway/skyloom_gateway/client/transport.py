"""How a client's frames travel: one frame in, one frame out, over WebSocket or TCP. No protocol state lives
here.
"""

import asyncio
import ipaddress
import ssl as ssl_module
import struct
from typing import Literal, Protocol
from urllib.parse import SplitResult, urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from skyloom_gateway.client.errors import ConnectFailed
from skyloom_gateway.wire.codec import Codec

INCOMING_BYTES_MAX = 1_048_576
CLOSE_TIMEOUT_SECONDS = 2.0
TCP_FRAME_BYTES_MAX = 65_535  # the length prefix is a uint16

_LENGTH = struct.Struct(">H")


class TransportClosed(Exception):
    """The connection ended. `code` is the close code, None when it broke without one; `reason` is for
    people.
    """

    def __init__(self, code: int | None, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")


class Transport(Protocol):
    """A connected way to carry frames. Every method but `abort` may raise TransportClosed."""

    async def send(self, frame: bytes) -> None:
        """Send one frame; waits while the peer takes nothing."""

    async def receive(self) -> bytes:
        """The next frame."""

    async def close(self) -> None:
        """Close politely, for at most CLOSE_TIMEOUT_SECONDS; never raises."""

    def abort(self) -> None:
        """Drop the connection now, whatever the peer does."""


class WebSocketTransport:
    """Frames as WebSocket messages, text or binary as the codec says."""

    def __init__(self, connection: ClientConnection, codec: Codec) -> None:
        self._connection = connection
        self._text = codec.text

    @classmethod
    async def open(cls, url: str, codec: Codec, tls: ssl_module.SSLContext | None) -> "WebSocketTransport":
        """Connect and agree on the subprotocol; raises ConnectFailed."""
        # The library would send a loopback connection through a proxy of the environment.
        proxy: Literal[True] | None = None if _is_loopback(urlsplit(url).hostname) else True
        try:
            connection = await websocket_connect(
                url,
                subprotocols=[Subprotocol(codec.subprotocol)],
                compression=None,
                proxy=proxy,
                ssl=tls,
                open_timeout=None,
                ping_interval=None,  # the conversation pings, alike on both transports
                close_timeout=CLOSE_TIMEOUT_SECONDS,
                max_size=INCOMING_BYTES_MAX,
            )
        except InvalidURI as error:
            raise ConnectFailed(f"not a WebSocket address: {url}") from error
        except (OSError, InvalidHandshake) as error:
            no_path = isinstance(error, InvalidHandshake) and urlsplit(url).path in ("", "/")
            remedy = "; the path is missing: a gateway's is /ws" if no_path else ""
            raise ConnectFailed(f"cannot connect to {url}: {error}{remedy}") from error
        if connection.subprotocol != codec.subprotocol:
            await connection.close()
            raise ConnectFailed(f"{url} does not speak {codec.subprotocol}; is it a Skyloom gateway's /ws?")
        return cls(connection, codec)

    async def send(self, frame: bytes) -> None:
        try:
            await self._connection.send(frame, text=self._text)
        except ConnectionClosed as closed:
            raise _closed(closed) from closed

    async def receive(self) -> bytes:
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as closed:
            raise _closed(closed) from closed

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        self._connection.transport.abort()


class TcpTransport:
    """Frames over TCP, each after its length as a big-endian uint16: skynet's framing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int, tls: ssl_module.SSLContext | None) -> "TcpTransport":
        """Connect; raises ConnectFailed."""
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {host}:{port}: {error}") from error
        return cls(reader, writer)

    async def send(self, frame: bytes) -> None:
        if self._writer.is_closing():
            raise TransportClosed(None, "the connection is closing")
        try:
            # One write for both: Nagle's algorithm and delayed acks would hold the second back.
            self._writer.write(_LENGTH.pack(len(frame)) + frame)
            await self._writer.drain()
        except OSError as error:
            raise TransportClosed(None, str(error)) from error

    async def receive(self) -> bytes:
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return await self._reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            reason = (
                "the gateway closed the connection within a frame"
                if error.partial
                else "the gateway closed the connection"
            )
            raise TransportClosed(None, reason) from error
        except OSError as error:
            raise TransportClosed(None, str(error)) from error

    async def close(self) -> None:
        self._writer.write(_LENGTH.pack(0))  # malformed, which ends the session: the end of the stream alone would not
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            # The peer broke off or takes nothing: there is nobody left to be polite to.
            self.abort()

    def abort(self) -> None:
        self._writer.transport.abort()


async def open_transport(url: str, codec: Codec, tls: ssl_module.SSLContext | None) -> Transport:
    """Connect to a ws, wss, tcp or tls address.

    Raises ValueError for an address of another form, ConnectFailed when nobody answers there.
    """
    parts = split_url(url)
    if parts.scheme in ("ws", "wss"):
        return await WebSocketTransport.open(url, codec, tls)
    context = (tls or ssl_module.create_default_context()) if parts.scheme == "tls" else None
    return await TcpTransport.open(parts.hostname or "", parts.port or 0, context)  # split_url saw both there


def split_url(url: str) -> SplitResult:
    """Take an address apart; raises ValueError, naming the forms that work."""
    parts = urlsplit(url)
    forms = "use ws://host:port/ws, wss://host/ws, tcp://host:port or tls://host:port"
    if parts.scheme not in ("ws", "wss", "tcp", "tls") or not parts.hostname:
        raise ValueError(f"not an address of a gateway: {url!r}; {forms}")
    if parts.scheme in ("tcp", "tls") and parts.port is None:
        raise ValueError(f"the address {url!r} names no port; {forms}")
    return parts


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _closed(closed: ConnectionClosed) -> TransportClosed:
    received = closed.rcvd
    if received is None:
        return TransportClosed(None, "the connection broke without a close frame")
    return TransportClosed(received.code, received.reason)
