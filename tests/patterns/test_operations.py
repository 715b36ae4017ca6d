"""Operations: each rule of the pattern by its name."""

import asyncio

import pytest

from skyloom import Address, Expired, Failed, MemoryNetwork, Node, Service, rpc
from skyloom.patterns.operations import (
    OperationCancelled,
    OperationNotFound,
    OperationRunning,
    Operations,
    OperationService,
    OperationState,
    OperationStatus,
    TooManyOperations,
)
from tests.core.cast import start


class Broken(Failed, code="test.broken"):
    """The work's own error."""


class Reports(OperationService[list[int]]):
    def __init__(self) -> None:
        self.ended: list[str] = []
        self.operations = Operations(self, maximum=3, keep=60)

    @rpc
    async def build(self, seconds: float, how: str = "") -> str:
        return self.operations.start(self.work(seconds, how))

    async def work(self, seconds: float, how: str) -> list[int]:
        try:
            await self.sleep(seconds)
            if how == "broken":
                raise Broken("no paper")
            if how == "ask":
                await self.call("CLERK", "lua", "nod")
            if how == "bug":
                raise ZeroDivisionError
            return [object()] if how == "unsendable" else [1, 2]  # type: ignore[list-item]  # the point
        finally:
            self.ended.append(how)


class Clerk(Service):
    """Starts operations and is told of their ends."""

    name = "CLERK"

    def __init__(self) -> None:
        self.notices: list[OperationStatus[list[int]]] = []

    @rpc
    async def operation_ended(self, status: OperationStatus[list[int]]) -> None:
        self.notices.append(status)

    @rpc
    async def nod(self) -> None: ...

    @rpc
    async def ask(self, reports: Address, seconds: float, how: str) -> str:
        return await Reports.at(self, reports).build(seconds, how)


async def test_start_answers_with_an_id_at_once(node: Node) -> None:
    reports = await start(node, Reports)
    at = Reports.at(node.root, reports.address)
    before = node.clock.now()
    first, second = await at.build(100), await at.build(100)
    assert node.clock.now() == before
    assert first != second
    status = await at.operation_status(first)
    assert (status.id, status.state, status.ended) == (first, OperationState.RUNNING, None)


async def test_status_and_result_of_one_that_is_done(node: Node) -> None:
    reports = await start(node, Reports)
    at = Reports.at(node.root, reports.address)
    id = await at.build(2)
    assert await at.operation_result(id) == [1, 2]
    status = await at.operation_status(id)
    assert (status.state, status.value, status.error_code) == (OperationState.DONE, [1, 2], None)
    assert status.ended is not None
    assert status.ended - status.started == pytest.approx(2)


@pytest.mark.parametrize(
    ("how", "code"), [("broken", "test.broken"), ("bug", "skyloom.internal"), ("unsendable", "skyloom.internal")]
)
async def test_the_error_of_one_that_failed(node: Node, how: str, code: str) -> None:
    reports = await start(node, Reports)
    at = Reports.at(node.root, reports.address)
    id = await at.build(1, how)
    with pytest.raises(Broken if how == "broken" else Failed) as caught:
        await at.operation_result(id)
    assert caught.value.code == code
    status = await at.operation_status(id)
    assert (status.state, status.error_code) == (OperationState.FAILED, code)


async def test_the_wait_for_a_result_ends_by_its_timeout_and_by_the_callers_deadline(node: Node) -> None:
    reports = await start(node, Reports)
    at = Reports.at(node.root, reports.address)
    id = await at.build(100)
    for timeout in (0.0, 1.0):
        before = node.clock.now()
        with pytest.raises(OperationRunning):
            await at.operation_result(id, timeout)
        assert node.clock.now() - before == timeout
    with pytest.raises((Expired, OperationRunning)):
        await Reports.at(node.root, reports.address, timeout=2).operation_result(id, 50.0)
    await asyncio.sleep(1)
    assert reports._cell.running == 0  # nobody waits on


async def test_cancel(node: Node) -> None:
    reports = await start(node, Reports)
    at = Reports.at(node.root, reports.address)
    id = await at.build(100)
    await asyncio.sleep(1)
    assert await at.operation_cancel(id)
    with pytest.raises(OperationCancelled):
        await at.operation_result(id)
    assert (await at.operation_status(id)).state is OperationState.CANCELLED
    assert not await at.operation_cancel(id)
    assert reports.ended == [""]


