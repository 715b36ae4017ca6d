"""Forwarding: a relay passes requests on unopened, and the answer goes straight to who asked."""

import asyncio

from skyloom import Address, Node, NotExecuted, Service, rpc


class World(Service):
    """Does the work."""

    @rpc
    async def look(self, place: str) -> str:
        return f"{place}: a door, a lamp. Asked by {self.request.source}"


class Relay(Service):
    """Has many worlds behind one address. It never unpacks: what it passes on are the bytes that came."""

    def __init__(self, worlds: list[Address]) -> None:
        self.worlds = worlds
        self.passed_on = 0

    async def on_start(self) -> None:
        self.dispatch("lua", self.relay, unpack=False)

    async def relay(self, session: int, source: Address) -> None:
        self.passed_on += 1
        self.forward(self.worlds[source.handle % len(self.worlds)])


class Player(Service):
    """Asks."""

    def __init__(self, relay: Address) -> None:
        self.relay = relay

    @rpc
    async def play(self) -> str:
        return await World.at(self, self.relay).look("cellar")


async def main() -> None:
    async with Node("example") as node:
        worlds = [await node.spawn(World) for _ in range(2)]
        relay = await node.spawn(Relay, worlds)
        players = [await node.spawn(Player, relay) for _ in range(2)]
        for player in players:
            print(await node.call(player, "lua", "play"))
        for world in worlds:
            node.kill(world)
        try:
            await World.at(node.root, relay).look("attic")
        except NotExecuted as error:
            print("nobody there:", error.code)


if __name__ == "__main__":
    asyncio.run(main())
