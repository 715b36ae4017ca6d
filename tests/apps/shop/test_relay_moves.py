"""The relay ends and another one comes, late and not at its best: it is asked until it knows its users again."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from skyloom import Failed, MemoryNetwork, Node, Service, rpc
from skyloom_gateway import ClientRef
from skyloom_gateway.wire import CODECS
from skyloom_shop.agent import RELAY_BACK_SECONDS, ShopAgent
from skyloom_shop.messages import Item

MSGPACK = next(codec for codec in CODECS.values() if codec.name == "msgpack")


class NotNow(Failed, code="test.not_now", kind="unavailable"):
    """A relay's trouble."""


class OtherRelay(Service):
    """Notes who asks it, after some trouble."""

    name = "SHOP_RELAY"

    def __init__(self, troubles: int = 0) -> None:
        self.troubles = troubles
        self.following: list[str] = []
        self.watching: list[ClientRef] = []

    @rpc
    async def follow(self, user: str) -> None:
        self._trouble()
        self.following.append(user)

    @rpc
    async def catalog(self, client: ClientRef) -> list[Item]:
        self._trouble()
        self.watching.append(client)
        return []

    def _trouble(self) -> None:
        if self.troubles:
            self.troubles -= 1
            raise NotNow("not now")


@pytest.mark.parametrize("seconds", [1, 3 * RELAY_BACK_SECONDS])
@pytest.mark.parametrize("troubles", [0, 2])
async def test_an_agent_follows_the_relay_that_comes_next(seconds: float, troubles: int) -> None:
    ShopAgent.bind_routes()
    network = MemoryNetwork()
    async with (
        Node("services", watch_loop=False, transport=network.transport()) as services,
        Node("gateway", watch_loop=False, transport=network.transport()) as gateway,
    ):
        first = await services.spawn(OtherRelay)
        client = ClientRef(gateway.root.address, "s1", "msgpack")
        agent = await gateway.spawn(ShopAgent, client, "ada")
        await gateway.call(agent, "client", "shop.catalog", MSGPACK.encode_body({}))
        with capture_logs() as logs:
            services.kill(first)
            await asyncio.sleep(seconds)
            relay = services.cells[await services.spawn(OtherRelay, troubles)].service
            assert isinstance(relay, OtherRelay)
            await asyncio.sleep(60)
        assert (relay.following[-1:], relay.watching) == (["ada"], [client])
        assert {entry["log_level"] for entry in logs} <= {"debug", "info", "warning"}
