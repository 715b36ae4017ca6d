"""The TCP listener: a 2-byte big-endian length before each msgpack frame, skynet's framing."""

from __future__ import annotations

from typing import ClassVar

from skyloom_gateway.listener.link import LinkKind
from skyloom_gateway.listener.port import Port
from skyloom_gateway.listener.proxy_header import LINE_START, SIGNATURE
from skyloom_gateway.listener.stream import FRAMES_AT_ONCE, SHARED_BYTES_MIN, Stream, check_code
from skyloom_gateway.wire import MSGPACK, CloseCode, Codec, ErrorKind, WireError, close_error

LENGTH_BYTES = 2
FRAME_BYTES_MAX = 65_535
# As a frame's length and begin, neither is one that a client could mean: no msgpack array begins so.
_PROXY_STARTS = (LINE_START, SIGNATURE)
_LENGTHS = tuple(length.to_bytes(LENGTH_BYTES, "big") for length in range(256))


class TcpListener(Port):
    """Listens for TCP clients; see `Port` for the arguments."""

    def connect(self) -> TcpConnection:
        """A new connection's protocol, for the transport to drive."""
        return TcpConnection(self)


class TcpConnection(Stream):
    """One TCP client: a link from the first moment, since there is no handshake to wait for."""

    __slots__ = ("_frame_bytes_max", "_needed", "_partial", "codec")

    kind: ClassVar[LinkKind] = "tcp"

    def __init__(self, listener: Port) -> None:
        super().__init__(listener)
        self.codec: Codec = MSGPACK
        self._frame_bytes_max = min(listener.settings.frame_bytes_max, FRAME_BYTES_MAX)
        self._partial: bytearray | None = None
        self._needed = 0

    # Link.

    def send(self, frame: bytes, tail: bytes = b"") -> None:
        """`Link.send`. A frame too long for the protocol is a fault of the server's and ends the link."""
        if self._closing:
            return
        length = len(frame) + len(tail)
        if length > FRAME_BYTES_MAX:
            self.close(CloseCode.TOO_BIG, f"an answer of {length} bytes does not fit a frame of {FRAME_BYTES_MAX}")
            return
        header = _LENGTHS[length] if length < 256 else length.to_bytes(LENGTH_BYTES, "big")
        if len(tail) > SHARED_BYTES_MIN:
            self.put_shared(header + frame, tail)
        elif self._hold:
            self.put(b"%b%b%b" % (header, frame, tail))
        else:
            self.hold_turn(b"%b%b%b" % (header, frame, tail))

    def close(self, code: int, reason: str, frame: bytes | None = None) -> None:
        """`Link.close`: an error frame that says why, then the end of the stream."""
        check_code(code)
        if self.is_closing():
            return
        last = self._last_words(code, reason) if frame is None else frame
        if last is not None:
            self.send(last)
            if self._closing:  # the last frame was one too many
                return
        self.begin_close(code, reason)
        self._eof_wanted = True
        if not self._corked:
            self._uncork()

    def _last_words(self, code: int, reason: str) -> bytes | None:
        known = code in CloseCode.__members__.values()
        error = (
            close_error(CloseCode(code), reason)
            if known
            else WireError("gateway.closed", ErrorKind.INTERNAL, reason, details={"close_code": code})
        )
        return None if error is None else self.codec.error(0, error)

    # Stream.

    def opened(self) -> None:
        """Hand the link to the gate, or say why not."""
        if self._closing:
            return
        refusal = self._ticket.refusal
        if refusal is not None:
            self.close(CloseCode.OVERLOADED, refusal.value)
            return
        self._corked = self._hold = True
        try:
            self._receiver = self._port.acceptor(self)
        except Exception:  # noqa: BLE001 - logged; a fault on one connection must not reach the others
            self._failed("accepted")
        self.start_keepalive()
        self._uncork()

    def consume(self, data: bytes, position: int) -> None:
        """Cut the bytes into frames."""
        receiver = self._receiver
        if self.is_closing() or receiver is None:
            return
        partial = self._partial
        if partial is not None:
            partial += data
            if len(partial) < self._needed:
                return
            data = bytes(partial)
            self._partial = None
        received = receiver.received
        end, needed, frames_left = len(data), LENGTH_BYTES, FRAMES_AT_ONCE
        while end - position >= LENGTH_BYTES:
            if not frames_left:
                self.wait_turn(data, position)
                return
            frames_left -= 1
            length = (data[position] << 8) | data[position + 1]
            if length > self._frame_bytes_max:
                self.close(CloseCode.TOO_BIG, f"frame of {length} bytes; the limit is {self._frame_bytes_max}")
                return
            stop = position + LENGTH_BYTES + length
            if stop > end:
                if data.startswith(_PROXY_STARTS, position):
                    self.close(CloseCode.MALFORMED, "a PROXY header, which is taken from trusted proxies only")
                    return
                needed = stop - position
                break
            received(data[position + LENGTH_BYTES : stop])
            if self._closing:
                return
            position, needed = stop, LENGTH_BYTES
        if position < end:
            self._partial = bytearray(data[position:])
            self._needed = needed

    def ended(self) -> None:
        """A stream that ends between two frames is no goodbye: so it does when the client's process dies."""
        if self._partial is None:
            self.note(CloseCode.GOING_AWAY, "the client closed")

    def ping(self) -> None:
        """Send the protocol's own ping."""
        self.send(self.codec.ping())
