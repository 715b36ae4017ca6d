"""An asyncio event loop in virtual time, with an order of its own that a seed decides.

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(main())  # an hour of sleeps costs milliseconds

Time stands still while anything can run, and then jumps to the next timer. Without a seed everything runs in asyncio's
order. With one, each turn of the loop runs what is ready in an order that the seed draws, as far as asyncio promises
none:

- callbacks of `call_soon` keep the order in which they were registered, which asyncio's documentation promises, and on
  which transports and protocols rely;
- the steps of different tasks change places with each other, with those callbacks, and with timers that are due at
  the same time;
- a turn stays a turn: what becomes ready in it runs in the next one. So ``await asyncio.sleep(0)`` still lets
  everybody else run once, and a seed starves nobody.

Before the seed has its say, tasks are put in the order in which they were made. Whatever woke them in an order that
differs from process to process (a set of tasks that is cancelled, say) makes no difference.

Sockets of this process and threads work, in real time: the clock stands still while the loop's executor works, and any
other thread gets `THREAD_GRACE_SECONDS` to report before the clock jumps. `outside` counts what came from there: a run
in which it is above 0 depends on more than its seed.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import selectors
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

START_SECONDS: Final = 100_000.0
"""`loop.time()` at the start; a real monotonic clock is never near zero either."""

THREAD_GRACE_SECONDS: Final = 0.05
"""Real time that a thread gets to report before the clock jumps."""

DEADLOCK_GRACE_SECONDS: Final = 5.0
"""Real time that a thread gets to report when nothing else can wake anybody."""

TURNS_AT_ONE_TIME_MAX: Final = 1_000_000
"""Turns of the loop in which the clock does not move, before the run is given up as a busy wait."""

_SELF_PIPE: Final = 1
_CANCELLED_TIMERS_MIN: Final = 100

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Nothing can run, and no timer, socket or thread could change that. The text says who waits for whom."""


class Livelock(RuntimeError):
    """The loop is busy without end, and time does not move."""


