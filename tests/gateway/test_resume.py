"""A client that lost its connection comes back to its session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from skyloom_gateway import ClientRef, fan_out
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire.frame import Drain, ErrorFrame, Push, Response, Welcome
from tests.gateway.cast import Dog, EchoAgent, Shouted
from tests.gateway.players import TRANSPORTS, Player, World, open_gate, pushes
from tests.gateway.returns import come_back, is_new, join, shout

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyloom import Node


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


async def test_a_client_comes_back_to_its_session(world: World, transport: str) -> None:
    ada, welcome = await join(world, transport)
    await shout(world, "1", "2")
    assert len(await ada.frames()) == 2
    ada.cut()
    await shout(world, "3", "4")
    again, (second, *rest) = await come_back(world, ada, welcome, 1)
    assert isinstance(second, Welcome)
    assert (second.session, second.user, second.recovered) == (welcome.session, "ada", True)
    assert second.key != welcome.key
    assert pushes(rest) == [(2, {"text": "2"}), (3, {"text": "3"}), (4, {"text": "4"})]
    await shout(world, "5")
    assert pushes(await again.frames()) == [(5, {"text": "5"})]
    assert await again.ask("echo.nothing") == {}
    assert EchoAgent.born == ["ada"]
    assert EchoAgent.stopped == []
    assert EchoAgent.moved == ["ada away", "ada back"]
    assert Dog.events == [("open", "ada", "192.0.2.7:5"), ("suspend", 1006), ("resume", "192.0.2.7:5")]
    assert (world.gate.suspended, world.gate.suspended_bytes) == ({}, 0)
    await again.frames(100)
    assert again.close_code is None


async def test_a_request_in_flight_is_answered_on_the_new_connection(world: World, transport: str) -> None:
    ada, welcome = await join(world, transport)
    id = ada.request("echo.wait", seconds=2, text="x")
    await ada.frames()
    ada.cut()
    again, _ = await come_back(world, ada, welcome, 0)
    again._last_id = id - 1
    assert again.request("echo.wait", seconds=2, text="x") == id
    (answer,) = await again.frames(3)
    assert answer == Response(id, {"seconds": 2, "text": "x"})
    assert EchoAgent.seen == ["begin x", "end x"]


async def test_an_answer_that_came_meanwhile_is_given_when_the_request_is_repeated(world: World) -> None:
    ada, welcome = await join(world)
    id = ada.request("echo.wait", seconds=1, text="x")
    failing = ada.request("echo.fail", text="y")
    await ada.frames()
    ada.cut()
    await ada.frames(2)
    assert world.gate.suspended_bytes > 0
    again, frames = await come_back(world, ada, welcome, 0)
    assert len(frames) == 1  # answers are given when they are asked for
    again._last_id = id - 1
    again.request("echo.wait", seconds=1, text="x")
    again.request("echo.fail", text="y")
    first, second = await again.frames()
    assert first == Response(id, {"seconds": 1, "text": "x"})
    assert isinstance(second, ErrorFrame)
    assert (second.id, second.error.code) == (failing, "echo.no_such_thing")
    assert EchoAgent.seen == ["begin x", "end x"]


async def test_what_surely_did_not_run_runs_when_it_is_repeated(world: World) -> None:
    EchoAgent.start_error = RuntimeError("not now")
    ada = await world.guest()
    error = await ada.error("echo.say", text="x")
    assert error.code == "gateway.unavailable"
    EchoAgent.start_error = None
    ada._last_id -= 1
    assert await ada.ask("echo.say", text="x") == {"text": "x"}
    assert EchoAgent.seen == ["x"]


async def test_requests_to_an_agent_that_did_not_start_in_time_may_be_repeated(world: World) -> None:
    EchoAgent.slow_start = 6
    ada = await world.guest()
    error = await ada.error("echo.say", 5.5, text="x")
    assert error.code == "gateway.deadline_exceeded"
    await ada.frames(1)
    ada._last_id -= 1
    assert await ada.ask("echo.say", text="x") == {"text": "x"}
    assert EchoAgent.seen == ["x"]


async def test_a_request_that_did_not_reach_its_agent_runs_when_it_is_repeated(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(messages_burst=1000, requests_in_flight=1000))
    ada = await world.guest()
    await ada.ask("echo.nothing")
    (agent,) = (cell for cell in world.node.cells.values() if isinstance(cell.service, EchoAgent))
    world.node.kill(agent.address)  # the gate does not know it yet
    told = await ada.error("echo.say", text="x")
    assert (told.code, told.retryable) == ("gateway.unavailable", True)
    ada._last_id -= 1
    assert await ada.ask("echo.say", text="x") == {"text": "x"}
    assert EchoAgent.seen == ["x"]


async def test_the_time_of_an_earlier_absence_ends_nothing(world: World) -> None:
    ada, welcome = await join(world)
    ada.cut()
    await ada.frames(50)
    again, (second,) = await come_back(world, ada, welcome, 0)
    assert isinstance(second, Welcome)
    await again.frames(5)
    again.cut()
    await again.frames(50)  # 105 s after the first loss, 50 s after the second
    _, (third,) = await come_back(world, again, second, 0)
    assert isinstance(third, Welcome)
    assert third.recovered


async def test_a_newer_connection_takes_over(world: World, transport: str) -> None:
    ada, welcome = await join(world, transport)
    await shout(world, "1")
    again, (second, *_) = await come_back(world, ada, welcome, 1)
    assert isinstance(second, Welcome)
    assert second.recovered
    assert ada.close_code == 4409
    told = (await ada.frames())[-1]
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (0, "gateway.replaced")
    await shout(world, "2")
    assert pushes(await again.frames()) == [(2, {"text": "2"})]
    assert await ada.frames() == []
    assert EchoAgent.moved == ["ada away", "ada back"]
    assert world.gate.connections == {again.connection}
    await again.frames(100)
    assert again.close_code is None


async def test_a_session_ends_after_60_seconds(world: World) -> None:
    ada, welcome = await join(world)
    ada.cut()
    await ada.frames(59.9)
    assert EchoAgent.stopped == []
    await ada.frames(0.2)
    assert EchoAgent.stopped == ["ada"]
    assert Dog.events[-1] == ("close", 1001)
    assert (world.gate.sessions, world.gate.suspended, world.gate.suspended_bytes) == ({}, {}, 0)
    assert is_new((await come_back(world, ada, welcome, 0))[1], welcome)


async def test_each_loss_starts_the_60_seconds_anew(world: World) -> None:
    ada, welcome = await join(world)
    for _ in range(4):
        ada.cut()
        await ada.frames(50)
        ada, (again,) = await come_back(world, ada, welcome, 0)
        assert isinstance(again, Welcome)
        assert again.recovered
        welcome = again
        ada.feed(ada.codec.ping())
        await ada.frames(50)


@pytest.mark.parametrize(
    ("code", "ends"),
    [(1000, True), (1001, False), (1002, True), (1005, False), (1006, False), (1007, True), (1009, True)]
    + [(1011, False), (1013, False), (3000, False)],
)
async def test_what_ends_a_session_at_once(world: World, code: int, ends: bool) -> None:
    ada, welcome = await join(world)
    ada.link.lose(code, "so")
    await ada.frames()
    assert EchoAgent.stopped == (["ada"] if ends else [])
    assert Dog.events[-1] == ("close" if ends else "suspend", code)
    _, (second, *_) = await come_back(world, ada, welcome, 0)
    assert isinstance(second, Welcome)
    assert second.recovered is not ends


async def test_an_empty_frame_is_the_goodbye_of_tcp(world: World) -> None:
    ada, welcome = await join(world, "tcp")
    ada.feed(b"")
    assert ada.close_code == 4400
    await ada.frames()
    assert EchoAgent.stopped == ["ada"]
    assert is_new((await come_back(world, ada, welcome, 0))[1], welcome)


def flood(player: Player) -> None:
    for _ in range(400):
        player.request("echo.nothing")


def speak_nonsense(player: Player) -> None:
    player.feed(b"nonsense")


@pytest.mark.parametrize(("how", "code"), [(flood, 4429), (speak_nonsense, 4400)])
async def test_who_breaks_the_rules_starts_over(world: World, how: Callable[[Player], None], code: int) -> None:
    ada, welcome = await join(world)
    how(ada)
    assert ada.close_code == code
    await ada.frames()
    assert EchoAgent.stopped == ["ada"]
    assert Dog.events[-1] == ("close", code)
    assert is_new((await come_back(world, ada, welcome, 0))[1], welcome)


# -- agents ----------------------------------------------------------------------------------------------------


async def test_an_agent_that_starts_while_its_client_is_away_is_told_so(world: World) -> None:
    EchoAgent.slow_start = 2
    ada = world.player()
    welcome = await ada.greet()
    id = ada.request("echo.say", text="x")
    await ada.frames(1)
    ada.cut()
    await ada.frames(2)
    assert EchoAgent.seen == ["x"]
    assert EchoAgent.moved == ["ada away"]
    again, _ = await come_back(world, ada, welcome, 0)
    again._last_id = id - 1
    assert await again.ask("echo.say", text="x") == {"text": "x"}
    assert EchoAgent.seen == ["x"]
    assert EchoAgent.moved == ["ada away", "ada back"]


async def test_an_agent_hears_of_the_return_before_the_requests_that_follow(world: World) -> None:
    ada, welcome = await join(world)
    ada.cut()
    await ada.frames()
    again = world.player()
    resume = {"session": welcome.session, "key": welcome.key, "seq": 0}
    EchoAgent.seen = EchoAgent.moved  # one list for both
    again.feed(again.codec.hello({"auth": {"scheme": "guest", "name": "ada"}, "resume": resume}))
    again._last_id = 90
    again.request("echo.say", text="first")
    await again.frames()
    assert EchoAgent.moved == ["ada away", "ada back", "first"]


async def test_an_agent_may_throw_its_client_out(world: World, transport: str) -> None:
    ada, welcome = await join(world, transport)
    ada.request("echo.out")
    told = (await ada.frames())[-1]
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code, told.error.message) == (0, "gateway.forbidden", "no cheating")
    assert ada.close_code == 4403
    assert EchoAgent.stopped == ["ada"]
    assert is_new((await come_back(world, ada, welcome, 0))[1], welcome)


async def test_a_client_that_is_away_can_be_thrown_out(world: World) -> None:
    ada, welcome = await join(world)
    ada.cut()
    await ada.frames()
    for there in (True, False):
        said = await world.node.call(world.gate.address, "lua", "end_session", welcome.session, "enough")
        assert said is there
    await ada.frames()
    assert EchoAgent.stopped == ["ada"]
    assert is_new((await come_back(world, ada, welcome, 0))[1], welcome)


async def test_pushes_to_clients_that_are_away_are_encoded_once(world: World) -> None:
    guests = [await join(world, name=name) for name in ("ada", "bob", "eve")]
    refs = [ClientRef(world.gate.address, welcome.session, "json") for _, welcome in guests]
    for player, _ in guests[1:]:
        player.cut()
    await guests[0][0].frames()
    fan_out(world.node.root, refs, Shouted(text="hey"))
    await guests[0][0].frames()
    kept = [next(iter(seat.session._replay))[1] for seat in world.gate.sessions.values()]
    assert len(kept) == 3
    assert len({id(tail) for tail in kept}) == 1


# -- the server's end ------------------------------------------------------------------------------------------


async def test_a_drain_does_not_wait_for_those_who_are_away(world: World) -> None:
    ada, _ = await join(world)
    ada.request("echo.wait", seconds=4)
    await ada.frames()
    ada.cut()
    await ada.frames()
    bob, _ = await join(world, name="bob")
    bob.request("echo.wait", seconds=1)
    await bob.frames()
    draining = asyncio.create_task(world.gate.drain())
    await bob.frames()
    assert EchoAgent.stopped == ["ada"]
    eve = world.player()
    bob.cut()  # where should it come back to?
    await bob.frames()
    assert EchoAgent.stopped == ["ada", "bob"]
    assert draining.done()
    await draining
    assert eve.close_code == 1012
    assert world.gate.sessions == {}


async def test_who_comes_back_during_a_drain_is_told(world: World) -> None:
    ada, welcome = await join(world)
    ada.request("echo.wait", seconds=2)
    await ada.frames()
    draining = asyncio.create_task(world.gate.drain())
    await ada.frames()
    _, frames = await come_back(world, ada, welcome, 0)
    assert [type(frame) for frame in frames] == [Welcome, Drain]
    await ada.frames(3)
    await draining


async def test_replay_fits_what_a_client_may_leave_unread() -> None:
    with pytest.raises(ValueError, match="replay_pushes is above unsent_messages"):
        GatewaySettings(replay_pushes=300)
    with pytest.raises(ValueError, match="replay_bytes is above unsent_bytes"):
        GatewaySettings(replay_bytes=300 * 1024)
    assert GatewaySettings(replay_pushes=256).unsent_messages == 256


async def test_early_frames_of_a_client_that_comes_back_are_answered(world: World) -> None:
    ada, welcome = await join(world)
    await shout(world, "1")
    ada.cut()
    again = world.player()
    resume = {"session": welcome.session, "key": welcome.key, "seq": 0}
    again.feed(again.codec.hello({"auth": {"scheme": "guest", "name": "ada"}, "resume": resume}))
    again.feed(again.codec.request(50, "echo.say", again.codec.encode_body({"text": "x"})))
    assert [type(frame) for frame in await again.frames()] == [Welcome, Push, Response]
