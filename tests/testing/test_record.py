"""What a service received, recorded and replayed into a fresh instance."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgpack
import pytest
import structlog
import uvloop
from typer.testing import CliRunner

from skyloom import Address, CallError, Expired, NameTaken, Node, NotExecuted, Service, Unknown, rpc
from skyloom.testing.record import VERSION
from skyloom.testing.replay import NotReplayable, ReplayDiverged, read, replay
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


@pytest.fixture(params=["virtual time", pytest.param("real time", marks=pytest.mark.real_time)])
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


class Juggler(Service):
    """Does with tasks and the loop's own timers what the order of one turn of the loop decides."""

    name = "JUGGLER"

    def __init__(self, peer: Address) -> None:
        self.peer = peer
        self.notes: list[object] = []
        self.event = asyncio.Event()

    async def on_start(self) -> None:
        self.timeout(0.001, self.tick)

    async def tick(self) -> None:
        self.notes.append(("tick", asyncio.get_running_loop().time()))
        self.event.set()
        self.event.clear()
        self.timeout(self.random.random() * 0.004, self.tick)

    async def ask(self, number: int) -> object:
        try:
            return await self.call(self.peer, "lua", "double", number, timeout=0.01)
        except Expired as error:
            return error.code

    async def side(self, number: int) -> None:
        try:
            await self.sleep(self.random.random() * 0.004)
            self.notes.append(("side", number))
        finally:
            self.notes.append(("over", number))

    @rpc
    async def juggle(self, number: int) -> float:
        notes = self.notes
        side = self.fork(self.side(number))
        side.add_done_callback(lambda _: notes.append(("done", number)))
        notes.append(await asyncio.gather(*map(self.ask, range(3))))
        for seconds in (0, 0.001, 0.003):
            try:
                async with asyncio.timeout(seconds):
                    notes.append(await self.ask(number))
            except TimeoutError:
                notes.append(("late", number, seconds))
        try:
            async with asyncio.timeout(0.002):
                await self.event.wait()
        except TimeoutError:
            notes.append(("no tick", number))
        async for each in self.select({key: self.ask(key) for key in range(3)}, timeout=0.01):
            notes.append((each.key, each.value))
            if self.random.random() < 0.3:
                break
        async with asyncio.TaskGroup() as group:
            for key in range(2):
                group.create_task(self.side(key))
        self.fork(self.ask(0)).cancel()
        notes.append(side.cancel())
        try:
            self.register("PEER")
        except NameTaken as error:
            notes.append(str(error))
        return self.random.random()


def test_what_a_service_does_with_the_loop_itself_is_replayed(tmp_path: Path) -> None:
    async def juggle(path: Path) -> list[object]:
        async with Node("n", watch_loop=False) as node:
            node.record("JUGGLER", str(path))
            peer = await node.spawn(Peer)
            node.register("PEER", peer)
            address = await node.spawn(Juggler, peer)
            juggler = node.cells[address].service
            assert isinstance(juggler, Juggler)
            await asyncio.gather(*(node.call(address, "lua", "juggle", n, timeout=20) for n in range(10)))
            return list(juggler.notes)

    for loop_factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        for turn in range(3):
            path = tmp_path / f"{loop_factory.__module__}{turn}.record"
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                notes = runner.run(juggle(path))
            replayed = replay(path, Juggler)
            assert isinstance(replayed.service, Juggler)
            assert len(replayed.service.notes) > 100
            assert replayed.service.notes == notes


class Reader(Service):
    """Awaits what is not in a recording."""

    name = "READER"

    @rpc
    async def read(self) -> int:
        return await asyncio.to_thread(lambda: 42)


def test_what_a_thread_gave_cannot_be_replayed_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "reader.record"

    async def read_once() -> None:
        async with Node("n", watch_loop=False) as node:
            node.record("READER", str(path))
            address = await node.spawn(Reader)
            assert await node.call(address, "lua", "read") == 42  # the service itself goes on

    asyncio.run(read_once())
    with pytest.raises(NotReplayable, match=r"Reader\.read \(.*test_record.py:\d+\) awaited something from outside"):
        replay(path, Reader)


def test_a_recording_ends_with_its_service(tmp_path: Path) -> None:
    path = tmp_path / "killed.record"

    async def kill_it() -> None:
        async with Node("n", watch_loop=False) as node:
            node.record("JUGGLER", str(path))
            peer = await node.spawn(Peer)
            address = await node.spawn(Juggler, peer)
            calls = [asyncio.ensure_future(node.call(address, "lua", "juggle", n, timeout=20)) for n in range(3)]
            await asyncio.sleep(0.01)
            node.kill(address)
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(kill_it())
    assert read(path)[1][-1] == ["ended"]
    replay(path, Juggler)


class Gatherer(Service):
    """Is killed when what it gathers has ended, and `gather` does not know yet."""

    name = "GATHERER"
    ended = asyncio.Event()

    async def one(self) -> None:
        self.ended.set()

    @rpc
    async def gather(self, in_a_task: bool) -> None:
        async def both() -> None:
            await asyncio.gather(self.one())

        await (asyncio.create_task(both()) if in_a_task else both())


