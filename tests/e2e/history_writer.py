"""Stores messages without end and prints "id text" for each one answered; the test that runs it kills it."""

import asyncio
import sys

from skyloom_chat.history import History, HistoryLimits

CALLERS = 10


async def say(history: History, caller: str) -> None:
    for count in range(1_000_000):
        text = f"{caller}-{count}"
        number = await history.append("lobby", caller, text, 0.0)
        print(number, text, flush=True)  # noqa: T201 - the test reads it


async def main(url: str, run: str) -> None:
    history = await History.open(url, HistoryLimits(kept=1_000_000))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(history.run())
        await history.create_room("lobby")
        for caller in range(CALLERS):
            tasks.create_task(say(history, f"{run}.{caller}"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
