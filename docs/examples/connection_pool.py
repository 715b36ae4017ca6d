"""Two connections, shared by five who need one."""

import asyncio

from skyloom import Address, Node, Service, rpc
from skyloom.patterns.pool import ConnectionPool


class Database:
    """Stands for a real connection."""

    @classmethod
    async def connect(cls) -> "Database":
        print("connecting")
        return cls()

    async def ping(self) -> bool:
        return True

    async def close(self) -> None:
        print("closing")

    async def read(self, user: int) -> str:
        await asyncio.sleep(0.01)
        return f"user {user}"


class Users(Service):
    """Reads users from the database."""

    async def on_start(self) -> None:
        self.pool = ConnectionPool(self, Database.connect, close=Database.close, check=Database.ping, max_size=2)

    async def on_stop(self) -> None:
        await self.pool.aclose()

    @rpc
    async def get_user(self, user: int) -> str:
        async with self.pool.connection() as database:
            return await database.read(user)


async def main() -> None:
    async with Node("game") as node:
        address: Address = await node.spawn(Users)
        users = Users.at(node.root, address)
        print(await asyncio.gather(*(users.get_user(number) for number in range(5))))


if __name__ == "__main__":
    asyncio.run(main())
