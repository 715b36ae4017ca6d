"""Tickets and sessions: who comes back shows a new ticket, and gets its session with its new claims."""

from __future__ import annotations

import pytest

from skyloom import Node
from skyloom_gateway import Agent, App, request
from skyloom_gateway.auth import TicketAuthenticator, TicketKey, issue_ticket
from skyloom_gateway.wire.frame import ErrorFrame, Response, Welcome
from tests.gateway.players import Player, World, open_gate

KEY = TicketKey("new", b"n" * 32)


class RoleAgent(Agent):
    count = 0

    @request("role.say")
    async def say(self) -> list[object]:
        self.count += 1
        return [self.count, self.claims.get("role")]


@pytest.fixture
async def place(gate_node: Node) -> World:
    tickets = TicketAuthenticator([KEY], "skyloom", gate_node.clock.time)
    return await open_gate(gate_node, authenticators=[tickets], apps=[App("role", agent=RoleAgent)])


def ticket(place: World, user: str = "ada", role: str = "player") -> dict[str, object]:
    expires_at = place.node.clock.time() + 60
    made = issue_ticket(KEY, user, audience="skyloom", expires_at=expires_at, claims={"role": role})
    return {"scheme": "ticket", "ticket": made}


async def come(place: World, auth: dict[str, object], after: Welcome | None = None) -> tuple[Player, object]:
    player = place.player()
    hello: dict[str, object] = {"auth": auth}
    if after is not None:
        hello["resume"] = {"session": after.session, "key": after.key, "seq": 0}
    player.feed(player.codec.hello(hello))
    return player, (await player.frames())[0]


async def said(player: Player, id: int = 1) -> object:
    player.feed(player.codec.request(id, "role.say", player.codec.encode_body({})))
    (answer,) = await player.frames()
    assert isinstance(answer, Response)
    return answer.body


async def test_who_comes_back_shows_a_new_ticket(place: World) -> None:
    first = ticket(place)
    player, welcome = await come(place, first)
    assert isinstance(welcome, Welcome)
    assert await said(player) == [1, "player"]
    player.link.lose(1006, "the connection broke")
    await player.frames()
    player, told = await come(place, first, welcome)
    assert isinstance(told, ErrorFrame)
    assert (told.error.message, player.close_code) == ("the ticket was used before; get a new one", 4401)
    player, again = await come(place, ticket(place, role="admin"), welcome)
    assert isinstance(again, Welcome)
    assert again.recovered
    assert await said(player, id=2) == [2, "admin"]


async def test_anothers_ticket_does_not_open_ones_session(place: World) -> None:
    _, welcome = await come(place, ticket(place))
    assert isinstance(welcome, Welcome)
    player, other = await come(place, ticket(place, "bob"), welcome)
    assert isinstance(other, Welcome)
    assert (other.user, other.recovered) == ("bob", False)
    assert await said(player) == [1, "player"]
