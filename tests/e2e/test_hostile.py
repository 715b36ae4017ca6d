"""Clients that mean harm, against a gateway of its own process: the others are served, and its memory stays flat."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack
import pytest

from skyloom_gateway.wire import MSGPACK
from skyloom_gateway.wire.frame import ErrorFrame, Response
from tests.e2e.game import Game
from tests.gateway.listener.fakes import BINARY, CLOSE, CONT, PING, TEXT, frame, upgrade
from tests.gateway.sockets import BROKEN, KINDS, Wire
from tests.gateway.wire.test_malformed import JSON_CASES, MSGPACK_CASES

MEBIBYTE = 1024 * 1024
GROWTH_BYTES_MAX = 24 * MEBIBYTE
"""What the gateway's memory may grow by in any of these tests, at the worst moment."""

ANSWER_SECONDS_MAX = 3.0
"""How long another client may wait for its echo meanwhile, on a machine that has other things to do."""

TIMEOUT_SECONDS = 1.5
"""Of handshake and hello in the gateway under test."""


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    values = [f"gateway.{name}_timeout_seconds={TIMEOUT_SECONDS}" for name in ("open", "hello")]
    values += ["gateway.connects_per_second=100000", "gateway.connects_burst=100000"]  # the tests are in a hurry
    options = [part for value in values for part in ("--set", value)]
    with Game(Path(tmp_path_factory.mktemp("hostile")) / "log", *options) as game:
        yield game
        assert game.stop() == 0
        assert "Traceback" not in game.log
        assert "connection failed" not in game.log


@pytest.fixture
async def flat(game: Game) -> AsyncIterator[None]:
    """An honest client is answered all the time, and the gateway's memory does not grow."""
    async with await Wire.guest("tcp", game.ports, "honest") as honest, witness(honest):
        before = game.resident_bytes(peak=False)
        yield
        grown = game.resident_bytes(peak=True) - before
        assert grown < GROWTH_BYTES_MAX, f"grown by {grown / MEBIBYTE:.1f} MiB"


@asynccontextmanager
async def witness(honest: Wire) -> AsyncIterator[None]:
    waits: list[float] = []
    answered = asyncio.Event()

    async def echo() -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            assert await honest.ask("echo.say", text=str(len(waits))) == {"text": str(len(waits))}
            waits.append(loop.time() - asked)
            answered.set()
            await asyncio.sleep(0.03)

    task = asyncio.create_task(echo())
    yield
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        await answered.wait()
    if task.done():
        task.result()
    task.cancel()
    await asyncio.wait([task])
    assert max(waits) < ANSWER_SECONDS_MAX


async def closed_by(wire: Wire, *frames: bytes) -> int:
    wire.writer.write(b"".join(frames))
    code = await wire.end()
    await wire.close()
    return code


def packed(case: bytes | list[object]) -> bytes:
    data: bytes = case if isinstance(case, bytes) else msgpack.packb(case)
    return data


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("kind", KINDS)
async def test_malformed_frames(game: Game, kind: str) -> None:
    cases = JSON_CASES if kind == "websocket-json" else MSGPACK_CASES
    assert len(cases) >= 20

    async def one(case: bytes | list[object], *, greeted: bool) -> tuple[object, int]:
        wire = await (Wire.guest if greeted else Wire.open)(kind, game.ports)
        return case, await closed_by(wire, wire.wrap(packed(case)))

    for greeted in (True, False):
        found = await asyncio.gather(*(one(case, greeted=greeted) for case, _ in cases))  # type: ignore[arg-type]  # see packed
        # Before the hello a long frame is too long, whatever it holds.
        assert {code for case, code in found if len(packed(case)) < 4096} == {4400}  # type: ignore[arg-type]  # see packed
        assert {code for case, code in found} <= {4400, 1009}


