"""A callback some time from now, in the name of a service."""

from __future__ import annotations

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
        async def run() -> None:
            await service.sleep(seconds)
            await callback(*args)

        self._task = service.fork(run())

    @property
    def active(self) -> bool:
        """Whether it is still to come, or its callback is running."""
        return not self._task.done()

    def cancel(self) -> None:
        """Call it off; a callback that runs already is cancelled where it waits."""
        self._task.cancel()
