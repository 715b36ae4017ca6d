"""What a recorded service does with the event loop itself, noted: timers, tasks, callbacks, the loop's time.

`asyncio.timeout`, `asyncio.sleep`, `gather`, `wait` and `TaskGroup` talk to the loop and not to the node. So while a
service is recorded or replayed, the loop's own methods are asked through here; outside the service's code they do what
they always did.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator

    from skyloom.testing.record import Log

RUNTIME: Final = (
    "skyloom.node.",
    "skyloom.cluster.",
    "skyloom.service.response",
    "skyloom.testing.",
    "skyloom_gateway.",
)
"""Modules whose callbacks are not the service's, even when its code sets them off."""

_MARK: Final = "skyloom_noted"


class _Running(threading.local):
    log: Log | None = None


_running = _Running()
_owners: WeakKeyDictionary[asyncio.Future[Any], tuple[Log, Iterator[str]]] = WeakKeyDictionary()
"""Whose tasks they are, and the numbers of their done callbacks: a task's end itself, when it was cancelled before it
began, is at no noted time, so that numbers of the log would be in another order in the replay."""


def running() -> Log | None:
    """The log of the service whose code runs right now, in this thread."""
    return _running.log


class Inside:
    """``with Inside(log):`` the service's own code runs; with None, somebody else's that it set off."""

    __slots__ = ("_before", "_log")

    def __init__(self, log: Log | None) -> None:
        self._log = log

    def __enter__(self) -> None:
        self._before, _running.log = _running.log, self._log

    def __exit__(self, *_: object) -> None:
        _running.log = self._before


class Noted:
    """A callback of the service, of which the log tells when it ran."""

    def __init__(
        self, log: Log, key: int | str, callback: Callable[..., object], context: contextvars.Context | None
    ) -> None:
        self.log, self.key, self.callback = log, key, callback
        self.context = context or contextvars.copy_context()

    def __call__(self, *args: Any) -> None:
        self.log.callback(self, args)

    def run(self, args: tuple[Any, ...]) -> None:
        """Run it as the service's own code."""
        with Inside(self.log):
            self.context.copy().run(self.callback, *args)


class Probe:
    """Added to what the service awaits, to see whether the service's own doing settles it."""

    def __init__(self, log: Log, coroutine: Any) -> None:
        self._log, self._coroutine = log, coroutine

    def __call__(self, future: asyncio.Future[Any]) -> None:
        """Nothing: it is asked the moment the future is settled, by `settled`."""

    def settled(self, future: asyncio.Future[Any]) -> None:
        """The future got its result just now."""
        if _running.log is not self._log and not future.cancelled():
            self._log.came_from_outside(_where(self._coroutine))


def _where(coroutine: Any) -> str:
    """The place in the user's code at which a coroutine waits."""
    found = ""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            found = f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
            if not str(frame.f_globals.get("__name__", "")).startswith("skyloom."):
                break
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found


def drop(coroutine: Any) -> None:
    """Close a coroutine; if it has not begun, with the coroutines that it was given, which nobody will await."""
    if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        for given in list(inspect.getcoroutinelocals(coroutine).values()):
            if inspect.iscoroutine(given) and inspect.getcoroutinestate(given) == inspect.CORO_CREATED:
                drop(given)
    with suppress(RuntimeError):  # it awaits even then
        coroutine.close()


def is_own_task(awaited: object) -> bool:
    """Whether it is a task that a recorded service made."""
    return isinstance(awaited, asyncio.Task) and awaited in _owners


def listen(loop: asyncio.AbstractEventLoop) -> None:
    """Have a loop ask the running log, from now on; once is enough."""
    if hasattr(loop, _MARK):
        return
    own = _Own(loop)
    for name in ("call_soon", "call_soon_threadsafe", "call_at", "call_later", "time"):
        setattr(loop, name, getattr(own, name))
    loop.set_task_factory(own.make_task)
    setattr(loop, _MARK, own)


class _Own:
    """The loop's own methods, and those that stand before them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon: Callable[..., asyncio.Handle] = loop.call_soon
        self._call_soon_threadsafe: Callable[..., asyncio.Handle] = loop.call_soon_threadsafe
        self._call_at: Callable[..., asyncio.TimerHandle] = loop.call_at
        self._call_later: Callable[..., asyncio.TimerHandle] = loop.call_later
        self._time = loop.time
        self._factory: Callable[..., asyncio.Future[Any]] = loop.get_task_factory() or _plain_task

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle | None:
        if type(callback) is Probe:
            callback.settled(args[0])
            return None  # to the future, which does not look at it
        owned = _owners.get(args[0]) if args and isinstance(args[0], asyncio.Task) else None
        log, keys = owned or (_running.log, None)  # its task: it has ended, and its done callbacks are due
        return self._call_soon(_noted(log, callback, context, keys), *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        # A thread may be done with its work before the service awaits it: its answer is not the service's own either.
        log = None if args and asyncio.isfuture(args[0]) else _running.log
        return self._call_soon_threadsafe(_noted(log, callback, context), *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        return _timer(partial(self._call_at, when, context=context), callback, args)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        return _timer(partial(self._call_later, delay, context=context), callback, args)

    def time(self) -> float:
        log = _running.log
        return self._time() if log is None else log.look("loop", self._time)

    def make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, Any, Any], **kw: Any
    ) -> asyncio.Future[Any]:
        log = _running.log
        if log is None or log.over:
            return self._factory(loop, coroutine, **kw)
        with Inside(None):
            key = log.key()
            task = self._factory(loop, log.noted(coroutine, key), **kw)
        task.add_done_callback(lambda _: drop(coroutine))  # one that was cancelled before it began is not closed
        _owners[task] = log, map(f"{key}.{{}}".format, count())
        return task


def _plain_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **kw: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **kw)


def _timer(start: Callable[..., Any], callback: Callable[..., object], args: tuple[Any, ...]) -> Any:
    log = _running.log
    return start(callback, *args) if log is None else log.timer(start, callback, args)


def _noted(
    log: Log | None,
    callback: Callable[..., object],
    context: contextvars.Context | None,
    keys: Iterator[str] | None = None,
) -> Callable[..., object]:
    """The callback, noted if it is the service's own. The steps of tasks are not: `Log.steps` notes them."""
    if log is None or log.over or isinstance(getattr(callback, "__self__", None), asyncio.Task):
        return callback
    if str(getattr(callback, "__module__", "")).startswith(RUNTIME):
        return callback
    return Noted(log, log.key() if keys is None else next(keys), callback, context)
