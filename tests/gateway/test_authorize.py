"""Who may call a route: the route says, before the body is looked at and in the request's turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from skyloom import Node
from skyloom_gateway import Agent, App, Identity, NotPermitted, notify, request
from skyloom_gateway.agent import Route
from skyloom_gateway.wire import ErrorKind
from skyloom_gateway.wire.frame import ErrorFrame, Response
from tests.gateway.players import TRANSPORTS, Player, World, open_gate


class Kick(BaseModel):
    who: str


class Bearer:
    """Takes the claims from the hello, as no authenticator should."""

    scheme = "bearer"
    development = False

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        claims = auth.get("claims")
        assert isinstance(claims, dict)
        return Identity("ada", claims)


class AdminAgent(Agent):
    done: ClassVar[list[str]] = []
    seated = False

    def is_admin(self) -> bool:
        return "admin" in self.claims.get("roles", ())

    async def is_seated(self) -> bool:
        await self.sleep(0.1)
        return self.seated

    def breaks(self) -> bool:
        raise ZeroDivisionError("a secret")

    @request("admin.kick", allow=is_admin)
    async def kick(self, body: Kick) -> None:
        self.done.append(body.who)

    @request("admin.kick_beside", allow=is_admin, concurrent=True)
    async def kick_beside(self, body: Kick) -> None:
        self.done.append(body.who)

    @notify("admin.note", allow=is_admin)
    async def note(self, body: Kick) -> None:
        self.done.append(body.who)

    @request("admin.sit")
    async def sit(self) -> None:
        await self.sleep(1)
        self.seated = True

    @request("admin.play", allow=is_seated)
    async def play(self) -> str:
        return "played"

    @request("admin.broken", allow=breaks)
    async def broken(self) -> None:
        self.done.append("broken")

    @request("admin.own", allow=lambda agent: agent.user == "ada")
    async def own(self, body: Kick) -> None:
        if body.who != self.user:
            raise NotPermitted("that is not yours", details={"who": body.who})

    @request("admin.grow")
    async def grow(self) -> list[str]:
        roles: list[str] = self.claims["roles"]
        roles.append("admin")  # what a careless handler does
        return roles


class WatchedAgent(Agent):
    """A rule for all routes, besides their own."""

    asked: ClassVar[list[str]] = []

    async def on_authorize(self, route: Route) -> bool:
        self.asked.append(route.name)
        return not self.claims.get("muted") and await super().on_authorize(route)

    @request("watched.free")
    async def free(self) -> None: ...

    @request("watched.vip", allow=lambda agent: agent.claims.get("vip", False))
    async def vip(self) -> None: ...


APPS = (App("admin", agent=AdminAgent), App("watched", agent=WatchedAgent))


@pytest.fixture
async def place(gate_node: Node) -> World:
    AdminAgent.done = []
    WatchedAgent.asked = []
    return await open_gate(gate_node, authenticators=[Bearer()], apps=APPS)


async def enter(place: World, transport: str = "websocket-json", **claims: object) -> Player:
    player = place.player(transport)
    player.hello(scheme="bearer", claims=claims)
    await player.frames()
    return player


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("route", ["admin.kick", "admin.kick_beside"])
async def test_a_route_says_who_may_call_it(place: World, route: str, transport: str) -> None:
    error = await (await enter(place, transport)).error(route, who="bob")
    assert (error.code, error.kind, error.retryable) == (
        "gateway.permission_denied",
        ErrorKind.PERMISSION_DENIED,
        False,
    )
    assert error.message == f"you may not call {route}"
    assert AdminAgent.done == []
    admin = await enter(place, transport, roles=["admin"])
    assert await admin.ask(route, who="bob") == {}
    assert AdminAgent.done == ["bob"]


async def test_the_rejected_learn_nothing_of_the_body(place: World) -> None:
    assert (await (await enter(place)).error("admin.kick", wrong=1)).code == "gateway.permission_denied"
    assert (await (await enter(place, roles=["admin"])).error("admin.kick", wrong=1)).code == "gateway.invalid_body"


async def test_a_notify_that_is_not_permitted(place: World) -> None:
    player = await enter(place)
    player.notify("admin.note", who="bob")
    (told,) = await player.frames()
    assert isinstance(told, ErrorFrame)
    assert (told.id, told.error.code) == (0, "gateway.permission_denied")
    admin = await enter(place, roles=["admin"])
    admin.notify("admin.note", who="eve")
    assert await admin.frames() == []
    assert AdminAgent.done == ["eve"]


async def test_what_is_asked_may_wait_and_is_asked_in_turn(place: World) -> None:
    player = await enter(place)
    assert (await player.error("admin.play", 0.2)).code == "gateway.permission_denied"
    player.request("admin.sit")
    player.request("admin.play")
    answers = await player.frames(2)
    assert [type(answer) for answer in answers] == [Response, Response]


async def test_a_rule_that_fails_lets_nobody_in(place: World) -> None:
    error = await (await enter(place)).error("admin.broken")
    assert error.code == "gateway.internal"
    assert "secret" not in error.message
    assert AdminAgent.done == []


async def test_a_handler_may_say_no_when_it_knows_the_body(place: World) -> None:
    player = await enter(place)
    assert await player.ask("admin.own", who="ada") == {}
    error = await player.error("admin.own", who="bob")
    assert (error.code, error.message, error.details) == (
        "gateway.permission_denied",
        "that is not yours",
        {"who": "bob"},
    )


async def test_a_rule_for_all_routes(place: World) -> None:
    player = await enter(place)
    assert await player.ask("watched.free") == {}
    assert (await player.error("watched.vip")).code == "gateway.permission_denied"
    assert await (await enter(place, vip=True)).ask("watched.vip") == {}
    muted = await enter(place, vip=True, muted=True)
    assert (await muted.error("watched.free")).code == "gateway.permission_denied"
    assert WatchedAgent.asked == ["watched.free", "watched.vip", "watched.vip", "watched.free"]


async def test_claims_are_the_agents_own(place: World) -> None:
    claims: dict[str, Any] = {"roles": []}
    player = await enter(place, **claims)
    assert await player.ask("admin.grow") == ["admin"]
    connection = next(iter(place.gate.connections))
    assert connection.seat is not None
    assert connection.seat.claims == {"roles": []}


def test_routes_without_a_rule_ask_nobody() -> None:
    assert not AdminAgent.routes["admin.sit"].guarded
    assert AdminAgent.routes["admin.kick"].guarded
    assert WatchedAgent.routes["watched.free"].guarded
