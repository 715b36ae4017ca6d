"""Request and response: one service asks, the other answers or says why not."""

import asyncio
from dataclasses import dataclass

from skyloom import Failed, Node, NotExecuted, Service, UnknownName, rpc


@dataclass
class User:
    """What is asked for. It arrives as a copy."""

    id: int
    name: str


class UserNotFound(Failed, code="example.user_not_found", kind="not_found"):
    """An error of our own; it arrives as this class."""


class UserService(Service):
    """Answers."""

    name = "USER_SERVICE"

    async def on_start(self) -> None:
        self.users = {42: User(42, "ada")}

    @rpc
    async def get_user(self, user_id: int) -> User:
        if user_id not in self.users:
            raise UserNotFound(f"there is no user {user_id}", details={"user_id": user_id})
        return self.users[user_id]


class Lobby(Service):
    """Asks."""

    @rpc
    async def greet(self, user_id: int) -> str:
        users = await self.query("USER_SERVICE")
        user = await self.call(users, "lua", "get_user", user_id)  # by the method's name
        user = await UserService.at(self, users).get_user(user_id)  # the same, known to the type checker
        user.name += "!"  # ours alone
        return f"hello {user.name}"


async def main() -> None:
    async with Node("example") as node:
        try:
            await node.query("USER_SERVICE")
        except UnknownName as error:
            print("too early:", error.code)
        users = await node.spawn(UserService)
        lobby = Lobby.at(node.root, await node.spawn(Lobby))
        print(await lobby.greet(42), "-", await lobby.greet(42))
        try:
            await lobby.greet(7)
        except UserNotFound as error:
            print("not found:", error.message, error.details)
        node.kill(users)
        try:
            await node.call(users, "lua", "get_user", 42)
        except NotExecuted as error:
            print("dead:", error.code)


if __name__ == "__main__":
    asyncio.run(main())
