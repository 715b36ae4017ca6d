"""The runtime: calls, sends, forwards, spawning, the memory of idle services, and what the patterns add to a call.

Run in turns against what one would write by hand: an actor of an asyncio.Queue, a task and a Future for the reply;
and a plain awaited coroutine, which is the floor. Skynet's numbers beside it are for orientation, from one core of a
machine of this kind.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.rig.memory import resident_bytes
from bench.rig.patterns import measure_patterns
from bench.rig.report import Row, main
from bench.rig.turns import best_rates, run_on
from skyloom import Address, MemoryNetwork, Node, Service, rpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TURNS: Final = 20
CALLS: Final = 3_000
CALLERS: Final = 100
MANY_CALLERS_FACTOR: Final = 4
SERVICES: Final = 10_000
SENDS_IN_FLIGHT: Final = 500
"""Sends after which the sender waits for the receiver, for a mailbox is bounded."""

QUEUE: Final = "queue and future"
SKYNET: Final = {
    "call, one caller": "skynet 216,000/s",
    "call, 100 callers": "skynet 216,000/s",
    "send": "skynet 400,000/s",
    "forward A to B to C": "skynet 120,000/s",
}


class Users(Service):
    """The callee."""

    @rpc
    async def get_user(self, user: int) -> int:
        return user

    @rpc
    async def get_slowly(self, user: int) -> int:
        await asyncio.sleep(0)
        return user


class Front(Service):
    """Passes every request on to `Users`, which answers the caller itself."""

    def __init__(self, users: Address) -> None:
        self.users = users

    async def on_start(self) -> None:
        self.dispatch("lua", self._on_lua)

    async def _on_lua(self, session: int, source: Address, *args: object) -> None:
        self.forward(self.users)


class Caller(Service):
    """Makes the calls, so that every one is between two services."""

    @rpc
    async def calls(self, users: Address, method: str, count: int) -> None:
        for _ in range(count):
            await self.call(users, "lua", method, 42)

    @rpc
    async def concurrent_calls(self, users: Address, method: str, count: int) -> None:
        async def caller() -> None:
            for _ in range(count // CALLERS):
                await self.call(users, "lua", method, 42)

        await asyncio.gather(*(self.fork(caller()) for _ in range(CALLERS)))

    @rpc
    async def sends(self, users: Address, count: int) -> None:
        for _ in range(count // SENDS_IN_FLIGHT):
            for _ in range(SENDS_IN_FLIGHT):
                self.send(users, "lua", "get_user", 42)
            await self.call(users, "lua", "get_user", 42)


class QueueActor:
    """The actor that people write by hand: a queue, a task, a future for each reply."""

    def __init__(self, *, slow: bool = False, behind: QueueActor | None = None) -> None:
        self.queue: asyncio.Queue[tuple[asyncio.Future[int] | None, int]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._slow, self._behind = slow, behind
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            future, user = await self.queue.get()
            if self._slow:
                await asyncio.sleep(0)
            if self._behind is not None:
                self._behind.queue.put_nowait((future, user))
            elif future is not None:
                future.set_result(user)

    async def call(self, user: int) -> int:
        future: asyncio.Future[int] = self._loop.create_future()
        self.queue.put_nowait((future, user))
        return await future

    async def calls(self, count: int) -> None:
        for _ in range(count):
            await self.call(42)

    async def concurrent_calls(self, count: int) -> None:
        await asyncio.gather(*(self.calls(count // CALLERS) for _ in range(CALLERS)))

    async def sends(self, count: int) -> None:
        for _ in range(count // SENDS_IN_FLIGHT):
            for _ in range(SENDS_IN_FLIGHT):
                self.queue.put_nowait((None, 42))
            await self.call(42)


async def plain(count: int) -> None:
    """The floor: a coroutine that is awaited."""
    users = Users()
    for _ in range(count):
        await users.get_user(42)


async def measure_messages(loop: str, scale: float) -> list[Row]:
    """Calls, sends and forwards, and a call between two nodes in memory."""
    network = MemoryNetwork()
    count = max(SENDS_IN_FLIGHT, round(CALLS * min(scale, 1.0)) // SENDS_IN_FLIGHT * SENDS_IN_FLIGHT)
    turns = max(2, round(TURNS * scale))
    async with Node("a", transport=network.transport()) as node, Node("b", transport=network.transport()) as other:
        users, far = await node.spawn(Users), await other.spawn(Users)
        front = await node.spawn(Front, users)
        caller = await node.spawn(Caller)

        def ours(method: str, *args: object) -> Callable[[int], Awaitable[object]]:
            return lambda count: node.call(caller, "lua", method, *args, count, timeout=60)

        quick, slow = QueueActor(), QueueActor(slow=True)
        relay = QueueActor(behind=quick)
        pairs: dict[str, tuple[Callable[[int], Awaitable[object]], Callable[[int], Awaitable[object]]]] = {
            "call, one caller": (quick.calls, ours("calls", users, "get_user")),
            "call, 100 callers": (quick.concurrent_calls, ours("concurrent_calls", users, "get_user")),
            "call, callee suspends": (slow.calls, ours("calls", users, "get_slowly")),
            "call, callee suspends, 100 callers": (
                slow.concurrent_calls,
                ours("concurrent_calls", users, "get_slowly"),
            ),
            "send": (quick.sends, ours("sends", users)),
            "forward A to B to C": (relay.calls, ours("calls", front, "get_user")),
            "call across two nodes": (quick.calls, ours("calls", far, "get_user")),
        }
        rows = []
        for name, (baseline, subject) in pairs.items():
            runs = {"baseline": baseline, "subject": subject}
            if name == "call, one caller":
                runs["plain"] = plain
            many = MANY_CALLERS_FACTOR if name.endswith("100 callers") else 1  # so that starting them weighs little
            best = await best_rates(runs, dict.fromkeys(runs, count * many), turns)
            if "plain" in best:
                rows.append(_row("plain awaited coroutine", loop, best["plain"], best["baseline"]))
                rows.append(_row(QUEUE, loop, best["baseline"], best["baseline"]))
            rows.append(_row(name, loop, best["subject"], best["baseline"]))
        for actor in (quick, slow, relay):
            actor.task.cancel()
        return rows


def _row(name: str, loop: str, rate: float, baseline: float) -> Row:
    details = {"baseline_per_second": baseline} if name != QUEUE else {}
    return Row(
        name=name,
        loop=loop,
        per_second=rate,
        ratio=rate / baseline,
        baseline=QUEUE,
        details=details,
        note=SKYNET.get(name, ""),
    )


async def measure_services(loop: str, scale: float) -> list[Row]:
    """Spawn rate and memory of idle services, against actors of a queue and a waiting task."""
    count = max(1_000, round(SERVICES * min(scale, 1.0)))
    async with Node("idle") as node:
        for _ in range(100):  # what comes once, not with every service
            await node.spawn(Users)
        before, began = resident_bytes(), perf_counter()
        for _ in range(count):
            await node.spawn(Users)
        seconds = perf_counter() - began
        ours_bytes = (resident_bytes() - before) / count
    before, began = resident_bytes(), perf_counter()
    actors = [QueueActor() for _ in range(count)]
    await asyncio.sleep(0)  # each task runs up to its wait
    baseline_seconds = perf_counter() - began
    baseline_bytes = (resident_bytes() - before) / count
    for actor in actors:
        actor.task.cancel()
    await asyncio.gather(*(actor.task for actor in actors), return_exceptions=True)
    rate, baseline_rate = count / seconds, count / baseline_seconds
    return [
        Row(
            name="spawn",
            loop=loop,
            per_second=rate,
            ratio=rate / baseline_rate,
            baseline="queue and waiting task",
            details={"baseline_per_second": baseline_rate},
            note="skynet 3,900/s",
        ),
        Row(
            name="memory of an idle service",
            loop=loop,
            per_second=rate,
            ratio=baseline_bytes / max(1.0, ours_bytes),
            baseline="queue and waiting task",
            details={"bytes": ours_bytes, "baseline_bytes": baseline_bytes},
            note="skynet 51 KiB",
        ),
    ]


def measure(loop: str, scale: float) -> list[Row]:
    """All of it; the memory first, while the process is still small."""
    services = run_on(loop, measure_services(loop, scale))
    return run_on(loop, measure_messages(loop, scale)) + run_on(loop, measure_patterns(loop, scale)) + services


if __name__ == "__main__":
    sys.exit(main("core", measure, sys.argv[1:]))