@pytest.mark.parametrize("in_a_task", [False, True])
def test_a_recording_that_ends_amid_a_gather(tmp_path: Path, in_a_task: bool) -> None:
    path = tmp_path / "killed.record"

    async def kill_it() -> None:
        Gatherer.ended = asyncio.Event()
        async with Node("n", watch_loop=False) as node:
            node.record("GATHERER", str(path))
            address = await node.spawn(Gatherer)
            calling = asyncio.ensure_future(node.call(address, "lua", "gather", in_a_task))
            await Gatherer.ended.wait()
            node.kill(address)
            with pytest.raises(Unknown):
                await calling

    asyncio.run(kill_it())
    assert [event[0] for event in read(path)[1][-2:]] == ["step", "ended"]
    replay(path, Gatherer)


def test_the_command_line_says_what_is_no_service() -> None:
    for spec in ("nothing", "no_such_module:X", "itertools:count"):
        assert CliRunner().invoke(main, ["replay", "x", spec]).exit_code == 2
    assert CliRunner().invoke(main, ["gateway", "x:y", "--record", "nonsense"]).exit_code == 2


@pytest.mark.parametrize("verbose", [[], ["--verbose"]])
def test_the_command_says_in_one_line_where_a_replay_diverges(
    recorded: tuple[Path, list[object]], verbose: list[str]
) -> None:
    structlog.get_config()["processors"][:] = [structlog.dev.ConsoleRenderer()]  # `_quiet` puts back what was there
    done = CliRunner().invoke(main, ["replay", str(recorded[0]), f"{Dearer.__module__}:Dearer", *verbose])
    assert done.exit_code == 1
    first, *more = done.output.splitlines()
    last = more[-1] if verbose else first
    assert last.startswith("skyloom: event ")
    assert ", replayed (" in last
    assert ("Traceback" in done.output) == bool(verbose)
    assert bool(more) == bool(verbose)


def test_the_command_says_that_a_replay_went_the_same(recorded: tuple[Path, list[object]]) -> None:
    done = CliRunner().invoke(main, ["replay", str(recorded[0]), f"{Notebook.__module__}:Notebook"])
    assert (done.exit_code, done.output.splitlines()[1:]) == (0, [])
    assert done.output.startswith("Notebook did the same in all ")


class Frail(Service):
    name = "FRAIL"

    def __init__(self, start: bool = True) -> None:
        self.start = start
        self.seen = 0

    async def on_start(self) -> None:
        if not self.start:
            raise ValueError("not today")

    @rpc
    async def work(self, number: int) -> None:
        self.seen = number
        if number == 2:
            self.crash("two is too many")


def test_a_crash_is_replayed_and_told(tmp_path: Path) -> None:
    path = tmp_path / "frail.record"

    async def crash_it() -> None:
        async with Node("n", watch_loop=False) as node:
            node.record("FRAIL", str(path))
            address = await node.spawn(Frail)
            await node.call(address, "lua", "work", 1)
            with pytest.raises(CallError):
                await node.call(address, "lua", "work", 2)

    asyncio.run(crash_it())
    replayed = replay(path, Frail)
    assert isinstance(replayed.service, Frail)
    assert (replayed.service.seen, replayed.ended) == (2, "crashed: two is too many")
    done = CliRunner().invoke(main, ["replay", str(path), f"{Frail.__module__}:Frail"])
    assert (done.exit_code, done.output) == (
        0,
        f"Frail did the same in all {replayed.events} events, and crashed: two is too many\n",
    )


def test_a_service_that_did_not_start_is_replayed_and_told(tmp_path: Path) -> None:
    path = tmp_path / "frail.record"

    async def start_it() -> None:
        async with Node("n", watch_loop=False) as node:
            node.record("FRAIL", str(path))
            with pytest.raises(CallError):
                await node.spawn(Frail, False)

    asyncio.run(start_it())
    assert replay(path, Frail).ended == "did not start: ValueError: not today"


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\xc1", b"\x90", msgpack.packb(["other", 1]), b"\xa2\xff\xff"])
def test_a_file_that_is_no_recording_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(data)
    done = CliRunner().invoke(main, ["replay", str(path), f"{Frail.__module__}:Frail"])
    assert (done.exit_code, done.output) == (1, f"skyloom: {path}: not a recording of version {VERSION}\n")


class Asked(Service):
    """Says what it knows of itself."""

    name = "ASKED"

    def __init__(self) -> None:
        self.times = 0

    async def on_info(self) -> dict[str, object]:
        self.times += 1
        return {"times": self.times}


async def test_what_operators_ask_is_answered_alike_in_a_replay(tmp_path: Path) -> None:
    file = tmp_path / "asked.rec"
    async with Node("asked", watch_loop=False) as node:
        node.record("ASKED", str(file))
        await node.spawn(Asked)
        for _ in range(3):
            await node.call("ASKED", "debug", "info")
            await node.root.sleep(0.01)
        with pytest.raises(CallError, match="ask the node's root"):
            await node.call("ASKED", "debug", "list")
    replayed = await asyncio.to_thread(replay, file, Asked)
    assert isinstance(replayed.service, Asked)
    assert replayed.service.times == 3