async def test_cancel_before_the_work_has_begun(node: Node) -> None:
    reports = await start(node, Reports)
    id = reports.operations.start(reports.work(1, ""))
    reports.operations.cancel(id)
    await asyncio.sleep(0.1)
    assert reports.operations.status(id).state is OperationState.CANCELLED
    assert reports.ended == []


async def test_cancelling_who_waits_does_not_cancel_the_work(node: Node) -> None:
    reports = await start(node, Reports)
    id = reports.operations.start(reports.work(2, ""))
    waiting = reports.fork(reports.operations.result(id))
    await asyncio.sleep(1)
    waiting.cancel()
    assert await reports.operations.result(id) == [1, 2]


@pytest.mark.parametrize(
    ("how", "state"),
    [("", OperationState.DONE), ("broken", OperationState.FAILED), ("cancel", OperationState.CANCELLED)],
)
async def test_the_starter_is_told_of_the_end_once(
    nodes: tuple[Node, Node, MemoryNetwork], how: str, state: OperationState
) -> None:
    here, there, _ = nodes
    reports, clerk = await start(there, Reports), await start(here, Clerk)
    id: str = await here.call(clerk.address, "lua", "ask", reports.address, 5.0, how)
    await asyncio.sleep(1)
    if how == "cancel":
        reports.operations.cancel(id)
    await asyncio.sleep(100)
    assert [(notice.id, notice.state) for notice in clerk.notices] == [(id, state)]


@pytest.mark.parametrize("how", ["kill", "exit"])
async def test_the_starter_is_told_when_the_service_ends(node: Node, how: str) -> None:
    reports, clerk = await start(node, Reports), await start(node, Clerk)
    await node.call(clerk.address, "lua", "ask", reports.address, 5.0, "")
    await asyncio.sleep(1)
    if how == "kill":
        node.kill(reports.address)
    else:
        reports.exit()
    await asyncio.sleep(1)
    assert [notice.state for notice in clerk.notices] == [OperationState.CANCELLED]


async def test_the_work_outlives_the_deadline_of_the_request_that_started_it(node: Node) -> None:
    reports = await start(node, Reports)
    at = Reports.at(node.root, reports.address, timeout=0.5)
    await node.spawn(Clerk)
    id = await at.build(20, "ask")  # the calls that it makes have time of their own
    await asyncio.sleep(30)
    assert await at.operation_result(id) == [1, 2]


async def test_finished_operations_expire(node: Node) -> None:
    reports = await start(node, Reports)
    first = reports.operations.start(reports.work(1, ""))
    second = reports.operations.start(reports.work(31, ""))
    await asyncio.sleep(60.5)
    assert len(reports.operations) == 2
    await asyncio.sleep(1)
    assert len(reports.operations) == 1
    with pytest.raises(OperationNotFound):
        reports.operations.status(first)
    await asyncio.sleep(28)
    assert reports.operations.status(second).state is OperationState.DONE
    await asyncio.sleep(2)
    assert len(reports.operations) == 0


async def test_the_table_is_bounded_and_the_oldest_that_ended_makes_room(node: Node) -> None:
    reports = await start(node, Reports)
    at = Reports.at(node.root, reports.address)
    done = [await at.build(seconds) for seconds in (2, 1)]
    await asyncio.sleep(3)
    running = [await at.build(30) for _ in range(2)]
    assert len(reports.operations) == 3
    with pytest.raises(OperationNotFound):
        await at.operation_status(done[1])  # it ended first
    running.append(await at.build(30))
    with pytest.raises(TooManyOperations):
        await at.build(30)
    assert [(await at.operation_status(id)).state for id in running] == [OperationState.RUNNING] * 3


async def test_an_id_that_is_none(node: Node) -> None:
    reports = await start(node, Reports)
    at = Reports.at(node.root, reports.address)
    for asking in (at.operation_status("x"), at.operation_result("x"), at.operation_cancel("x")):
        with pytest.raises(OperationNotFound):
            await asking
