"""How a client comes in, or does not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from skyloom import Node
from skyloom_gateway import Denied, Forbidden, Identity
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire import ErrorKind
from skyloom_gateway.wire.frame import ErrorFrame, Push, Response, Welcome
from tests.gateway.cast import Dog, EchoAgent
from tests.gateway.players import TRANSPORTS, World, open_gate


class Doorkeeper:
    """Does what the hello's `want` says."""

    scheme = "door"
    development = False

    def __init__(self) -> None:
        self.cancelled = 0

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        want = auth.get("want")
        if want == "deny":
            raise Denied("come back with a ticket", detail="no ticket")
        if want == "forbid":
            raise Forbidden("you are banned until Monday", detail="cheated")
        if want == "raise":
            raise RuntimeError("the secret of the door")
        if want == "odd":
            return Identity("\ud800")
        try:
            await asyncio.sleep(1000 if want == "hang" else 1)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Identity("ada")


@pytest.fixture
async def door(gate_node: Node) -> World:
    return await open_gate(gate_node, authenticators=[Doorkeeper()])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_welcome(world: World, transport: str) -> None:
    player = world.player(transport)
    welcome = await player.greet("Ada Lovelace")
    assert welcome.fields.keys() == {
        *("session", "key", "user", "recovered", "limits", "heartbeat", "contract"),
    }
    assert (welcome.user, welcome.recovered, welcome.heartbeat) == ("Ada Lovelace", False, 20)
    assert welcome.limits == {"frame_bytes": 65536, "messages_per_second": 50}
    numbers = [welcome.fields["heartbeat"], *welcome.limits.values()]
    assert [repr(number) for number in numbers] == ["20", "65536", "50"]
    assert welcome.contract == "sha256:0"
    other = await world.player(transport).greet()
    secrets = {welcome.session, welcome.key, other.session, other.key}
    assert len(secrets) == 4
    assert min(map(len, secrets)) >= 22
    assert Dog.events[0] == ("open", "Ada Lovelace", "192.0.2.7:5")


async def test_the_welcome_tells_fractions_as_they_are(gate_node: Node) -> None:
    settings = GatewaySettings(heartbeat_seconds=7.5, messages_per_second=0.5)
    world = await open_gate(gate_node, settings=settings)
    for transport in TRANSPORTS:
        welcome = await world.player(transport).greet()
        assert (welcome.fields["heartbeat"], welcome.limits["messages_per_second"]) == (7.5, 0.5)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\u202eb", " ada", "ada ", 7, ["ada"], {}, True, "\x00"])
async def test_names_that_guests_may_not_have(world: World, name: object) -> None:
    player = world.player()
    player.hello(name)
    (told,) = await player.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code, told.error.kind) == (0, "gateway.unauthenticated", ErrorKind.UNAUTHENTICATED)
    assert told.error.message.startswith("auth.name must")
    assert player.close_code == 4401
    assert world.gate.connections == set()
    assert Dog.events == []


@pytest.mark.parametrize("name", ["x" * 64, "Ada Löv", "艾达", "<b>ada</b>", "🦊"])
async def test_names_that_guests_may_have(world: World, name: str) -> None:
    assert (await world.player().greet(name)).user == name


async def test_a_guest_without_a_name_gets_one(world: World) -> None:
    player = world.player()
    player.hello(None)
    (welcome,) = await player.frames()
    assert isinstance(welcome, Welcome)
    assert re.fullmatch(r"guest-[a-z]{6}", welcome.user)


@pytest.mark.parametrize("scheme", ["door", None, ["guest"], {"guest": 1}, "g" * 3000])
async def test_a_scheme_that_is_not_on_offer(world: World, scheme: object) -> None:
    player = world.player()
    player.hello(scheme=scheme)
    (told,) = await player.frames()
    assert isinstance(told, ErrorFrame)
    assert told.error.message.endswith("on offer: guest")
    assert len(told.error.message) < 100
    assert player.close_code == 4401


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_denied_are_told_why(door: World, transport: str) -> None:
    player = door.player(transport)
    player.hello(scheme="door", want="deny")
    player.request("echo.say", text="x")
    with capture_logs() as logs:
        (told,) = await player.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.error.code, told.error.message) == ("gateway.unauthenticated", "come back with a ticket")
    assert told.error.kind is ErrorKind.UNAUTHENTICATED
    assert player.link.closing == (4401, "not authenticated")
    assert EchoAgent.born == []
    assert [line["detail"] for line in logs if line["event"] == "client denied"] == ["no ticket"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_forbidden_are_told_not_to_come_back(door: World, transport: str) -> None:
    player = door.player(transport)
    player.hello(scheme="door", want="forbid")
    (told,) = await player.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code, told.error.kind) == (0, "gateway.forbidden", ErrorKind.PERMISSION_DENIED)
    assert (told.error.message, told.error.retryable) == ("you are banned until Monday", False)
    assert player.link.closing == (4403, "forbidden")
    assert door.gate.sessions == {}


