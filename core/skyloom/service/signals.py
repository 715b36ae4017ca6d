"""wait and wakeup: skynet's way for one handler to wait for another of the same service."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

EARLY_WAKEUPS_MAX: Final = 1_000
"""Tokens whose wakeup came before their wait, kept for one service."""


class Signals:
    """Tokens that handlers wait for. A wakeup that comes before its wait is kept, so that none is lost."""

    __slots__ = ("_early", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self._early: set[Hashable] = set()

    async def wait(self, token: Hashable) -> None:
        """Wait until somebody wakes the token up; at once if that happened since the last wait."""
        if token in self._early:
            self._early.discard(token)
            return
        future = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(token, deque())
        queue.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.wakeup(token)  # ours came, but we are going: it wakes the next one
            elif future in queue:
                queue.remove(future)
                if not queue and self._waiting.get(token) is queue:
                    del self._waiting[token]
            raise

    def wakeup(self, token: Hashable) -> bool:
        """Wake the first that waits for the token; True if there was one. Raises RuntimeError over the limit."""
        queue = self._waiting.get(token)
        while queue:
            future = queue.popleft()
            if not queue:
                del self._waiting[token]
            if not future.done():
                future.set_result(None)
                return True
        if len(self._early) >= EARLY_WAKEUPS_MAX and token not in self._early:
            raise RuntimeError(f"wakeup: {EARLY_WAKEUPS_MAX} tokens were woken up that nobody waits for")
        self._early.add(token)
        return False
