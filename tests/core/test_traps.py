"""What people trip over in skynet, and the corners of our own runtime."""

import asyncio
import tracemalloc

import pytest
from structlog.testing import capture_logs

from skyloom import Address, CallError, Failed, NameTaken, Node, NotExecuted, Service, Unknown, rpc
from skyloom.message.message import SESSION_MAX
from tests.core.cast import start


class Thing(Service):
    def __init__(self) -> None:
        self.log: list[object] = []

    @rpc
    async def note(self, value: object) -> object:
        self.log.append(value)
        return value

    @rpc
    async def nap(self, seconds: float, value: object = None) -> object:
        await self.sleep(seconds)
        self.log.append(value)
        return value


async def test_early_wakeup_is_not_lost(node: Node) -> None:
    thing = await start(node, Thing)
    assert thing.wakeup("token") is False
    thing.wakeup("token")
    await thing.wait("token")
    waiting = [thing.fork(thing.wait("token")) for _ in range(2)]
    await asyncio.sleep(1)
    assert not any(task.done() for task in waiting)
    assert thing.wakeup("token") is True
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False]
    waiting.append(thing.fork(thing.wait("token")))
    await asyncio.sleep(1)
    thing.wakeup("token")
    waiting[1].cancel()  # it was woken already: the next one gets the wakeup
    await asyncio.sleep(1)
    assert waiting[2].done()
    assert not waiting[2].cancelled()


async def test_early_wakeups_are_bounded(node: Node) -> None:
    thing = await start(node, Thing)
    for number in range(1_000):
        thing.wakeup(number)
    thing.wakeup(0)
    with pytest.raises(RuntimeError, match="nobody waits"):
        thing.wakeup("one more")


async def test_timers_can_be_cancelled(node: Node) -> None:
    thing = await start(node, Thing)
    timers = [thing.timeout(seconds, thing.note, seconds) for seconds in (3, 1, 2)]
    timers[2].cancel()
    await asyncio.sleep(10)
    assert thing.log == [1, 3]
    assert not any(timer.active for timer in timers)
    last = thing.timeout(1, thing.note, "dead")
    assert last.active
    node.kill(thing.address)
    await asyncio.sleep(2)
    assert not last.active
    assert thing.log == [1, 3]


async def test_fork_errors_are_logged_and_forks_end_with_the_service(node: Node) -> None:
    thing = await start(node, Thing)

    async def crash() -> None:
        raise ZeroDivisionError("forked")

    with capture_logs() as logs:
        failed = thing.fork(crash())
        await asyncio.sleep(1)
    assert [entry["event"] for entry in logs] == ["a forked task failed"]
    with pytest.raises(ZeroDivisionError):
        await failed
    endless = thing.fork(thing.sleep(1000))
    node.kill(thing.address)
    await asyncio.sleep(1)
    assert endless.cancelled()


async def test_fork_has_no_request_unless_it_inherits(node: Node) -> None:
    class Forker(Thing):
        @rpc
        async def try_it(self, inherit: bool) -> bool:
            return await self.fork(self.look(), inherit=inherit)

        async def look(self) -> bool:
            try:
                return self.request.session > 0
            except RuntimeError:
                return False

    forker = await start(node, Forker)
    assert await node.call(forker.address, "lua", "try_it", True) is True
    assert await node.call(forker.address, "lua", "try_it", False) is False


async def test_section_is_fifo_and_safe_under_cancellation(node: Node) -> None:
    thing = await start(node, Thing)
    section = thing.queue()

    async def enter(number: int) -> None:
        async with section:
            thing.log.append(number)
            await thing.sleep(1)

    tasks = [thing.fork(enter(number)) for number in range(5)]
    await asyncio.sleep(0.5)
    tasks[1].cancel()  # while it waits
    await asyncio.sleep(0.5)
    await asyncio.sleep(0)
    tasks[2].cancel()  # while it is inside, or has just been let in
    await asyncio.sleep(10)
    assert thing.log in ([0, 2, 3, 4], [0, 3, 4])
    assert not section.locked
    inside = thing.fork(enter(9))
    outside = thing.fork(enter(10))
    await asyncio.sleep(0.5)
    inside.cancel()
    await asyncio.sleep(0)
    outside.cancel()  # its turn has come, but it has not run yet
    await asyncio.sleep(1)
    assert not section.locked


async def test_cancelled_queue_message_does_not_block_the_next(node: Node) -> None:
    thing = await start(node, Thing)
    calls = [asyncio.create_task(thing.call(thing.address, "queue", "nap", 1, n)) for n in range(3)]
    await asyncio.sleep(0.5)
    (waiting,) = [worker for worker in thing._cell.workers or () if worker.message.session == 2]  # type: ignore[union-attr]  # half-run, so it has a message
    waiting.task.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers[0] == 0
    assert isinstance(answers[1], Failed)
    assert answers[1].code == "skyloom.cancelled"
    assert answers[2] == 2


