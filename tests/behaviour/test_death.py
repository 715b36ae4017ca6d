"""A call to what is dead, dying or never born fails at once; deadlines; names; monitors."""

import asyncio

import pytest

from skyloom import (
    Address,
    CallError,
    Expired,
    Failed,
    NameTaken,
    Node,
    NotExecuted,
    Service,
    Unknown,
    UnknownName,
    rpc,
)
from tests.behaviour.world import Callee, Serial, Watcher, World


async def _error(world: World, address: Address, *args: object, timeout: float | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        await world.here.call(address, "lua", *args, timeout=timeout)
    return caught.value


async def test_call_to_the_dead_and_the_never_born(world: World) -> None:
    address, _ = await world.callee()
    world.there.kill(address)
    for dest in (address, Address(world.there.name, 4711)):
        error = await _error(world, dest, "add", 1)
        assert (type(error), error.code) == (NotExecuted, "skyloom.no_service")


async def test_send_to_the_dead_is_a_dead_letter(world: World) -> None:
    address, _ = await world.callee()
    world.there.kill(address)
    world.here.send(address, "lua", "note", 1)
    await asyncio.sleep(1)
    (letter,) = world.there.dead_letters
    assert (letter.destination, letter.source, letter.reason) == (
        address,
        world.here.root.address,
        "skyloom.no_service",
    )


@pytest.mark.parametrize("cls", [Callee, Serial])
async def test_killed_callee_fails_calls_in_progress_and_waiting(world: World, cls: type[Callee]) -> None:
    address, callee = await world.callee(cls)
    calls = [asyncio.create_task(_error(world, address, "later", 3, "x")) for _ in range(3)]
    await asyncio.sleep(1)
    started = world.here.now()
    assert world.here.kill(address)
    errors = await asyncio.gather(*calls)
    assert world.here.now() == started
    assert type(errors[0]) is Unknown
    assert {type(error) for error in errors[1:]} == {NotExecuted if cls is Serial else Unknown}
    await asyncio.sleep(0)
    assert callee.seen == []
    assert callee.ended == (1 if cls is Serial else 3)


@pytest.mark.parametrize("seconds", [0, 1])
async def test_service_that_kills_itself_fails_its_caller(world: World, seconds: float) -> None:
    address, _ = await world.callee()
    started = world.here.now()
    error = await _error(world, address, "kill_me", seconds)
    assert type(error) is Unknown
    assert "killed" in error.message
    assert world.here.now() - started == seconds


async def test_exit_answers_its_own_call_and_fails_the_others(world: World) -> None:
    address, callee = await world.callee()
    other = asyncio.create_task(_error(world, address, "later", 4, "x"))
    kept = asyncio.create_task(_error(world, address, "keep"))
    await asyncio.sleep(1)
    leaving = asyncio.create_task(world.here.call(address, "lua", "leave", 2))
    await asyncio.sleep(0.5)
    assert other.done()
    assert type(await other) is Unknown
    assert type(await kept) is Unknown
    error = await _error(world, address, "add", 1)
    assert (type(error), error.code) == (NotExecuted, "skyloom.service_ended")
    assert await leaving == "bye"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert address not in world.there.cells
    assert callee.seen == []


@pytest.mark.parametrize("args", [("leave_at_once",), ("leave_mid", 1)])
@pytest.mark.parametrize("cls", [Callee, Serial])
async def test_exit_of_a_handler_that_ends_at_once(world: World, cls: type[Callee], args: tuple[object, ...]) -> None:
    address, _ = await world.callee(cls)
    assert await world.here.call(address, "lua", *args) == "bye"
    ended = world.here.now()
    while address in world.there.cells:
        await asyncio.sleep(0)
        assert world.here.now() == ended, "the end of the handler was not seen"


async def test_crash_on_start(world: World) -> None:
    class Stillborn(Service):
        name = "STILLBORN"

        async def on_start(self) -> None:
            raise ZeroDivisionError("no")

    before = set(world.there.cells)
    with pytest.raises(Failed) as caught:
        await world.there.spawn(Stillborn)
    assert caught.value.code == "skyloom.start_failed"
    assert "ZeroDivisionError" in caught.value.message
    assert set(world.there.cells) == before
    with pytest.raises(UnknownName):
        await world.here.query("STILLBORN")


async def test_messages_wait_for_on_start_and_fail_when_it_fails(world: World) -> None:
    addresses: list[Address] = []

    class Slow(Service):
        def __init__(self, fails: bool) -> None:
            self.fails = fails
            addresses.append(self.address)

        async def on_start(self) -> None:
            await self.sleep(2)
            if self.fails:
                raise ValueError("no")

        @rpc
        async def ready(self) -> bool:
            return True

    spawning = asyncio.create_task(world.there.spawn(Slow, False))
    failing = asyncio.create_task(world.there.spawn(Slow, True))
    await asyncio.sleep(1)
    lost = asyncio.create_task(_error(world, addresses[1], "ready"))
    started = world.here.now()
    assert await world.here.call(addresses[0], "lua", "ready") is True
    assert world.here.now() - started == pytest.approx(1)
    assert (await lost).code == "skyloom.service_ended"
    assert await spawning == addresses[0]
    with pytest.raises(Failed):
        await failing


async def test_deadline_by_default_and_by_hand(world: World) -> None:
    address, callee = await world.callee()
    for timeout, seconds in ((None, 5), (2, 2)):
        started = world.here.now()
        error = await _error(world, address, "later", 10, "late", timeout=timeout)
        assert type(error) is Expired
        assert isinstance(error, TimeoutError)
        assert world.here.now() - started == pytest.approx(seconds)
    await asyncio.sleep(20)
    assert callee.seen == ["late", "late"], "an expired call's handler goes on"
    assert world.here.counters["late_answers"] == 2


async def test_nested_calls_inherit_what_remains(world: World) -> None:
    address, _ = await world.callee()
    last, _ = await world.callee()
    left = await world.here.call(address, "lua", "relay_late", 1, last, "remaining", timeout=3)
    assert left == pytest.approx(2)
    left = await world.here.call(address, "lua", "relay_late", 1, last, "remaining", timeout=20)
    assert left == pytest.approx(5), "a nested call has its own default too"


async def test_nested_call_after_the_deadline_does_not_start(world: World) -> None:
    address, _ = await world.callee()
    last, callee = await world.callee()
    assert type(await _error(world, address, "relay_late", 3, last, "note", 1, timeout=2)) is Expired
    await asyncio.sleep(5)
    assert callee.seen == []


async def test_expired_in_the_mailbox_does_not_start(world: World) -> None:
    address, callee = await world.callee(Serial)
    world.here.send(address, "lua", "later", 3, "first")
    await asyncio.sleep(0)
    assert type(await _error(world, address, "note", "expired", timeout=1)) is Expired
    assert await world.here.call(address, "lua", "noted") == ["first"]
    assert callee.seen == ["first"]


@pytest.mark.parametrize("timeout", [0, -1])
async def test_no_time_at_all(world: World, timeout: float) -> None:
    address, callee = await world.callee()
    assert type(await _error(world, address, "note", 1, timeout=timeout)) is NotExecuted
    assert callee.seen == []


@pytest.mark.parametrize("timeout", [float("inf"), float("nan")])
async def test_no_call_without_an_end(world: World, timeout: float) -> None:
    address, _ = await world.callee()
    with pytest.raises(ValueError, match="finite"):
        await world.here.call(address, "lua", "add", 1, timeout=timeout)


async def test_cancelling_the_caller_leaves_the_callee_running(world: World) -> None:
    address, callee = await world.callee()
    call = asyncio.create_task(world.here.call(address, "lua", "later", 2, "done"))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(3)
    assert callee.seen == ["done"]
    assert world.here.counters["late_answers"] == 1
    assert not world.here.root._cell.pending


async def test_names(world: World) -> None:
    class Named(Callee):
        name = "NAMED"

    with pytest.raises(UnknownName) as caught:
        await world.here.query("NAMED")
    assert isinstance(caught.value, LookupError)
    address = await world.there.spawn(Named)
    assert await world.here.query("NAMED") == address
    world.there.cells[address].service.register("ALIAS")
    assert await world.here.query("ALIAS") == address
    with pytest.raises(NameTaken):
        await world.there.spawn(Named)
    world.there.kill(address)
    await asyncio.sleep(1)  # until all nodes know
    for name in ("NAMED", "ALIAS"):
        with pytest.raises(UnknownName):
            await world.here.query(name)
    assert await world.there.spawn(Named) != address


async def test_query_waits_for_a_name(world: World) -> None:
    class Named(Callee):
        name = "NAMED"

    async def spawn() -> None:
        await world.there.spawn(Named)

    world.there.root.timeout(2, spawn)
    started = world.here.now()
    with pytest.raises(UnknownName):
        await world.here.query("NAMED", wait=1)
    assert world.here.now() - started == pytest.approx(1)
    address = await world.here.query("NAMED", wait=3)
    assert world.here.now() - started == pytest.approx(2, abs=0.1)
    assert await world.here.call(address, "lua", "add", 1) == 11


@pytest.mark.parametrize("how", ["kill", "exit", "already"])
async def test_monitor_tells_of_the_end(world: World, how: str) -> None:
    address, _ = await world.callee()
    watcher = await world.here.spawn(Watcher)
    service = world.here.cells[watcher].service
    assert isinstance(service, Watcher)
    if how == "already":
        world.there.kill(address)
    await world.here.call(watcher, "lua", "watch", address)
    if how == "kill":
        world.here.kill(address)
    elif how == "exit":
        await world.here.call(address, "lua", "leave", 1)
    await asyncio.sleep(1)
    words = {"kill": "was killed", "exit": "exited", "already": "is not alive"}
    assert service.down == [(address, words[how])]
    assert not world.here.services.monitors
    assert not world.there.services.monitors
    assert not service._cell.watching


async def test_unmonitor_and_the_end_of_the_watcher(world: World) -> None:
    address, _ = await world.callee()
    watchers = [await world.here.spawn(Watcher) for _ in range(2)]
    for watcher in watchers:
        await world.here.call(watcher, "lua", "watch", address)
    await asyncio.sleep(1)
    assert len(world.there.services.monitors[address]) == 2
    await world.here.call(watchers[0], "lua", "unwatch", address)
    world.here.kill(watchers[1])
    await asyncio.sleep(1)
    assert not world.there.services.monitors
    assert not world.here.services.monitors
    world.there.kill(address)
    await asyncio.sleep(1)
    assert world.here.cells[watchers[0]].service.down == []  # type: ignore[attr-defined]  # a Watcher
    assert world.here.dead_letters.total == 0


async def test_lost_node_ends_what_was_monitored_there(world: World) -> None:
    if world.network is None:
        pytest.skip("needs two nodes")
    address, _ = await world.callee()
    watcher = await world.here.spawn(Watcher)
    await world.here.call(watcher, "lua", "watch", address)
    await asyncio.sleep(1)
    world.network.cut("here", "there")
    await asyncio.sleep(1)
    assert world.here.cells[watcher].service.down == [(address, "its node was lost")]  # type: ignore[attr-defined]  # a Watcher
    assert not world.there.services.monitors


async def test_stop_of_the_callees_node_fails_calls_in_progress(world: World) -> None:
    address, _ = await world.callee()
    call = asyncio.create_task(_error(world, address, "later", 3, "x"))
    await asyncio.sleep(1)
    await world.there.stop()
    assert type(await call) is Unknown


async def test_stop_of_the_callers_node_ends_its_calls_elsewhere(world: World) -> None:
    address, _ = await world.callee()
    call = asyncio.create_task(_error(world, address, "keep"))
    await asyncio.sleep(1)
    started = world.here.now()
    await world.here.stop()
    assert type(await call) is Unknown
    assert world.here.now() == started


async def test_stop_of_the_callers_node_ends_its_calls() -> None:
    node = Node("only", watch_loop=False)
    await node.start()
    address = await node.spawn(Callee)
    call = asyncio.create_task(node.call(address, "lua", "keep"))
    await asyncio.sleep(1)
    await node.stop()
    with pytest.raises(Unknown):
        await call
    with pytest.raises(NotExecuted):
        await node.call(address, "lua", "add", 1)
