"""The server goes down in good order."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from skyloom import Node
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire.frame import Drain, ErrorFrame, Response, ServerFrame, Welcome
from tests.gateway.cast import EchoAgent
from tests.gateway.players import TRANSPORTS, Player, World, open_gate


def codes(frames: list[ServerFrame]) -> list[str]:
    return [frame.error.code for frame in frames if isinstance(frame, ErrorFrame)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_requests_in_flight_finish_and_new_ones_are_refused(world: World, transport: str) -> None:
    ada = await world.guest(transport=transport)
    slow = ada.request("echo.wait", seconds=3)
    await ada.frames()
    draining = asyncio.create_task(world.gate.drain())
    (drain,) = await ada.frames(1)
    assert isinstance(drain, Drain)
    assert drain.reason == "restart"
    assert 0 <= drain.reconnect_in <= 5
    error = await ada.error("echo.say", text="x")
    assert (error.code, error.retryable) == ("gateway.draining", True)
    assert not draining.done()
    frames = await ada.frames(2.1)
    assert draining.done()
    assert isinstance(frames[0], Response)
    assert frames[0].id == slow
    assert codes(frames) == ["gateway.restart"]
    assert ada.close_code == 1012
    assert world.gate.connections == set()
    await draining


async def test_a_drain_does_not_wait_for_the_idle(world: World) -> None:
    ada = await world.guest()
    stranger = world.player()
    started = asyncio.get_running_loop().time()
    await world.gate.drain()
    assert asyncio.get_running_loop().time() == started
    assert (ada.close_code, stranger.close_code) == (1012, 1012)
    assert not any(isinstance(frame, Drain) for frame in await stranger.frames())


async def test_a_drain_has_an_end(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(drain_seconds=2))
    ada = await world.guest()
    ada.request("echo.wait", seconds=4)
    await ada.frames()
    started = asyncio.get_running_loop().time()
    with capture_logs() as logs:
        await world.gate.drain()
    assert asyncio.get_running_loop().time() - started == pytest.approx(2)
    assert "requests were still in flight at the end of the drain" in [line["event"] for line in logs]
    assert ada.close_code == 1012


async def leave(player: Player) -> None:
    player.leave()


async def time_out(player: Player) -> None:
    await player.frames(5.1)


@pytest.mark.parametrize("how", [leave, time_out])
async def test_requests_that_end_in_another_way_do_not_hold_up_the_drain(world: World, how: object) -> None:
    ada = await world.guest()
    ada.request("echo.wait", seconds=9)
    await ada.frames()
    draining = asyncio.create_task(world.gate.drain())
    await ada.frames()
    assert not draining.done()
    assert callable(how)
    await how(ada)
    await ada.frames()
    assert draining.done()
    await draining


@pytest.mark.parametrize("fails", [False, True])
async def test_requests_that_wait_for_their_agent_are_in_flight(world: World, fails: bool) -> None:
    EchoAgent.slow_start = 2
    EchoAgent.start_error = RuntimeError("no") if fails else None
    ada = await world.guest()
    ada.request("echo.say", text="x")
    await ada.frames()
    started = asyncio.get_running_loop().time()
    await world.gate.drain()
    assert asyncio.get_running_loop().time() - started == pytest.approx(2, abs=0.01)
    frames = await ada.frames()
    assert codes(frames) == (["gateway.unavailable", "gateway.restart"] if fails else ["gateway.restart"])
    assert EchoAgent.seen == ([] if fails else ["x"])


async def test_who_comes_during_the_drain_is_told_too(world: World) -> None:
    ada = await world.guest()
    ada.request("echo.wait", seconds=3)
    await ada.frames()
    bob = world.player()
    draining = asyncio.create_task(world.gate.drain())
    await ada.frames()
    bob.hello("bob")
    bob.request("echo.nothing")
    frames = await bob.frames()
    assert [type(frame) for frame in frames] == [Welcome, Drain, ErrorFrame]
    assert codes(frames) == ["gateway.draining"]
    await draining
    assert bob.close_code == 1012


async def test_clients_come_back_at_different_times(world: World) -> None:
    players = [await world.guest(f"u{n}") for n in range(20)]
    await world.gate.drain()
    times = set()
    for player in players:
        drain = (await player.frames())[0]
        assert isinstance(drain, Drain)
        times.add(drain.reconnect_in)
    assert len(times) > 15
