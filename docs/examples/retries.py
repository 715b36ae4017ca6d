"""A call that is made again until the service is there, within its deadline."""

import asyncio

from skyloom import Expired, Node, NotExecuted, Service, rpc
from skyloom.patterns.retry import RetrySettings, retry_call


class Scores(Service):
    """Hangs at the first call."""

    name = "SCORES"

    def __init__(self) -> None:
        self.calls = 0

    @rpc
    async def best(self) -> int:
        self.calls += 1
        if self.calls == 1:
            await self.sleep(60)
        return 42


async def main() -> None:
    settings = RetrySettings(attempts=3, backoff_seconds=0.02, attempt_seconds=0.02)
    async with Node("game") as node:
        try:
            await retry_call(node.root, "SCORES", "lua", "best", settings=settings)
        except NotExecuted as error:
            print("nobody there:", error.code)
        await node.spawn(Scores)
        try:
            await retry_call(node.root, "SCORES", "lua", "best", settings=settings)
        except Expired as error:
            print("it may have run, and may not run twice:", error.code)
        for _ in range(10):  # every call adds a tenth of a retry to the budget
            best = await retry_call(
                node.root, "SCORES", "lua", "best", settings=settings, idempotent=True, circuit=True
            )
        print("best:", best, "retries:", node.counters["retries"])


if __name__ == "__main__":
    asyncio.run(main())