@pytest.mark.parametrize("want", ["raise", "odd"])
async def test_an_authenticator_that_fails_is_not_the_clients_fault(door: World, want: str) -> None:
    player = door.player()
    player.hello(scheme="door", want=want)
    with capture_logs() as logs:
        (told,) = await player.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.error.code, told.error.kind) == ("gateway.internal", ErrorKind.INTERNAL)
    assert "secret" not in str(told)
    assert player.close_code == 4401
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["authenticator failed"]
    assert door.gate.sessions == {}


async def test_an_authenticator_that_hangs(door: World) -> None:
    player = door.player()
    player.hello(scheme="door", want="hang")
    assert await player.frames(4.9) == []
    (told,) = await player.frames(0.2)
    assert isinstance(told, ErrorFrame)
    assert (told.error.code, player.close_code) == ("gateway.hello_timeout", 4408)
    (doorkeeper,) = door.gate.authenticators
    assert isinstance(doorkeeper, Doorkeeper)
    assert doorkeeper.cancelled == 1
    assert door.gate.connections == set()


async def test_a_client_that_leaves_while_it_is_authenticated(door: World) -> None:
    player = door.player()
    player.hello(scheme="door", want="wait")
    await player.frames(0.5)
    player.leave()
    assert await player.frames(2) == []
    assert door.gate.sessions == {}
    assert Dog.events == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_hello(world: World, transport: str) -> None:
    player = world.player(transport)
    assert await player.frames(4.9) == []
    (told,) = await player.frames(0.2)
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code, player.close_code) == (0, "gateway.hello_timeout", 4408)
    assert world.gate.connections == set()


async def test_a_hello_in_time_takes_the_timer_off(world: World) -> None:
    player = world.player()
    await player.frames(4.9)
    await player.greet()
    assert await player.frames(100) == []
    assert player.close_code is None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_frames_right_after_the_hello_are_answered_in_order(door: World, transport: str) -> None:
    player = door.player(transport)
    player.hello(scheme="door", want="wait")
    first = player.request("echo.say", text="1")
    player.notify("echo.note", text="2")
    player.request("echo.push_thrice")
    assert await player.frames(0.9) == []
    frames = await player.frames(0.2)
    assert [type(frame) for frame in frames] == [Welcome, Response, Push, Push, Push, Response]
    assert isinstance(frames[1], Response)
    assert frames[1].id == first
    assert EchoAgent.seen == ["1", "note 2"]


async def test_too_much_right_after_the_hello(door: World) -> None:
    player = door.player()
    player.hello(scheme="door", want="wait")
    for _ in range(40):
        player.request("echo.nothing")
    assert player.close_code == 1009
    await player.frames(2)
    assert door.gate.sessions == {}


async def test_a_long_hello(world: World) -> None:
    player = world.player()
    player.hello("x" * 5000)
    assert player.close_code == 1009


async def test_a_second_hello(world: World) -> None:
    player = await world.guest()
    player.hello()
    assert player.close_code == 4400
    await player.frames()
    assert world.gate.sessions == {}
    assert Dog.events[-1] == ("close", 4400)


async def test_resume_is_answered_with_a_new_session(world: World) -> None:
    player = world.player()
    resume = {"session": "s", "key": "k", "seq": 3}
    player.feed(player.codec.hello({"auth": {"scheme": "guest"}, "resume": resume}))
    (welcome,) = await player.frames()
    assert isinstance(welcome, Welcome)
    assert not welcome.recovered
    assert welcome.session != "s"


async def test_watchdogs_hear_of_sessions_only(world: World) -> None:
    world.player().leave()
    ada = await world.guest()
    ada.leave()
    await ada.frames()
    assert Dog.events == [("open", "ada", "192.0.2.7:5"), ("close", 1000)]


async def test_times_are_settings(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=GatewaySettings(hello_timeout_seconds=0.3, hello_bytes=256))
    player = world.player()
    await player.frames(0.4)
    assert player.close_code == 4408
    player = world.player()
    player.hello("x" * 300)
    assert player.close_code == 1009
