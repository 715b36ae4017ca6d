"""What a service tells an operator of itself."""

from __future__ import annotations

import asyncio

from skyloom import Node, Service


class Lobby(Service):
    name = "LOBBY"

    def __init__(self) -> None:
        self.waiting: list[str] = []

    async def on_info(self) -> dict[str, object]:
        return {"waiting": len(self.waiting)}


async def main() -> None:
    async with Node("game-1") as node:
        lobby = await node.spawn(Lobby)
        status, own = await node.call(lobby, "debug", "info")
        print(f"{status.service} is {status.state}, its mailbox holds {status.mailbox_messages} messages")
        print(f"and it says: {own}")


if __name__ == "__main__":
    asyncio.run(main())
