"""Publish and subscribe: an arena tells its boards of every score, and a late one gets the last two first."""

import asyncio
from dataclasses import dataclass

from skyloom import Address, Node, Service, rpc
from skyloom.patterns.topic import Topic


@dataclass
class Score:
    """What is published."""

    player: str
    points: int


SCORES = Topic[Score]("example.scores")


class Arena(Service):
    """Publishes."""

    name = "ARENA"

    async def on_start(self) -> None:
        self.scores = SCORES.open(self, keep=10)

    @rpc
    async def scored(self, player: str, points: int) -> int:
        return self.scores.publish(Score(player, points))


class Board(Service):
    """Hears."""

    def __init__(self, title: str) -> None:
        self.label = title

    async def on_start(self) -> None:
        arena: Address = await self.query("ARENA")
        await SCORES.subscribe(self, arena, self.on_score, last=2)

    async def on_score(self, score: Score) -> None:
        print(f"{self.label} board: {score.player} has {score.points}")


async def main() -> None:
    async with Node("example") as node:
        arena = Arena.at(node.root, await node.spawn(Arena))
        await node.spawn(Board, "early")
        for points in (10, 20, 30):
            await arena.scored("ada", points)
        late = await node.spawn(Board, "late")
        print("told to", await arena.scored("bob", 5))
        node.kill(late)  # it leaves by itself
        await node.root.sleep(0.01)
        print("told to", await arena.scored("bob", 6))
        await node.root.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
