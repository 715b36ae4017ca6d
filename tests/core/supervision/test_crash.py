"""What a crash is, what is not, and what becomes of the messages."""

import asyncio
from time import sleep as nap

import pytest
from structlog.testing import capture_logs

from skyloom import Address, Failed, Node, NotExecuted, Service, Unknown, UnknownName, rpc
from skyloom.node.dead_letters import TRACEBACK_CHARS_MAX
from tests.core.cast import start
from tests.core.supervision.cast import Actor


class Watcher(Service):
    def __init__(self) -> None:
        self.seen: list[tuple[Address, str]] = []

    async def on_down(self, address: Address, how: str) -> None:
        self.seen.append((address, how))


class Clinging(Service):
    """Cannot live without another."""

    def __init__(self, other: Address) -> None:
        self.other = other

    async def on_start(self) -> None:
        self.monitor(self.other)

    async def on_down(self, address: Address, how: str) -> None:
        self.crash(f"lost its other half, which {how}")


async def test_a_handler_that_raises_fails_its_own_call_only(node: Node) -> None:
    actor = await start(node, Actor, "a", [])
    with capture_logs(), pytest.raises(Failed):
        await node.call(actor.address, "lua", "fail")
    assert await node.call(actor.address, "lua", "who") == actor.address


async def test_a_poison_message_is_kept_with_its_traceback(node: Node) -> None:
    actor = await start(node, Actor, "a", [])
    with capture_logs(), pytest.raises(Failed):
        await node.call(actor.address, "lua", "fail")
    (letter,) = node.dead_letters
    assert (letter.destination, letter.source, letter.reason) == (actor.address, node.root.address, "skyloom.internal")
    assert letter.preview == "('fail')"
    assert letter.traceback.endswith("ValueError: only this call\n")
    assert 'raise ValueError("only this call")' in letter.traceback


@pytest.mark.parametrize("after", [0, 1])
async def test_crash_ends_the_service_at_once(node: Node, after: float) -> None:
    log: list[str] = []
    actor, watcher = await start(node, Actor, "a", log), await start(node, Watcher)
    watcher.monitor(actor.address)
    with capture_logs() as logs, pytest.raises(Unknown):
        await node.call(actor.address, "lua", "die", "out of order", after)
    with pytest.raises(NotExecuted):
        await node.call(actor.address, "lua", "who")
    await asyncio.sleep(0)
    assert watcher.seen == [(actor.address, "crashed: out of order")]
    assert log == ["+a"]  # no on_stop
    assert [entry["event"] for entry in logs] == ["service crashed"]
    (letter,) = [letter for letter in node.dead_letters if letter.reason == "skyloom.crashed"]
    assert "in die" in letter.traceback
    assert letter.traceback.endswith("Crash: out of order\n")


async def test_a_long_traceback_is_cut_at_its_beginning(node: Node) -> None:
    actor = await start(node, Actor, "a", [])
    with capture_logs(), pytest.raises(Unknown):
        await node.call(actor.address, "lua", "die", "x" * 10_000)
    (letter,) = node.dead_letters
    assert len(letter.traceback) == TRACEBACK_CHARS_MAX
    assert letter.traceback.endswith("xxx\n")


async def test_what_waited_is_not_delivered_again(node: Node) -> None:
    actor = await start(node, Actor, "a", [])
    actor._cell.concurrency = 1
    with capture_logs():
        node.send(actor.address, "lua", "die", "bad", 1.0)
        await asyncio.sleep(0.1)
        node.send(actor.address, "lua", "rename", "b")
        await asyncio.sleep(2)
    assert node.dead_letters.by_reason == {"skyloom.crashed": 1, "skyloom.service_ended": 1}


@pytest.mark.parametrize("critical", [False, True])
async def test_only_a_critical_fork_crashes_its_service(node: Node, critical: bool) -> None:
    actor, watcher = await start(node, Actor, "a", []), await start(node, Watcher)
    watcher.monitor(actor.address)
    with capture_logs():
        await node.call(actor.address, "lua", "split", critical)
        await asyncio.sleep(2)
    assert watcher.seen == ([(actor.address, "crashed: ValueError: the fork failed")] if critical else [])


async def test_on_down_may_crash_too(node: Node) -> None:
    actor, watcher = await start(node, Actor, "a", []), await start(node, Watcher)
    clinging = await start(node, Clinging, actor.address)
    watcher.monitor(clinging.address)
    with capture_logs():
        node.kill(actor.address)
        await asyncio.sleep(1)
    assert watcher.seen == [(clinging.address, "crashed: lost its other half, which was killed")]


async def test_crash_in_on_start_fails_the_spawn(node: Node) -> None:
    class Stillborn(Service):
        async def on_start(self) -> None:
            self.crash("no")

    with capture_logs(), pytest.raises(Failed, match="did not start"):
        await node.spawn(Stillborn)
    assert len(node.cells) == 1


async def test_a_name_stands_for_who_has_it_now(node: Node) -> None:
    log: list[str] = []
    first = await start(node, Actor, "a", log)
    assert await node.call("a", "lua", "who") == first.address
    assert await Actor.at(node.root, "a").who() == first.address
    node.kill(first.address)
    with pytest.raises(UnknownName):
        await node.call("a", "lua", "who")
    node.send("a", "lua", "rename", "b")
    await asyncio.sleep(0)
    assert node.dead_letters.by_reason == {"skyloom.unknown_name": 1}
    second = await start(node, Actor, "a", log)
    node.send("a", "lua", "rename", "b")
    assert await node.call("a", "lua", "who") == second.address
    assert await node.query("b") == second.address


class Crowded(Service):
    mailbox_messages_max = 128

    def __init__(self) -> None:
        self.done = 0

    @rpc
    async def note(self) -> None:
        self.done += 1


async def test_mailbox_pressure_is_logged_once_per_doubling(node: Node) -> None:
    crowded = await start(node, Crowded)
    with capture_logs() as logs:
        for _ in range(2):
            for _ in range(140):
                node.send(crowded.address, "lua", "note")
            await asyncio.sleep(1)
    full = [entry["waiting"] for entry in logs if entry["event"] == "a mailbox fills up"]
    assert full == [16, 32, 64, 128]
    assert node.counters["mailbox_pressure"] == 4
    assert crowded.done == 256
    assert node.dead_letters.by_reason == {"skyloom.overloaded": 24}


class Blocking(Service):
    @rpc
    async def block(self, seconds: float) -> None:
        nap(seconds)  # noqa: ASYNC251  # the mistake that is to be caught


@pytest.mark.real_time
async def test_a_blocking_handler_is_logged_with_its_service_and_stack() -> None:
    async with Node("blocked") as node:
        blocking = await start(node, Blocking)
        with capture_logs() as logs:
            await asyncio.sleep(0.2)
            node.send(blocking.address, "lua", "block", 0.4)
            await asyncio.sleep(0.2)
    (entry,) = [entry for entry in logs if entry["event"] == "a handler blocks the event loop"]
    assert entry["service"] == blocking.title
    assert "nap(seconds)" in entry["stack"]
