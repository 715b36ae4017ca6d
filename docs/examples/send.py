"""Send: tell a service something, and neither wait nor learn whether it arrived."""

import asyncio

from skyloom import Address, Node, Service, rpc


class Logger(Service):
    """Writes down what it is told. Its mailbox is small, so that the example can fill it."""

    name = "LOGGER"
    mailbox_messages_max = 3

    @rpc
    async def log(self, event: str, user_id: int) -> None:
        print(f"{event} by {user_id}, answer wanted: {self.request.session != 0}")


class Door(Service):
    """Tells it."""

    def __init__(self, logger: Address) -> None:
        self.logger = logger

    @rpc
    async def log_in(self, user_id: int) -> str:
        self.send(self.logger, "lua", "log", "log in", user_id)  # no await: it returns at once
        return "come in"


async def main() -> None:
    async with Node("example") as node:
        logger = await node.spawn(Logger)
        door = Door.at(node.root, await node.spawn(Door, logger))
        print(await door.log_in(42))
        await node.root.sleep(0.01)
        for user_id in range(5):  # faster than anybody could read
            node.send("LOGGER", "lua", "log", "knock", user_id)
        await node.root.sleep(0.01)
        node.kill(logger)
        node.send(logger, "lua", "log", "log out", 42)
        print("lost:", dict(node.dead_letters.by_reason))
        for letter in list(node.dead_letters)[-1:]:
            print("the last one:", letter.reason, letter.preview)


if __name__ == "__main__":
    asyncio.run(main())
