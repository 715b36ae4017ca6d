"""Gather: ask every server, and make do with the answers that come in time."""

import asyncio

from skyloom import Node, Service, rpc
from skyloom.patterns.gather import gather


class GameServer(Service):
    """Knows how many players it has; some are slow to say."""

    def __init__(self, players: int, seconds: float) -> None:
        self.players, self.seconds = players, seconds

    @rpc
    async def players_online(self) -> int:
        await self.sleep(self.seconds)
        return self.players


async def main() -> None:
    async with Node("example") as node:
        servers = [await node.spawn(GameServer, players, seconds) for players, seconds in [(10, 0), (20, 0.01), (5, 9)]]
        dead = await node.spawn(GameServer, 99, 0.0)
        node.kill(dead)
        gathered = await gather(node.root, [*servers, dead], "lua", "players_online", timeout=0.1)
        print("players online:", sum(gathered.answers.values()), "on", len(gathered.answers), "servers")
        for server, error in gathered.errors.items():
            print("no answer from", server, "-", error.code)
        calls = {server: node.call(server, "lua", "players_online", timeout=0.1) for server in servers}
        async for answer in node.root.select(calls):
            print("as they come:", answer.key, answer.error.code if answer.error else answer.value)


if __name__ == "__main__":
    asyncio.run(main())
