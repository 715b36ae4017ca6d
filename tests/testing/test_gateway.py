"""A whole gateway in memory: players, pushes, cuts at any frame, stalled readers, crashes and pauses."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

from skyloom import Service, rpc
from skyloom.testing import Sim
from skyloom_gateway import Agent, App, ClientRef, Push, fan_out, request
from skyloom_gateway.client.errors import ConnectFailed, ConnectionLost, RequestTimeout
from skyloom_gateway.testing import TestGateway


class Text(BaseModel):
    text: str


class Heard(Push, route="pub.heard"):
    user: str
    text: str


class Pub(Service):
    name = "PUB"

    def __init__(self) -> None:
        self.guests: dict[str, ClientRef] = {}
        self.said: list[str] = []

    @rpc
    async def enter(self, user: str, client: ClientRef) -> int:
        self.guests[user] = client
        return len(self.guests)

    @rpc
    async def say(self, user: str, text: str) -> None:
        self.said.append(text)
        fan_out(self, self.guests.values(), Heard(user=user, text=text))


class PubAgent(Agent):
    async def on_start(self) -> None:
        self.pub = Pub.at(self, await self.query("PUB"))

    @request("pub.enter")
    async def enter(self) -> dict[str, int]:
        return {"guests": await self.pub.enter(self.user, self.client)}

    @request("pub.say")
    async def say(self, body: Text) -> None:
        await self.pub.say(self.user, body.text)


pub = App("pub", agent=PubAgent, services=[Pub], pushes=[Heard])


def the_pub(gateway: TestGateway) -> Pub:
    return next(cell.service for cell in gateway.node.cells.values() if isinstance(cell.service, Pub))


@pytest.mark.sim(seeds=30)
async def test_players_ask_and_are_pushed(sim: Sim) -> None:
    async with TestGateway(sim, pub) as gateway:
        ada = await gateway.connect("ada")
        bob = await gateway.connect("bob", kind="tcp")
        assert await ada.request("pub.enter") == {"guests": 1}
        assert await bob.request("pub.enter") == {"guests": 2}
        for number in range(5):
            await ada.request("pub.say", {"text": str(number)})
        for number in range(5):
            assert (await bob.expect_push(Heard)).text == str(number)
        assert (await ada.expect_push(Heard, where=lambda heard: heard.text == "3")).user == "ada"
        assert (await ada.expect_push("pub.heard"))["text"] == "0"
        await bob.expect_no_push(Heard)
        with pytest.raises(AssertionError, match="should not"):
            await ada.expect_no_push(Heard)
        with pytest.raises(AssertionError, match="no fitting push pub.heard within 2 s; what came"):
            await ada.expect_push(Heard, where=lambda heard: heard.text == "9", timeout=2)
        await gateway.settle()
        gateway.node.assert_no_dead_letters()
        gateway.node.assert_idle()


@pytest.mark.sim(seeds=40)
async def test_a_connection_may_break_at_any_frame(sim: Sim) -> None:
    async with TestGateway(sim, pub) as gateway:
        bob = await gateway.connect("bob")
        await bob.request("pub.enter")
        said = 0
        try:
            ada = await gateway.connect("ada", cut_at=sim.seed % 16)
            for _ in range(5):
                await ada.request("pub.say", {"text": "x"})
                said += 1
        except (ConnectFailed, ConnectionLost):
            pass
        assert said <= 5
        await gateway.advance(20)
        assert len(the_pub(gateway).said) in (said, said + 1)  # an answer may have been lost
        assert len(gateway.gate.connections) == 1 if said < 5 else 2
        assert bob.connected


@pytest.mark.sim(seeds=10)
async def test_a_reader_that_stalls_is_cut_off_and_hurts_nobody(sim: Sim) -> None:
    async with TestGateway(sim, pub) as gateway:
        ada, bob = await gateway.connect("ada"), await gateway.connect("bob")
        await ada.request("pub.enter")
        await bob.request("pub.enter")
        bob.stall()
        await ada.request("pub.say", {"text": "one"})
        await gateway.advance(3)
        assert bob.connected
        bob.read_again()
        assert (await bob.expect_push(Heard)).text == "one"
        bob.stall()
        await ada.request("pub.say", {"text": "two"})
        await gateway.advance(9)
        assert not bob.connected
        assert (await ada.expect_push(Heard)).text == "one"
        bulk = "x" * 30_000
        carl = await gateway.connect("carl")
        await carl.request("pub.enter")
        carl.stall()
        for _ in range(10):
            await ada.request("pub.say", {"text": bulk})
        await gateway.advance(0.1)
        assert not carl.connected
        assert ada.connected


@pytest.mark.sim(seeds=10)
async def test_a_gateway_crashes_and_a_paused_one_answers_late(sim: Sim) -> None:
    gateway = TestGateway(sim, pub)
    await gateway.start()
    ada = await gateway.connect("ada")
    await ada.request("pub.enter")
    gateway.node.pause()
    asking = asyncio.create_task(ada.request("pub.say", {"text": "x"}))
    await gateway.advance(2)
    assert not asking.done()
    gateway.node.resume()
    await asking
    gateway.node.pause()
    with pytest.raises(RequestTimeout):
        await ada.request("pub.say", {"text": "y"}, timeout=1)
    gateway.node.resume()
    await gateway.advance(1)
    gateway.crash()
    await gateway.settle()
    with pytest.raises(ConnectionLost):
        await ada.request("pub.say", {"text": "z"})
    with pytest.raises(ConnectFailed):
        await gateway.connect("bob")
    assert not ada.connected
