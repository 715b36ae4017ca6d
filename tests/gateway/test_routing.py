"""From a frame to the agent's handler and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skyloom import Node
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire import ErrorKind
from skyloom_gateway.wire.frame import ErrorFrame, Response
from tests.gateway.cast import Dog, EchoAgent
from tests.gateway.players import TRANSPORTS, Player, World, open_gate


@pytest.fixture(params=TRANSPORTS)
async def ada(request: pytest.FixtureRequest, world: World) -> Player:
    return await world.guest("ada", request.param)


async def test_routes_go_to_the_app_of_their_prefix(ada: Player) -> None:
    assert await ada.ask("echo.say", text="hällo") == {"text": "hällo"}
    assert await ada.ask("other.who") == "other ada"
    assert await ada.ask("echo.nothing") == {}


async def test_an_unknown_route(ada: Player) -> None:
    error = await ada.error("echo.sing")
    assert (error.code, error.kind) == ("gateway.unknown_route", ErrorKind.UNIMPLEMENTED)
    assert "echo.sing" in error.message
    assert (await ada.error("nobody.here")).code == "gateway.unknown_route"
    ada.notify("echo.sing")
    (told,) = await ada.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (0, "gateway.unknown_route")
    assert EchoAgent.born == []  # no agent for nothing


async def test_a_request_is_no_notify(ada: Player) -> None:
    error = await ada.error("echo.note", text="x")
    assert (error.code, error.kind) == ("gateway.unknown_route", ErrorKind.UNIMPLEMENTED)
    ada.notify("echo.say", text="x")
    (told,) = await ada.frames()
    assert isinstance(told, ErrorFrame)
    assert told.id == 0
    assert EchoAgent.seen == []


async def test_a_notify_has_no_answer(ada: Player) -> None:
    ada.notify("echo.note", text="1")
    ada.notify("echo.note", text="2")
    assert await ada.frames() == []
    assert EchoAgent.seen == ["note 1", "note 2"]


async def test_an_invalid_body_does_not_reach_the_handler(ada: Player) -> None:
    error = await ada.error("echo.say", text=12345678)
    assert (error.code, error.kind, error.retryable) == ("gateway.invalid_body", ErrorKind.INVALID_ARGUMENT, False)
    assert error.message == "the body does not fit: text: Input should be a valid string"
    assert error.details == {
        "errors": [{"type": "string_type", "loc": ["text"], "msg": "Input should be a valid string"}]
    }
    assert EchoAgent.seen == []
    assert (await ada.error("echo.say")).details["errors"] == [
        {"type": "missing", "loc": ["text"], "msg": "Field required"}
    ]
    ada.notify("echo.note", text=None)
    (told,) = await ada.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (0, "gateway.invalid_body")
    assert EchoAgent.seen == []


async def test_what_a_client_is_told_of_its_body_is_bounded(ada: Player) -> None:
    error = await ada.error("echo.say", **{"text": "x", "y" * 60_000: 1})
    assert error.code == "gateway.invalid_body"
    assert len(str(error)) < 1000
    error = await ada.error("echo.numbers", rows=[["x"] * 40])
    errors = error.details["errors"]
    assert isinstance(errors, list)
    assert len(errors) == 16
    error = await ada.error("echo.numbers", rows=[["x"] * 1000] * 3)
    assert error.message == "the body does not fit in 3000 places"
    assert EchoAgent.seen == []


async def test_a_body_that_is_no_map(ada: Player) -> None:
    ada.feed(ada.codec.request(1, "echo.say", ada.codec.encode_body([1, 2])))
    (told,) = await ada.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (1, "gateway.invalid_body")
    assert told.error.message.startswith("the body does not fit: body: Input should be a valid dictionary")


async def test_a_nested_body_that_is_no_msgpack(world: World) -> None:
    ada = await world.guest(transport="tcp")
    ada.feed(ada.codec.request(9, "echo.say", b"\xc1"))
    (told,) = await ada.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (9, "gateway.invalid_body")
    assert await ada.ask("echo.nothing") == {}


async def test_requests_of_a_client_run_in_turn(ada: Player) -> None:
    ids = [ada.request("echo.wait", seconds=1.5 - n / 2, text=str(n)) for n in range(3)]
    last = ada.request("echo.say", text="say")
    answers = await ada.frames(4)
    assert [(type(answer), answer.id) for answer in answers if isinstance(answer, Response)] == [
        (Response, id) for id in [*ids, last]
    ]
    assert EchoAgent.seen == ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2", "say"]


async def test_a_concurrent_route_does_not_wait(ada: Player) -> None:
    slow = ada.request("echo.wait", seconds=3, text="slow")
    beside = ada.request("echo.wait_beside", seconds=1, text="beside")
    also = ada.request("echo.wait_beside", seconds=2, text="also")
    answers = await ada.frames(4)
    assert [answer.id for answer in answers if isinstance(answer, Response)] == [beside, also, slow]


async def test_clients_do_not_wait_for_each_other(world: World) -> None:
    ada, bob = await world.guest("ada"), await world.guest("bob")
    ada.request("echo.wait", seconds=4)
    assert await bob.ask("echo.say", text="x") == {"text": "x"}


async def test_a_request_without_an_answer_in_time(ada: Player) -> None:
    error = await ada.error("echo.wait", 5.1, seconds=7, text="slow")
    assert (error.code, error.kind) == ("gateway.deadline_exceeded", ErrorKind.DEADLINE_EXCEEDED)
    assert EchoAgent.seen == ["begin slow"]
    assert await ada.frames(3) == []  # the late answer
    assert EchoAgent.seen == ["begin slow", "end slow"]
    assert await ada.ask("echo.say", text="x") == {"text": "x"}


async def test_a_request_that_may_have_run_does_not_run_again_when_it_is_repeated(ada: Player) -> None:
    request = ada.codec.request(7, "echo.wait_beside", ada.codec.encode_body({"seconds": 6, "text": "once"}))
    ada.feed(request)
    (told,) = await ada.frames(5.1)
    assert isinstance(told, ErrorFrame)
    assert told.error.code == "gateway.deadline_exceeded"
    ada.feed(request)
    assert await ada.frames(4) == [told]
    assert EchoAgent.seen == ["begin once", "end once"]


async def test_a_request_whose_time_passed_in_the_queue_is_not_begun(ada: Player) -> None:
    ada.request("echo.wait", seconds=7, text="slow")
    for n in range(3):
        ada.request("echo.wait", text=str(n))
    told = await ada.frames(5.1)
    assert [t.error.code for t in told if isinstance(t, ErrorFrame)] == ["gateway.deadline_exceeded"] * 4
    fresh = ada.request("echo.say", text="fresh")
    (answer,) = await ada.frames(4)
    assert isinstance(answer, Response)
    assert answer.id == fresh
    assert EchoAgent.seen == ["begin slow", "end slow", "fresh"]


async def test_the_time_for_a_request_is_a_setting(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(request_timeout_seconds=0.5))
    ada = await world.guest()
    assert (await ada.error("echo.wait", 0.6, seconds=1)).code == "gateway.deadline_exceeded"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_requests_over_the_bound_in_flight(world: World, transport: str) -> None:
    world.gate.limits = replace(world.gate.limits, requests_in_flight_max=64)
    ada = await world.guest("ada", transport)
    for _ in range(65):
        ada.request("echo.wait", seconds=1)
    (told,) = await ada.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (65, "gateway.too_many_requests")


async def test_a_flood_is_refused_then_closed_and_the_watchdog_told(world: World) -> None:
    ada, bob = await world.guest("ada"), await world.guest("bob")
    for _ in range(400):
        ada.request("echo.nothing")
    assert ada.close_code == 4429
    frames = await ada.frames()
    codes = [frame.error.code for frame in frames if isinstance(frame, ErrorFrame)]
    assert "gateway.rate_limited" in codes
    assert sum(isinstance(frame, Response) for frame in frames) <= 100
    assert ("warning", "100 frames over the rate limit: slow down") in Dog.events
    assert await bob.ask("echo.nothing") == {}