async def test_select_gives_answers_as_they_come(node: Node) -> None:
    thing = await start(node, Thing)
    caller = await start(node, Thing)
    calls = {n: caller.call(thing.address, "lua", "nap", n, n) for n in (3, 1, 2)}
    calls[0] = caller.call(Address("core", 99), "lua", "x")
    answers = [answer async for answer in caller.select(calls)]
    assert [answer.key for answer in answers] == [0, 1, 2, 3]
    assert [answer.value for answer in answers] == [None, 1, 2, 3]
    assert isinstance(answers[0].error, NotExecuted)
    with pytest.raises(NotExecuted):
        answers[0].result()
    assert answers[1].result() == 1


async def test_select_times_out(node: Node) -> None:
    thing = await start(node, Thing)
    calls = {n: thing.call(thing.address, "lua", "nap", n, n) for n in (4, 1, 3)}
    started = node.now()
    answers = [answer async for answer in thing.select(calls, timeout=2)]
    assert node.now() - started == pytest.approx(2)
    assert [(answer.key, answer.value) for answer in answers] == [(1, 1), (4, None), (3, None)]
    assert all(isinstance(answer.error, CallError) for answer in answers[1:])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not thing._cell.pending


async def test_sessions_wrap_around_and_skip_pending_ones(node: Node) -> None:
    thing = await start(node, Thing)
    caller = await start(node, Thing)
    caller._cell._session = SESSION_MAX - 2
    early = [caller.fork(caller.call(thing.address, "lua", "nap", 3, n)) for n in range(4)]
    await asyncio.sleep(1)
    assert sorted(caller._cell.pending or {}) == [1, 2, SESSION_MAX - 1, SESSION_MAX]
    caller._cell._session = SESSION_MAX - 2
    late = caller.fork(caller.call(thing.address, "lua", "nap", 3, "late"))
    await asyncio.sleep(1)
    assert 3 in (caller._cell.pending or {})
    assert await asyncio.gather(*early, late) == [0, 1, 2, 3, "late"]


async def test_raw_protocols(node: Node) -> None:
    thing = await start(node, Thing)
    for name, number in (("chat", 10), ("lua", 25), ("rpc", 26)):
        with pytest.raises(ValueError, match="already"):
            thing.register_protocol(name, number)
    thing.register_protocol("chat", 25)
    with pytest.raises(ValueError, match="already"):
        thing.register_protocol("chat", 26)
    with pytest.raises(ValueError, match="already"):
        thing.register_protocol("other", 25)
    with pytest.raises(ValueError, match=r"0\.\.255"):
        thing.register_protocol("big", 256)
    with pytest.raises(ValueError, match="both"):
        thing.register_protocol("half", 27, pack=str.encode)
    other = await start(node, Thing)
    with pytest.raises(LookupError):
        other.send(thing.address, "chat", 1)
    with pytest.raises(TypeError, match="async def"):
        thing.dispatch("chat", lambda *args: None)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(LookupError):
        thing.dispatch("nothing", thing.note)


async def test_rpc_needs_arguments_by_position() -> None:
    with pytest.raises(TypeError, match="async def"):
        rpc(lambda self: None)  # type: ignore[arg-type, return-value]  # what is tested

    async def keyword_only(self: object, *, value: int) -> None: ...

    with pytest.raises(TypeError, match="'value'"):
        rpc(keyword_only)


async def test_proxy_takes_names_of_arguments(node: Node) -> None:
    thing = await start(node, Thing)
    proxy = Thing.at(node.root, thing.address)
    assert await proxy.nap(seconds=1, value="x") == "x"
    assert await proxy.nap(0) is None
    with pytest.raises(TypeError):
        await proxy.nap(second=1)  # type: ignore[call-arg]  # what is tested
    with pytest.raises(AttributeError, match="@rpc"):
        proxy.exit()


async def test_unique_under_concurrency(node: Node) -> None:
    class Only(Thing):
        name = "ONLY"
        made = 0

        async def on_start(self) -> None:
            Only.made += 1
            await self.sleep(1)
            if Only.made == 1:
                raise ValueError("the first fails")

    for _ in range(2):
        results = await asyncio.gather(*(node.unique(Only) for _ in range(10)), return_exceptions=True)
        if Only.made == 1:
            assert all(isinstance(result, Failed) for result in results)
    assert Only.made == 2
    assert len(set(results)) == 1
    assert await node.unique(Only) == results[0]


async def test_two_spawns_of_a_name_at_once_leave_one(node: Node) -> None:
    class Only(Thing):
        name = "ONLY"

        async def on_start(self) -> None:
            await self.sleep(1)

    before = len(node.cells)
    results = await asyncio.gather(node.spawn(Only), node.spawn(Only), return_exceptions=True)
    assert [type(result) for result in results] == [Address, NameTaken]
    assert len(node.cells) == before + 1


