"""What a service received, recorded and replayed into a fresh instance."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgpack
import pytest
from typer.testing import CliRunner

from skyloom import Address, Expired, Node, NotExecuted, Service, rpc
from skyloom.testing.replay import ReplayDiverged, read, replay
from skyloom_gateway.cli import main


class Peer(Service):
    @rpc
    async def double(self, number: int) -> list[int]:
        await self.sleep(self.random.random() * 0.02)
        return [number, number]


class Notebook(Service):
    """Does everything that a recording covers."""

    name = "NOTEBOOK"
    surcharge = 0

    def __init__(self, peer: Address, *, title: str) -> None:
        self.peer = peer
        self.notes: list[object] = [title]
        self.section = self.queue()

    async def on_start(self) -> None:
        self.notes.append(await self.query("PEER"))
        self.notes.append(self.getenv("colour"))
        self.monitor(self.peer)
        self.timeout(0.01, self.tick)

    async def on_down(self, address: Address, how: str) -> None:
        self.notes.append(("down", address, how))

    async def tick(self) -> None:
        self.notes.append(("tick", self.clock.now()))

    @rpc
    async def work(self, number: int, words: list[str]) -> list[int]:
        self.notes.append(("in", number, words, self.clock.time(), self.random.random(), self.request.deadline))
        side = self.fork(self.beside(number))
        async with self.section:
            answer: list[int] = await self.call(self.peer, "lua", "double", number + self.surcharge)
        self.notes.append(("out", answer))
        self.send(self.peer, "lua", "double", self.random.randrange(1000))
        try:
            await self.call(self.peer, "lua", "double", 1, timeout=0.001)
        except Expired as error:
            self.notes.append(error.code)
        calls = {key: self.call(self.peer, "lua", "double", key) for key in range(3)}
        async for each in self.select(calls, timeout=1):
            self.notes.append((each.key, each.value))
        try:
            await self.query("NOBODY", wait=0.01)
        except NotExecuted as error:
            self.notes.append(error.code)
        await side
        return answer

    async def beside(self, number: int) -> None:
        await self.sleep(self.random.random() * 0.01)
        self.notes.append(("beside", number))


class Dearer(Notebook):
    surcharge = 1


async def record(path: Path) -> list[object]:
    async with Node("n", watch_loop=False, env={"colour": "red"}) as node:
        node.record("NOTEBOOK", str(path))
        peer = await node.spawn(Peer)
        node.register("PEER", peer)
        address = await node.spawn(Notebook, peer, title="mine")
        notebook = node.cells[address].service
        assert isinstance(notebook, Notebook)
        await asyncio.gather(*(node.call(address, "lua", "work", n, ["a", str(n)], timeout=20) for n in range(10)))
        node.kill(peer)
        await asyncio.sleep(0.1)
        return list(notebook.notes)


@pytest.fixture
async def recorded(tmp_path: Path) -> tuple[Path, list[object]]:
    path = tmp_path / "notebook.record"
    return path, await record(path)


def test_a_replay_is_the_same_bit_for_bit(recorded: tuple[Path, list[object]]) -> None:
    path, notes = recorded
    for _ in range(2):
        replayed = replay(path, Notebook)
        assert isinstance(replayed.service, Notebook)
        assert replayed.service.notes == notes
        assert replayed.events > 300


def test_a_class_that_does_something_else_diverges(recorded: tuple[Path, list[object]]) -> None:
    with pytest.raises(ReplayDiverged, match="event .*: recorded .*double.*, replayed .*double"):
        replay(recorded[0], Dearer)


def test_a_torn_end_is_left_out_and_another_file_refused(recorded: tuple[Path, list[object]]) -> None:
    path, notes = recorded
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    replayed = replay(path, Notebook)
    assert isinstance(replayed.service, Notebook)
    kept = len(replayed.service.notes)
    assert 3 < kept < len(notes)
    assert replayed.service.notes == notes[:kept]
    path.write_bytes(msgpack.packb(["other"]))
    with pytest.raises(ValueError, match="not a recording"):
        read(path)


def test_the_command_line_replays(recorded: tuple[Path, list[object]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyloom_gateway.cli._service_class", {"m:Notebook": Notebook, "m:Dearer": Dearer}.__getitem__)
    done = CliRunner().invoke(main, ["replay", str(recorded[0]), "m:Notebook"])
    assert done.exit_code == 0
    assert "did the same in all" in done.output
    assert CliRunner().invoke(main, ["replay", str(recorded[0]), "m:Dearer"]).exit_code == 1


def test_the_command_line_says_what_is_no_service() -> None:
    for spec in ("nothing", "no_such_module:X", "itertools:count"):
        assert CliRunner().invoke(main, ["replay", "x", spec]).exit_code == 2
    assert CliRunner().invoke(main, ["gateway", "x:y", "--record", "nonsense"]).exit_code == 2
