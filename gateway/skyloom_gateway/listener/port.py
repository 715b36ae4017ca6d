"""A port that listens: its sockets and the connections that came in through it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence

from skyloom_gateway.listener.connections import Connections, Refusal, Ticket
from skyloom_gateway.listener.door import Door
from skyloom_gateway.listener.forwarded import Proxies
from skyloom_gateway.listener.link import Acceptor, Timers
from skyloom_gateway.listener.settings import ListenerSettings
from skyloom_gateway.listener.stream import Stream
from skyloom_gateway.listener.timers import LoopTimers
from skyloom_gateway.listener.tls import server_context
from skyloom_gateway.listener.turns import Turns
from skyloom_gateway.wire import CloseCode

SMALL_WRITE_BYTES = 4096
WRITE_BYTES_AT_ONCE = 512 * 1024  # in one turn of the loop, of what is larger than that
CUTS_AT_ONCE = 16  # in one turn of the loop
STREAMS_AT_ONCE = 4  # in one turn of the loop, of those that sent more than is taken in one go


class Port(ABC):
    """What WebSocketListener and TcpListener have in common.

    Args:
        acceptor: called with each new link; answers with its receiver.
        settings: address and limits.
        timers: the clock; the running loop's when None.
        connections: the count of connections; give two listeners the same one to bound their sum.

    Attributes:
        reading: streams that sent more than is taken in one go, until some more of it is taken.
        cutting: streams that read too slowly, until they are cut off.
    """

    def __init__(
        self,
        acceptor: Acceptor,
        settings: ListenerSettings,
        timers: Timers | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.acceptor = acceptor
        self.settings = settings
        self.timers: Timers = timers or LoopTimers()
        self.connections = connections or Connections.within(settings)
        self.proxies = Proxies(settings.trusted_proxies, settings.forwarded_header)
        self.accepting = True
        self.is_loopback = is_loopback(settings.host)
        self._streams: set[Stream] = set()
        self._batched: list[Stream] = []
        self.reading = Turns(self.timers, STREAMS_AT_ONCE, Stream.take_turn)
        self.cutting = Turns(self.timers, CUTS_AT_ONCE, Stream.cut_slow)
        self._server: asyncio.AbstractServer | None = None
        self._door: Door | None = None
        self._empty: asyncio.Future[None] | None = None

    @abstractmethod
    def connect(self) -> Stream:
        """A new connection's protocol, for the transport to drive."""

    async def start(self) -> tuple[str, int]:
        """Bind and listen.

        Returns:
            The address and the TCP port that were bound, of the first one when the host has several.

        Raises:
            OSError: the address cannot be bound; says which one and what to do.
            ValueError: the TLS files cannot be used.
        """
        settings = self.settings
        context: ssl.SSLContext | None = None
        if settings.certificate_file is not None and settings.key_file is not None:
            context = server_context(settings.certificate_file, settings.key_file)
        try:
            server = await asyncio.get_running_loop().create_server(
                self.connect,
                settings.host,
                settings.port,
                backlog=settings.backlog_connections,
                reuse_port=settings.reuse_port or None,
                start_serving=False,
            )
        except OSError as exc:
            raise bind_error(exc, settings.host, settings.port) from exc
        try:
            names = [sock.getsockname() for sock in server.sockets]
            for sock in server.sockets:
                # Accepted sockets inherit this. The kernel's own default keeps megabytes for an idle reader.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.socket_send_bytes)
            self._door = Door(self, context)
            self._door.open(server.sockets)
        except OSError as exc:  # another program may have bound the port and be faster to listen on it
            server.close()
            self.stop_accepting()
            raise bind_error(exc, settings.host, settings.port) from exc
        self.is_loopback = all(is_loopback(str(name[0])) for name in names)
        self._server = server
        return str(names[0][0]), int(names[0][1])

    def reload_certificate(self) -> None:
        """Read the TLS files again: connections from now on get what they hold.

        Raises:
            ValueError: they cannot be used; the certificate of before goes on.
        """
        settings = self.settings
        if self._door is not None and settings.certificate_file is not None and settings.key_file is not None:
            self._door.context = server_context(settings.certificate_file, settings.key_file)

    def stop_accepting(self) -> None:
        """Close the listening sockets; links live on."""
        self.accepting = False
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._door is not None:
            self._door.close()

    async def close(self, code: int = CloseCode.GOING_AWAY, reason: str = "the server shuts down") -> None:
        """Stop accepting and close all links; returns when they are gone, within `close_timeout_seconds`.

        Args:
            code, reason: what clients are told.
        """
        self.stop_accepting()
        if self._door is not None:
            await self._door.closed()
        for stream in tuple(self._streams):
            stream.close(code, reason)
        if self._streams:
            timer = self.timers.call_later(self.settings.close_timeout_seconds, self._cut_all, code, reason)
            self._empty = asyncio.get_running_loop().create_future()
            try:
                await self._empty
            finally:
                timer.cancel()

    def _cut_all(self, code: int, reason: str) -> None:
        for stream in tuple(self._streams):
            stream.cut(code, reason)

    @property
    def streams(self) -> Sequence[Stream]:
        """The connections there are, whatever their state."""
        return tuple(self._streams)

    def flush_soon(self, stream: Stream) -> None:
        """Call `stream.end_turn` in the loop's next turn; one timer serves all streams."""
        if not self._batched:
            self.timers.call_later(0, self._flush)
        self._batched.append(stream)

    def _flush(self) -> None:
        batched, self._batched = self._batched, []
        bytes_left = WRITE_BYTES_AT_ONCE
        rest = iter(batched)
        try:
            for stream in rest:
                size = stream.held_bytes
                if size <= SMALL_WRITE_BYTES:
                    stream.end_turn()
                elif bytes_left > 0:
                    bytes_left -= size
                    stream.end_turn()
                else:
                    self._batched.append(stream)
        finally:
            self._batched.extend(rest)  # one that raised costs nobody else a turn
            if self._batched:
                self.timers.call_later(0, self._flush)

    def enter(self, stream: Stream, address: str | None, ticket: Ticket | None = None) -> Ticket:
        """Count a new connection, and cut it at once when too many wait to be told why they may not stay.

        Args:
            stream: the connection.
            address: the client's IP address, None for a Unix socket.
            ticket: its place when it was counted already.
        """
        ticket = ticket or self.admit(address)
        self._streams.add(stream)
        if ticket.refusal is Refusal.FLOOD or not self.accepting:
            stream.cut(CloseCode.OVERLOADED, "no more connections")
        return ticket

    def admit(self, address: str | None) -> Ticket:
        """Count a connection in; a trusted proxy is not counted by its own address, but by its clients'."""
        return self.connections.admit(None if self.proxies.trusts(address) else address, self.timers.now())

    def leave(self, stream: Stream) -> None:
        """A connection is gone."""
        self._streams.discard(stream)
        if not self._streams and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)


def is_loopback(host: str) -> bool:
    """Whether an address to bind is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def bind_error(exc: OSError, host: str, port: int) -> OSError:
    """The same error, said so that one knows what to do."""
    if exc.errno == errno.EADDRINUSE:
        text = f"{host}:{port} is already in use; stop the program that listens there or choose another port"
    elif exc.errno == errno.EACCES:
        text = f"{host}:{port} may not be bound by this user; choose a port from 1024 upwards"
    else:
        text = f"{host}:{port} cannot be bound ({exc.strerror or exc}); choose an address of this machine"
    return OSError(exc.errno, text)
