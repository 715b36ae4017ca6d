"""Connections that break at any frame, in both directions, again and again: no push is lost, repeated or out of
order, and no request runs twice.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel

from skyloom import Service, rpc
from skyloom_gateway import Agent, App, ClientRef, Push, fan_out, request
from skyloom_gateway.client import ConnectFailed, Reconnect
from skyloom_gateway.testing import Player, TestGateway

if TYPE_CHECKING:
    from skyloom.testing import Sim

SAID = 20
FIRST_CUT_BEFORE = 64
"""The seed chooses the first cut among so many frames: more than a connection has that is never cut."""

FURTHER_CUTS = 5
FURTHER_CUT_BEFORE = 24
PATIENCE_SECONDS = 120.0
RECONNECT = Reconnect(first_delay_seconds=0.2, delay_seconds_max=2.0)


class Text(BaseModel):
    text: str


class Heard(Push, route="hall.heard"):
    text: str


class Hall(Service):
    """Tells everybody what anybody says, and keeps it."""

    name = "HALL"

    def __init__(self) -> None:
        self.guests: list[ClientRef] = []
        self.said: list[str] = []

    @rpc
    async def enter(self, client: ClientRef) -> None:
        self.guests.append(client)

    @rpc
    async def say(self, text: str) -> int:
        self.said.append(text)
        fan_out(self, self.guests, Heard(text=text))
        return len(self.said)


class HallAgent(Agent):
    @request("hall.enter")
    async def enter(self) -> None:
        await Hall.at(self, await self.query("HALL")).enter(self.client)

    @request("hall.say")
    async def say(self, body: Text) -> dict[str, int]:
        return {"number": await Hall.at(self, await self.query("HALL")).say(body.text)}


hall = App("hall", agent=HallAgent, services=[Hall], pushes=[Heard])


def said(gateway: TestGateway) -> list[str]:
    return next(cell.service.said for cell in gateway.node.cells.values() if isinstance(cell.service, Hall))


async def enter(gateway: TestGateway, name: str, kind: Literal["websocket", "tcp"]) -> tuple[Player, list[Any]]:
    """A player whose connections are cut, and the numbers of what it hears."""
    sim = gateway.sim
    chance = sim.chance(f"cuts of {name}")
    first = sim.seed % FIRST_CUT_BEFORE if name == "ada" else chance.randrange(FIRST_CUT_BEFORE)
    cuts = [first, *(chance.randrange(FURTHER_CUT_BEFORE) for _ in range(FURTHER_CUTS))]
    player: Player | None = None
    while player is None:
        try:
            player = await gateway.connect(name, kind=kind, cut_at=cuts, reconnect=RECONNECT, timeout=PATIENCE_SECONDS)
        except ConnectFailed:  # the cut came before the welcome: there was no session to go back to
            cuts = cuts[1:]
    heard: list[Any] = []
    player.client.on("hall.heard", lambda push: heard.append((push.seq, push.body["text"])))
    await player.request("hall.enter")
    return player, heard


@pytest.mark.sim(seeds=64)
@pytest.mark.parametrize("kind", ["websocket", "tcp"])
async def test_nothing_is_lost_repeated_or_out_of_order(sim: Sim, kind: Literal["websocket", "tcp"]) -> None:
    async with TestGateway(sim, hall) as gateway:
        ada, heard_by_ada = await enter(gateway, "ada", kind)
        bob, heard_by_bob = await enter(gateway, "bob", kind)
        sessions: list[bool] = []
        for player in (ada, bob):
            player.client.on_session(lambda session: sessions.append(session.recovered))

        async def say(text: str) -> None:
            answer = await ada.request("hall.say", {"text": text})
            assert said(gateway)[answer["number"] - 1] == text

        at_once = [str(n) for n in range(SAID // 2)]
        in_turn = [str(n) for n in range(SAID // 2, SAID)]
        await asyncio.gather(*(say(text) for text in at_once))
        for text in in_turn:
            await say(text)
        await gateway.advance(PATIENCE_SECONDS)
        assert sorted(said(gateway)[: len(at_once)]) == at_once
        assert said(gateway)[len(at_once) :] == in_turn
        for heard in (heard_by_ada, heard_by_bob):
            assert heard == [(number + 1, text) for number, text in enumerate(said(gateway))]
        assert all(sessions)
        assert (ada.client.closed, bob.client.closed) == (False, False)
