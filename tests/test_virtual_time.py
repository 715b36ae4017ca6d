"""The loop that most tests run on: exact, fast, and clear about a deadlock."""

import asyncio
import threading
import time

import pytest

from skyloom.testing import Deadlock, SimLoop
from skyloom.testing.loop import START_SECONDS


async def test_an_hour_costs_milliseconds_and_is_exact() -> None:
    loop, before = asyncio.get_running_loop(), time.monotonic()
    await asyncio.sleep(3600)
    assert loop.time() == START_SECONDS + 3600
    assert time.monotonic() - before < 5


async def test_timers_fire_in_the_order_of_their_times() -> None:
    order: list[int] = []

    async def wake(after: int) -> None:
        await asyncio.sleep(after)
        order.append(after)

    async with asyncio.TaskGroup() as group:
        for after in (30, 10, 20):
            group.create_task(wake(after))
    assert order == [10, 20, 30]


async def test_a_timeout_comes_at_its_time() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.Event().wait()
    assert loop.time() == START_SECONDS + 5


async def test_loopback_sockets_come_before_timers() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"ping\n")
        assert await reader.readline() == b"PING\n"
        writer.close()
        await writer.wait_closed()


async def test_time_stands_still_while_a_thread_of_the_executor_works() -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(0.01):
        await asyncio.to_thread(time.sleep, 0.1)
    assert loop.time() == START_SECONDS


async def test_another_thread_may_report_before_a_timer() -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(told.set))
    async with asyncio.timeout(1):
        thread.start()
        await told.wait()
    thread.join()


def test_a_deadlock_is_an_error_that_names_the_task() -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=SimLoop) as runner, pytest.raises(Deadlock, match="for_ever"):
        runner.run(for_ever())


@pytest.mark.real_time
async def test_a_marked_test_runs_in_real_time() -> None:
    assert not isinstance(asyncio.get_running_loop(), SimLoop)


async def test_every_other_test_runs_in_virtual_time() -> None:
    assert isinstance(asyncio.get_running_loop(), SimLoop)