async def test_on_start_that_takes_too_long(node: Node) -> None:
    class Slow(Thing):
        async def on_start(self) -> None:
            await self.sleep(1000)

    started = node.now()
    with pytest.raises(Failed, match="TimeoutError"):
        await node.spawn(Slow)
    assert node.now() - started == pytest.approx(30)
    assert len(node.cells) == 1


class Stopper(Thing):
    stopped: float | None = None

    async def on_stop(self) -> None:
        assert not self._cell.workers
        self.stopped = self.clock.now()


async def test_exit_runs_on_stop_after_the_last_handler(node: Node) -> None:
    class Leaver(Stopper):
        other: Address

        @rpc
        async def leave(self) -> str:
            self.exit()
            await self.sleep(1)
            # Answers still reach it, also those that were queued.
            return str(await self.call(self.other, "lua", "nap", 1, "bye"))

        @rpc
        async def clean_up_slowly(self) -> None:
            try:
                await self.sleep(100)
            finally:
                await self.sleep(3)

    leaver, other = await start(node, Leaver), await start(node, Thing)
    leaver.other = other.address
    slow = asyncio.create_task(node.call(leaver.address, "lua", "clean_up_slowly"))
    await asyncio.sleep(1)
    started = node.now()
    assert await node.call(leaver.address, "lua", "leave") == "bye"
    with pytest.raises(Unknown):
        await slow
    assert leaver.stopped is None
    await asyncio.sleep(5)
    assert leaver.stopped == started + 3
    assert leaver.address not in node.cells


async def test_an_answer_queued_when_a_service_exits_is_not_lost(node: Node) -> None:
    class Leaver(Thing):
        @rpc
        async def leave(self, dest: Address) -> object:
            return await self.call(dest, "lua", "send_back")

    class Sender(Thing):
        @rpc
        async def send_back(self) -> str:
            await self.sleep(1)
            return "not queued"

    leaver, sender = await start(node, Leaver), await start(node, Sender)
    call = asyncio.create_task(node.call(leaver.address, "lua", "leave", sender.address))
    await asyncio.sleep(0.5)
    (worker,) = leaver._cell.workers or set()
    assert worker.message is not None
    node.send(leaver.address, "lua", "note", 0)
    leaver._cell.answer(1, ("queued",))
    assert leaver._cell.answers_queued == 1
    node.services.exit(leaver._cell, worker.message)
    assert await call == "queued"


async def test_exit_from_a_fork_and_twice(node: Node) -> None:
    class Leaver(Stopper):
        @rpc
        async def leave(self) -> str:
            self.fork(self.go(), inherit=True)
            return "answered"

        async def go(self) -> None:
            await self.sleep(1)
            self.exit()
            self.exit()

    leaver = await start(node, Leaver)
    assert await node.call(leaver.address, "lua", "leave") == "answered"
    started = node.now()
    await asyncio.sleep(2)
    assert leaver.stopped == started + 1
    assert leaver.address not in node.cells


async def test_stop_with_stuck_handlers_ends() -> None:
    class Stuck(Stopper):
        @rpc
        async def ignore(self) -> None:
            for _ in range(3):
                try:
                    await self.sleep(1000)
                except asyncio.CancelledError:
                    continue

        async def on_stop(self) -> None:
            self.stopped = self.clock.now()

    node = Node("stuck", watch_loop=False)
    await node.start()
    stuck = await start(node, Stuck)
    node.send(stuck.address, "lua", "ignore")
    await asyncio.sleep(1)
    started = node.now()
    with capture_logs() as logs:
        await node.stop()
    assert 5 <= node.now() - started <= 15
    assert stuck.stopped is not None
    assert "service has handlers that do not end" in [entry["event"] for entry in logs]
    for worker in node.executor.workers:
        worker.task.cancel()
    await asyncio.sleep(1)


async def test_stop_waits_for_what_exits_already() -> None:
    class Slow(Stopper):
        async def on_stop(self) -> None:
            await self.sleep(2)
            await super().on_stop()

    node = Node("stops", watch_loop=False)
    await node.start()
    leaving = await start(node, Slow)
    leaving.exit()
    await node.stop()
    assert leaving.stopped is not None
    assert not node.cells


async def test_idle_services_are_small() -> None:
    class Idle(Service):
        @rpc
        async def ping(self) -> int:
            return 1

    async with Node("idle", watch_loop=False) as node:
        await node.spawn(Idle)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(10_000):
                await node.spawn(Idle)
            size = (tracemalloc.get_traced_memory()[0] - before) / 10_000
        finally:
            tracemalloc.stop()
        assert size <= 2048
        for cell in list(node.cells.values()):  # one by one they take their time under the test's eyes
            if cell.service is not node.root:
                node.kill(cell.address)
        assert len(node.cells) == 1


async def test_query_does_not_spin_when_a_name_comes_and_goes(node: Node) -> None:
    class Shy(Thing):
        name = "SHY"

    query = asyncio.create_task(node.query("SHY", wait=2))
    await asyncio.sleep(1)
    node.kill(await node.spawn(Shy))
    with pytest.raises(NotExecuted):
        await query
    assert not node.names._waiting
