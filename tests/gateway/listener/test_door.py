"""How connections are accepted: on real sockets, in the test's time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import pytest
import uvloop

from skyloom_gateway.listener import Link, ListenerSettings, TcpListener
from skyloom_gateway.listener.door import ACCEPTS_AT_ONCE
from tests.gateway.listener.fakes import Recorder, VirtualTimers

pytestmark = pytest.mark.real_time


class Rig:
    """A TCP port; `knock` connects to it so many times, before the loop has its turn."""

    def __init__(self, settings: ListenerSettings, stack: ExitStack) -> None:
        self.timers = VirtualTimers()
        self.links: list[Link] = []
        self.listener = TcpListener(self._accept, settings, self.timers)
        self.address = ("", 0)
        self._stack = stack

    def _accept(self, link: Link) -> Recorder:
        self.links.append(link)
        return Recorder(link)

    def knock(self, count: int) -> None:
        for _ in range(count):
            self._stack.enter_context(socket.create_connection(self.address, timeout=5))

    @property
    def admitted(self) -> int:
        return self.listener.connections.admitted


@pytest.fixture
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    with ExitStack() as stack:
        rig = Rig(ListenerSettings(port=0, **request.param), stack)
        rig.address = await rig.listener.start()
        yield rig
        rig.timers.advance(0)
        closing = asyncio.create_task(rig.listener.close())
        await asyncio.sleep(0)
        rig.timers.advance(10)  # clients of these tests do not answer
        await closing


async def settle(turns: int = 200) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.mark.parametrize("rig", [{}], indirect=True)
async def test_a_crowd_comes_in_a_few_at_a_time(rig: Rig) -> None:
    rig.knock(100)
    before, steps = 0, []
    for _ in range(200):
        await asyncio.sleep(0)
        if rig.admitted > before:
            steps.append(rig.admitted - before)
            before = rig.admitted
    assert sum(steps) == 100
    assert max(steps) == ACCEPTS_AT_ONCE
    assert len(rig.links) == 100


@pytest.mark.parametrize("rig", [{"accepts_per_second_max": 5, "accepts_burst_max": 10}], indirect=True)
async def test_those_over_the_rate_wait_outside(rig: Rig) -> None:
    rig.knock(14)
    await settle()
    assert rig.admitted == 10
    rig.timers.advance(0.19)
    await settle()
    assert rig.admitted == 10
    rig.timers.advance(0.02)
    await settle()
    assert rig.admitted == 11
    for _ in range(4):
        rig.timers.advance(0.2)
        await settle()
    assert rig.admitted == len(rig.links) == 14
    rig.timers.advance(10)  # nobody comes: what was not used is there for the next
    rig.knock(11)
    await settle()
    assert rig.admitted == 24


@pytest.mark.parametrize("rig", [{"connections_max": 20, "connections_refused_max": 5}], indirect=True)
async def test_a_flood_is_closed_before_it_has_cost_anything(rig: Rig) -> None:
    rig.knock(60)
    await settle()
    assert rig.admitted == 20
    assert rig.listener.connections.refused == 5
    assert len(rig.listener.streams) == 25
    rig.listener.stop_accepting()
    with pytest.raises(OSError):
        rig.knock(1)


@pytest.mark.parametrize("rig", [{}], indirect=True)
async def test_no_descriptors_for_a_moment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_left(sock: socket.socket) -> object:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", nothing_left)
        rig.knock(3)
        await settle()
    assert rig.admitted == 0
    rig.timers.advance(0.9)
    await settle()
    assert rig.admitted == 0
    rig.timers.advance(0.2)
    await settle()
    assert rig.admitted == 3


LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@LOOPS
@pytest.mark.parametrize("turns", range(6))
def test_whoever_comes_in_while_it_closes_is_told_of_the_end(
    new_loop: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    recorders: list[Recorder] = []

    def accept(link: Link) -> Recorder:
        recorders.append(Recorder(link))
        return recorders[-1]

    async def run() -> None:
        listener = TcpListener(accept, ListenerSettings(port=0, close_timeout_seconds=0.1))
        address = await listener.start()
        with ExitStack() as stack:
            for _ in range(12):
                stack.enter_context(socket.create_connection(address, timeout=5))
            await settle(turns)
            listener.stop_accepting()
            for recorder in recorders:
                recorder.link.send(b"never raises")
            async with asyncio.timeout(5):
                await listener.close()
        assert [recorder.code for recorder in recorders] == [1001] * len(recorders)
        assert listener.connections.admitted == 0
        assert listener.streams == ()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
