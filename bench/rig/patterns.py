"""What the patterns cost: each row is a call, or a send, with a pattern around it.

Run in turns against the bare call or send; `added_microseconds` is what the pattern adds to one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bench.rig.report import Row
from bench.rig.turns import best_rates
from skyloom import Address, Node, Service, rpc
from skyloom.patterns.batcher import batched
from skyloom.patterns.breaker import call_with_circuit
from skyloom.patterns.pool import ConnectionPool
from skyloom.patterns.retry import retry_call
from skyloom.patterns.topic import Topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TURNS: Final = 40
CALLS: Final = 3_000
CALLERS: Final = 100

SUBSCRIBERS: Final = 100

CALL: Final = "call between two services"
CALLS_AT_ONCE: Final = "call, callee suspends, 100"
SENDS: Final = "send to each of 100"
SCORES: Final = Topic[dict[str, object]]("scores")
SCORE: Final[dict[str, object]] = {"player": "ada", "score": 42}


class Users(Service):
    """The callee."""

    @rpc
    async def get_user(self, user: int) -> int:
        return user

    @rpc
    async def get_slowly(self, user: int) -> int:
        await asyncio.sleep(0)
        return user

    @rpc
    @batched(max_size=10)
    async def get_users(self, users: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return users


class Board(Service):
    """One of many who hear a score, by topic or by a send of its own."""

    @rpc
    async def follow(self, arena: Address) -> None:
        await SCORES.subscribe(self, arena, self.on_score)

    @rpc
    async def on_score(self, score: dict[str, object]) -> None: ...


class Arena(Service):
    """Tells the boards; the last one's answer shows that they have heard, for all take their turns."""

    def __init__(self, boards: list[Address]) -> None:
        self.boards = boards

    async def on_start(self) -> None:
        self.scores = SCORES.open(self)

    @rpc
    async def invite(self) -> None:
        for board in self.boards:
            await self.call(board, "lua", "follow", self.address)

    @rpc
    async def publishes(self, count: int) -> None:
        for _ in range(count // SUBSCRIBERS):
            self.scores.publish(SCORE)
            await self.call(self.boards[-1], "lua", "on_score", {})

    @rpc
    async def sends(self, count: int) -> None:
        for _ in range(count // SUBSCRIBERS):
            for board in self.boards:
                self.send(board, "lua", "on_score", SCORE)
            await self.call(self.boards[-1], "lua", "on_score", {})


class Connection:
    """Does nothing."""

    async def close(self) -> None:
        pass


async def connect() -> Connection:
    return Connection()


class Caller(Service):
    """Makes the calls, so that every one is between two services."""

    async def on_start(self) -> None:
        self.pool = ConnectionPool(self, connect, close=Connection.close)

    async def on_stop(self) -> None:
        await self.pool.aclose()

    @rpc
    async def calls(self, users: Address, count: int) -> None:
        for _ in range(count):
            await self.call(users, "lua", "get_user", 42)

    @rpc
    async def circuit(self, users: Address, count: int) -> None:
        for _ in range(count):
            await call_with_circuit(self, users, "lua", "get_user", 42)

    @rpc
    async def retry(self, users: Address, count: int) -> None:
        for _ in range(count):
            await retry_call(self, users, "lua", "get_user", 42)

    @rpc
    async def both(self, users: Address, count: int) -> None:
        for _ in range(count):
            await retry_call(self, users, "lua", "get_user", 42, circuit=True)

    @rpc
    async def pooled(self, users: Address, count: int) -> None:
        for _ in range(count):
            async with self.pool.connection():
                await self.call(users, "lua", "get_user", 42)

    @rpc
    async def at_once(self, users: Address, method: str, count: int) -> None:
        async def caller() -> None:
            for _ in range(count // CALLERS):
                await self.call(users, "lua", method, 42)

        await asyncio.gather(*(self.fork(caller()) for _ in range(CALLERS)))


async def measure_patterns(loop: str, scale: float) -> list[Row]:
    """Each pattern against the same call without it."""
    count = max(CALLERS * 10, round(CALLS * min(scale, 1.0)) // CALLERS * CALLERS)
    async with Node("patterns") as node:
        users, caller = await node.spawn(Users), await node.spawn(Caller)
        arena = await node.spawn(Arena, [await node.spawn(Board) for _ in range(SUBSCRIBERS)])
        await node.call(arena, "lua", "invite")

        def ours(method: str, *args: object) -> Callable[[int], Awaitable[object]]:
            return lambda count: node.call(caller, "lua", method, users, *args, count, timeout=60)

        one = {
            CALL: ours("calls"),
            "call through a breaker": ours("circuit"),
            "call with retry": ours("retry"),
            "call with retry through a breaker": ours("both"),
            "call with a pooled connection": ours("pooled"),
        }
        many = {CALLS_AT_ONCE: ours("at_once", "get_slowly"), "batched call, 100 callers": ours("at_once", "get_users")}
        told = {
            SENDS: lambda count: node.call(arena, "lua", "sends", count, timeout=60),
            "topic, 100 subscribers": lambda count: node.call(arena, "lua", "publishes", count, timeout=60),
        }
        rows = []
        for runs, baseline in ((one, CALL), (many, CALLS_AT_ONCE), (told, SENDS)):
            best = await best_rates(runs, dict.fromkeys(runs, count), max(2, round(TURNS * scale)))
            rows += [_row(name, loop, best[name], best[baseline], baseline) for name in runs]
        return rows


def _row(name: str, loop: str, rate: float, baseline_rate: float, baseline: str) -> Row:
    added = (1 / rate - 1 / baseline_rate) * 1e6
    return Row(
        name=name,
        loop=loop,
        per_second=rate,
        ratio=rate / baseline_rate,
        baseline=baseline,
        details={} if name == baseline else {"added_microseconds": added},
    )
