"""The WebSocket listener: `websockets`' sans-I/O ServerProtocol in an asyncio protocol, with a fast path.

The library decides what is right: a connection feeds it the bytes (`_feed`) and takes events and bytes from it.
With the fast path on, frames are told apart here by their headers: a complete, unfragmented data frame of the
link's own opcode is unmasked on the spot, every other complete frame goes to the library by itself, and an
incomplete one waits here; so the library is between two frames whenever bytes are looked at. (That its buffer
is empty would not say so: it may have taken a header already.) The first header that is not plainly valid hands
the connection to the library for good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar

from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from skyloom_gateway.listener.connections import Connections, Refusal
from skyloom_gateway.listener.frames import (
    BAD,
    BINARY_FRAME,
    SHORT_HEADERS,
    TEXT_FRAME,
    apply_mask,
    client_frame_bytes,
    clip,
    close_frame,
    server_header,
)
from skyloom_gateway.listener.handshake import (
    answer,
    bad_request,
    codec_of,
    head_too_long,
    select_subprotocol,
)
from skyloom_gateway.listener.link import Acceptor, LinkKind, Receiver, Timers
from skyloom_gateway.listener.pages import Pages
from skyloom_gateway.listener.port import Port
from skyloom_gateway.listener.settings import ListenerSettings
from skyloom_gateway.listener.stream import FRAMES_AT_ONCE, NOT_CLOSED_CLEANLY, SHARED_BYTES_MIN, Stream, check_code
from skyloom_gateway.wire import JSON, CloseCode, Codec

FEED_BYTES = 4096  # a slice this small holds at most 682 pings, so a flood is noticed before it has cost much
CONTROL_WINDOW_SECONDS = 1.0

_OPEN = State.OPEN
_PONG_BYTE = 0x80 | Opcode.PONG
_HEAD_END = b"\r\n\r\n"
_HEADER_BYTES = {0xFE: 8, 0xFF: 14}  # by a masked frame's second byte; all others have 6

# The library logs frames at DEBUG, and frames hold credentials.
_library_log = logging.getLogger("skyloom.listener.websockets")
_library_log.setLevel(logging.WARNING)


class WebSocketListener(Port):
    """Listens for WebSocket clients at `settings.path`, and serves pages at all others.

    Args:
        acceptor: called with each new link; answers with its receiver.
        pages: what is served over plain HTTP.
        settings: address and limits.
        timers: the clock; the running loop's when None.
        connections: the count of connections; give two listeners the same one to bound their sum.
        fast_path: False leaves every frame to the library; both ways behave the same.
    """

    def __init__(
        self,
        acceptor: Acceptor,
        pages: Pages,
        settings: ListenerSettings,
        timers: Timers | None = None,
        connections: Connections | None = None,
        *,
        fast_path: bool = True,
    ) -> None:
        super().__init__(acceptor, settings, timers, connections)
        self.pages = pages
        self.fast_path = fast_path

    def connect(self) -> WebSocketConnection:
        """A new connection's protocol, for the transport to drive."""
        return WebSocketConnection(self)

    def answer(self, protocol: ServerProtocol, request: Request, refusal: Refusal | None) -> Response:
        """The HTTP answer to a request; its status is 101 when the connection becomes a link."""
        return answer(
            protocol,
            request,
            settings=self.settings,
            pages=self.pages,
            refusal=refusal,
            on_loopback=self.is_loopback,
        )


