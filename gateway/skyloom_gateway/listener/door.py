"""Where TLS connections come in: counted and timed from the first moment.

asyncio's own TLS servers tell nobody of a connection before its handshake is done, so one that never ends would stand
outside every limit. This one accepts by itself:

    sock_accept() -> Connections.admit() -> handshake -> the stream, with its place in the count
                          |                     '-- open_timeout_seconds, or what is no handshake --> closed
                          '-- too many are being refused already --> closed
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING

import structlog

from skyloom_gateway.listener.connections import Refusal
from skyloom_gateway.listener.stream import Stream, peer_name

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Sequence

    from skyloom_gateway.listener.port import Port

ACCEPT_PAUSE_SECONDS = 1.0  # when no connection can be accepted: as long as asyncio's servers wait
TLS_READ_BYTES = 32 * 1024  # two records; asyncio sets 256 KiB aside for every connection, silent ones too

_log = structlog.get_logger("skyloom.listener")


class Door:
    """Accepts TLS connections of a port.

    Args:
        port: gets the connections.
        context: the certificate and the rules.
    """

    def __init__(self, port: Port, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
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
        port = self._port
        address, _ = peer_name(name)
        ticket = port.connections.admit(address, port.timers.now())
        if ticket.refusal is Refusal.FLOOD:
            ticket.release()
            sock.close()
            return

        def stream() -> Stream:
            made = port.connect()
            made.admitted = ticket
            return made

        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                stream,
                sock,
                ssl=self._context,
                ssl_handshake_timeout=port.settings.open_timeout_seconds,
                ssl_shutdown_timeout=port.settings.close_timeout_seconds,
            )
        except OSError:  # no handshake, or none in time: the client's fault, and nobody to tell
            ticket.release()
        except asyncio.CancelledError:
            ticket.release()
            raise
