"""Agents come with the first frame and go with the session."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from skyloom import Node
from skyloom_gateway import Agent, App, request
from skyloom_gateway.agent import TooLate
from skyloom_gateway.gate import AGENT_END_SECONDS
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire.frame import ErrorFrame, Response
from tests.gateway.cast import EchoAgent
from tests.gateway.players import World, open_gate


def agents(world: World) -> int:
    return sum(isinstance(cell.service, Agent) for cell in world.node.cells.values())


async def test_an_agent_starts_on_first_use_and_once(world: World) -> None:
    ada = await world.guest()
    assert EchoAgent.born == []
    for _ in range(3):
        ada.request("echo.nothing")
    assert len(await ada.frames()) == 3
    await ada.ask("echo.nothing")
    assert EchoAgent.born == ["ada"]
    await ada.ask("other.who")
    assert agents(world) == 2


async def test_frames_wait_in_order_while_it_starts(world: World) -> None:
    EchoAgent.slow_start = 2
    ada = await world.guest()
    ids = [ada.request("echo.say", text="1")]
    ada.notify("echo.note", text="2")
    ids.append(ada.request("echo.say", text="3"))
    assert await ada.frames(1.9) == []
    answers = await ada.frames(0.2)
    assert [answer.id for answer in answers if isinstance(answer, Response)] == ids
    assert EchoAgent.seen == ["1", "note 2", "3"]
    assert EchoAgent.born == ["ada"]


async def test_early_notifies_are_bounded(world: World) -> None:
    EchoAgent.slow_start = 2
    ada = await world.guest()
    for n in range(66):
        ada.notify("echo.note", text=str(n))
    told = await ada.frames()
    assert [t.error.code for t in told if isinstance(t, ErrorFrame)] == ["gateway.overloaded"] * 2
    assert await ada.frames(3) == []
    assert EchoAgent.seen == [f"note {n}" for n in range(64)]


@pytest.mark.parametrize("error", [RuntimeError("secret"), KeyError("secret")], ids=["on_start", "__init__"])
async def test_an_agent_that_does_not_start(world: World, error: Exception) -> None:
    EchoAgent.start_error = error
    ada = await world.guest()
    ada.notify("echo.note", text="lost")
    with capture_logs() as logs:
        told = await ada.error("echo.say", text="x")
    assert (told.code, told.retryable) == ("gateway.unavailable", True)
    assert "secret" not in str(told)
    assert len([entry for entry in logs if entry.get("exc_info")]) == 1, "told with its traceback once"
    assert agents(world) == 0
    EchoAgent.start_error = None
    assert await ada.ask("echo.say", text="x") == {"text": "x"}


async def test_requests_do_not_wait_for_a_start_beyond_their_time(world: World) -> None:
    EchoAgent.slow_start = 8
    ada = await world.guest()
    first = ada.request("echo.say", text="1")
    await ada.frames(2)
    ada.request("echo.say", text="2")
    (told,) = await ada.frames(3.5)
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (first, "gateway.deadline_exceeded")
    (told,) = await ada.frames(2)
    assert isinstance(told, ErrorFrame)
    assert await ada.frames(1) == []
    assert EchoAgent.seen == []
    assert await ada.ask("echo.say", text="3") == {"text": "3"}
    assert EchoAgent.born == ["ada"]


async def test_after_an_agent_died_the_next_frame_starts_another(world: World) -> None:
    ada = await world.guest()
    assert await ada.ask("echo.leave") == {}
    assert EchoAgent.stopped == ["ada"]
    assert await ada.ask("echo.say", text="x") == {"text": "x"}
    assert EchoAgent.born == ["ada", "ada"]
    assert agents(world) == 1


async def test_requests_in_flight_at_a_killed_agent(world: World) -> None:
    ada = await world.guest()
    ada.request("echo.wait", seconds=3)
    ada.request("echo.wait", seconds=3)
    await ada.frames()
    (agent,) = (cell.address for cell in world.node.cells.values() if isinstance(cell.service, EchoAgent))
    world.node.kill(agent)
    told = [frame.error for frame in await ada.frames() if isinstance(frame, ErrorFrame)]
    assert [(error.code, error.retryable) for error in told] == [("gateway.outcome_unknown", False)] * 2
    assert "may have run" in told[0].message
    assert await ada.ask("echo.nothing") == {}


async def test_the_end_of_the_session_ends_its_agents(world: World) -> None:
    ada, bob = await world.guest("ada"), await world.guest("bob")
    await ada.ask("other.who")
    await ada.ask("echo.nothing")
    await bob.ask("echo.nothing")
    ada.request("echo.wait", seconds=3, text="cut")
    ada.leave()
    assert await ada.frames(0.1) == []
    assert EchoAgent.stopped == ["ada"]
    assert agents(world) == 1
    assert EchoAgent.seen == ["begin cut"]
    assert await bob.ask("echo.nothing") == {}
    assert world.gate.connections == {bob.connection}
    assert list(world.gate.sessions.values()) == [bob.connection.seat]
    assert world.gate._agents.keys() == {c.address for c in world.node.cells.values() if isinstance(c.service, Agent)}


async def test_a_client_that_leaves_while_its_agent_starts(world: World) -> None:
    EchoAgent.slow_start = 1
    ada = await world.guest()
    ada.request("echo.say", text="x")
    ada.leave()
    await ada.frames(2)
    assert EchoAgent.stopped == EchoAgent.born == ["ada"]
    assert EchoAgent.seen == []
    assert agents(world) == 0


class Stubborn(Agent):
    """Takes one frame at a time, so that it does not even hear that it shall end."""

    handlers_max = 1
    stopped: ClassVar[int] = 0

    @request("stubborn.hang")
    async def hang(self) -> None:
        await asyncio.Event().wait()

    async def on_stop(self) -> None:
        type(self).stopped += 1


async def test_a_stuck_agent_is_killed(gate_node: Node) -> None:
    world = await open_gate(gate_node, apps=[App("stubborn", agent=Stubborn)])
    ada = await world.guest()
    ada.request("stubborn.hang")
    await ada.frames()
    ada.leave()
    with capture_logs() as logs:
        await ada.frames(AGENT_END_SECONDS - 1)
        assert agents(world) == 1
        await ada.frames(2)
    assert agents(world) == 0
    assert "agent did not end by itself" in [line["event"] for line in logs]
    assert Stubborn.stopped == 0
    assert world.gate._agents == {}


async def test_an_agent_whose_end_takes_too_long(world: World) -> None:
    EchoAgent.slow_stop = 1000
    ada = await world.guest()
    await ada.ask("echo.nothing")
    ada.leave()
    await ada.frames(AGENT_END_SECONDS)
    assert agents(world) == 0


async def test_a_burst_within_the_rate_is_answered_though_its_agent_starts_slowly(gate_node: Node) -> None:
    class Slow(EchoAgent):
        async def on_start(self) -> None:
            await self.sleep(1)

    world = await open_gate(gate_node, apps=[App("echo", agent=Slow)])
    ada = await world.guest()
    for _ in range(GatewaySettings().messages_burst):
        ada.request("echo.nothing")
    told = await ada.frames(2)
    assert [type(frame) for frame in told] == [Response] * GatewaySettings().messages_burst


async def test_the_mailbox_of_an_agent_is_bounded(gate_node: Node) -> None:
    settings = GatewaySettings(messages_burst=1000, requests_in_flight=1000)
    world = await open_gate(gate_node, apps=[App("stubborn", agent=Stubborn)], settings=settings)
    ada = await world.guest()
    for _ in range(300):
        ada.request("stubborn.hang")
    told = await ada.frames()
    codes = [t.error.code for t in told if isinstance(t, ErrorFrame)]
    assert codes == ["gateway.overloaded"] * (300 - 256 - 1)
    ada.leave()
    await ada.frames(0.1)
    assert agents(world) == 0  # its mailbox takes no more: no time to end by itself


async def test_too_late_has_the_code_that_the_gate_gives() -> None:
    assert (TooLate.code, TooLate.kind) == ("gateway.deadline_exceeded", "deadline_exceeded")
