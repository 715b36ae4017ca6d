"""Virtual time, the order that a seed draws, and what it may not change."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from skyloom import Node, Service, UnknownName, rpc
from skyloom.testing import Deadlock, Livelock, Sim, SimLoop, loop, simulate
from skyloom.testing.loop import START_SECONDS


async def test_an_hour_of_timers_costs_milliseconds_and_is_exact(sim: Sim) -> None:
    before = time.monotonic()
    for _ in range(60):
        await asyncio.sleep(60)
    assert sim.now() == 3600
    assert sim.loop.time() == START_SECONDS + 3600
    assert time.monotonic() - before < 1


async def test_timers_fire_in_the_order_of_their_times(sim: Sim) -> None:
    order: list[int] = []
    for after in (30, 10, 20):
        sim.loop.call_later(after, order.append, after)
    await sim.advance(31)
    assert order == [10, 20, 30]


def orders(seed: int | None) -> tuple[str, str, str]:
    """The order of callbacks, of tasks' first steps and of timers due together."""

    async def main() -> tuple[str, str, str]:
        running = asyncio.get_running_loop()
        callbacks: list[str] = []
        tasks: list[str] = []
        timers: list[str] = []

        async def step(name: str) -> None:
            tasks.append(name)

        for name in "abcde":
            running.call_soon(callbacks.append, name)
            running.call_at(START_SECONDS + 1, timers.append, name)
        await asyncio.gather(*map(step, "abcde"))
        await asyncio.sleep(2)
        return "".join(callbacks), "".join(tasks), "".join(timers)

    with asyncio.Runner(loop_factory=lambda: SimLoop(seed)) as runner:
        return runner.run(main())


def test_a_seed_changes_the_order_of_tasks_and_timers_and_not_that_of_callbacks() -> None:
    runs = [orders(seed) for seed in range(50)]
    assert {callbacks for callbacks, _, _ in runs} == {"abcde"}
    assert len({tasks for _, tasks, _ in runs}) > 30
    assert len({timers for _, _, timers in runs}) > 30
    assert runs == [orders(seed) for seed in range(50)]


def test_without_a_seed_the_order_is_asyncios() -> None:
    assert orders(None)[:2] == ("abcde", "abcde")


async def test_a_turn_stays_a_turn(sim: Sim) -> None:
    steps: list[int] = []

    async def walk(me: int) -> None:
        for _ in range(5):
            steps.append(me)
            await asyncio.sleep(0)

    await asyncio.gather(*(walk(me) for me in range(4)))
    for turn in range(5):
        assert sorted(steps[turn * 4 : turn * 4 + 4]) == [0, 1, 2, 3]


async def test_the_order_in_which_a_set_wakes_tasks_makes_no_difference(sim: Sim) -> None:
    """Futures hash by their place in memory, which differs from run to run."""
    futures = [sim.loop.create_future() for _ in range(20)]
    woken: list[int] = []

    async def wait(number: int) -> None:
        await futures[number]
        woken.append(number)

    waiting = asyncio.gather(*map(wait, range(20)))
    await asyncio.sleep(1)
    for future in set(futures):
        future.set_result(None)
    await waiting
    sim.note("test", "woken", payload=tuple(woken))  # the two runs of the first seed must agree


class Knot(Service):
    @rpc
    async def tie(self) -> None:
        await self.wait("what never comes")


def test_a_deadlock_says_who_waits_for_whom() -> None:
    async def main(sim: Sim) -> None:
        node = await sim.node()
        knot = await node.start_service(Knot)
        knot.send(knot.address, "lua", "tie")
        await asyncio.Event().wait()

    with pytest.raises(Deadlock) as caught:
        simulate(main, seeds=[1])
    text = str(caught.value)
    assert "Knot:00000002@node-1 handles 'tie' of Knot:00000002@node-1, waiting in Signals.wait (signals.py:" in text
    assert "is waiting in Event.wait (locks.py:" in text


def test_who_waits_tells_of_calls_and_mailboxes() -> None:
    class Slow(Knot):
        serial = True

    async def main(sim: Sim) -> None:
        node = await sim.node()
        slow = await node.start_service(Slow)
        for _ in range(3):
            slow.fork(node.call(slow.address, "lua", "tie"))
        await sim.settle()
        told = sim.who_waits()
        assert told.count("the test waits for the answer of Slow:00000002@node-1") == 3
        assert "Slow:00000002@node-1 has 2 messages waiting in its mailbox" in told
        with pytest.raises(AssertionError, match="is not idle"):
            node.assert_idle()

    simulate(main, seeds=[1])


def test_a_busy_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "TURNS_AT_ONE_TIME_MAX", 1_000)

    async def main(sim: Sim) -> None:
        for _ in range(2_000):
            await asyncio.sleep(0)

    with pytest.raises(Livelock):
        simulate(main, seeds=[1])


async def test_settle_waits_for_what_runs_and_not_for_timers(sim: Sim) -> None:
    done: list[int] = []

    async def work() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        done.append(1)
        await asyncio.sleep(10)
        done.append(2)

    task = asyncio.create_task(work())
    await sim.settle()
    assert done == [1]
    assert sim.now() == 0
    await task


def run_plain(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(main())


def test_loopback_sockets_come_before_timers() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"ping\n")
            assert await reader.readline() == b"PING\n"
            writer.close()
            await writer.wait_closed()

    run_plain(main)


def test_time_stands_still_while_threads_work() -> None:
    async def main() -> None:
        running, told = asyncio.get_running_loop(), asyncio.Event()
        async with asyncio.timeout(0.01):
            await asyncio.to_thread(time.sleep, 0.1)
        thread = threading.Thread(target=lambda: running.call_soon_threadsafe(told.set))
        async with asyncio.timeout(1):
            thread.start()
            await told.wait()
        thread.join()
        assert running.time() == START_SECONDS
        assert isinstance(running, SimLoop)
        assert running.outside > 0

    run_plain(main)


def test_an_ordinary_node_runs_on_it_too() -> None:
    async def main() -> None:
        async with Node("plain", watch_loop=False) as node:
            with pytest.raises(UnknownName):
                await node.query("X", wait=60)
            assert asyncio.get_running_loop().time() == pytest.approx(START_SECONDS + 60)

    run_plain(main)
