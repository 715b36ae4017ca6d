"""Services that say what happens to them, for supervisors to start."""

from skyloom import Address, Node, Service, rpc
from skyloom.supervision.child import ChildStatus
from skyloom.supervision.supervisor import Supervisor


class Actor(Service):
    """Writes its starts and stops into a log that outlives it."""

    def __init__(self, part: str, log: list[str], *, stop_takes: float = 0) -> None:
        self.played, self.log, self.stop_takes = part, log, stop_takes

    async def on_start(self) -> None:
        self.log.append(f"+{self.played}")
        self.register(self.played)

    async def on_stop(self) -> None:
        await self.sleep(self.stop_takes)
        self.log.append(f"-{self.played}")

    @rpc
    async def who(self) -> Address:
        return self.address

    @rpc
    async def rename(self, name: str) -> None:
        self.register(name)

    @rpc
    async def leave(self) -> None:
        self.exit()

    @rpc
    async def die(self, why: str = "bad state", after: float = 0) -> None:
        if after:
            await self.sleep(after)
        self.crash(why)

    @rpc
    async def fail(self) -> None:
        raise ValueError("only this call")

    @rpc
    async def split(self, critical: bool) -> None:
        async def fork() -> None:
            await self.sleep(1)
            raise ValueError("the fork failed")

        self.fork(fork(), critical=critical)


async def children(node: Node, supervisor: Address) -> dict[str, ChildStatus]:
    found = await Supervisor.at(node.root, supervisor).list_children()
    return {child.id: child for child in found}


def alive(node: Node) -> list[str]:
    """The parts that are played, in the order in which they began."""
    actors = [cell.service for cell in node.cells.values()]
    return [actor.played for actor in actors if isinstance(actor, Actor)]
