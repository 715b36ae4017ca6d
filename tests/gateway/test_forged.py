"""Frames that reach for what is no client's: other services, the runtime's messages, methods that are no routes."""

from __future__ import annotations

from typing import Any

import pytest

from skyloom import Address
from skyloom_gateway.wire import JSON, MSGPACK, Codec, Malformed
from skyloom_gateway.wire.frame import ErrorFrame
from tests.gateway.cast import SECRET, EchoAgent
from tests.gateway.players import TRANSPORTS, World

# An agent's rpc methods, its hooks and attributes, services and protocols by their names, other ways to write a route.
FORGED = [
    "echo.never",
    "never",
    "echo.on_stop",
    "echo.on_start",
    "echo.exit",
    "echo.break_down",
    "echo.client",
    "echo.__init__",
    "echo.say.say",
    "echo",
    "echo.",
    "gate",
    "gate.accept",
    "echo_hub.break_down",
    "system",
    "system.kill",
    "socket",
    "lua",
    "lua.never",
    "debug.exit",
    "response",
    "error",
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("route", FORGED)
async def test_what_is_no_route_is_unknown(world: World, transport: str, route: str) -> None:
    player = await world.guest(transport=transport)
    await player.ask("echo.nothing")
    for body in ({}, {"text": "x"}, {"session": "x", "ptype": 4, "args": ["close"]}):
        assert (await player.error(route, **body)).code == "gateway.unknown_route"
        player.notify(route, **body)
        (told,) = await player.frames()
        assert isinstance(told, ErrorFrame)
        assert (told.id, told.error.code) == (0, "gateway.unknown_route")
    assert EchoAgent.seen == []
    assert await player.ask("echo.say", text="still here") == {"text": "still here"}


async def test_all_that_reaches_an_agent_from_its_client_is_a_client_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = world.gate._ask

    def note(agent: Address, ptype: str, args: tuple[Any, ...], timeout: float, settled: Any) -> None:
        asked.append(ptype)
        ask(agent, ptype, args, timeout, settled)

    monkeypatch.setattr(world.gate, "_ask", note)
    player = await world.guest()
    for route in ("echo.nothing", "echo.say", *FORGED, "other.who"):
        player.request(route, text="x", ptype="system", source=0)
        player.notify("echo.note", text="x")
    frames = await player.frames(1)
    assert len(frames) >= len(FORGED)
    assert asked.count("client") == len(asked) > 3


async def test_a_pushs_target_is_not_the_clients_to_choose(world: World) -> None:
    """A client names no session but its own, wherever it writes one."""
    ada, bob = await world.guest("ada"), await world.guest("bob")
    body = {"text": "x", "session": bob.connection.seat.session.id if bob.connection.seat else ""}
    assert (await ada.error("echo.say", **body)).code == "gateway.invalid_body"
    assert await bob.frames() == []


@pytest.mark.parametrize("what", ["plain", "late", "nobody", "hub"])
async def test_what_is_inside_stays_there(world: World, what: str) -> None:
    player = await world.guest()
    error = await player.error("echo.crash_beyond", 6.0, text=what)
    assert SECRET not in str(error)
    assert "skyloom." not in error.code


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_only_frames_of_clients_are_frames(codec: Codec) -> None:
    for frame in (
        codec.welcome({"session": "s", "user": "root"}),
        codec.response(1, codec.encode_body({})),
        codec.push(1, codec.push_tail("echo.shouted", codec.encode_body({"text": "x"}))),
        codec.drain("restart", 0.0),
    ):
        with pytest.raises(Malformed):
            codec.decode(frame)
