"""A request that its first receiver forwards at once is handled inside the call, where that is possible."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from skyloom import Address, Expired, Failed, Node, NotExecuted, Unknown
from tests.core.test_inline import Actor, actor

Role = Callable[[Actor], Awaitable[Any]]


def passing(dest: Address) -> Role:
    async def role(self: Actor) -> None:
        self.forward(dest)

    return role


async def returns(self: Actor) -> str:
    self.log.append("handled")
    return "answer"


async def fails(self: Actor) -> None:
    raise Failed("no", code="test.no")


async def waits(self: Actor) -> str:
    await self.sleep(1)
    return "late"


async def play(node: Node, dest: Actor, role: str, timeout: float | None = None) -> tuple[object, float]:
    """What a call gives, and how long it took."""
    began = node.now()
    try:
        return await node.call(dest.address, "lua", "play", role, timeout=timeout), node.now() - began
    except (Failed, Expired, NotExecuted, Unknown) as error:
        return error.code, node.now() - began


async def test_it_takes_no_turn_of_the_loop(node: Node) -> None:
    last = await actor(node, role=returns)
    middle = await actor(node, role=passing(last.address))
    first = await actor(node, role=passing(middle.address))
    turns: list[str] = []
    node.loop.call_soon(turns.append, "a turn")
    assert await play(node, first, "role") == ("answer", 0)
    assert turns == []
    assert last.log == ["handled"]
    assert all(cell.pending in (None, {}) for cell in node.cells.values())
    assert not last._cell.mailbox
    assert last._cell.mailbox_bytes == 0


@pytest.mark.parametrize(("role", "outcome"), [(fails, ("test.no", 0)), (waits, ("late", 1))])
async def test_errors_and_late_answers_reach_the_first_caller(node: Node, role: Role, outcome: tuple[str, int]) -> None:
    last = await actor(node, role=role)
    first = await actor(node, role=passing(last.address))
    assert await play(node, first, "role") == outcome
    assert node.counters["late_answers"] == 0


async def test_the_deadline_holds(node: Node) -> None:
    last = await actor(node, role=waits)
    first = await actor(node, role=passing(last.address))
    assert await play(node, first, "role", timeout=0.5) == ("skyloom.expired", 0.5)
    await asyncio.sleep(1)
    assert node.counters["late_answers"] == 1


async def test_it_stays_in_order_with_what_the_forwarding_service_sends(node: Node) -> None:
    last = await actor(node, role=returns)

    async def before_and_after(self: Actor) -> None:
        self.send(last.address, "lua", "note", "before")
        self.forward(last.address)
        self.send(last.address, "lua", "note", "after")

    async def only_after(self: Actor) -> None:
        self.forward(last.address)
        self.send(last.address, "lua", "note", "after")

    for role, log in ((before_and_after, ["before", "handled", "after"]), (only_after, ["handled", "after"])):
        first = await actor(node, role=role)
        assert await play(node, first, "role") == ("answer", 0)
        await asyncio.sleep(0.1)
        assert last.log == log
        last.log.clear()


async def test_it_does_not_start_before_the_forwarding_handler_awaits(node: Node) -> None:
    last = await actor(node, role=returns)

    async def role(self: Actor) -> None:
        self.forward(last.address)
        self.log.append(list(last.log))
        await self.sleep(1)
        self.log.append(list(last.log))

    first = await actor(node, role=role)
    assert await play(node, first, "role") == ("answer", 0)
    await asyncio.sleep(2)
    assert first.log == [[], ["handled"]]


async def test_a_destination_killed_before_it_starts_fails_the_call_at_once(node: Node) -> None:
    last = await actor(node, role=returns)

    async def role(self: Actor) -> None:
        self.forward(last.address)
        self.kill(last.address)

    first = await actor(node, role=role)
    outcome, seconds = await play(node, first, "role")
    assert (outcome, seconds) == ("skyloom.service_ended", 0)
    assert last.log == []


async def test_a_busy_or_serial_destination_keeps_its_mailbox(node: Node) -> None:
    class Serial(Actor):
        serial = True

    last = node.cells[await node.spawn(Serial, role=returns, busy=waits)].service
    assert isinstance(last, Serial)
    first = await actor(node, role=passing(last.address))
    busy = asyncio.create_task(play(node, last, "busy"))
    await asyncio.sleep(0.5)
    assert await play(node, first, "role") == ("answer", 0.5)
    assert (await busy)[0] == "late"


async def test_a_destination_that_takes_the_request_answers_when_it_likes(node: Node) -> None:
    async def later(self: Actor) -> None:
        response = self.response()

        async def answer() -> None:
            response.ret("much later")

        self.timeout(2, answer)

    last = await actor(node, role=later)
    middle = await actor(node, role=passing(last.address))
    first = await actor(node, role=passing(middle.address))
    assert await play(node, first, "role") == ("much later", 2)
    assert node.counters["late_answers"] == 0


async def test_a_circle_ends_at_the_deadline_and_starves_nobody(node: Node) -> None:
    addresses: list[Address] = []

    async def around(self: Actor) -> None:
        self.forward(addresses[0])

    first = await actor(node, role=around)
    addresses.append(first.address)
    ticks: list[float] = []

    async def tick(self: Actor) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
            ticks.append(node.now())
        node.kill(first.address)

    other = await actor(node, tick=tick)
    circle = asyncio.create_task(play(node, first, "role", timeout=5))
    await node.call(other.address, "lua", "play", "tick")
    assert len(ticks) == 5
    assert (await circle)[0] == "skyloom.service_ended"
