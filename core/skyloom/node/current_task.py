"""Who `asyncio.current_task()` says is running.

A handler's first step runs outside the event loop's own scheduling, inside its caller or a mailbox's turn; it must
nevertheless see itself in a task of its own, or `asyncio.timeout` and `TaskGroup` in it would capture the
caller's. "Extending asyncio" in the Python documentation names the hooks for this. Python 3.12 added a swap in one
call; before that the two hooks work on the dict that asyncio.tasks exports, and writing it is a third of the cost.
"""

from __future__ import annotations

import sys
from asyncio import tasks
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

if sys.version_info >= (3, 12):
    swap_current_task = tasks._swap_current_task  # type: ignore[attr-defined]  # documented hook, not in typeshed
else:
    _current: dict[Any, Any] = tasks._current_tasks  # type: ignore[attr-defined]  # the hooks' own dict

    def swap_current_task(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> asyncio.Task[Any] | None:
        """Make `task` the current one of `loop`; returns the one before."""
        before: asyncio.Task[Any] | None = _current.get(loop)
        if task is None:
            _current.pop(loop, None)
        else:
            _current[loop] = task
        return before
