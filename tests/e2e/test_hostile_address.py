"""One address against the rest: what it does together is bounded, and it is told why. All are this machine's."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from skyloom_gateway.wire.frame import ErrorFrame
from tests.e2e.game import Game
from tests.e2e.test_hostile import GROWTH_BYTES_MAX, witness
from tests.gateway.listener.fakes import upgrade
from tests.gateway.sockets import BROKEN, KINDS, Wire

ATTACKER, STORMER, FLOODER, HONEST = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
SETTINGS = {
    "loopback_exempt": "false",
    "connections_per_address": 30,
    "connects_per_second_per_address": 20,
    "connects_burst_per_address": 100,
    "messages_per_second_per_address": 50,
    "messages_burst_per_address": 100,
    "denials_per_minute_per_address": 20,
}
REPEATS = 50
"""Lines of one event in a second, by the log's default."""


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    options = [part for name, value in SETTINGS.items() for part in ("--set", f"gateway.{name}={value}")]
    with Game(Path(tmp_path_factory.mktemp("address")) / "log", *options) as game:
        yield game
        assert game.stop() == 0
        assert "Traceback" not in game.log


@pytest.fixture
async def flat(game: Game) -> AsyncIterator[None]:
    """A client of another address is answered all the time, and the gateway's memory does not grow."""
    async with await Wire.guest("tcp", game.ports, "honest", source=HONEST) as honest, witness(honest):
        before = game.resident_bytes(peak=False)
        yield
        assert game.resident_bytes(peak=True) - before < GROWTH_BYTES_MAX


@pytest.mark.usefixtures("flat")
async def test_a_flood_of_connections(game: Game) -> None:
    """Every kind of answer is an end, but for those within the limit."""

    async def knock() -> str:
        sock = socket.socket()
        sock.bind((ATTACKER, 0))
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", game.ports[0]))
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            writer.write(upgrade())
            head = await reader.readuntil(b"\r\n\r\n")
            return head.split()[1].decode()
        except (ConnectionError, asyncio.IncompleteReadError):
            return "closed"
        finally:
            kept.append(writer)

    kept: list[asyncio.StreamWriter] = []
    async with asyncio.timeout(20):
        found = Counter(await asyncio.gather(*(knock() for _ in range(200))))
    for writer in kept:
        writer.transport.abort()
    assert found["101"] == 30
    assert found["429"] >= 30  # told why
    assert found.keys() <= {"101", "429", "closed"}


@pytest.mark.usefixtures("flat")
async def test_a_flood_of_requests_from_many_clients(game: Game) -> None:
    crowd = [await Wire.guest(KINDS[n % 3], game.ports, f"flood{n}", source=FLOODER) for n in range(10)]
    for wire in crowd:
        body = wire.codec.encode_body({})
        wire.send(*(wire.codec.request(id, "echo.nothing", body) for id in range(1, 61)))  # each within its own limit
    told: Counter[str] = Counter()
    for wire in crowd:
        for _ in range(60):
            found = await wire.read()
            if found is None:
                break
            told[found.error.code if isinstance(found, ErrorFrame) else "answered"] += 1
        await wire.close()
    assert told.keys() == {"answered", "gateway.rate_limited"}
    assert told["answered"] <= 100 + 50 * 5  # the burst, and what comes back within five seconds
    assert told["gateway.rate_limited"] >= 200


@pytest.mark.usefixtures("flat")
async def test_a_login_storm(game: Game) -> None:
    async def log_in(number: int) -> tuple[str, int]:
        wire = await Wire.open(KINDS[number % 2], game.ports, source=STORMER)
        wire.send(wire.codec.hello({"auth": {"scheme": "ticket", "ticket": "forged"}}))
        found = await wire.read()
        assert isinstance(found, ErrorFrame)
        code = await wire.end()
        await wire.close()
        return found.error.code, code

    told = Counter([await log_in(number) for number in range(40)])
    assert {code for code, _ in told} == {"gateway.unauthenticated", "gateway.too_many_denials"}
    assert {close for _, close in told} <= {4401, 4429, BROKEN}
    assert 20 <= sum(count for (code, _), count in told.items() if code == "gateway.unauthenticated") <= 25


async def test_what_clients_say_does_not_forge_the_log(game: Game) -> None:
    forged = '\n{"timestamp":"2026-01-01T00:00:00.000Z","level":"critical","event":"forged"}\n\x1b[31mred\u202e'
    for kind in KINDS:
        wire = await Wire.open(kind, game.ports, source=HONEST)
        wire.send(wire.codec.hello({"auth": {"scheme": forged, "name": forged}, "client": {"name": forged}}))
        await wire.end()
        await wire.close()
        async with await Wire.guest(kind, game.ports, "honest", source=HONEST) as wire:
            wire.send(wire.codec.request(1, "echo.fail", wire.codec.encode_body({"text": forged})))
            assert isinstance(await wire.read(), ErrorFrame)
            wire.send(wire.codec.encode_body({"type": "request", "id": 1, "route": forged}))
            await wire.end()
    async with await Wire.guest("websocket-json", game.ports, "honest", source=HONEST) as wire:
        await wire.ask("echo.nothing")
    reader, writer = await asyncio.open_connection("127.0.0.1", game.ports[0], local_addr=(HONEST, 0))
    writer.write(b"GET /\r\nforged HTTP/1.1\r\nUser-Agent: \x1b[31m\r\n\r\n")
    await reader.read()
    writer.close()
    lines = [json.loads(line) for line in game.log.splitlines()]
    assert lines
    assert "forged" not in {line["event"] for line in lines}
    assert "\x1b" not in game.log
    assert "\u202e" not in game.log


async def test_a_flood_of_log_lines_is_counted_and_not_written(game: Game) -> None:
    """Of 400 clients that come and go as fast as they can, a second's lines are written, and the rest is a number."""
    before = len(game.log.splitlines())
    addresses = [f"127.0.1.{n}" for n in range(1, 21)]
    for n in range(400):
        wire = await Wire.guest("tcp", game.ports, "log", source=addresses[n % 20])
        await wire.close()
    async with asyncio.timeout(10):
        while True:
            async with await Wire.guest(
                "tcp", game.ports, "log", source=HONEST
            ):  # an event, after which counts are told
                await asyncio.sleep(0.3)
            lines = [json.loads(line) for line in game.log.splitlines()[before:]]
            written = Counter(line["event"] for line in lines)
            left_out = sum(line["lines"] for line in lines if line.get("repeated") == "session opened")
            if written["session opened"] + left_out > 400:
                break
    assert left_out > 0
    by_second = Counter(line["timestamp"][:19] for line in lines if line["event"] == "session opened")
    assert max(by_second.values()) <= 2 * REPEATS  # two windows may touch a second of the clock
