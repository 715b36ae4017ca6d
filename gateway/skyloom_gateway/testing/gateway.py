"""A gateway under test: apps, services, agents and gate in memory, and players that connect to it.

async def test_chat(sim: Sim) -> None:
    async with TestGateway(sim, chat) as gateway:
        ada, bob = await gateway.connect("ada"), await gateway.connect("bob")
        await ada.request("chat.join", {"room": "lobby"})
        await bob.request("chat.join", {"room": "lobby"})
        await ada.request("chat.say", {"room": "lobby", "text": "hello"})
        assert (await bob.expect_push(ChatMessage)).text == "hello"
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

from skyloom.testing import TestNode
from skyloom_gateway.auth import GuestAuthenticator
from skyloom_gateway.client.client import REQUEST_TIMEOUT_SECONDS, Client
from skyloom_gateway.client.errors import ConnectFailed
from skyloom_gateway.client.reconnecting import Reconnect
from skyloom_gateway.placement import DATABASE_ENV
from skyloom_gateway.server import Server
from skyloom_gateway.settings import Settings
from skyloom_gateway.testing.link import DELAY_SECONDS, MemoryLink, MemoryTransport
from skyloom_gateway.testing.player import Player
from skyloom_gateway.wire import JSON, MSGPACK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from skyloom.testing import Sim
    from skyloom_gateway.app import App
    from skyloom_gateway.auth import Authenticator


_NEVER_SECONDS: Final = 1e8
BY_HAND: Final = Reconnect(
    first_delay_seconds=_NEVER_SECONDS, delay_seconds_max=_NEVER_SECONDS, give_up_seconds=math.inf
)
"""For players that come back when the test says so: `Player.resume`."""


class _Guests(GuestAuthenticator):
    """Guests, without the warning that this is for development only."""

    development = False


class TestGateway(Server):
    """See the module's docstring.

    Args:
        sim: the world to run in.
        apps: what to serve.
        settings: limits and the rest; the node's name and the seed are the simulation's.
        authenticators: who may come in; guests when None.
        database: what services find as ``getenv("database_url")``, when `settings` are not given.

    `node` is its `TestNode`, which can crash and pause. Listeners, pages and sockets are left out.
    """

    __test__ = False  # for pytest, which would take it for tests
    node: TestNode

    def __init__(
        self,
        sim: Sim,
        *apps: App,
        settings: Settings | None = None,
        authenticators: Sequence[Authenticator] | None = None,
        name: str = "gateway",
        database: str = "sqlite:///:memory:",
    ) -> None:
        settings = settings or Settings(database=database)
        settings = settings.model_copy(update={"seed": sim.seed, "node": name})
        super().__init__(apps, settings, authenticators or [_Guests(sim.chance("guests"))])
        self.sim = sim
        self.node = TestNode(name, sim=sim, env={DATABASE_ENV: settings.database})
        self.players: list[Player] = []
        self._links: list[MemoryLink] = []

    async def _listen(self) -> None:
        """Nothing to listen on: players come by `connect`."""

    async def connect(
        self,
        name: str,
        *,
        auth: Mapping[str, object] | None = None,
        encoding: Literal["json", "msgpack"] | None = None,
        kind: Literal["websocket", "tcp"] = "websocket",
        delay: tuple[float, float] = DELAY_SECONDS,
        cut_at: int | Sequence[int] | None = None,
        cut_noticed: bool = True,
        reconnect: Reconnect | None = None,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Player:
        """Let a player in, as the guest `name` or by `auth`.

        Its frames take `delay` (least, greatest seconds), in order each way. With `cut_at` the connection breaks
        instead of delivering the frame of that number, where 0 is the hello; several numbers are for its first,
        second, ... connection. Without `cut_noticed` the gateway goes on to take it for alive. It comes back as
        `reconnect` says, and without one not at all. `timeout` is its requests'. Raises ConnectFailed and
        HelloRefused like the real client.
        """
        codec = MSGPACK if kind == "tcp" or encoding == "msgpack" else JSON
        cuts = iter([cut_at] if isinstance(cut_at, int) else cut_at or ())
        links: list[MemoryLink] = []

        async def dial() -> MemoryTransport:
            if self.node.crashed:
                raise ConnectFailed("the gateway has crashed")
            number = len(self._links)
            link = MemoryLink(
                self.node,
                codec,
                kind,
                self.settings.gateway,
                name=f"{name}-{number}",
                chance=self.sim.chance(f"link {number}"),
                delay=delay,
            )
            link.cut_at, link.cut_noticed = next(cuts, None), cut_noticed
            self._links.append(link)
            links.append(link)
            link.attach(self.gate.accept)
            return link.client

        client = Client(
            dial,
            codec,
            auth or {"scheme": "guest", "name": name},
            timeout=timeout,
            reconnect=reconnect,
            rng=self.sim.chance(f"client {len(self.players)}"),
        )
        await client.open()
        player = Player(name, client, links)
        self.players.append(player)
        return player

    def crash(self) -> None:
        """End the gateway's node as if the power went; its players' connections break."""
        self.node.crash()
        for link in self._links:
            link.client.ended(None, "the gateway crashed")

    async def settle(self) -> None:
        """Wait until nothing can happen unless time passes; see `Sim.settle`."""
        await self.sim.settle()

    async def advance(self, seconds: float) -> None:
        """Let time pass; see `Sim.advance`."""
        await self.sim.advance(seconds)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def stop(self) -> None:
        """Drain and stop, unless it crashed; players that are still there leave."""
        for player in self.players:
            await player.close()
        if not self.node.crashed:
            await super().stop()