class WebSocketConnection(Stream):
    """One connection on the WebSocket port: an HTTP request, then a link or a page."""

    __slots__ = (
        "_control_count",
        "_control_since",
        "_fast",
        "_fragments",
        "_frame_bytes_max",
        "_head_bytes",
        "_head_tail",
        "_headers",
        "_listener",
        "_needed",
        "_partial",
        "_plain",
        "_protocol",
        "_received",
        "codec",
    )

    kind: ClassVar[LinkKind] = "websocket"

    def __init__(self, listener: WebSocketListener) -> None:
        super().__init__(listener)
        self._listener = listener
        # Made with the first byte: a silent connection stays small.
        self._protocol: ServerProtocol | None = None
        self._received: Callable[[bytes], None] | None = None
        self._head_bytes = 0
        self._head_tail = b""
        self._fast = listener.fast_path
        self._frame_bytes_max = listener.settings.frame_bytes_max
        self._partial: bytearray | None = None
        self._needed = 0
        self._fragments: list[bytes] = []
        self._control_count = 0
        self._control_since = 0.0
        self._set_codec(JSON)

    def _set_codec(self, codec: Codec) -> None:
        self.codec: Codec = codec
        self._plain = TEXT_FRAME if codec.text else BINARY_FRAME
        self._headers = SHORT_HEADERS[self._plain]

    # Link.

    def send(self, frame: bytes, tail: bytes = b"") -> None:
        """`Link.send`, framed by hand: a server's data frame is 2 to 10 bytes of header and the data."""
        if self._closing:
            return
        length = len(frame) + len(tail)
        header = self._headers[length] if length < 126 else server_header(self._plain, length)
        if len(tail) > SHARED_BYTES_MIN:
            self.put_shared(header + frame, tail)
        elif self._hold:
            self.put(b"%b%b%b" % (header, frame, tail))
        else:
            self.hold_turn(b"%b%b%b" % (header, frame, tail))

    def close(self, code: int, reason: str, frame: bytes | None = None) -> None:
        """`Link.close`, with the close handshake of RFC 6455 section 7."""
        check_code(code)
        protocol = self._protocol
        if self.is_closing():
            return
        if protocol is None or self._received is None:  # no link yet: the client has not finished its request
            self.cut(code, reason)
            return
        if frame is not None:
            self.send(frame)
            if self._closing:  # the last frame was one too many
                return
        self.begin_close(code, reason)
        if protocol.state is _OPEN:
            # The library parses on until the client's close comes; a flood is not worth that, and is discarded.
            (protocol.fail if code == CloseCode.RATE else protocol.send_close)(code, clip(reason))
            self._take_writes(protocol)
        else:
            # The library has read on to the client's close, or an error, and answered; but this came first.
            writes = protocol.data_to_send()
            self.put_last(close_frame(code, clip(reason)))
            self._eof_wanted = SEND_EOF in writes
        if not self._corked:
            self._uncork()

    # Stream.

    def opened(self) -> None:
        """A client has `open_timeout_seconds` to say what it wants."""
        self.start_life(self._settings.open_timeout_seconds, "no HTTP request in time")

    def consume(self, data: bytes, position: int) -> None:
        """Bytes to the handshake, the fast path or the library."""
        protocol = self._protocol
        if self._received is None or protocol is None:
            if not self._closing:
                self._open(data)
        elif self._fast and not self._closing:
            self._scan(protocol, data, position)
        else:
            self._feed(protocol, data[position:])

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; so is all of this, without a garbage collection, which everybody would wait for."""
        super().connection_lost(exc)
        self._received = None
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            vars(protocol).clear()  # by its parser, its chosen method and its errors' tracebacks it holds itself

    def ended(self) -> None:
        """Let the library judge an end without a close frame."""
        protocol = self._protocol
        if protocol is not None:
            protocol.receive_eof()
            self._take_writes(protocol)

    def ping(self) -> None:
        """Send a ping frame."""
        if self._protocol is not None and self._protocol.state is _OPEN:
            self._protocol.send_ping(b"")
            for data in self._protocol.data_to_send():
                self.put(data)

    # The handshake.

    def _open(self, data: bytes) -> None:
        """Feed the library the request's head and no more: it would answer frames before the request."""
        protocol = self._protocol
        if protocol is None:
            protocol = self._protocol = ServerProtocol(
                select_subprotocol=select_subprotocol, max_size=self._frame_bytes_max, logger=_library_log
            )
        seen = self._head_tail + data
        end = seen.find(_HEAD_END)
        head = data if end < 0 else data[: end + len(_HEAD_END) - len(self._head_tail)]
        self._head_tail = seen[-(len(_HEAD_END) - 1) :]
        self._head_bytes += len(head)
        bytes_max = self._settings.handshake_bytes_max
        if self._head_bytes > bytes_max:
            self._respond(protocol, head_too_long(bytes_max))
            return
        protocol.receive_data(head)
        events = protocol.events_received()
        if events and isinstance(request := events[0], Request):
            self._answer(protocol, request)
            rest = data[len(head) :]
            if rest and self._received is not None:
                self.consume(rest, 0)
        elif protocol.eof_sent or end >= 0:
            writes = protocol.data_to_send()
            if writes and writes[0] != SEND_EOF:  # the library has an answer of its own, such as 414 and 431
                self.put_last(writes[0])
            else:
                self.put_last(bad_request().serialize())
            self._eof_wanted = True
            self.begin_close(NOT_CLOSED_CLEANLY, "no valid HTTP request")

    def _answer(self, protocol: ServerProtocol, request: Request) -> None:
        listener = self._listener
        proxies = listener.proxies
        client = proxies.client(self.address, request.headers.get_all(proxies.header))
        if client != self.address:
            self.known_as(client)
        response = listener.answer(protocol, request, self._ticket.refusal)
        self._respond(protocol, response)
        if response.status_code != 101:
            return
        self._head_tail = b""
        self._set_codec(codec_of(protocol.subprotocol))
        # Set before the acceptor is called, which may already send or close.
        self._received = _ignore
        self.start_keepalive()
        receiver: Receiver = listener.acceptor(self)
        self._receiver = receiver
        self._received = receiver.received

    def _respond(self, protocol: ServerProtocol, response: Response) -> None:
        protocol.send_response(response)
        self._take_writes(protocol)
        if response.status_code != 101:
            self.begin_close(1000, f"answered {response.status_code}", self._settings.page_timeout_seconds)

    # The fast path.

    def _scan(self, protocol: ServerProtocol, data: bytes, position: int) -> None:
        partial = self._partial
        if partial is not None:
            partial += data
            if len(partial) < self._needed:
                return
            data = bytes(partial)
            self._partial = None
        received = self._received
        assert received is not None
        plain, is_text, bytes_max = self._plain, self.codec.text, self._frame_bytes_max
        end, frames_left = len(data), FRAMES_AT_ONCE
        while position < end and not self._closing:
            if not frames_left:
                self.wait_turn(data, position)
                return
            frames_left -= 1
            # The first branch is what client_frame_bytes would say of a short data frame, without the call.
            is_plain = data[position] == plain and protocol.current_size is None
            start = position + 6
            if is_plain and start <= end and 0x80 <= (second := data[position + 1]) < 0xFE:
                stop = start + second - 0x80
            else:
                size = client_frame_bytes(data, position, bytes_max - (protocol.current_size or 0))
                if size == BAD:
                    break
                stop = position + size
                start = stop if stop > end else position + _HEADER_BYTES.get(data[position + 1], 6)
            if stop > end:
                self._partial = bytearray(data[position:])
                self._needed = stop - position
                return
            if not is_plain:
                self._feed(protocol, data[position:stop])
            else:
                payload = apply_mask(data[start:stop], data[start - 4 : start])
                if not is_text or payload.isascii() or self._is_utf8(payload):
                    received(payload)
            position = stop
        if position < end:
            # A bad header, or the link closes: from here on only the library can be right.
            self._fast = False
            self._feed(protocol, data[position:])

    # The library's way.

    def _feed(self, protocol: ServerProtocol, data: bytes) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:  # the link closed while a frame was incomplete
            data = bytes(partial) + data
        for position in range(0, len(data), FEED_BYTES):
            protocol.receive_data(data[position : position + FEED_BYTES])
            for event in protocol.events_received():
                if isinstance(event, Frame) and not self._closing:
                    self._frame(event)
            if protocol.parser_exc is not None and not self._closing and (sent := protocol.close_sent) is not None:
                self.begin_close(int(sent.code), sent.reason)
            self._take_writes(protocol)
            if self._lost or self._transport.is_closing():
                return

    def _frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.CLOSE:
            close = Close.parse(frame.data)
            self.begin_close(int(close.code), close.reason)
        elif opcode is Opcode.PING:
            self._count_control()
            self.put_pong(bytes((_PONG_BYTE, len(frame.data))) + frame.data)
        elif opcode is Opcode.PONG:
            self._count_control()
        else:
            self._data(frame)

    def _data(self, frame: Frame) -> None:
        fragments = self._fragments
        if frame.opcode is not Opcode.CONT and (0x80 | frame.opcode) != self._plain:
            wanted = "text" if self.codec.text else "binary"
            self.close(CloseCode.MALFORMED, f"{self.codec.subprotocol} takes {wanted} messages only")
            return
        message = bytes(frame.data)
        if not frame.fin or fragments:
            fragments.append(message)
            if len(fragments) > self._settings.fragments_max:
                self.close(CloseCode.TOO_BIG, "message of too many fragments")
                return
            if not frame.fin:
                return
            message = b"".join(fragments)
            fragments.clear()
        if not self.codec.text or message.isascii() or self._is_utf8(message):
            assert self._received is not None
            self._received(message)

    def _is_utf8(self, message: bytes) -> bool:
        """Whether a text message is UTF-8; closes the link when not (RFC 6455 section 8.1)."""
        try:
            message.decode()
        except UnicodeDecodeError as exc:
            self.close(CloseCode.INVALID_TEXT, f"{exc.reason} at position {exc.start}")
            return False
        return True

    def _count_control(self) -> None:
        if self._heard >= self._control_since + CONTROL_WINDOW_SECONDS:
            self._control_since = self._heard
            self._control_count = 0
        self._control_count += 1
        if self._control_count > self._settings.control_frames_per_second_max:
            self.close(CloseCode.RATE, "too many pings")

    def _take_writes(self, protocol: ServerProtocol) -> None:
        for data in protocol.data_to_send():
            if data == SEND_EOF:
                self._eof_wanted = True
            elif data[0] != _PONG_BYTE:  # pongs are sent in their place among the messages, by `_frame`
                self.put_last(data)


def _ignore(_: bytes) -> None:
    """Stands in for a receiver while the acceptor makes it."""
