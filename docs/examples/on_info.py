"""What a service tells an operator of itself."""

from __future__ import annotations

import asyncio

from skyloom import Address, Node, Service
from skyloom.node.debug import ROOT_HANDLE


class Lobby(Service):
    name = "LOBBY"

    def __init__(self) -> None:
        self.waiting: list[str] = []

    async def on_info(self) -> dict[str, object]:
        return {"waiting": len(self.waiting)}


async def main() -> None:
    async with Node("game-1") as node:
        lobby = await node.spawn(Lobby)
        print("it says:", await node.call(lobby, "debug", "info"))
        root = Address(lobby.node, ROOT_HANDLE)
        print("the runtime says:", await node.call(root, "debug", "stat", lobby.handle))


if __name__ == "__main__":
    asyncio.run(main())
