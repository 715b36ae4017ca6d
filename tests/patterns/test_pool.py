"""The connection pool: its bounds, its order, and that nothing gets lost."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom import Failed, Node, NotExecuted, Service
from skyloom.patterns.pool import ConnectionPool
from skyloom.testing import SimLoop
from tests.core.cast import start
from tests.examples import examples


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("pool", watch_loop=False) as node:
        yield node


class Connection:
    """What a pool keeps; `World` counts them."""

    def __init__(self, world: "World", number: int) -> None:
        self.world, self.number, self.alive, self.closed = world, number, True, False

    async def close(self) -> None:
        await asyncio.sleep(self.world.close_seconds)
        assert not self.closed
        self.closed = True
        self.world.open.discard(self)

    async def ping(self) -> bool:
        await asyncio.sleep(self.world.ping_seconds)
        self.world.pings += 1
        return self.alive


class World:
    """The other side."""

    def __init__(self) -> None:
        self.open: set[Connection] = set()
        self.opened = self.pings = self.most = 0
        self.opening = 0
        self.connect_seconds = self.close_seconds = self.ping_seconds = 0.01
        self.refuse = False

    async def connect(self) -> Connection:
        self.opening += 1
        self.most = max(self.most, self.opening + len(self.open))
        try:
            await asyncio.sleep(self.connect_seconds)
            if self.refuse:
                raise ConnectionRefusedError("nobody listens")
            self.opened += 1
            connection = Connection(self, self.opened)
            self.open.add(connection)
            return connection
        finally:
            self.opening -= 1


async def make(node: Node, world: World, **settings: float) -> ConnectionPool[Connection]:
    service = await start(node, Service)
    return ConnectionPool(
        service,
        world.connect,
        close=Connection.close,
        check=Connection.ping,
        **settings,  # type: ignore[arg-type]  # max_size is an int
    )


async def test_a_connection_is_used_again(node: Node) -> None:
    world = World()
    pool = await make(node, world)
    for _ in range(5):
        async with pool.connection() as connection:
            assert (pool.lent, pool.resting, connection.number) == (1, 0, 1)
    assert (pool.lent, pool.resting, pool.size, world.pings) == (0, 1, 1, 0)


async def test_it_is_bounded_and_who_waits_is_served_first_come_first_served(node: Node) -> None:
    world = World()
    pool = await make(node, world, max_size=3)
    served: list[int] = []

    async def use(number: int) -> None:
        async with pool.connection():
            served.append(number)
            await asyncio.sleep(0.1 + 0.01 * (number % 3))

    await asyncio.gather(*(use(number) for number in range(20)))
    assert served == list(range(20))
    assert world.most == world.opened == 3


async def test_who_comes_later_does_not_overtake(node: Node) -> None:
    world = World()
    pool = await make(node, world, max_size=1)
    held = await pool.acquire()
    waiting = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    pool.release(held)
    late = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0.01)
    assert waiting.done()
    assert not late.done()
    pool.release(await waiting)
    pool.release(await late)


async def test_who_waits_too_long_is_refused(node: Node) -> None:
    pool = await make(node, World(), max_size=1, acquire_seconds=0.5)
    held = await pool.acquire()
    started = node.now()
    with pytest.raises(NotExecuted) as caught:
        await pool.acquire()
    assert node.now() - started == pytest.approx(0.5)
    assert (caught.value.code, caught.value.kind) == ("skyloom.pool_exhausted", "resource_exhausted")
    assert pool.waiting == 0
    pool.release(held)
    assert await pool.acquire() is held


async def test_the_line_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyloom.patterns.pool.POOL_WAITERS_MAX", 2)
    pool = await make(node, World(), max_size=1, acquire_seconds=1)
    await pool.acquire()
    results = await asyncio.gather(*(pool.acquire() for _ in range(3)), return_exceptions=True)
    assert [str(result).split(": ")[1][:1] for result in results] == ["1", "1", "2"]


async def test_a_connection_that_rested_is_checked_and_replaced_when_dead(node: Node) -> None:
    world = World()
    pool = await make(node, world, check_idle_seconds=30)
    async with pool.connection() as first:
        pass
    await asyncio.sleep(29)
    async with pool.connection():
        assert world.pings == 0
    await asyncio.sleep(31)
    async with pool.connection() as again:
        assert again is first
    assert world.pings == 1
    first.alive = False
    await asyncio.sleep(31)
    async with pool.connection() as second:
        assert second is not first
    assert first.closed


async def test_a_check_that_hangs_or_raises_is_a_dead_connection(node: Node) -> None:
    world = World()
    pool = await make(node, world, check_idle_seconds=0)
    async with pool.connection() as first:
        pass
    world.ping_seconds = 100
    async with pool.connection() as second:
        assert second is not first
    assert first.closed


@pytest.mark.parametrize("while_used", [True, False])
async def test_a_connection_older_than_max_age_is_closed(node: Node, while_used: bool) -> None:
    world = World()
    pool = await make(node, world, max_age_seconds=60)
    async with pool.connection() as first:
        if while_used:
            await asyncio.sleep(61)
    await asyncio.sleep(1 if while_used else 60.5)
    async with pool.connection() as second:
        assert second is not first
    assert first.closed
    assert len(world.open) == 1


async def test_after_an_error_a_connection_is_checked_and_after_a_cancellation_closed(node: Node) -> None:
    world = World()
    pool = await make(node, world)
    with pytest.raises(Failed):
        async with pool.connection() as first:
            raise Failed("no money")
    async with pool.connection() as again:
        assert again is first
    assert world.pings == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), pool.connection():
            await asyncio.sleep(10)
    async with pool.connection() as second:
        assert second is not first
    assert first.closed


async def test_who_is_cancelled_while_connecting_leaves_the_connection_to_others(node: Node) -> None:
    world = World()
    pool = await make(node, world)
    first = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0.005)
    first.cancel()
    await asyncio.sleep(0.1)
    assert (pool.resting, pool.waiting, world.opened) == (1, 0, 1)


async def test_who_is_cancelled_just_as_it_is_served_loses_nothing(node: Node) -> None:
    world = World()
    pool = await make(node, world, max_size=1)
    held = await pool.acquire()
    first, second = asyncio.ensure_future(pool.acquire()), asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    pool.release(held)
    first.cancel()
    assert await second is held
    assert (pool.lent, pool.waiting) == (1, 0)


async def test_a_failure_to_connect_is_the_first_ones_and_others_try_anew(node: Node) -> None:
    world = World()
    pool = await make(node, world, max_size=1)
    world.refuse = True
    first, second = asyncio.ensure_future(pool.acquire()), asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0.015)
    world.refuse = False
    with pytest.raises(NotExecuted, match="nobody listens"):
        await first
    assert (await second).number == 1
    world.connect_seconds = 100
    other = await make(node, world, connect_seconds=1)
    with pytest.raises(NotExecuted, match="longer than 1 s"):
        await other.acquire()
    assert other.size == 0


async def test_the_deadline_of_the_request_being_handled_is_kept(node: Node) -> None:
    pool = await make(node, World(), max_size=1, acquire_seconds=50)
    await pool.acquire()

    class Asker(Service):
        async def on_start(self) -> None:
            self.dispatch("lua", self.ask)

        async def ask(self, *_: object) -> None:
            try:
                await pool.acquire()
            except NotExecuted:
                self.gave_up = self.clock.now()

    asker = await start(node, Asker)
    started = node.now()
    with pytest.raises(TimeoutError):
        await node.call(asker.address, "lua", timeout=0.5)
    await asyncio.sleep(0.1)
    assert asker.gave_up - started == pytest.approx(0.5)


async def test_closing_refuses_who_waits_and_waits_for_what_is_lent(node: Node) -> None:
    world = World()
    pool = await make(node, world, max_size=2)
    held, other = await pool.acquire(), await pool.acquire()
    waiting = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    pool.release(other)
    pool.release(await waiting)
    closing = asyncio.ensure_future(pool.aclose())
    await asyncio.sleep(1)
    assert not closing.done()
    with pytest.raises(NotExecuted, match="closed"):
        await pool.acquire()
    pool.release(held)
    await closing
    assert world.open == set()
    assert pool.size == 0


async def test_what_is_not_lent_cannot_be_given_back(node: Node) -> None:
    pool = await make(node, World())
    connection = await pool.acquire()
    pool.release(connection)
    with pytest.raises(ValueError, match="not lent"):
        pool.release(connection)


@examples(100)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 25))
def test_never_more_than_max_in_order_and_none_lost_under_random_cancellation(
    seed: int, max_size: int, users: int
) -> None:
    rng = random.Random(seed)
    world = World()
    world.connect_seconds, world.close_seconds = rng.choice([0, 0.02]), rng.choice([0, 0.02])
    asked: list[int] = []
    served: list[int] = []

    async def play() -> None:
        async with Node("pool", watch_loop=False) as node:
            pool = await make(
                node, world, max_size=max_size, acquire_seconds=0.5, max_age_seconds=0.3, check_idle_seconds=0.05
            )

            async def use(number: int) -> None:
                await asyncio.sleep(rng.random() * 0.5)
                asked.append(number)
                async with pool.connection() as connection:
                    served.append(number)
                    assert connection in world.open
                    await asyncio.sleep(rng.random() * 0.1)
                    if rng.random() < 0.2:
                        connection.alive = False
                        raise Failed("broken")

            async def break_things() -> None:
                for _ in range(20):
                    await asyncio.sleep(rng.random() * 0.06)
                    rng.choice(tasks).cancel()
                    world.refuse = rng.random() < 0.2
                    assert pool.size <= max_size

            tasks = [asyncio.ensure_future(use(number)) for number in range(users)]
            await asyncio.gather(break_things(), *tasks, return_exceptions=True)
            await asyncio.sleep(1)
            assert world.most <= max_size
            assert served == [number for number in asked if number in served], "somebody overtook"
            assert (pool.lent, pool.waiting) == (0, 0)
            assert pool.size == pool.resting == len(world.open)
            world.refuse = False
            for connection in [await pool.acquire() for _ in range(max_size)]:
                pool.release(connection)
            await pool.aclose()
            assert not world.open

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(play())
