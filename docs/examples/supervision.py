"""A ranking that crashes comes back under its name; a supervisor that sees no end of it ends the node."""

import asyncio

from skyloom import Node, NodeFailed, NotExecuted, Service, Unknown, rpc
from skyloom.supervision.child import permanent, transient
from skyloom.supervision.supervisor import Supervisor


class Ranking(Service):
    """Knows every player's points."""

    name = "RANKING"

    async def on_start(self) -> None:
        self.points: dict[str, int] = {}

    @rpc
    async def add(self, player: str, points: int) -> int:
        total = self.points[player] = self.points.get(player, 0) + points
        if total < 0:
            self.crash(f"{player} has {total} points: nothing here can be trusted")
        return total


class Match(Service):
    """Started while the game runs."""

    def __init__(self, number: int) -> None:
        self.number = number


async def main() -> None:
    try:
        async with Node("game") as node:
            address = await node.spawn(Supervisor, permanent(Ranking), restarts_max=2)
            supervisor = Supervisor.at(node.root, address)
            await supervisor.start_child(transient(Match, 7).but(id="match-7"))
            ranking = Ranking.at(node.root, "RANKING")  # by name: it finds the one of the moment
            print("ada has", await ranking.add("ada", 5))
            while True:
                try:
                    await ranking.add("bob", -1)
                except (Unknown, NotExecuted) as error:
                    print("bob:", error)
                print([(child.id, child.state, child.restarts) for child in await supervisor.list_children()])
                await node.query("RANKING", wait=1)
    except NodeFailed as failed:
        print(failed)


if __name__ == "__main__":
    asyncio.run(main())
