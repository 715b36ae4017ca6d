"""Coming back over real sockets, to a real process."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from skyloom_gateway.wire.frame import ErrorFrame, Push, Response, ServerFrame, Welcome
from tests.e2e.game import Game
from tests.gateway.sockets import KINDS, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


SUSPEND_SECONDS = 20.0


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    with Game(Path(tmp_path_factory.mktemp("resume")) / "log") as game:
        yield game
        assert game.stop() == 0
        assert "Traceback" not in game.log


async def come_in(
    wires: AsyncExitStack, game: Game, kind: str, resume: tuple[Welcome, int] | None = None
) -> tuple[Wire, Welcome]:
    wire = await wires.enter_async_context(await Wire.open(kind, game.ports))
    fields: dict[str, object] = {"auth": {"scheme": "guest", "name": f"ada-{kind}"}}
    if resume is not None:
        welcome, seq = resume
        fields["resume"] = {"session": welcome.session, "key": welcome.key, "seq": seq}
    wire.send(wire.codec.hello(fields))
    answer = await wire.read()
    assert isinstance(answer, Welcome), answer
    return wire, answer


@pytest.fixture
async def wires() -> AsyncIterator[AsyncExitStack]:
    """Closes the connections of a test."""
    async with AsyncExitStack() as stack:
        yield stack


async def read(wire: Wire, count: int) -> list[ServerFrame]:
    frames = [await wire.read() for _ in range(count)]
    return [frame for frame in frames if frame is not None]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_break_loses_nothing_and_doubles_nothing(wires: AsyncExitStack, game: Game, kind: str) -> None:
    ada, welcome = await come_in(wires, game, kind)
    await ada.ask("echo.join")
    slow = ada.codec.request(100, "echo.wait", ada.codec.encode_body({"seconds": 0.3, "text": f"once {kind}"}))
    ada.send(slow)
    ada.request("echo.note_nothing")
    assert isinstance(await ada.read(), ErrorFrame)  # unknown, and so the slow one before it was taken
    ada.writer.transport.abort()
    async with await Wire.guest(kind, game.ports, "bob") as bob:
        for text in "abc":
            await bob.ask("echo.shout", text=text)
        again, second = await come_in(wires, game, kind, (welcome, 0))
        assert (second.recovered, second.session) == (True, welcome.session)
        missed = await read(again, 3)
        assert [(push.seq, push.body) for push in missed if isinstance(push, Push)] == [
            (number, {"text": text}) for number, text in enumerate("abc", 1)
        ]
        for _ in range(2):
            again.send(slow)
            assert await again.read() == Response(100, {"seconds": 0.3, "text": f"once {kind}"})
        await bob.ask("echo.shout", text="d")
        (push,) = await read(again, 1)
        assert isinstance(push, Push)
        assert push.seq == 4
    third, welcomed = await come_in(wires, game, kind, (second, 4))
    assert welcomed.recovered
    assert await again.end() == 4409
    thief, stolen = await come_in(wires, game, kind, (welcome, 4))
    assert not stolen.recovered
    told = await third.read()
    assert isinstance(told, ErrorFrame)
    assert told.error.code == "gateway.key_reused"
    assert await third.end() in (4403, 1000)  # TCP has the error's code only
    _, nothing = await come_in(wires, game, kind, (welcomed, 4))
    assert not nothing.recovered
    assert thief.close_code is None


@pytest.mark.ci
@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_stopped_reading_gets_the_rest_when_it_comes_back(
    wires: AsyncExitStack, tmp_path: Path, kind: str
) -> None:
    """Cut off for reading too slowly; what it had not read is not lost."""
    settings = [
        *("--set", "gateway.stall_seconds=1", "--set", "gateway.messages_per_second=100000"),
        *("--set", "gateway.messages_burst=100000", "--set", "gateway.replay_bytes=4000000"),
        *("--set", "gateway.unsent_bytes=5000000"),
    ]
    with Game(tmp_path / "log", *settings) as game:
        ada = await wires.enter_async_context(await Wire.open(kind, game.ports, receive_bytes=4096))
        ada.hello("ada")
        welcome = await ada.read()
        assert isinstance(welcome, Welcome)
        await ada.ask("echo.join")
        async with await Wire.guest(kind, game.ports, "bob") as bob:
            for number in range(100):
                await bob.ask("echo.shout", text=f"{number} " + "x" * 35_000)
            async with asyncio.timeout(SUSPEND_SECONDS):
                while "session suspended" not in game.log:
                    await bob.ask("echo.nothing")
        again = await wires.enter_async_context(await Wire.open(kind, game.ports))
        resume = {"session": welcome.session, "key": welcome.key, "seq": 0}
        again.send(again.codec.hello({"auth": {"scheme": "guest", "name": "ada"}, "resume": resume}))
        second = await again.read()
        assert isinstance(second, Welcome)
        assert second.recovered
        assert [push.seq for push in await read(again, 100) if isinstance(push, Push)] == list(range(1, 101))
        ada.writer.transport.abort()


@pytest.mark.parametrize("kind", ["websocket-json", "tcp"])
async def test_a_new_process_says_that_the_session_is_gone(wires: AsyncExitStack, tmp_path: Path, kind: str) -> None:
    with Game(tmp_path / "first") as game:
        ada, welcome = await come_in(wires, game, kind)
        game.process.kill()
        await ada.end()
    with Game(tmp_path / "second") as game:
        _, second = await come_in(wires, game, kind, (welcome, 0))
        assert not second.recovered
        assert second.session != welcome.session
