"""A callback some time from now, in the name of a service."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from skyloom.service.service import Service


class Timer:
    """Made by `Service.timeout`. `cancel` it any time; a service that ends cancels its timers."""

    __slots__ = ("_task",)

    def __init__(
        self,
        service: Service,
        seconds: float,
        callback: Callable[..., Coroutine[Any, Any, object]],
        args: tuple[object, ...],
    ) -> None:
        if not callable(callback):
            if asyncio.iscoroutine(callback):
                callback.close()
            raise TypeError(
                f"timeout: a method and its arguments are needed, as in timeout(5, self.close, reason), not a "
                f"{type(callback).__name__}"
            )

        async def run() -> None:
            await service.sleep(seconds)
            coroutine = callback(*args)
            if not inspect.isawaitable(coroutine):
                name = getattr(callback, "__qualname__", repr(callback))
                raise TypeError(f"timeout: {name} is no `async def`")
            await coroutine

        self._task = service.fork(run())

    @property
    def active(self) -> bool:
        """Whether it is still to come, or its callback is running."""
        return not self._task.done()

    def cancel(self) -> None:
        """Call it off; a callback that runs already is cancelled where it waits."""
        self._task.cancel()
