"""A critical section: skynet.queue."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class Section:
    """Lets one handler at a time through, in the order in which they came; a handler may enter it again::

    async with self.section:
        ...
    """

    __slots__ = ("_depth", "_owner", "_waiting")

    def __init__(self) -> None:
        self._owner: asyncio.Task[Any] | None = None
        self._depth = 0
        self._waiting: deque[tuple[asyncio.Future[None], asyncio.Task[Any] | None]] = deque()

    @property
    def locked(self) -> bool:
        """Whether somebody is inside."""
        return self._depth > 0

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if self._depth == 0 or self._owner is task:
            self._owner = task
            self._depth += 1
            return
        future = asyncio.get_running_loop().create_future()
        entry = (future, task)
        self._waiting.append(entry)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._leave()  # it was our turn already: pass it on
            elif entry in self._waiting:  # else one who left has passed over us, cancelled, already
                self._waiting.remove(entry)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._depth -= 1
        if self._depth > 0:
            return
        self._owner = None
        while self._waiting:
            future, task = self._waiting.popleft()
            if not future.done():
                # The section changes hands here and now, so that nobody who comes later slips in before.
                self._owner, self._depth = task, 1
                future.set_result(None)
                return
