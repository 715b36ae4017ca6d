"""The byte stream under a link: output that waits, keepalive, stalls and the end.

    CONNECTED --opened()--> OPEN --begin_close()--> CLOSING --connection_lost--> LOST
        |                     |                        |
        +------ cut() --------+------------------------+----> transport.abort(), LOST in the loop's next turn

Output is held back until the end of data_received (corked), or else until the loop's next turn (batched), so
that many frames are one write; and while the kernel takes no more (paused). Only what is held back while paused
counts against the bounds. Measured with 200 links: one frame in a turn costs the same either way, each of four
costs a quarter.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, cast

import structlog

from skyloom_gateway.listener.link import LinkKind, Receiver, TimerHandle
from skyloom_gateway.wire import CloseCode

if TYPE_CHECKING:
    from skyloom_gateway.listener.connections import Ticket
    from skyloom_gateway.listener.port import Port

CORK_BYTES_MAX = 64 * 1024  # corked output is written early past this, so that a batch is not in memory twice
STALL_CHECK_SECONDS = 1.0
FRAMES_AT_ONCE = 4  # of one client's in one turn of the loop; what it sent beyond waits, so that nobody waits for it
SHARED_BYTES_MIN = 1024  # a shorter tail is copied sooner than kept track of
LATE_BYTES_MAX = 128 * 1024  # input after the close began; what was on its way is less, a flood is more
NOT_CLOSED_CLEANLY = 1006  # RFC 6455 section 7.1.5; never travels
INTERNAL_ERROR = 1011

_log = structlog.get_logger("skyloom.listener")


class Stream(asyncio.Protocol, ABC):
    """What WebSocket and TCP connections have in common."""

    __slots__ = (
        "_backlog",
        "_batched",
        "_close_timer",
        "_closing",
        "_code",
        "_corked",
        "_eof_wanted",
        "_heard",
        "_hold",
        "_late_bytes",
        "_life_timer",
        "_lost",
        "_moved",
        "_now",
        "_out",
        "_out_messages",
        "_paused",
        "_pinged",
        "_pong",
        "_port",
        "_reason",
        "_receiver",
        "_rest",
        "_rest_at",
        "_settings",
        "_stall_timer",
        "_ticket",
        "_timers",
        "_traffic",
        "_transport",
        "_unsent_bytes",
        "address",
        "admitted",
        "client",
        "held_bytes",
        "peer",
    )

    kind: ClassVar[LinkKind]

    def __init__(self, port: Port) -> None:
        self._port = port
        self._settings = port.settings
        self._timers = port.timers
        self._now = port.timers.now
        self._backlog = port.connections.backlog
        self._traffic = port.connections.traffic[self.kind]
        self._receiver: Receiver | None = None
        self._out: list[bytes] = []
        self._out_messages = 0  # that wait since the kernel took no more
        self.held_bytes = 0  # of output that is not with the transport
        # The answer to the newest ping of a client that takes no output.
        self._pong: bytes | None = None
        # _hold says that one of the others holds output back; kept for the hot path.
        self._corked = self._paused = self._batched = self._hold = False
        self._closing = self._lost = self._eof_wanted = False
        self._code: int | None = None
        self._reason = ""
        self._heard = self._pinged = 0.0
        self._moved = 0.0
        self._unsent_bytes = self._late_bytes = 0
        self._rest, self._rest_at = b"", 0  # input that waits for its turn: the bytes from this position on
        self._life_timer: TimerHandle | None = None
        self._stall_timer: TimerHandle | None = None
        self._close_timer: TimerHandle | None = None
        self.peer = "unknown"
        self.address: str | None = None  # the IP address in `peer`
        self.admitted: Ticket | None = None  # where it was counted before its TLS handshake
        self.client: tuple[str, int] | None = None  # who a proxy said it is, before the first byte

    # What a transport needs of its subclass.

    @abstractmethod
    def opened(self) -> None:
        """The socket is there."""

    @abstractmethod
    def consume(self, data: bytes, position: int) -> None:
        """Bytes have arrived, new ones from `position` on; output is corked until this returns."""

    @abstractmethod
    def ended(self) -> None:
        """The client sends no more; output is corked until this returns."""

    @abstractmethod
    def ping(self) -> None:
        """Ask the client for a sign of life."""

    @abstractmethod
    def close(self, code: int, reason: str, frame: bytes | None = None) -> None:
        """`Link.close`."""

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected: count it, and start its clock."""
        self._transport = cast(asyncio.Transport, transport)
        # A high mark of 0 would make asyncio's TLS transport pause for ever; with 1 any unsent byte pauses.
        self._transport.set_write_buffer_limits(high=1, low=0)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address, self.peer = peer_name(self.client or transport.get_extra_info("peername"))
        self._heard = self._now()
        self._ticket = self._port.enter(self, self.address, self.admitted)
        self.opened()

    def known_as(self, address: str | None) -> None:
        """A trusted proxy has said who the client is: count it by that address, and call it so."""
        self._ticket.release()
        self.address, self.peer = peer_name((address, 0))
        self._ticket = self._port.enter(self, address)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client: any byte is a sign of life."""
        self._heard = self._now()
        self._traffic.received += len(data)
        if self._closing:
            self._late_bytes += len(data)
            if self._late_bytes > LATE_BYTES_MAX:
                self.cut(NOT_CLOSED_CLEANLY, "sent on after the close")
                return
        if self._rest:  # TLS may hand on what it had in hand already
            self._rest += data
        else:
            self._consume(data, 0)

    def _consume(self, data: bytes, position: int) -> None:
        self._corked = self._hold = True
        try:
            self.consume(data, position)
        except Exception:  # noqa: BLE001 - logged; a fault on one connection must not reach the others
            self._failed("received")
        self._uncork()

    def wait_turn(self, data: bytes, position: int) -> None:
        """Enough of this client's for now: the bytes from `position` on wait until the others had their turn."""
        self._rest, self._rest_at = data, position
        self._transport.pause_reading()
        self._port.reading.add(self)

    def take_turn(self) -> None:
        """Take some more of what waits."""
        data, self._rest = self._rest, b""
        if self._lost or not data:
            return
        self._consume(data, self._rest_at)
        if not self._rest and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """The client has half-closed; returning None closes the transport once the output is flushed."""
        while self._rest and not self._closing:  # a TLS transport tells of the end while it is paused
            self.take_turn()
        self._corked = self._hold = True
        try:
            self.ended()
        except Exception:  # noqa: BLE001 - logged; a fault on one connection must not reach the others
            self._failed("ended")
        self.begin_close(NOT_CLOSED_CLEANLY, "the connection ended without a close")
        self._uncork()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: tell the receiver once, forget the timers."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._stop_watching()
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._rest = b""
        self._out.clear()
        self._backlog.leave(self)
        self._ticket.release()
        self._port.leave(self)
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            if self._code is None:
                self.note(NOT_CLOSED_CLEANLY, f"the connection broke: {exc or 'reset'}")
            try:
                receiver.closed(self._code or NOT_CLOSED_CLEANLY, self._reason)
            except Exception:  # noqa: BLE001 - logged; a fault on one connection must not reach the others
                _log.exception("receiver failed", peer=self.peer, during="closed")

    def pause_writing(self) -> None:
        """The kernel takes no more: hold output back and watch that it moves."""
        self._paused = self._hold = True
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._moved = self._now()
        self._backlog.weigh(self, self.buffered_bytes)  # not limited here: the transport is in the midst of a write
        if self._stall_timer is None:
            self._stall_timer = self._timers.call_later(STALL_CHECK_SECONDS, self._check_stall)

    def resume_writing(self) -> None:
        """The kernel has taken all."""
        self._paused = False
        self._backlog.leave(self)
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        if not self._corked:
            self._uncork()

    # Output.

    def is_closing(self) -> bool:
        """Whether nothing is received or sent any more."""
        return self._closing

    @property
    def buffered_bytes(self) -> int:
        """Bytes of output that the kernel has not taken yet."""
        return 0 if self._lost else self.held_bytes + self._transport.get_write_buffer_size()

    def put(self, data: bytes) -> None:
        """Hold output back within the bounds; past them the client is cut off."""
        if not self._hold:
            self.hold_turn(data)
            return
        self._out.append(data)
        self.held_bytes += len(data)
        if self._paused:
            self._out_messages += 1
            settings, waiting = self._settings, self.buffered_bytes
            if self._out_messages > settings.output_messages_max:
                self.give_up("slow consumer: too much output waits", "unsent_messages")
            elif waiting > settings.output_bytes_max:
                self.give_up("slow consumer: too much output waits", "unsent_bytes")
            else:
                self._backlog.weigh(self, waiting)
                self._backlog.limit()
        elif self.held_bytes > CORK_BYTES_MAX:
            self._write_out()

    def give_up(self, reason: str, limit: str) -> None:
        """Cut off a client that reads too slowly: soon, since others in its room may do the same.

        `limit` is the setting that it is over.
        """
        self._port.connections.hits[limit] += 1
        self.note(CloseCode.OVERLOADED, reason)
        self._closing = True
        self._out.clear()
        self.held_bytes = 0
        self._stop_watching()
        self._backlog.leave(self)
        self._port.cutting.add(self)

    def put_shared(self, head: bytes, tail: bytes) -> None:
        """Like `put` or `hold_turn`, for a message whose tail others hold too: it is copied when it is written."""
        if not self._hold:
            self.hold_turn(head)
        else:
            self._out.append(head)
            self.held_bytes += len(head)
        if not self._closing:
            self.put(tail)

    def hold_turn(self, data: bytes) -> None:
        """Hold back the first output of a turn of the loop, and all that follows in it."""
        self._hold = True
        self._out.append(data)
        self.held_bytes += len(data)
        if not self._batched:
            self._batched = True
            self._port.flush_soon(self)

    def end_turn(self) -> None:
        """The loop's next turn has come: write what was held back for it."""
        self._batched = False
        if self.held_bytes and not (self._corked or self._paused or self._closing):  # `_uncork`, when no more is to do
            self._hold = False
            self._write_out()
        elif not self._corked:
            self._uncork()

    def put_pong(self, pong: bytes) -> None:
        """Answer a ping; while the client takes no output only the newest one (RFC 6455 section 5.5.3)."""
        if self._paused:
            self._pong = pong
        elif not self._closing:
            self.put(pong)

    def put_last(self, data: bytes) -> None:
        """Like `put`, but without bounds: the last words of a connection that is closing."""
        self._out.append(data)
        self.held_bytes += len(data)

    def _uncork(self) -> None:
        self._corked = False
        if self._paused:
            return
        self._hold = False
        if self._pong is not None:
            if not self._closing:
                self.put_last(self._pong)
            self._pong = None
        if self._out:
            self._write_out()
        if self._eof_wanted and not self._out and not self._lost:
            self._eof_wanted = False
            self._end_output()

    def _write_out(self) -> None:
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.held_bytes = self._out_messages = 0
        self._traffic.sent += len(data)
        self._transport.write(data)

    def _end_output(self) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        if transport.can_write_eof():
            # Not close(): with unread input the kernel sends a reset, which can overtake our last words.
            try:
                transport.write_eof()
            except OSError:  # reset by the client, which the transport has not noticed yet
                transport.abort()
        else:
            transport.close()

    # The end.

    def note(self, code: int, reason: str) -> None:
        """Remember what ended the connection; the first cause counts."""
        if self._code is None:
            self._code, self._reason = code, reason

    def begin_close(self, code: int, reason: str, seconds: float | None = None) -> None:
        """From now on nothing is received or sent, and the client has `seconds` to go."""
        self.note(code, reason)
        self._closing = True
        if self._life_timer is not None:
            self._life_timer.cancel()
            self._life_timer = None
        if self._close_timer is None and not self._lost:
            seconds = self._settings.close_timeout_seconds if seconds is None else seconds
            self._close_timer = self._timers.call_later(seconds, self._transport.abort)

    def cut_slow(self) -> None:
        """End the connection of a client that reads too slowly, if `give_up` did not say why already."""
        self.cut(CloseCode.OVERLOADED, "slow consumer")

    def cut(self, code: int, reason: str) -> None:
        """End the connection at once, whatever the client does; the first cause counts."""
        self.note(code, reason)
        self._closing = True
        self._eof_wanted = False
        self._pong = None
        self._out.clear()
        self.held_bytes = 0
        self._stop_watching()
        self._backlog.leave(self)
        if not self._lost:
            self._transport.abort()

    def _failed(self, during: str) -> None:
        """A fault of ours, in the receiver most likely: this connection ends, the others live."""
        _log.exception("connection failed", peer=self.peer, during=during)
        if self._receiver is None:
            self.cut(INTERNAL_ERROR, "internal error")
        else:
            self.close(INTERNAL_ERROR, "internal error")

    # Timers.

    def _stop_watching(self) -> None:
        for timer in (self._life_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._life_timer = self._stall_timer = None

    def start_life(self, seconds: float, reason: str) -> None:
        """Cut the connection off after `seconds`, unless this or `start_keepalive` is called again first."""
        if self._life_timer is not None:
            self._life_timer.cancel()
        self._life_timer = self._timers.call_later(seconds, self.cut, NOT_CLOSED_CLEANLY, reason)

    def start_keepalive(self) -> None:
        """Watch that the client lives."""
        if self._life_timer is not None:
            self._life_timer.cancel()
        self._life_timer = self._timers.call_later(self._settings.keepalive_seconds, self._check_life)

    def _check_life(self) -> None:
        # Silence counts only after a ping: when the loop itself stood still, bytes may wait unread.
        self._life_timer = None
        settings = self._settings
        now = self._now()
        if self._pinged > self._heard:
            if now >= self._pinged + settings.keepalive_timeout_seconds:
                self.cut(NOT_CLOSED_CLEANLY, "no sign of life")
                return
            wait = self._pinged + settings.keepalive_timeout_seconds - now
        elif now >= self._heard + settings.keepalive_seconds:
            self._pinged = now
            self.ping()
            wait = settings.keepalive_timeout_seconds
        else:
            wait = self._heard + settings.keepalive_seconds - now
        if not self._closing:
            self._life_timer = self._timers.call_later(wait, self._check_life)

    def _check_stall(self) -> None:
        self._stall_timer = None
        now = self._now()
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent_bytes:
            self._unsent_bytes = unsent
            self._moved = now
        if now >= self._moved + self._settings.stall_seconds:
            self._port.connections.hits["stall_seconds"] += 1
            self.cut(CloseCode.OVERLOADED, "slow consumer: took no output")
        elif not self._lost:
            self._stall_timer = self._timers.call_later(STALL_CHECK_SECONDS, self._check_stall)
            self._backlog.weigh(self, self.buffered_bytes)
            self._backlog.limit()


def peer_name(peername: object) -> tuple[str | None, str]:
    """The IP address to count by, and the name for the log, of what a transport calls its peer."""
    if isinstance(peername, tuple) and len(peername) >= 2:
        host, port = str(peername[0]), peername[1]
        return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return None, "unix"


def check_code(code: int) -> None:
    """Check that a close code may travel.

    Raises:
        ValueError: it may not.
    """
    if not (3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))):
        raise ValueError(f"close code {code} may not be sent; use one of RFC 6455 section 7.4 or 3000 to 4999")
