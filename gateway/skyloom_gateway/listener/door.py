"""Where connections come in that begin with a TLS handshake or a PROXY header: counted and timed from the first moment.

asyncio's own TLS servers tell nobody of a connection before its handshake is done, so one that never ends would stand
outside every limit. This one accepts by itself:

    sock_accept() -> Connections.admit() -> PROXY header -> handshake -> the stream, with its place in the count
                          |                     '---------------'-- open_timeout_seconds, or what is none --> closed
                          '-- too many are being refused already --> closed
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING

import structlog

from skyloom_gateway.listener.connections import Refusal
from skyloom_gateway.listener.proxy_header import BadProxyHeader, Client, proxy_header
from skyloom_gateway.listener.stream import Stream, peer_name

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Sequence

    from skyloom_gateway.listener.port import Port

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
        self._listening: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
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
            self._fork(self._accept(listening))

    def close(self) -> None:
        """Accept no more, and give the handshakes under way up."""
        for task in self._tasks:
            task.cancel()

    async def closed(self) -> None:
        """Wait until all that `close` gave up is gone."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _fork(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    sock, name = await loop.sock_accept(listening)
                except ConnectionError:  # it was gone again already
                    continue
                except OSError as exc:
                    _log.error("no connection can be accepted for a moment", error=exc.strerror or str(exc))
                    await self._pause()
                else:
                    self._fork(self._shake_hands(sock, name))

    async def _pause(self) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._port.timers.call_later(ACCEPT_PAUSE_SECONDS, over.set_result, None)
        try:
            await over
        finally:
            timer.cancel()

    async def _shake_hands(self, sock: socket.socket, name: object) -> None:
        port, context = self._port, self.context
        settings = port.settings
        address, peer = peer_name(name)
        ticket = port.admit(address)
        client: Client = None

        def stream() -> Stream:
            made = port.connect()
            made.admitted, made.client = ticket, client
            return made

        try:
            if settings.proxy_protocol and port.proxies.trusts(address) and ticket.refusal is not Refusal.FLOOD:
                async with asyncio.timeout(settings.open_timeout_seconds):
                    client = await _read_client(sock)
                if client is not None:
                    ticket.release()
                    ticket = port.admit(client[0])
            if ticket.refusal is Refusal.FLOOD:
                ticket.release()
                sock.close()
                return
            await asyncio.get_running_loop().connect_accepted_socket(
                stream,
                sock,
                ssl=context,
                ssl_handshake_timeout=None if context is None else settings.open_timeout_seconds,
                ssl_shutdown_timeout=None if context is None else settings.close_timeout_seconds,
            )
        except BadProxyHeader as bad:
            _log.warning("a trusted proxy is not understood", peer=peer, reason=str(bad))
            ticket.release()
            sock.close()
        except OSError:  # no handshake, or none in time: the client's fault, and nobody to tell
            ticket.release()
            sock.close()
        except asyncio.CancelledError:
            ticket.release()
            sock.close()
            raise


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
