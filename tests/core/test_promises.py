"""The promises of the design, each by its number."""

import asyncio
import random
import threading
import time
from collections import Counter

import pytest
from structlog.testing import capture_logs

from skyloom import (
    Address,
    AnsweredTwice,
    Expired,
    Failed,
    Node,
    NotExecuted,
    Response,
    Service,
    Unknown,
    rpc,
)
from skyloom.testing import SimLoop
from tests.core.cast import start


class Log(Service):
    """Writes down what starts, in order."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.inside = 0
        self.inside_most = 0
        self.threads: set[int] = set()
        self.kept: list[Response] = []

    async def on_start(self) -> None:
        async def raw(session: int, source: Address, value: object) -> object:
            self.log.append(value)
            return value

        self.dispatch("snax", raw)

    @rpc
    async def note(self, value: object) -> object:
        self.log.append(value)
        return value

    @rpc
    async def work(self, value: object, seconds: float = 1) -> object:
        self.threads.add(threading.get_ident())
        self.inside += 1
        self.inside_most = max(self.inside, self.inside_most)
        self.log.append(value)
        try:
            await self.sleep(seconds)
        finally:
            self.inside -= 1
        return value

    @rpc
    async def keep(self) -> None:
        self.kept.append(self.response())


class SerialLog(Log):
    serial = True


@pytest.mark.parametrize("cls", [Log, SerialLog])
async def test_promise_1_messages_of_one_sender_start_in_order_whatever_their_types(node: Node, cls: type[Log]) -> None:
    log = await start(node, cls)
    sender = await start(node, Log)
    await asyncio.sleep(0)
    for number in range(0, 40, 4):
        sender.send(log.address, "lua", "note", number)
        sender.send(log.address, "snax", number + 1)
        sender.send(log.address, "queue", "note", number + 2)
        await sender.call(log.address, "lua", "note", number + 3)
    assert log.log == list(range(40))


async def test_promise_2_handlers_interleave_only_where_they_await(node: Node) -> None:
    log = await start(node, Log)
    await asyncio.gather(*(node.call(log.address, "lua", "work", n) for n in range(5)))
    assert log.inside_most == 5
    assert log.threads == {threading.get_ident()}
    serial = await start(node, SerialLog)
    started = node.now()
    await asyncio.gather(*(node.call(serial.address, "lua", "work", n) for n in range(4)))
    assert serial.inside_most == 1
    assert serial.log == [0, 1, 2, 3]
    assert node.now() - started == pytest.approx(4)


async def test_promise_2_a_section_gives_the_same_for_a_part(node: Node) -> None:
    class Sectioned(Log):
        def __init__(self) -> None:
            super().__init__()
            self.section = self.queue()

        @rpc
        async def guarded(self, value: int) -> None:
            async with self.section, self.section:  # it may be entered again
                await self.work(value)

    service = await start(node, Sectioned)
    await asyncio.gather(*(node.call(service.address, "lua", "guarded", n) for n in range(4)))
    assert service.log == [0, 1, 2, 3]
    assert service.inside_most == 1
    assert not service.section.locked


async def test_promise_3_delivery_is_at_most_once(node: Node) -> None:
    log = await start(node, Log)
    for number in range(10):
        with pytest.raises(Expired):
            await node.call(log.address, "lua", "work", number, 9, timeout=0.5)
    await asyncio.sleep(100)
    assert log.log == list(range(10))


async def test_promise_4_every_call_ends(node: Node) -> None:
    log = await start(node, Log)
    started = node.now()
    with pytest.raises(Expired):
        await node.call(log.address, "lua", "keep")
    assert node.now() - started == pytest.approx(5)
    serial = await start(node, SerialLog)
    node.send(serial.address, "lua", "work", "long", 3)
    await asyncio.sleep(0)
    with pytest.raises(Expired):
        await node.call(serial.address, "lua", "work", "dropped", timeout=1)
    await asyncio.sleep(10)
    assert serial.log == ["long"]


async def test_promise_5_a_call_to_the_dying_fails_at_once(node: Node) -> None:
    log = await start(node, Log)
    call = asyncio.create_task(node.call(log.address, "lua", "keep"))
    await asyncio.sleep(1)
    node.kill(log.address)
    started = node.now()
    with pytest.raises(Unknown):
        await call
    with pytest.raises(NotExecuted):
        await node.call(log.address, "lua", "note", 1)
    assert node.now() == started


async def test_promise_6_an_answer_that_waits_behind_messages_for_one_who_is_killed_is_late(node: Node) -> None:
    asker, log = await start(node, Log), await start(node, Log)
    asker.fork(asker.call(log.address, "lua", "keep", timeout=10))
    await asyncio.sleep(1)
    node.send(asker.address, "lua", "note", "first")
    log.kept[0].ret("behind it")
    node.kill(asker.address)
    assert node.counters["late_answers"] == 1
    assert node.dead_letters.by_reason.total() == 1


async def test_promise_6_second_answers_raise_and_late_ones_are_counted(node: Node) -> None:
    log = await start(node, Log)
    with pytest.raises(Expired):
        await node.call(log.address, "lua", "keep", timeout=1)
    assert node.counters["late_answers"] == 0
    log.kept[0].ret("late")
    assert node.counters["late_answers"] == 1
    with pytest.raises(AnsweredTwice):
        log.kept[0].ret("again")


async def test_promise_7_what_crosses_is_a_value(node: Node) -> None:
    log = await start(node, Log)
    mine = [1, {"a": {2}}]
    back = await node.call(log.address, "lua", "note", mine)
    assert mine == back == log.log[0]
    assert len({id(mine), id(back), id(log.log[0])}) == 3
    text = "immutable" * 100
    assert await node.call(log.address, "lua", "note", text) is text


async def test_promise_8_mailboxes_are_bounded_by_count_and_by_bytes(node: Node) -> None:
    class Small(SerialLog):
        mailbox_messages_max = 10
        mailbox_bytes_max = 1000

    small = await start(node, Small)
    node.send(small.address, "lua", "work", "x", 2)
    await asyncio.sleep(1)
    for number in range(15):
        node.send(small.address, "lua", "note", number)
    assert node.dead_letters.by_reason == {"skyloom.overloaded": 5}
    with pytest.raises(NotExecuted) as caught:
        await node.call(small.address, "lua", "note", "x")
    assert caught.value.kind == "resource_exhausted"
    await asyncio.sleep(2)
    assert small.log == ["x", *range(10)]
    node.send(small.address, "lua", "work", "y", 2)
    await asyncio.sleep(1)
    for _ in range(3):
        node.send(small.address, "lua", "note", b"z" * 400)
    assert node.dead_letters.by_reason == {"skyloom.overloaded": 6}
    await asyncio.sleep(2)
    assert small._cell.mailbox_bytes == 0


async def test_promise_8_dead_letters_are_a_ring(node: Node) -> None:
    nobody = Address("core", 999)
    for number in range(300):
        node.send(nobody, "lua", "hello", number, [number])
    node.send(nobody, "text", "x" * 1000)
    assert node.dead_letters.total == 301
    letters = list(node.dead_letters)
    assert len(letters) == len(node.dead_letters) == 256
    last = letters[-1]
    assert (last.destination, last.source, last.ptype, last.session) == (nobody, node.root.address, 0, 0)
    assert last.reason == "skyloom.no_service"
    assert len(last.preview) < 100
    assert last.time == node.clock.time()


@pytest.mark.real_time
async def test_promise_10_a_blocking_handler_is_logged_with_its_stack() -> None:
    class Blocker(Service):
        @rpc
        async def block_the_loop(self) -> None:
            time.sleep(0.9)  # noqa: ASYNC251  # blocking is what is tested

    with capture_logs() as logs:
        async with Node("watched") as node:
            address = await node.spawn(Blocker)
            await node.call(address, "lua", "block_the_loop")
            assert node.counters["loop_blocked"] == 1
            await asyncio.sleep(0.6)
            assert node.counters["loop_blocked"] == 1
    (entry,) = [entry for entry in logs if entry["event"] == "a handler blocks the event loop"]
    assert "block_the_loop" in entry["stack"]


class Dice(Service):
    """Plays with chance and time; what it does is the trace."""

    trace: list[tuple[float, int, int]]

    def __init__(self, trace: list[tuple[float, int, int]], friends: list[Address]) -> None:
        self.trace, self.friends = trace, friends

    @rpc
    async def play(self, depth: int) -> int:
        self.trace.append((self.clock.now(), self.address.handle, depth))
        if depth == 0:
            return 1
        await self.sleep(self.random.random())
        dice = self.random.randrange(4)
        friend = self.random.choice(self.friends)
        if dice == 0:
            self.send(friend, "lua", "play", depth - 1)
            return 1
        if dice == 1 and depth < 4:
            self.exit()
        results = self.select({n: self.call(friend, "lua", "play", depth - 1) for n in range(dice)})
        return sum([answer.value or 0 async for answer in results])


def _one_run(seed: int) -> list[tuple[float, int, int]]:
    trace: list[tuple[float, int, int]] = []

    async def play() -> None:
        async with Node("game", rng=random.Random(seed), watch_loop=False) as node:
            friends: list[Address] = []
            for _ in range(5):
                friends.append(await node.spawn(Dice, trace, friends))
            answers = await asyncio.gather(
                *(node.call(friend, "lua", "play", 6) for friend in friends), return_exceptions=True
            )
            trace.append((0.0, 0, sum(answer for answer in answers if isinstance(answer, int))))
            trace.append((0.0, 1, node.counters["late_answers"]))

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(play())
    return trace


def test_promise_11_the_same_seed_gives_the_same_run() -> None:
    runs = {seed: _one_run(seed) for seed in range(5)}
    assert sum(map(len, runs.values())) > 200
    assert len({tuple(run) for run in runs.values()}) == 5
    for seed, run in runs.items():
        assert _one_run(seed) == run


async def test_failed_of_a_send_is_logged(node: Node) -> None:
    class Faulty(Service):
        @rpc
        async def fail(self) -> None:
            raise Failed("no", code="test.no")

    address = await node.spawn(Faulty)
    with capture_logs() as logs:
        node.send(address, "lua", "fail")
        node.send(address, "lua", "nothing")
        await asyncio.sleep(1)
    assert Counter(entry["event"] for entry in logs) == {"handler failed": 1}
    assert node.dead_letters.by_reason == {"skyloom.no_method": 1}


@pytest.mark.parametrize("timeout", [1.0, 3.0], ids=["the caller's deadline", "the call's own"])
async def test_a_nested_call_that_is_not_answered_in_time_is_one_line_in_the_log(node: Node, timeout: float) -> None:
    class Hanging(Service):
        @rpc
        async def hang(self) -> None:
            await self.sleep(100)

    class Between(Service):
        @rpc
        async def ask(self, dest: Address) -> None:
            await self.call(dest, "lua", "hang", timeout=2.0)

    hanging, between = await node.spawn(Hanging), await node.spawn(Between)
    with capture_logs() as logs, pytest.raises((Expired, Failed)) as caught:
        await node.call(between, "lua", "ask", hanging, timeout=timeout)
    await asyncio.sleep(5)
    assert caught.value.code == "skyloom.expired"
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("handler ran out of time", "warning")
    assert line["error"] == f"Hanging{hanging} did not answer in time"
    assert "exc_info" not in line
    assert not node.dead_letters.by_reason, "it is no poison"