class SimLoop(asyncio.SelectorEventLoop):
    """See the module's docstring. `seed` None keeps asyncio's order; `time()` begins at `START_SECONDS`."""

    # What asyncio's base class keeps, and a loop that orders its own turns must know.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool
    _timer_cancelled_count: int
    _selector: selectors.BaseSelector
    _process_events: Callable[[Any], None]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self._now = START_SECONDS
        self._order = None if seed is None else random.Random(seed)
        self._executing = 0
        self._threads_before = frozenset(threading.enumerate())
        self._idle: deque[asyncio.Future[None]] = deque()
        self._turns = 0
        self._made = 0
        self._serials: WeakKeyDictionary[asyncio.Future[Any], int] = WeakKeyDictionary()
        self.owners: WeakKeyDictionary[asyncio.Future[Any], object] = WeakKeyDictionary()
        """The simulated node to which a task belongs; tasks that it makes belong to it too. Filled only with a seed."""
        self.outside = 0
        """Turns that took something from a socket or a thread."""
        self.held: Callable[[asyncio.Handle], bool] | None = None
        """When set: asked about every callback before it runs; one for which it is true does not run."""
        self.describe: Callable[[], str] = self._describe_tasks
        """Says who waits for whom, for `Deadlock`."""
        if seed is not None:
            self.set_task_factory(self._make_task)

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._now

    async def settle(self) -> None:
        """Wait until nothing can run unless time passes. Of several that wait the first goes on first."""
        future = self.create_future()
        self._idle.append(future)
        await future

    def rejoin(self, handles: list[asyncio.Handle]) -> None:
        """Let callbacks that `held` took away run after all."""
        self._ready.extend(handles)

    # -- one turn --------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        ready = self._ready
        timers = self._due()
        if len(self._selector.get_map()) > _SELF_PIPE or self._executing:
            self._poll(0)
        if not ready and not timers and not self._stopping:
            self._wait()
            timers = self._due()
        self._turns += 1
        if self._turns > TURNS_AT_ONE_TIME_MAX:
            raise Livelock(f"{TURNS_AT_ONE_TIME_MAX} turns at one time: {self.describe()}")
        if self._order is None:
            ready.extend(timers)
            batch = deque(ready)
        else:
            batch = self._ordered(timers, self._order)
        ready.clear()
        held = self.held
        try:
            while batch:
                handle = batch.popleft()
                if handle.cancelled() or (held is not None and held(handle)):
                    continue
                handle._run()
        finally:
            ready.extendleft(reversed(batch))  # after a KeyboardInterrupt, say: as the base class leaves them

    def _due(self) -> list[asyncio.Handle]:
        """Take the timers whose time has come."""
        scheduled, cancelled = self._scheduled, self._timer_cancelled_count
        if cancelled > _CANCELLED_TIMERS_MIN and cancelled > len(scheduled) // 2:
            for handle in scheduled:
                if handle.cancelled():
                    handle._scheduled = False  # type: ignore[attr-defined]  # the base class's mark
            scheduled[:] = [handle for handle in scheduled if not handle.cancelled()]
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
        due: list[asyncio.Handle] = []
        while scheduled and (scheduled[0].cancelled() or scheduled[0].when() <= self._now):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]  # the base class's mark
            if handle.cancelled():
                self._timer_cancelled_count -= 1
            else:
                due.append(handle)
        return due

    def _ordered(self, timers: list[asyncio.Handle], order: random.Random) -> deque[asyncio.Handle]:
        """What is ready, in the order that the seed draws; see the module's docstring for what it may not change."""
        if len(self._ready) + len(timers) == 1:
            return deque(self._ready or timers)
        serials = self._serials
        callbacks: deque[asyncio.Handle] = deque()
        steps: list[tuple[int, int, asyncio.Handle]] = []
        for position, handle in enumerate(self._ready):
            task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]  # as asyncio's own repr
            if isinstance(task, asyncio.Task):
                steps.append((serials.get(task, 0), position, handle))
            else:
                callbacks.append(handle)
        steps.sort(key=lambda step: step[:2])
        lanes: list[asyncio.Handle | None] = [handle for _, _, handle in steps]
        lanes += timers
        lanes += [None] * len(callbacks)
        if len(lanes) > len(callbacks):
            order.shuffle(lanes)
        return deque(callbacks.popleft() if handle is None else handle for handle in lanes)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **kwargs)
        self._made += 1
        self._serials[task] = self._made
        if self.owners and (maker := asyncio.current_task(self)) is not None and maker in self.owners:
            self.owners[task] = self.owners[maker]
        return task

    # -- nothing to run --------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Let time pass, for nothing can run: real time for threads and sockets, or else virtual time."""
        self._due_cancelled()
        until = self._scheduled[0].when() if self._scheduled else None
        if self._executing:
            self._poll(None)
            return
        if self._threads_work():
            grace = DEADLOCK_GRACE_SECONDS if until is None and not self._idle else THREAD_GRACE_SECONDS
            if self._poll(grace):
                return
        while self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                return
        if until is None:
            if len(self._selector.get_map()) <= _SELF_PIPE:
                raise Deadlock(f"nothing can run any more, and no timer is set.\n{self.describe()}")
            self._poll(None)
            return
        self._now = until
        self._turns = 0

    def _due_cancelled(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
            self._timer_cancelled_count -= 1

    def _poll(self, seconds: float | None) -> bool:
        """Ask the sockets, and the pipe by which threads wake the loop; wait at most so many real seconds."""
        events = self._selector.select(seconds)
        if events:
            self.outside += 1
            self._process_events(events)
        return bool(events)

    def _threads_work(self) -> bool:
        if threading.active_count() <= 1:
            return False
        started = frozenset(threading.enumerate()) - self._threads_before
        return any(not thread.name.startswith("asyncio_") for thread in started)  # not the executor's idle ones

    def run_in_executor(  # type: ignore[override]  # typeshed's TypeVarTuple cannot be repeated on a subclass
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run `func` in a thread; the clock stands still until it has ended."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._executing += 1
        future.add_done_callback(self._executed)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the executor's threads in real time; `timeout` (virtual seconds) never ends the wait."""
        self._executing += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._executing -= 1

    def _executed(self, _future: object) -> None:
        self._executing -= 1

    def _describe_tasks(self) -> str:
        return "\n".join(sorted(repr(task) for task in asyncio.all_tasks(self)))
