"""The application's callbacks, and the tasks that run them."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Callback = Callable[[T], Awaitable[None] | None]

_log = logging.getLogger("skyloom.client")


class Callbacks:
    """Runs what the application registered. What a callback raises goes to `on_error`, or else to the log."""

    def __init__(self) -> None:
        self.on_error: list[Callable[[Exception], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, fn: Callback[T], about: T) -> None:
        """Call `fn`, plain or async, in a task of its own."""
        self.spawn(self.run(fn, about))

    async def run(self, fn: Callback[T], about: T) -> None:
        """Call `fn`, plain or async, and report what it raises."""
        try:
            result = fn(about)
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 - reported, not swallowed
            self.report(error)

    def report(self, error: Exception) -> None:
        """Tell of an error that no caller waits for."""
        if not self.on_error:
            _log.warning("nobody handles this error of the client: %s", error)
        for fn in self.on_error:
            fn(error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task, which `stop` ends if nothing else does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """End all tasks but the one that asks for it."""
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