@pytest.mark.usefixtures("flat")
async def test_malformed_websocket_frames(game: Game) -> None:
    ping = b'{"type":"ping"}'
    cases = {
        "not masked": (frame(TEXT, ping, masked=False), 1002),
        "reserved bit": (frame(TEXT, ping, rsv=0x40), 1002),
        "reserved opcode": (frame(3, ping), 1002),
        "reserved control": (frame(11, b""), 1002),
        "long ping": (frame(PING, b"x" * 126), 1002),
        "ping in parts": (frame(PING, b"", fin=False), 1002),
        "nothing to go on with": (frame(CONT, b"x"), 1002),
        "text within text": (frame(TEXT, b"x", fin=False) + frame(TEXT, ping), 1002),
        "binary": (frame(BINARY, ping), 4400),
        "close with one byte": (frame(CLOSE, b"\x03"), 1002),
        "close with a code that may not travel": (frame(CLOSE, struct.pack("!H", 1005)), 1002),
        "close that is not UTF-8": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        "not UTF-8": (frame(TEXT, b"\xff"), 1007),
        "UTF-8 cut short": (frame(TEXT, b'{"type":"\xc3"}'), 1007),
        "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
        "too long": (frame(TEXT, b" " * 65_537), 1009),
        "claims 2**62 bytes": (b"\x81\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0", 1009),
        "claims 2**64 bytes": (b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0", 1002),
        "too long in parts": (frame(TEXT, b" " * 60_000, fin=False) + frame(CONT, b" " * 60_000), 1009),
        "no bytes": (frame(TEXT), 4400),
        "too many parts": (frame(TEXT, b" ", fin=False) + frame(CONT, b"", fin=False) * 5000, 1009),
    }
    assert len(cases) >= 20
    codes = {}
    for name, (data, _) in cases.items():
        codes[name] = await closed_by(await Wire.guest("websocket-json", game.ports), data)
    # 2**64: the most significant bit must be 0 (RFC 6455 section 5.2); either answer is right.
    codes["claims 2**64 bytes"] = 1002 if codes["claims 2**64 bytes"] in (1002, 1009) else 0
    assert codes == {name: code for name, (_, code) in cases.items()}


@pytest.mark.usefixtures("flat")
async def test_bytes_that_are_no_request(game: Game) -> None:
    for data in (
        b"\x00" * 5000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET " + b"/" * 70_000,
        b"\r\n" * 9000,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", game.ports[0])
        writer.write(data)
        async with asyncio.timeout(TIMEOUT_SECONDS + 5):
            try:
                answer = await reader.read(4096)
            except ConnectionError:
                answer = b""
        assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
        writer.close()


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("kind", KINDS)
async def test_bodies_that_blow_up(game: Game, kind: str) -> None:
    """A bomb in a body costs its sender an error, at most its connection."""
    deep = {"websocket-json": b"[" * 60_000, "tcp": b"\x91" * 60_000}
    wide = {"websocket-json": b"[" + b"[]," * 15_000 + b"[]]", "tcp": b"\xdc\x7f\xff" + b"\x90" * 32_767}
    huge = {"websocket-json": b"1" * 60_000, "tcp": b"\xc6\xff\xff\xff\xff"}
    long = {"websocket-json": b'"' + b"\\u0000" * 10_000 + b'"', "tcp": b"\xdb\x00\x00\xea\x60" + b"x" * 60_000}
    for bomb in (deep, wide, huge, long):
        body = bomb.get(kind, bomb["tcp"])
        wire = await Wire.guest(kind, game.ports)
        codec = wire.codec
        wire.send(*(codec.request(n, "echo.numbers", body) for n in range(1, 21)))
        found = await wire.read()
        assert isinstance(found, ErrorFrame)
        assert found.error.code in ("gateway.invalid_body", "gateway.malformed_frame")
        if found.id == 0:
            assert await wire.end() == 4400
        await wire.close()


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("kind", KINDS)
async def test_frames_over_the_limits(game: Game, kind: str) -> None:
    async with await Wire.open(kind, game.ports) as stranger:
        stranger.hello("x" * 5000)
        assert await stranger.end() == 1009
    if kind != "tcp":  # whose frames cannot be too long
        async with await Wire.guest(kind, game.ports) as wire:
            wire.request("echo.say", text="x" * 70_000)
            assert await wire.end() == 1009


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_requests(game: Game, kind: str) -> None:
    async with await Wire.guest(kind, game.ports, "flood") as wire:
        await wire.ask("echo.nothing")  # its agent runs
        body = wire.codec.encode_body({"text": "x"})
        wire.send(*(wire.codec.request(id, "echo.say", body) for id in range(1, 401)))
        answers = errors = 0
        while (found := await wire.read()) is not None:
            answers += isinstance(found, Response)
            if isinstance(found, ErrorFrame) and found.id:
                assert found.error.code in ("gateway.rate_limited", "gateway.too_many_requests")
                assert found.error.retryable
                errors += 1
        assert wire.close_code == 4429
        assert answers >= 1
        assert 99 <= errors <= 250


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", [range(1, 1001), [*range(1, 101)] * 10], ids=["new", "repeated"])
async def test_a_flood_that_goes_on_after_the_close(game: Game, kind: str, ids: Sequence[int]) -> None:
    async with await Wire.guest(kind, game.ports, "flood") as wire:
        body = wire.codec.encode_body({"text": "x" * 10_000})
        for start in range(0, len(ids), 100):
            wire.send(*(wire.codec.request(id, "echo.say", body) for id in ids[start : start + 100]))
        await wire.end()  # cut off: what the gateway said before may be lost with the reset


@pytest.mark.usefixtures("flat")
async def test_floods_of_pings(game: Game) -> None:
    async with await Wire.guest("websocket-json", game.ports) as wire:
        wire.writer.write(frame(PING, b"x" * 125) * 300)
        assert await wire.end() == 4429
    for kind in KINDS:
        async with await Wire.guest(kind, game.ports) as wire:
            for _ in range(10):
                wire.send(*[wire.codec.ping()] * 500)
            assert await wire.end() in (4429, BROKEN)


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("kind", ["websocket-json", "tcp"])
async def test_a_stalled_reader_under_fan_out(game: Game, kind: str) -> None:
    members = [await Wire.guest(KINDS[n % 3], game.ports, f"m{n}") for n in range(6)]
    stalled = await Wire.guest(kind, game.ports, "stalled", receive_bytes=4096)
    for wire in (*members, stalled):
        await wire.ask("echo.join")
    stalled.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, to asyncio's stubs
    said = 0
    closed = len([code for code in await closings(members[0]) if code == 1013])
    async with asyncio.timeout(10):
        while len([code for code in await closings(members[0]) if code == 1013]) == closed:
            await members[0].ask("echo.shout", text="x" * 30_000)
            said += 1
            await asyncio.gather(*(wire.ask("echo.nothing") for wire in members[1:]))
            await asyncio.sleep(0.03)
    for wire in members:
        await wire.ask("echo.nothing")
        assert [push.seq for push in wire.pushes] == list(range(1, said + 1))  # nothing lost
        await wire.close()
    stalled.writer.transport.abort()


async def closings(wire: Wire) -> list[object]:
    found = await wire.ask("echo.closings")
    assert isinstance(found, list)
    return found


@pytest.mark.ci
@pytest.mark.usefixtures("flat")
async def test_half_open_handshakes(game: Game) -> None:
    """600 clients that never finish their request, 600 that never say hello."""
    loop = asyncio.get_running_loop()
    head = upgrade()[:60]
    sockets = []
    for n in range(1200):
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", game.ports[n % 2]))
        if n % 2 == 0:
            await loop.sock_sendall(sock, head)
        sockets.append(sock)
    async with asyncio.timeout(TIMEOUT_SECONDS + 5):
        for sock in sockets:
            try:
                while await loop.sock_recv(sock, 4096):
                    pass
            except ConnectionError:
                pass
            sock.close()


@pytest.mark.ci
@pytest.mark.usefixtures("flat")
async def test_five_thousand_connects(game: Game) -> None:
    """Some hang up at once, some after half a hello, some after a whole one, some after a request."""
    hello = MSGPACK.hello({"auth": {"scheme": "guest", "name": "storm"}})
    whole = len(hello).to_bytes(2, "big") + hello
    request = MSGPACK.request(1, "echo.say", MSGPACK.encode_body({"text": "x"}))
    sent = [b"", whole[:10], whole, whole + len(request).to_bytes(2, "big") + request]

    def storm() -> None:
        for n in range(5000):
            with socket.create_connection(("127.0.0.1", game.ports[1 if n % 4 else 0]), timeout=10) as sock:
                sock.sendall(sent[n % 4])

    await asyncio.to_thread(storm)
    async with await Wire.guest("websocket-json", game.ports) as wire:
        assert await wire.ask("echo.say", text="still here") == {"text": "still here"}
