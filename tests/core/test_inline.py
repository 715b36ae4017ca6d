"""Handlers stepped inside their callers are handlers like any other."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from skyloom import Address, Failed, Node, Service, Unknown, rpc
from skyloom.node.worker import WORKERS_IDLE_MAX
from tests.core.cast import start

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("test_variable", default="unset")


class Actor(Service):
    """Runs a function of the test as a handler: `play` is given its name."""

    def __init__(self, **roles: Callable[["Actor"], Awaitable[Any]]) -> None:
        self.roles = roles
        self.log: list[object] = []

    @rpc
    async def play(self, role: str) -> Any:
        return await self.roles[role](self)

    @rpc
    async def note(self, value: object) -> None:
        self.log.append(value)


async def actor(node: Node, **roles: Callable[[Actor], Awaitable[Any]]) -> Actor:
    address = await node.spawn(Actor, **roles)
    service = node.cells[address].service
    assert isinstance(service, Actor)
    return service


async def test_current_task_is_the_handlers_own_and_is_restored(node: Node) -> None:
    async def inner(self: Actor) -> bool:
        first = asyncio.current_task()
        await self.sleep(1)
        assert asyncio.current_task() is first
        tasks.append(first)
        return True

    async def at_once(self: Actor) -> bool:
        tasks.append(asyncio.current_task())
        return True

    tasks: list[object] = []
    callee = await actor(node, inner=inner, at_once=at_once)

    async def outer(self: Actor) -> None:
        mine = asyncio.current_task()
        for role in ("at_once", "inner", "at_once"):
            await self.call(callee.address, "lua", "play", role)
            assert asyncio.current_task() is mine
            assert tasks[-1] is not mine
            assert tasks[-1] is not None

    caller = await actor(node, outer=outer)
    mine = asyncio.current_task()
    await node.call(caller.address, "lua", "play", "outer")
    assert asyncio.current_task() is mine
    assert len(tasks) == 3


@pytest.mark.parametrize("before", [0, 1])
async def test_timeout_inside_a_handler_cancels_only_that_handler(node: Node, before: float) -> None:
    async def impatient(self: Actor) -> str:
        if before:
            await self.sleep(before)
        try:
            async with asyncio.timeout(0.5):
                await self.sleep(2)
        except TimeoutError:
            await self.sleep(0.1)
            return "timed out"
        return "?"

    callee = await actor(node, impatient=impatient)

    async def outer(self: Actor) -> str:
        async with asyncio.timeout(4):
            return f"{await self.call(callee.address, 'lua', 'play', 'impatient')} inside"

    caller = await actor(node, outer=outer)
    for _ in range(3):
        assert await node.call(caller.address, "lua", "play", "outer") == "timed out inside"


async def test_task_group_inside_a_handler_cancels_only_that_handler(node: Node) -> None:
    async def child(self: Actor) -> None:
        await self.sleep(1)
        raise ValueError("child")

    async def group(self: Actor) -> str:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child(self))
                await self.sleep(5)
        except* ValueError:
            await self.sleep(0.1)
        return "grouped"

    callee = await actor(node, group=group)

    async def outer(self: Actor) -> str:
        return f"{await self.call(callee.address, 'lua', 'play', 'group')} inside"

    caller = await actor(node, outer=outer)
    for _ in range(3):
        assert await node.call(caller.address, "lua", "play", "outer") == "grouped inside"


async def test_a_cancelled_worker_leaves_no_trace_in_the_next_handler(node: Node) -> None:
    async def forever(self: Actor) -> None:
        await self.sleep(100)

    async def group(self: Actor) -> str:
        assert (task := asyncio.current_task()) is not None
        assert task.cancelling() == 0
        outcome = "?"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail(self))
                await self.sleep(5)
        except* ValueError:
            outcome = "grouped"
        return outcome

    async def fail(self: Actor) -> None:
        raise ValueError("child")

    survivor = await actor(node, group=group)
    for _ in range(5):
        victim = await actor(node, forever=forever)
        call = asyncio.create_task(node.call(victim.address, "lua", "play", "forever"))
        await asyncio.sleep(1)
        node.kill(victim.address)
        with pytest.raises(Unknown):
            await call
        assert await node.call(survivor.address, "lua", "play", "group") == "grouped"


@pytest.mark.parametrize("suspend", [False, True])
async def test_a_handler_that_kills_its_service_and_returns_spoils_no_worker(node: Node, suspend: bool) -> None:
    async def suicide(self: Actor) -> str:
        if suspend:
            await self.sleep(1)
        self.kill(self.address)
        return "done"

    async def nap(self: Actor) -> str:
        await self.sleep(1)
        return "slept"

    survivor = await actor(node, nap=nap)
    for _ in range(3):
        victim = await actor(node, suicide=suicide)
        try:
            assert await node.call(victim.address, "lua", "play", "suicide") == "done"
        except Unknown:
            assert suspend
        assert await node.call(survivor.address, "lua", "play", "nap") == "slept"
        await asyncio.sleep(1)
        assert await node.call(survivor.address, "lua", "play", "nap") == "slept"


async def test_a_handler_cancelled_before_its_worker_took_it_over(node: Node) -> None:
    # Its worker is new, so that its task has not had its first step when the cancellation comes.
    caught: list[str] = []
    before = asyncio.all_tasks()

    async def stubborn(self: Actor) -> None:
        try:
            await asyncio.gather(asyncio.create_task(helper(self)))
        except asyncio.CancelledError:
            caught.append("handler")
            raise

    async def helper(self: Actor) -> None:
        try:
            await self.sleep(50)
        finally:
            caught.append("helper")

    victim, caller = await actor(node, stubborn=stubborn), await actor(node)
    node.executor._idle.clear()
    answers: list[object] = []
    asked = caller._cell.ask(victim.address, "lua", ("play", "stubborn"), 5)
    asked.hand_to(lambda answer, error: answers.append(error))
    node.kill(victim.address)
    assert [type(answer) for answer in answers] == [Unknown]
    await asyncio.sleep(1)
    assert caught == ["handler"]
    assert asyncio.all_tasks() - before <= {worker.task for worker in node.executor.workers}


async def test_timeout_of_no_time_between_suspension_and_take_over(node: Node) -> None:
    async def impatient(self: Actor) -> str:
        try:
            async with asyncio.timeout(0):
                await self.sleep(1)
        except TimeoutError:
            return "timed out"
        return "?"

    callee = await actor(node, impatient=impatient)
    for _ in range(3):
        node.executor._idle.clear()
        assert await node.call(callee.address, "lua", "play", "impatient") == "timed out"


@pytest.mark.parametrize("suspend", [False, True])
async def test_context_variables_do_not_leak(node: Node, suspend: bool) -> None:
    async def set_it(self: Actor) -> str:
        before = VARIABLE.get()
        VARIABLE.set("leaked")
        if suspend:
            await self.sleep(1)
            assert VARIABLE.get() == "leaked"
        return before

    callee = await actor(node, set_it=set_it)

    async def outer(self: Actor) -> list[str]:
        found = [await self.call(callee.address, "lua", "play", "set_it") for _ in range(3)]
        self.send(callee.address, "lua", "play", "set_it")
        self.send(callee.address, "lua", "play", "set_it")
        await self.sleep(2)
        return [*found, VARIABLE.get()]

    caller = await actor(node, outer=outer)
    answers = await node.call(caller.address, "lua", "play", "outer", timeout=9)
    assert answers == ["unset"] * 4
    assert VARIABLE.get() == "unset"


class Deep(Service):
    @rpc
    async def dig(self, depth: int) -> int:
        return 0 if depth == 0 else 1 + await self.call(self.address, "lua", "dig", depth - 1)


async def test_deep_chain_of_calls_does_not_overflow(node: Node) -> None:
    class Wide(Deep):
        handlers_max = 10_000

    address = await node.spawn(Wide)
    assert await node.call(address, "lua", "dig", 5_000) == 5_000


async def test_chain_longer_than_handlers_max_expires(node: Node) -> None:
    address = await node.spawn(Deep)
    with capture_logs(), pytest.raises((Unknown, Failed)):
        await node.call(address, "lua", "dig", 5_000)


async def test_tight_loop_of_inline_calls_starves_nobody(node: Node) -> None:
    class Hot(Service):
        running = True

        @rpc
        async def spin(self, dest: Address) -> int:
            count = 0
            while self.running:
                await self.call(dest, "lua", "note", 0)
                count += 1
            return count

    callee, other = await actor(node), await actor(node)
    hot = await start(node, Hot)
    ticks: list[int] = []
    call = asyncio.create_task(node.call(hot.address, "lua", "spin", callee.address))
    loop = asyncio.get_running_loop()
    for tick in range(20):
        loop.call_soon(ticks.append, tick)
        node.send(other.address, "lua", "note", tick)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ticks == list(range(20))
    assert other.log == list(range(20))
    hot.running = False
    assert 1_000 < await call < 20_000


async def test_mutual_recursion(node: Node) -> None:
    class Pong(Service):
        other: Address

        @rpc
        async def hit(self, count: int) -> list[int]:
            if count == 0:
                return [self.address.handle]
            return [self.address.handle, *await self.call(self.other, "lua", "hit", count - 1)]

    one, two = await start(node, Pong), await start(node, Pong)
    one.other, two.other = two.address, one.address
    assert await node.call(one.address, "lua", "hit", 100) == [2, 3] * 50 + [2]


async def test_errors_do_not_carry_the_callees_frames(node: Node) -> None:
    async def crash(self: Actor) -> None:
        secret = "secret"
        raise ValueError(f"crash {len(secret)}")

    async def fail(self: Actor) -> None:
        raise Failed("failed", code="test.failed")

    callee = await actor(node, crash=crash, fail=fail)
    for role in ("crash", "fail"):
        with capture_logs(), pytest.raises(Failed) as caught:
            await node.call(callee.address, "lua", "play", role)
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        traceback = error.__traceback__
        while traceback is not None:
            assert traceback.tb_frame.f_code.co_name not in ("crash", "fail", "play")
            assert not any(isinstance(v, ValueError) for v in traceback.tb_frame.f_locals.values())
            traceback = traceback.tb_next


@pytest.mark.parametrize("suspend", [False, True])
async def test_kill_of_the_caller_in_the_midst_of_its_call(node: Node, suspend: bool) -> None:
    async def murder(self: Actor) -> str:
        if suspend:
            await self.sleep(1)
        self.kill(self.request.source)
        return "murdered"

    async def outer(self: Actor) -> None:
        try:
            reached.append(await self.call(callee.address, "lua", "play", "murder"))
            await self.sleep(1)
            reached.append("survived")
        finally:
            reached.append("unwound")

    reached: list[str] = []
    callee = await actor(node, murder=murder)
    caller = await actor(node, outer=outer)
    started = node.now()
    with pytest.raises(Unknown):
        await node.call(caller.address, "lua", "play", "outer")
    assert node.now() - started == suspend
    await asyncio.sleep(5)
    assert "survived" not in reached
    assert reached[-1] == "unwound"


async def test_a_killed_handler_that_ignores_it_does_not_hold_up_its_caller(node: Node) -> None:
    async def zombie(self: Actor) -> None:
        self.kill(self.address)
        try:
            await self.sleep(3)
        except asyncio.CancelledError:
            await asyncio.sleep(3)
        with pytest.raises(Exception, match="ended"):
            await self.call(node.root.address, "lua", "x")
        with pytest.raises(Exception, match="ended"):
            self.fork(self.sleep(1))
        with pytest.raises(ValueError, match="no service"):
            self.register("ZOMBIE")
        ended.append(True)

    ended: list[bool] = []
    victim = await actor(node, zombie=zombie)
    started = node.now()
    with pytest.raises(Unknown):
        await node.call(victim.address, "lua", "play", "zombie")
    assert node.now() == started
    await asyncio.sleep(5)
    assert ended == [True]


async def test_kill_of_the_callee_in_the_midst_of_its_step(node: Node) -> None:
    async def betray(self: Actor) -> None:
        self.kill(self.request.source)

    async def betrayed(self: Actor) -> str:
        await self.call(traitor.address, "lua", "play", "betray")
        return "still answered"

    traitor = await actor(node, betray=betray)
    callee = await actor(node, betrayed=betrayed)
    assert await node.call(callee.address, "lua", "play", "betrayed") == "still answered"
    assert callee.address not in node.cells


async def test_workers_are_reused_and_bounded(node: Node) -> None:
    async def nap(self: Actor) -> None:
        await self.sleep(1)

    callee = await actor(node, nap=nap)
    for _ in range(20):
        await node.call(callee.address, "lua", "play", "nap")
    assert len(node.executor.workers) <= 3
    await asyncio.gather(*(node.call(callee.address, "lua", "play", "nap") for _ in range(600)))
    await asyncio.sleep(1)
    assert len(node.executor.workers) <= WORKERS_IDLE_MAX
    assert set(node.executor._idle) == node.executor.workers


async def test_answer_waits_behind_what_its_sender_sent_before(node: Node) -> None:
    async def send_and_return(self: Actor) -> str:
        self.send(self.request.source, "lua", "note", "sent")
        return "answer"

    async def send_and_fail(self: Actor) -> str:
        self.send(self.request.source, "lua", "note", "sent")
        raise Failed("answer")

    async def send_wait_and_return(self: Actor) -> str:
        await self.sleep(1)
        return await send_and_return(self)

    callee = await actor(node, returns=send_and_return, fails=send_and_fail, waits=send_wait_and_return)

    async def outer(self: Actor) -> None:
        for role in ("returns", "fails", "waits"):
            try:
                await self.call(callee.address, "lua", "play", role)
            except Failed:
                pass
            self.log.append("answered")

    caller = await actor(node, outer=outer)
    await node.call(caller.address, "lua", "play", "outer")
    assert caller.log == ["sent", "answered"] * 3


async def test_answer_to_ask_waits_behind_what_its_sender_sent_before(node: Node) -> None:
    async def send_and_return(self: Actor) -> str:
        self.send(self.request.source, "lua", "note", "sent")
        return "answer"

    callee = await actor(node, returns=send_and_return)
    caller = await actor(node)
    answers = caller.log
    asked = caller._cell.ask(callee.address, "lua", ("play", "returns"), 1)
    asked.hand_to(lambda answer, error: answers.append(answer))
    await asyncio.sleep(1)
    assert caller.log == ["sent", "answer"]


async def test_serial_caller_and_full_mailbox_do_not_deadlock(node: Node) -> None:
    class Serial(Actor):
        serial = True
        mailbox_messages_max = 5

    async def flood(self: Actor) -> str:
        for number in range(10):
            self.send(self.request.source, "lua", "note", number)
        return "answer"

    async def flood_later(self: Actor) -> str:
        await self.sleep(1)
        return await flood(self)

    callee = await actor(node, flood=flood, flood_later=flood_later)

    async def outer(self: Actor) -> None:
        for role in ("flood", "flood_later"):
            self.log.append(await self.call(callee.address, "lua", "play", role))

    serial = node.cells[await node.spawn(Serial, outer=outer)].service
    assert isinstance(serial, Serial)
    started = node.now()
    await node.call(serial.address, "lua", "play", "outer")
    assert node.now() - started == 1
    await asyncio.sleep(1)
    assert serial.log[:2] == ["answer", "answer"]
    assert serial.log[2:] == [0, 1, 2, 3, 4]
    assert node.dead_letters.by_reason == {"skyloom.overloaded": 15}
