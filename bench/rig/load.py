"""Clients that cost as little as a client in Python can, so that the server is what is measured.

Frames are built, and for WebSocket masked, before the clock runs; what comes back is counted, not decoded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal, cast

from websockets.utils import apply_mask

from skyloom_gateway.wire import JSON, MSGPACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skyloom_gateway.wire import Codec

CONNECT_BATCH: Final = 100
FRAMES_DIFFERENT: Final = 60_000
"""Request ids that clients go through before they begin again.

Of 100 clients each then has had more than 256 others: an id among its last 256 would be answered from memory, not run.
"""

RUN_SECONDS_MAX: Final = 60.0
PART_SECONDS: Final = 0.1

_MASK: Final = b"\x01\x02\x03\x04"
_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="

Transport = Literal["websocket", "tcp"]


def framed(data: bytes, transport: Transport, *, text: bool = False) -> bytes:
    """One frame as a client puts it on the wire; `data` has at most 65,535 bytes."""
    size = len(data)
    if transport == "tcp":
        return size.to_bytes(2, "big") + data
    first = bytes([0x81 if text else 0x82])
    head = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return first + head + _MASK + apply_mask(data, _MASK)


def requests(codec: Codec, route: str, body: object) -> list[bytes]:
    """The same request under `FRAMES_DIFFERENT` ids, not framed yet."""
    encoded = codec.encode_body(body)
    return [codec.request(1_000 + number, route, encoded) for number in range(FRAMES_DIFFERENT)]


class Client(asyncio.Protocol):
    """One connection: counts the frames it gets, and tells `on_frames` how many came at once."""

    def __init__(self, transport: Transport) -> None:
        self._tcp = transport == "tcp"
        self._rest = b""
        self._upgraded = self._tcp
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_frames: Callable[[Client, int], object] = _ignore
        self.last = b""
        self.write: Callable[[bytes], object] = _not_connected
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self.write = self.transport.write
        if self._tcp:
            self.ready.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("the server closed the connection"))
        self.on_frames(self, 0)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if b" 101 " not in head:
                raise ConnectionError(head.decode(errors="replace"))
            self._upgraded = True
            self.ready.set_result(None)
        count = at = begin = 0
        size = len(data)
        while at + 2 <= size:
            if self._tcp:
                begin, length = at + 2, data[at] << 8 | data[at + 1]
            elif (length := data[at + 1]) < 126:
                begin = at + 2
            elif length == 126 and at + 4 <= size:
                begin, length = at + 4, data[at + 2] << 8 | data[at + 3]
            else:
                break
            if begin + length > size:
                break
            at = begin + length
            count += 1
        self._rest = data[at:]
        if count:
            self.last = data[begin:at] if at > begin else b""
            self.on_frames(self, count)


def _ignore(client: Client, count: int) -> None:
    pass


def _not_connected(data: bytes) -> None:
    raise ConnectionError("not connected")


async def connect(
    port: int, count: int, transport: Transport = "websocket", codec: Codec | None = None
) -> list[Client]:
    """Open connections. With a codec they say hello and are welcomed; without, the server is a bare one."""
    clients: list[Client] = []
    while len(clients) < count:
        numbers = range(len(clients), min(count, len(clients) + CONNECT_BATCH))
        clients += await asyncio.gather(*(_connect(port, number, transport, codec) for number in numbers))
    return clients


async def _connect(port: int, number: int, transport: Transport, codec: Codec | None) -> Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(transport), "127.0.0.1", port)
    if transport == "websocket":
        offered = f"Sec-WebSocket-Protocol: {codec.subprotocol}\r\n" if codec else ""
        client.write(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n".encode()
        )
    await client.ready
    if codec is not None:
        hello = codec.hello({"auth": {"scheme": "guest", "name": f"guest{number}"}})
        await ask(client, hello, transport, codec)
    return client


async def ask(client: Client, frame: bytes, transport: Transport, codec: Codec) -> bytes:
    """Send one frame and return the next one that comes."""
    came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    client.on_frames = lambda _, count: None if came.done() else came.set_result(None)
    client.write(framed(frame, transport, text=codec.text))
    async with asyncio.timeout(RUN_SECONDS_MAX):
        await came
    client.on_frames = _ignore
    if is_error(client.last, codec):
        raise RuntimeError(f"the server answered {client.last[:300]!r}")
    return client.last


async def part(clients: list[Client]) -> None:
    """Cut connections, and see to it that the kernel knows before this returns."""
    for client in clients:
        client.on_frames = _ignore
        if client.transport is not None:
            client.transport.abort()
    await asyncio.sleep(PART_SECONDS)


def is_error(frame: bytes, codec: Codec) -> bool:
    """Whether a frame from the server is an error frame."""
    return frame.startswith(b'{"type":"error"') if codec.text else frame[1:2] == b"\x04"


async def request_all(clients: list[Client], frames: Iterator[bytes], count: int) -> None:
    """Send `count` requests over all clients, each of them with one under way at a time, and await the answers.

    Args:
        frames: framed requests without end, each with an id that its client has not used of late.
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    to_send, to_come = count, count

    def answered(client: Client, answers: int) -> None:
        nonlocal to_send, to_come
        to_come -= answers
        if to_send > 0 and answers:
            to_send -= 1
            client.write(next(frames))
        if (to_come <= 0 or not answers) and not done.done():
            done.set_result(None)

    for client in clients:
        client.on_frames = answered
    for client in clients[:count]:
        to_send -= 1
        client.write(next(frames))
    await _within_bounds(done)
    if to_come > 0:
        raise ConnectionError("the server closed a connection during the run")


async def speak(sender: Client, others: list[Client], frames: Iterator[bytes], count: int, window: int) -> None:
    """Have one client say `count` things to all others; returns when everybody has got everything.

    At most `window` of them are under way at a time, so that no reader falls behind the server's bounds.
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sent = answered = delivered = 0
    expected = count * len(others)

    def pump() -> None:
        nonlocal sent
        # The slowest reader may be behind the mean by some, which the window leaves room for.
        while sent < count and sent - min(answered, delivered // len(others)) < window:
            sender.write(next(frames))
            sent += 1
        if answered >= count and delivered >= expected and not done.done():
            done.set_result(None)

    def got_answer(client: Client, answers: int) -> None:
        nonlocal answered
        answered += answers or count
        pump()

    def got_push(client: Client, pushes: int) -> None:
        nonlocal delivered
        delivered += pushes or expected
        if delivered % len(others) < pushes or delivered >= expected:
            pump()

    sender.on_frames = got_answer
    for client in others:
        client.on_frames = got_push
    pump()
    await _within_bounds(done)
    if delivered != expected or answered != count:
        raise RuntimeError(f"{delivered} of {expected} pushes and {answered} of {count} answers arrived")


async def _within_bounds(done: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()

    def stay_awake() -> None:
        # To send to a process that sleeps costs the sender its waking, 20 us on some virtual machines; a client's
        # sleep must not count as the server's work. A callback that is always due keeps the loop from sleeping.
        if not done.done():
            loop.call_soon(stay_awake)

    stay_awake()
    async with asyncio.timeout(RUN_SECONDS_MAX):
        await done


CODECS: Final[dict[str, Codec]] = {"json": JSON, "msgpack": MSGPACK}
