"""A client of the gate that loses its connection and comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from skyloom_gateway.wire.frame import ServerFrame, Welcome
from tests.gateway.players import TRANSPORTS, Player, World

if TYPE_CHECKING:
    pass


async def join(world: World, transport: str = "websocket-json", name: str = "ada") -> tuple[Player, Welcome]:
    """A client that the hub shouts at."""
    player = world.player(transport)
    welcome = await player.greet(name)
    await player.ask("echo.join")
    return player, welcome


async def shout(world: World, *texts: str) -> None:
    for text in texts:
        world.node.send(world.hub.address, "lua", "shout", text)
    await asyncio.sleep(0.001)


async def come_back(world: World, player: Player, welcome: Welcome, seq: int) -> tuple[Player, list[ServerFrame]]:
    """On a new connection of the same kind."""
    kinds = {codec_kind: name for name, codec_kind in TRANSPORTS.items()}
    again = world.player(kinds[player.codec, player.link.kind])
    again._last_id = player._last_id
    return again, await again.resume(welcome, seq)


def is_new(frames: list[ServerFrame], old: Welcome) -> bool:
    """Whether the client was told to start over."""
    (welcome,) = frames
    assert isinstance(welcome, Welcome)
    assert welcome.recovered is False
    assert welcome.session != old.session
    return True
