"""Message types: every message has one, and each has its own way to pack. A service may add types of its own."""

import asyncio
import struct

from skyloom import Address, Node, NotExecuted, Ptype, Service, rpc

POSITION = ("position", 20)  # name and id; ids from 20 up are free


def pack(x: float, y: float) -> bytes:
    return struct.pack("<ff", x, y)


def unpack(data: bytes) -> tuple[float, float]:
    x, y = struct.unpack("<ff", data)
    return x, y


class World(Service):
    """Takes three types of messages: remote calls, plain text, and positions of eight bytes each."""

    async def on_start(self) -> None:
        self.register_protocol(*POSITION, pack, unpack)
        self.dispatch("position", self.on_position)
        self.dispatch("text", self.on_text)

    @rpc
    async def size(self) -> int:
        return 100

    async def on_position(self, session: int, source: Address, x: float, y: float) -> None:
        print(f"position {x}, {y} in {len(self.request.payload)} bytes, session {session}")

    async def on_text(self, session: int, source: Address, text: str) -> str:
        return text.upper()  # returning is answering, if an answer is wanted


class Player(Service):
    """Sends each of them."""

    @rpc
    async def play(self, world: Address) -> None:
        self.register_protocol(*POSITION, pack, unpack)  # the sender needs it too
        print("lua:", await self.call(world, "lua", "size"))
        print("text:", await self.call(world, "text", "hello"))
        self.send(world, "position", 1.5, 2.0)
        try:
            await self.call(world, Ptype.SNAX, "anybody?")
        except NotExecuted as error:
            print("snax:", error.code)


async def main() -> None:
    async with Node("example") as node:
        world, player = await node.spawn(World), await node.spawn(Player)
        await node.call(player, "lua", "play", world)


if __name__ == "__main__":
    asyncio.run(main())
