"""The hub is on another node than its clients, out of sight for a while, or moves: who is in a room stays there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from skyloom import Failed, MemoryNetwork, Node, rpc
from skyloom_chat.agent import HUB_BACK_SECONDS, ChatAgent
from skyloom_gateway import ClientRef
from skyloom_gateway.settings import GatewaySettings
from tests.apps.chat.memory import Chat, MemoryGate, MemoryHistory, MemoryHub, Talker

REJOIN_SECONDS = 2.0


class SlowHub(MemoryHub):
    """Has much to do when all come back at once."""

    name = "CHAT_HUB"

    @rpc
    async def rejoin_room(self, name: str, user: str, client: ClientRef, was_lost: bool) -> None:
        await self.sleep(REJOIN_SECONDS)
        await super().rejoin_room(name, user, client, was_lost)


class Spread:
    """A node for the hub, and two for clients."""

    def __init__(self, network: MemoryNetwork, services: Node, chats: list[Chat], history: MemoryHistory) -> None:
        self.network, self.services, self.chats, self.history = network, services, chats, history

    async def hub(self, cls: type[MemoryHub] = MemoryHub) -> MemoryHub:
        hub = self.services.cells[await self.services.spawn(cls, self.history)].service
        assert isinstance(hub, MemoryHub)
        return hub


@asynccontextmanager
async def spread() -> AsyncIterator[Spread]:
    ChatAgent.bind_routes()
    network, history = MemoryNetwork(), MemoryHistory()
    history.names.append("hall")
    async with (
        Node("services", watch_loop=False, transport=network.transport()) as services,
        Node("one", watch_loop=False, transport=network.transport()) as one,
        Node("other", watch_loop=False, transport=network.transport()) as other,
    ):
        hub = services.cells[await services.spawn(MemoryHub, history)].service
        assert isinstance(hub, MemoryHub)
        chats = []
        for node in (one, other):
            gate = node.cells[await node.spawn(MemoryGate)].service
            assert isinstance(gate, MemoryGate)
            chats.append(Chat(node, gate, hub, history))
        yield Spread(network, services, chats, history)


async def two(chat: Spread) -> tuple[Talker, Talker]:
    """One on each node, in the hall."""
    one, other = chat.chats
    return await one.talker("ada", "hall"), await other.talker("bob", "hall")


def in_the_hall(hub: MemoryHub) -> list[str]:
    return sorted(hub.rooms["hall"].users)


async def test_those_whom_the_hub_lost_sight_of_leave_and_come_back() -> None:
    async with spread() as chat:
        ada, bob = await two(chat)
        ada.pushes.clear()
        chat.network.cut("services", "other")
        await asyncio.sleep(3)
        assert in_the_hall(ada.chat.hub) == ["ada"]
        await ada.ask("chat.say", room="hall", text="bob?")
        chat.network.mend("services", "other")
        await asyncio.sleep(3)
        assert [(route, body["user"]) for route, body in ada.pushes] == [("chat.left", "bob"), ("chat.joined", "bob")]
        await ada.ask("chat.say", room="hall", text="back?")
        await bob.chat.settle()
        assert bob.pushed("chat.returned") == [{"room": "hall"}]
        assert [message["text"] for message in (await bob.ask("chat.join", room="hall"))["history"]] == [
            "bob?",
            "back?",
        ]
        assert [body["text"] for body in bob.pushed("chat.message")] == ["back?"]
        assert in_the_hall(ada.chat.hub) == ["ada", "bob"]


@pytest.mark.parametrize("seconds", [1, 3 * HUB_BACK_SECONDS])
async def test_a_hub_that_moves_has_everybody_and_the_others_are_not_told(seconds: float) -> None:
    async with spread() as chat:
        ada, _ = await two(chat)
        ada.pushes.clear()
        with capture_logs() as logs:
            chat.services.kill(await chat.services.query("CHAT_HUB"))
            assert await ada.code("chat.say", room="hall", text="anybody?") == "gateway.unavailable"
            await asyncio.sleep(seconds)
            hub = await chat.hub()
            await asyncio.sleep(1)
        assert {entry["log_level"] for entry in logs} <= {"debug", "info", "warning"}
        assert in_the_hall(hub) == ["ada", "bob"]
        assert ada.pushes == [("chat.returned", {"room": "hall"})]


async def test_who_speaks_before_the_new_hub_has_heard_of_them_is_not_refused() -> None:
    async with spread() as chat:
        ada, _ = await two(chat)
        chat.services.kill(await chat.services.query("CHAT_HUB"))
        hub = await chat.hub(SlowHub)
        await asyncio.sleep(1)
        assert await ada.code("chat.say", room="hall", text="still here") == ""
        assert await ada.code("chat.say", room="nowhere", text="x") == "chat.not_a_member"
        await asyncio.sleep(REJOIN_SECONDS)
        assert in_the_hall(hub) == ["ada", "bob"]


async def test_a_hub_that_ends_while_all_come_back_is_followed_by_one_that_has_them() -> None:
    async with spread() as chat:
        await two(chat)
        with capture_logs() as logs:
            chat.services.kill(await chat.services.query("CHAT_HUB"))
            second = await chat.hub(SlowHub)
            await asyncio.sleep(1)
            chat.services.kill(second.address)
            hub = await chat.hub()
            await asyncio.sleep(1)
        assert {entry["log_level"] for entry in logs} <= {"debug", "info", "warning"}
        assert in_the_hall(hub) == ["ada", "bob"]


async def test_without_a_hub_an_agent_gives_up_in_time_and_without_a_traceback() -> None:
    async with spread() as chat:
        chat.services.kill(await chat.services.query("CHAT_HUB"))
        began = chat.services.now()
        with capture_logs() as logs, pytest.raises(Failed, match="no service is registered as 'CHAT_HUB'"):
            await chat.chats[0].talker("ada")
        assert chat.services.now() - began < GatewaySettings().request_timeout_seconds
        assert {entry["log_level"] for entry in logs} <= {"debug", "info", "warning"}
