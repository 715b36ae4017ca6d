"""A transport, a clock and a receiver that tests drive by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri
from websockets.utils import apply_mask

from skyloom_gateway.listener import (
    Connections,
    Link,
    ListenerSettings,
    Pages,
    TcpListener,
    WebSocketListener,
)
from skyloom_gateway.listener.stream import Stream

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualTimers:
    """`Timers` whose time moves only by `advance`."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Handle, Callable[[], object]]] = []

    def now(self) -> float:
        return self.time

    def call_later(self, seconds: float, callback: Callable[..., object], /, *args: object) -> Handle:
        handle = Handle()
        heapq.heappush(self._heap, (self.time + seconds, next(self._order), handle, lambda: callback(*args)))
        return handle

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while self._heap and self._heap[0][0] <= end:
            due, _, handle, call = heapq.heappop(self._heap)
            if not handle.cancelled:
                self.time = max(self.time, due)
                call()
        self.time = end

    def turn(self) -> None:
        """One turn of the loop: what is due now, and not what that makes due."""
        due = [entry for entry in sorted(self._heap) if entry[0] <= self.time]
        self._heap = [entry for entry in self._heap if entry not in due]
        heapq.heapify(self._heap)
        for _, _, handle, call in due:
            if not handle.cancelled:
                call()

    @property
    def pending(self) -> int:
        return sum(not handle.cancelled for _, _, handle, _ in self._heap)


class FakeTransport(asyncio.Transport):
    """A socket whose kernel takes `room` bytes and then no more, until `take` is called."""

    def __init__(self, address: str = "127.0.0.1", *, eof: bool = True) -> None:
        super().__init__()
        self.protocol: Stream | None = None
        self.turn: Callable[[], None] = lambda: None  # the loop's next turn
        self.address = address
        self.room = 1 << 40
        self.written = bytearray()  # what the kernel took
        self.waiting = bytearray()
        self.writes = 0
        self.eof = self.aborted = self.closed = self.lost = False
        self.reading = True
        self._can_eof = eof
        self._paused = False
        self._high = 65_536

    def connect(self, protocol: Stream) -> None:
        self.protocol = protocol
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name == "peername":
            return (self.address, 5, 0, 0) if ":" in self.address else (self.address, 5)
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.eof, "write after write_eof"
        if self.aborted or self.lost:
            return
        self.writes += 1
        self.waiting += data
        self._drain()

    def take(self, room: int) -> None:
        """The client reads `room` bytes."""
        self.room += room
        self._drain()

    def _drain(self) -> None:
        taken = min(self.room, len(self.waiting))
        self.room -= taken
        self.written += self.waiting[:taken]
        del self.waiting[:taken]
        assert self.protocol is not None
        if len(self.waiting) > self._high and not self._paused:
            self._paused = True
            self.protocol.pause_writing()
        elif not self.waiting and self._paused:
            self._paused = False
            self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def can_write_eof(self) -> bool:
        return self._can_eof

    def write_eof(self) -> None:
        self.eof = True

    def is_closing(self) -> bool:
        return self.aborted or self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def lose(self, exc: Exception | None = None) -> None:
        """The loop's next turn after an abort, or a reset by the peer."""
        self.lost = True
        assert self.protocol is not None
        self.protocol.connection_lost(exc)

    def settle(self) -> None:
        if self.is_closing() and not self.lost:
            self.lose()


