"""Timeouts: every call has a deadline, and the calls it leads to share it."""

import asyncio

from skyloom import Address, Expired, Node, NotExecuted, Service, rpc
from skyloom.patterns.timeout import call_with_timeout


class Archive(Service):
    """Takes its time."""

    @rpc
    async def find(self, what: str, seconds: float) -> str:
        print(f"  archive: {self.deadline - self.clock.now():.2f} s are left")
        await self.sleep(seconds)
        print(f"  archive: found {what}")
        return what


class Library(Service):
    """Asks the archive in the name of its own caller."""

    def __init__(self, archive: Address) -> None:
        self.archive = archive

    @rpc
    async def lend(self, book: str, seconds: float) -> str:
        await self.sleep(0.02)
        try:
            found = await self.call(self.archive, "lua", "find", book, seconds, timeout=60)  # it has less
        except Expired:
            return "sorry"  # too late: our own caller gave up at the same moment
        return f"here is {found}"


async def main() -> None:
    async with Node("example") as node:
        library = await node.spawn(Library, await node.spawn(Archive))
        print(await node.call(library, "lua", "lend", "Emma", 0.01, timeout=0.1))
        try:
            await call_with_timeout(node.root, library, 0.05, "lua", "lend", "Ulysses", 0.06)
        except Expired as error:
            print("too slow:", error.code)
        await node.root.sleep(0.06)  # the archive goes on: nobody told it to stop
        print("answers that nobody waited for:", node.counters["late_answers"])
        try:
            await node.call(library, "lua", "lend", "Dune", 0.0, timeout=0)
        except NotExecuted as error:
            print("not even begun:", error.code)
        reminder = node.root.timeout(60, node.root.sleep, 0)  # a timer, which can be called off
        reminder.cancel()


if __name__ == "__main__":
    asyncio.run(main())
