"""The `skyloom` command, as an operator meets it."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from skyloom_gateway.wire.frame import Drain
from tests.e2e.game import ECHO, Game, skyloom
from tests.gateway.sockets import KINDS, Wire

OTHER = "tests.gateway.game:other"


@pytest.fixture
def game(tmp_path: Path) -> Iterator[Game]:
    with Game(tmp_path / "log") as game:
        yield game


def test_version() -> None:
    try:
        expected = version("skyloom")
    except PackageNotFoundError:
        pytest.skip("skyloom is not installed, only on the path")
    done = skyloom("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"skyloom {expected}\n", "")


def test_check_shows_apps_and_settings() -> None:
    done = skyloom(
        "check", ECHO, OTHER, "--port", "9", "--set", "gateway.heartbeat_seconds=7", SKYLOOM_LOG__LEVEL="error"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^app echo: \d+ routes, 1 push, 1 service$", done.stdout, re.M)
    assert re.search(r"^app other: 1 route, 0 pushes, 0 services$", done.stdout, re.M)
    for name, value, place in (
        ("gateway.port", "9", r"command line \(--port\)"),
        ("gateway.heartbeat_seconds", "7", "command line"),
        ("log.level", "error", "environment variable SKYLOOM_LOG__LEVEL"),
    ):
        assert re.search(rf"^{re.escape(name)}\s+{value}\s+{place}", done.stdout, re.M), done.stdout


@pytest.mark.parametrize("option", ["--port", "--tcp-port"])
def test_a_port_in_use_is_one_clear_line(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = {"--port": "0", "--tcp-port": "0"} | {option: str(port)}
        done = skyloom("gateway", ECHO, *(part for pair in others.items() for part in pair))
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if line.startswith("skyloom: ")] == [
        f"skyloom: 127.0.0.1:{port} is already in use; stop the program that listens there or choose another port"
    ]
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_sigterm_drains(game: Game) -> None:
    wires = [await Wire.guest(kind, game.ports) for kind in KINDS]
    slow = [wire.request("echo.wait", seconds=0.5) for wire in wires]
    await asyncio.sleep(0.05)
    game.process.send_signal(signal.SIGTERM)
    for wire, id in zip(wires, slow, strict=True):
        assert isinstance(await wire.read(), Drain)
        answer = await wire.read()
        assert getattr(answer, "id", None) == id
        assert await wire.end() == 1012
        await wire.close()
    assert await asyncio.to_thread(game.wait) == 0
    assert "stopped" in game.log + "".join(game.lines)
    assert "Traceback" not in game.log


async def test_clients_that_vanish_do_not_spoil_the_end(game: Game) -> None:
    for kind in KINDS:
        wire = await Wire.guest(kind, game.ports)
        await wire.ask("echo.nothing")
        wire.request("echo.push_thrice")
        wire.writer.transport.abort()
    assert await asyncio.to_thread(game.stop) == 0
    assert "Traceback" not in game.log


async def test_a_second_sigterm_does_not_cut_the_drain_short(game: Game) -> None:
    async with await Wire.guest("tcp", game.ports) as wire:
        slow = wire.request("echo.wait", seconds=1)
        await asyncio.sleep(0.05)
        game.process.send_signal(signal.SIGTERM)
        assert isinstance(await wire.read(), Drain)
        game.process.send_signal(signal.SIGTERM)
        game.process.send_signal(signal.SIGINT)
        assert getattr(await wire.read(), "id", None) == slow
        assert await wire.end() == 1012
    assert await asyncio.to_thread(game.wait) == 0


async def test_a_second_interrupt_does_not_wait(game: Game) -> None:
    async with await Wire.guest("tcp", game.ports) as wire:
        wire.request("echo.wait", seconds=4)
        await asyncio.sleep(0.05)
        game.process.send_signal(signal.SIGINT)
        assert isinstance(await wire.read(), Drain)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await asyncio.to_thread(game.stop, signal.SIGINT) == -signal.SIGINT
        assert loop.time() - started < 3
