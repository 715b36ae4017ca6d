"""What a node says of itself beyond what DEBUG messages show."""

from __future__ import annotations

import time

import pytest

from skyloom import Node, Service, rpc
from skyloom.node.debug import ROOT_HANDLE
from skyloom.node.histogram import Histogram
from skyloom.node.status import frames, node_status, stacks
from skyloom.supervision.child import permanent
from skyloom.supervision.supervisor import Supervisor
from tests.core.cast import start


class Worker(Service):
    name = "WORKER"

    @rpc
    async def give_up(self) -> None:
        self.crash("no more")

    @rpc
    async def block(self) -> None:
        time.sleep(0.6)  # noqa: ASYNC251  # blocking is what is measured

    @rpc
    async def fork_off(self) -> None:
        self.fork(self.sleep(50))


def test_a_histogram_counts_by_bounds() -> None:
    histogram = Histogram((0.5, 1.0))
    for value in (0.0, 0.5, 0.75, 1.0, 9.0):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 5
    assert histogram.sum == 11.25


async def test_the_root_is_where_debug_messages_find_it(node: Node) -> None:
    assert node.root.address.handle == ROOT_HANDLE


async def test_crashes_and_restarts_are_counted(node: Node) -> None:
    supervisor = await node.spawn(Supervisor, permanent(Worker))
    node.send("WORKER", "lua", "give_up")
    await node.root.sleep(1)
    counters = node_status(node).counters
    assert (counters["crashes"], counters["restarts"]) == (1, 1)
    own = await node.call(supervisor, "debug", "info")
    assert own["strategy"] == "one_for_one"
    assert [(child.id, child.restarts, child.state) for child in own["children"]] == [("WORKER", 1, "running")]


async def test_forks_are_shown(node: Node) -> None:
    worker = await start(node, Worker)
    await node.call(worker.address, "lua", "fork_off")
    await node.root.sleep(1)
    (stack,) = stacks(worker._cell)
    assert stack.what == f"{worker.title} fork"
    assert stack.frames[0].startswith("Service.sleep (service.py:")


async def test_a_full_mailbox_shows(node: Node) -> None:
    class Slow(Worker):
        serial = True
        mailbox_messages_max = 8

        @rpc
        async def doze(self) -> None:
            await self.sleep(10)

    slow = await start(node, Slow)
    for _ in range(5):
        node.send(slow.address, "lua", "doze")
    await node.root.sleep(1)
    status = node_status(node)
    assert status.fullest_mailbox == 4 / 8
    assert status.services["Slow"].mailbox_messages == 4
    assert status.handlers == 1


def test_frames_end_somewhere() -> None:
    assert frames(None) == ()
    assert frames(3) == ()


@pytest.mark.real_time
async def test_the_lag_of_the_loop_is_measured() -> None:
    async with Node("lag") as node:
        worker = await start(node, Worker)
        while node.loop_lag.total < 2:
            await node.root.sleep(0.02)
        before = node.loop_lag.sum
        await node.call(worker.address, "lua", "block")
        seen = node.loop_lag.total
        while node.loop_lag.total < seen + 2:
            await node.root.sleep(0.02)
        assert node.loop_lag.sum > before + 0.2
        assert sum(node.loop_lag.counts[7:]) >= 1  # over 0.1 s
        assert node_status(node).loop_lag_seconds == node.loop_lag.sum / node.loop_lag.total
