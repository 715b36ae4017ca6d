"""What a simulated node gets of time and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skyloom.testing.loop import START_SECONDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from skyloom.testing.loop import SimLoop
    from skyloom.testing.node import TestNode

EPOCH_SECONDS: Final = 1_750_000_000.0
"""What `time()` says when a simulation starts: a day in June 2025."""


class SimClock:
    """A `skyloom.Clock` whose timers belong to a node, so that they stop with it."""

    def __init__(self, loop: SimLoop, node: TestNode) -> None:
        self._loop = loop
        self.owner = node
        self.now: Callable[[], float] = loop.time

    def time(self) -> float:
        return EPOCH_SECONDS + self._loop.time() - START_SECONDS

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        return self._loop.call_at(when, self._fire, callback, args)

    def _fire(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        callback(*args)


class SimSpawner:
    """A `skyloom.Spawner` whose tasks belong to a node; so do the tasks that they make."""

    def __init__(self, loop: SimLoop, node: TestNode) -> None:
        self._loop = loop
        self.owner = node

    def spawn(
        self, coroutine: Coroutine[Any, Any, Any], *, name: str, context: Context | None = None
    ) -> asyncio.Task[Any]:
        from skyloom.testing.node import abandon

        task = self._loop.create_task(coroutine, name=name, context=context)
        self._loop.owners[task] = self.owner
        if self.owner.crashed:
            abandon(task)
        return task
