"""Operations: a long piece of work is started at once, asked after, cancelled, and reports its end."""

import asyncio

from skyloom import Address, Node, Service, rpc
from skyloom.patterns.operations import OperationService, OperationStatus


class Maps(OperationService[str]):
    """Draws maps, which takes its time."""

    @rpc
    async def draw(self, land: str, seconds: float) -> str:
        return self.operations.start(self.drawing(land, seconds))

    async def drawing(self, land: str, seconds: float) -> str:
        await self.sleep(seconds)
        return f"a map of {land}"


class Player(Service):
    """Orders maps."""

    def __init__(self, maps: Address) -> None:
        self.maps = maps

    @rpc
    async def play(self) -> None:
        maps = Maps.at(self, self.maps)
        short, long = await maps.draw("Rohan", 0.02), await maps.draw("Mordor", 9.0)
        print("at first:", (await maps.operation_status(short)).state)
        print("then:", await maps.operation_result(short))
        print("cancelled:", await maps.operation_cancel(long))
        await self.sleep(0.01)
        print("at last:", (await maps.operation_status(long)).state)

    @rpc
    async def operation_ended(self, status: OperationStatus[str]) -> None:
        print("notice:", status.state, status.value)


async def main() -> None:
    async with Node("example") as node:
        player = await node.spawn(Player, await node.spawn(Maps))
        await node.call(player, "lua", "play")


if __name__ == "__main__":
    asyncio.run(main())
