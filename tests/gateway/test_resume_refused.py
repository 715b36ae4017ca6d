"""Who may not come back to a session, and what happens when something is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire.frame import ErrorFrame, Welcome
from tests.gateway.cast import Dog, EchoAgent
from tests.gateway.players import TRANSPORTS, World, open_gate
from tests.gateway.returns import come_back, is_new, join, shout

if TYPE_CHECKING:
    from skyloom import Node


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.mark.parametrize("wrong", ["session", "key", "user"])
async def test_a_stranger_gets_a_session_of_its_own_and_learns_nothing(world: World, wrong: str) -> None:
    ada, welcome = await join(world)
    ada.cut()
    thief = world.player()
    resume = {"session": welcome.session, "key": welcome.key, "seq": 0}
    name = "eve" if wrong == "user" else "ada"
    if wrong != "user":
        resume[wrong] = "x"
    thief.feed(thief.codec.hello({"auth": {"scheme": "guest", "name": name}, "resume": resume}))
    assert is_new(await thief.frames(), welcome)
    _, (second, *_) = await come_back(world, ada, welcome, 0)
    assert isinstance(second, Welcome)
    assert second.recovered


async def test_a_denied_client_does_not_reach_the_session(world: World) -> None:
    ada, welcome = await join(world)
    thief = world.player()
    await thief.resume(welcome, 0, name=" eve")
    assert thief.close_code == 4401
    assert ada.close_code is None


async def test_a_guest_without_a_name_keeps_the_one_it_was_given(world: World) -> None:
    ada = world.player()
    ada.hello(None)
    (welcome,) = await ada.frames()
    assert isinstance(welcome, Welcome)
    ada.cut()
    again = world.player()
    resume = {"session": welcome.session, "key": welcome.key, "seq": 0}
    again.feed(again.codec.hello({"auth": {"scheme": "guest"}, "resume": resume}))
    (second,) = await again.frames()
    assert isinstance(second, Welcome)
    assert (second.recovered, second.user) == (True, welcome.user)


async def test_a_key_used_twice_ends_the_session_for_both(world: World, transport: str) -> None:
    ada, welcome = await join(world, transport)
    ada.cut()
    again, (second,) = await come_back(world, ada, welcome, 0)
    assert isinstance(second, Welcome)
    with capture_logs() as logs:
        thief, frames = await come_back(world, ada, welcome, 0)
    assert is_new(frames, welcome)
    assert again.close_code == 4403
    (told,) = await again.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (0, "gateway.key_reused")
    assert EchoAgent.stopped == ["ada"]
    assert ("warning", "the key was used twice") in Dog.events
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "a session's key was used twice: the session ends"
    ]
    assert welcome.key not in str(logs)
    assert is_new((await come_back(world, again, second, 0))[1], welcome)
    assert thief.close_code is None


async def test_a_welcome_that_was_lost_does_not_lock_the_client_out(world: World) -> None:
    ada, welcome = await join(world)
    for _ in range(3):
        ada.cut()
        ada, (second,) = await come_back(world, ada, welcome, 0)
        assert isinstance(second, Welcome)
        assert second.recovered


async def test_another_transport_or_encoding_starts_over(world: World) -> None:
    for transport in TRANSPORTS:
        for other in TRANSPORTS:
            if transport != other:
                ada, welcome = await join(world, transport)
                ada.cut()
                assert is_new(await world.player(other).resume(welcome, 0), welcome)
                assert welcome.session not in world.gate.sessions  # nobody can come back to it


async def test_pushes_that_are_gone_or_never_were_start_over(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(replay_pushes=3))
    for seq in (1, 6):
        ada, welcome = await join(world)
        await shout(world, *"abcde")
        ada.cut()
        assert is_new((await come_back(world, ada, welcome, seq))[1], welcome)
        assert EchoAgent.stopped.pop() == "ada"
        world.hub.clients.clear()


async def test_a_session_that_lost_a_push_for_certain_ends_at_once(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(replay_pushes=3))
    ada, _ = await join(world)
    await shout(world, *"abcde")
    ada.cut()
    await shout(world, *"123")
    assert EchoAgent.stopped == []
    await shout(world, "4")
    assert EchoAgent.stopped == ["ada"]
    assert Dog.events[-1] == ("close", 1013)
    assert (world.gate.sessions, world.gate.suspended, world.gate.suspended_bytes) == ({}, {}, 0)


async def test_the_longest_away_end_when_too_many_are(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(suspended_sessions=2))
    guests = [await join(world, name=name) for name in ("ada", "bob", "eve")]
    for player, _ in guests:
        player.cut()
        await player.frames()
    assert EchoAgent.stopped == ["ada"]
    assert len(world.gate.suspended) == 2
    # Who comes back, or is replaced, counts for nothing.
    bob, _ = await come_back(world, *guests[1], 0)
    ada = await world.guest("ada")
    ada.cut()
    await ada.frames()
    assert EchoAgent.stopped == ["ada"]
    assert bob.close_code is None


async def test_what_is_kept_for_all_that_are_away_is_bounded(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(suspended_bytes=8192))
    guests = [await join(world, name=name) for name in ("ada", "bob", "eve")]
    for player, _ in guests:
        player.cut()
    text = "x" * 1000
    for _ in range(12):
        await shout(world, text)
        kept = sum(seat.session.kept_bytes for seat in world.gate.suspended.values())
        assert kept == world.gate.suspended_bytes <= 8192
    assert EchoAgent.stopped == ["ada", "bob", "eve"]
    assert world.gate.suspended_bytes == 0


async def test_a_takeover_ends_nobody_else(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(suspended_sessions=1))
    bob, _ = await join(world, name="bob")
    bob.cut()
    ada, welcome = await join(world)
    await come_back(world, ada, welcome, 0)
    assert EchoAgent.stopped == []
    assert [seat.user for seat in world.gate.suspended.values()] == ["bob"]