class Recorder:
    """A receiver that keeps what it is told."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.messages: list[bytes] = []
        self.closings: list[tuple[int, str]] = []
        self.on_message: Callable[[bytes], None] | None = None

    def received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert not self.closings, "received after closed"
        self.messages.append(data)
        if self.on_message is not None:
            self.on_message(data)

    def closed(self, code: int, reason: str) -> None:
        self.closings.append((code, reason))

    @property
    def code(self) -> int | None:
        assert len(self.closings) <= 1, "closed more than once"
        return self.closings[0][0] if self.closings else None


class Rig:
    """A listener without sockets."""

    def __init__(
        self,
        kind: str = "websocket",
        *,
        settings: ListenerSettings | None = None,
        pages: Pages | None = None,
        connections: Connections | None = None,
        fast_path: bool = True,
    ) -> None:
        self.timers = VirtualTimers()
        self.settings = settings or ListenerSettings()
        self.recorders: list[Recorder] = []
        self.connections = connections or Connections(1000, 1000, files_max=10_000)
        self.listener: TcpListener | WebSocketListener
        if kind == "tcp":
            self.listener = TcpListener(self.accept, self.settings, self.timers, self.connections)
        else:
            self.listener = WebSocketListener(
                self.accept,
                pages or Pages(),
                self.settings,
                self.timers,
                self.connections,
                fast_path=fast_path,
            )

    def accept(self, link: Link) -> Recorder:
        recorder = Recorder(link)
        self.recorders.append(recorder)
        return recorder

    def connect(self, address: str = "127.0.0.1", *, eof: bool = True) -> FakeTransport:
        transport = FakeTransport(address, eof=eof)
        transport.turn = lambda: self.timers.advance(0)
        transport.connect(self.listener.connect())
        return transport

    def feed(self, transport: FakeTransport, data: bytes) -> None:
        assert transport.protocol is not None
        transport.protocol.data_received(data)
        while not transport.reading and not transport.is_closing():  # the rest waits for its turn
            transport.turn()

    def open(self, subprotocol: str | None = "skyloom.v1.json") -> tuple[FakeTransport, Recorder, Peer]:
        """A WebSocket link after its handshake, or a TCP link."""
        transport = self.connect()
        if isinstance(self.listener, WebSocketListener):
            self.feed(transport, upgrade(subprotocol))
            assert transport.written.startswith(b"HTTP/1.1 101"), bytes(transport.written)
        return transport, self.recorders[-1], Peer(transport)


class Peer:
    """The client's side: reads what the server wrote."""

    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport
        self.client = ClientProtocol(
            parse_uri("ws://localhost/ws"),
            subprotocols=[Subprotocol("skyloom.v1.json"), Subprotocol("skyloom.v1.msgpack")],
            max_size=None,
        )
        self.client.key = KEY
        self._seen = 0
        self.client.connect()

    def frames(self) -> list[tuple[int, bytes]]:
        """WebSocket frames since the last call: (opcode, payload)."""
        self.transport.turn()
        data = bytes(self.transport.written[self._seen :])
        self._seen += len(data)
        self.client.receive_data(data)
        assert self.client.parser_exc is None
        return [(int(e.opcode), bytes(e.data)) for e in self.client.events_received() if isinstance(e, Frame)]

    def tcp_frames(self) -> list[bytes]:
        """TCP frames since the last call."""
        self.transport.turn()
        data = bytes(self.transport.written[self._seen :])
        self._seen += len(data)
        frames = []
        while data:
            length = int.from_bytes(data[:2], "big")
            frames.append(data[2 : 2 + length])
            data = data[2 + length :]
        return frames

    @property
    def close_code(self) -> int | None:
        self.frames()
        return None if self.client.close_rcvd is None else int(self.client.close_rcvd.code)


def upgrade(
    subprotocol: str | None = "skyloom.v1.json",
    path: str = "/ws",
    method: str = "GET",
    host: str = "127.0.0.1:8000",
    **headers: str,
) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True, size: int = 0
) -> bytes:
    """A client's frame; `size` 16 or 64 forces that length field."""
    first = (0x80 if fin else 0) | rsv | opcode
    flag = 0x80 if masked else 0
    length = len(payload)
    if length < 126 and not size:
        head = bytes((first, flag | length))
    elif length < 65_536 and size != 64:
        head = bytes((first, flag | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, flag | 127)) + length.to_bytes(8, "big")
    return head + (MASK + apply_mask(payload, MASK) if masked else payload)


def tcp_frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(2, "big") + payload


TEXT, BINARY, CONT = int(Opcode.TEXT), int(Opcode.BINARY), int(Opcode.CONT)
CLOSE, PING, PONG = int(Opcode.CLOSE), int(Opcode.PING), int(Opcode.PONG)
