"""An asyncio event loop whose time jumps to the next timer when nothing is left to do.

A test that sleeps an hour ends in milliseconds, and waits are exact: nothing but the timers moves the clock.
Loopback sockets between two ends in this process work, since a file descriptor that is ready goes before any
timer. Time stands still while the loop's executor works. Threads that are started in another way get
`THREAD_GRACE_SECONDS` of real time to report before the clock jumps; a test that needs more of them, or that
talks to another process, is marked `real_time`.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

START_SECONDS = 100_000.0  # a real monotonic clock is never near zero either
THREAD_GRACE_SECONDS = 0.05
DEADLOCK_GRACE_SECONDS = 5.0
SELF_PIPE_DESCRIPTORS = 1

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Every task waits, and there is no timer, socket or thread that could wake one."""


class VirtualSelector(selectors.DefaultSelector):
    """Asks the real selector without waiting, then moves `now` (seconds) instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START_SECONDS
        self.executing = 0  # calls that the loop's executor has not finished
        self.threads_before = set(threading.enumerate())
        self.describe: Callable[[], str] = str

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, or jump by `timeout` seconds; without a timer either, raise Deadlock."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.executing or (timeout is None and len(self.get_map()) > SELF_PIPE_DESCRIPTORS):
            return super().select(None)
        if self._threads_work():
            ready = super().select(DEADLOCK_GRACE_SECONDS if timeout is None else THREAD_GRACE_SECONDS)
            if ready:
                return ready
        if timeout is None:
            raise Deadlock(f"nothing can wake these tasks: {self.describe()}")
        self.now += timeout
        return []

    def _threads_work(self) -> bool:
        started = set(threading.enumerate()) - self.threads_before
        return any(not thread.name.startswith("asyncio_") for thread in started)  # not the executor's idle ones


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector event loop in virtual time; `loop.time()` starts at START_SECONDS."""

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)
        self._virtual.describe = lambda: ", ".join(sorted(repr(task) for task in asyncio.all_tasks(self)))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual.now

    def run_in_executor(  # type: ignore[override]  # typeshed's TypeVarTuple cannot be repeated on a subclass
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run `func` in a thread; the clock stands still until it has ended."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._virtual.executing += 1
        future.add_done_callback(self._executed)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the executor's threads in real time; `timeout` (virtual seconds) never ends the wait."""
        self._virtual.executing += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._virtual.executing -= 1

    def _executed(self, _future: object) -> None:
        self._virtual.executing -= 1
