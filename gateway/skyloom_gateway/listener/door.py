"""Where connections come in: accepted a few at a time, and counted before anything else is done for them.

asyncio's own servers accept as many as wait in one go, while everybody else waits, and tell nobody of a TLS connection
before its handshake is done, so that one which never ends would stand outside every limit.

    accept() -> Connections.admit() -> PROXY header -> TLS handshake -> the stream, with its place in the count
       |                |                   '----------------'-- open_timeout_seconds, or what is none --> closed
       |                '-- too many are being refused already --> closed
       '-- accepts_per_second_max: the kernel holds the rest back
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING, Any

import structlog

from skyloom_gateway.listener.connections import Refusal, Ticket
from skyloom_gateway.listener.proxy_header import BadProxyHeader, Client, proxy_header
from skyloom_gateway.listener.stream import Stream, peer_name

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from skyloom_gateway.listener.link import TimerHandle
    from skyloom_gateway.listener.port import Port

ACCEPTS_AT_ONCE = 16  # in one turn of the loop, in which all clients have their turn
ACCEPT_PAUSE_SECONDS = 1.0  # when no connection can be accepted: as long as asyncio's servers wait
TLS_READ_BYTES = 32 * 1024  # two records; asyncio sets 256 KiB aside for every connection, silent ones too

_log = structlog.get_logger("skyloom.listener")


class Door:
    """Accepts the connections of a port.

    Args:
        port: gets the connections.
        context: the certificate and the rules of TLS, None for none; it may be exchanged.
    """

    def __init__(self, port: Port, context: ssl.SSLContext | None) -> None:
        self._port = port
        self.context = context
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._paused: dict[socket.socket, TimerHandle] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[Any]] = set()  # those of them that may take long
        if context is not None:
            SSLProtocol.max_size = TLS_READ_BYTES

    def open(self, bound: Sequence[socket.socket]) -> None:
        """Listen on sockets that are bound.

        Raises:
            OSError: another program is faster.
        """
        for sock in bound:
            listening = sock.dup()
            self._listening.append(listening)
            listening.setblocking(False)
            listening.listen(self._port.settings.backlog_connections)
        for listening in self._listening:
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Accept no more, and give up the connections that are not open yet."""
        for listening in self._listening:
            self._loop.remove_reader(listening)
            listening.close()
        self._listening.clear()
        for timer in self._paused.values():
            timer.cancel()
        self._paused.clear()
        for task in self._waiting:
            task.cancel()

    async def closed(self) -> None:
        """Wait until all that `close` gave up is gone."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept(self, listening: socket.socket) -> None:
        accepts = self._port.connections.accepts
        now = self._port.timers.now()
        for _ in range(ACCEPTS_AT_ONCE):
            wait = accepts.take(now)
            if wait:
                self._pause(listening, wait)
                return
            try:
                sock, name = listening.accept()
            except (BlockingIOError, InterruptedError):  # that was all
                accepts.give_back()
                return
            except ConnectionError:  # it was gone again already
                continue
            except OSError as exc:
                _log.error("no connection can be accepted for a moment", error=exc.strerror or str(exc))
                self._pause(listening, ACCEPT_PAUSE_SECONDS)
                return
            ticket = self._port.admit(peer_name(name)[0])
            if ticket.refusal is Refusal.FLOOD:
                ticket.release()
                sock.close()
            else:
                sock.setblocking(False)
                task = self._loop.create_task(self._connect(Opening(sock, ticket, *peer_name(name))))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listening)
        self._paused[listening] = self._port.timers.call_later(seconds, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        del self._paused[listening]
        self._loop.add_reader(listening, self._accept, listening)

    async def _connect(self, opening: Opening) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            if self._port.accepting:
                await self._prepare(opening)
                if opening.ticket.refusal is not Refusal.FLOOD:
                    await self._hand_over(opening, task)
        except BadProxyHeader as bad:
            _log.warning("a trusted proxy is not understood", peer=opening.peer, reason=str(bad))
        except OSError:  # no handshake, or none in time: the client's fault, and nobody to tell
            pass
        finally:
            self._waiting.discard(task)
            if not opening.is_open:
                opening.ticket.release()
                if not opening.is_handed_over:  # else the transport closes it
                    opening.sock.close()

    async def _prepare(self, opening: Opening) -> None:
        """Learn who the client is, where a trusted proxy says so first."""
        port = self._port
        if not port.settings.proxy_protocol or not port.proxies.trusts(opening.address):
            return
        async with asyncio.timeout(port.settings.open_timeout_seconds):
            opening.client = await _read_client(opening.sock)
        if opening.client is not None:
            opening.ticket.release()
            opening.ticket = port.admit(opening.client[0])

    async def _hand_over(self, opening: Opening, task: asyncio.Task[Any]) -> None:
        """Shake hands, and let the stream have the transport."""
        port, settings, context = self._port, self._port.settings, self.context

        def stream() -> Stream:
            made = port.connect()
            made.admitted, made.client = opening.ticket, opening.client
            return made

        opening.is_handed_over = True
        if context is None:
            self._waiting.discard(task)  # it is open in a moment, and not to be disturbed
            await self._loop.connect_accepted_socket(stream, opening.sock)
        else:
            await self._loop.connect_accepted_socket(
                stream,
                opening.sock,
                ssl=context,
                ssl_handshake_timeout=settings.open_timeout_seconds,
                ssl_shutdown_timeout=settings.close_timeout_seconds,
            )
        opening.is_open = True


class Opening:
    """A connection that is not open yet.

    Args:
        sock: its socket.
        ticket: its place in the count.
        address, peer: where it comes from.
    """

    def __init__(self, sock: socket.socket, ticket: Ticket, address: str | None, peer: str) -> None:
        self.sock = sock
        self.ticket = ticket
        self.address, self.peer = address, peer
        self.client: Client = None
        self.is_handed_over = False
        self.is_open = False


async def _read_client(sock: socket.socket) -> Client:
    """Read a PROXY header and not a byte more.

    Raises:
        BadProxyHeader: something else stands there.
        OSError: the connection broke.
    """
    loop = asyncio.get_running_loop()
    header = proxy_header()
    wanted = next(header)
    while True:
        data = b""
        while len(data) < wanted:
            more = await loop.sock_recv(sock, wanted - len(data))
            if not more:
                raise BadProxyHeader("the connection ended before its PROXY header")
            data += more
        try:
            wanted = header.send(data)
        except StopIteration as stop:
            client: Client = stop.value
            return client
