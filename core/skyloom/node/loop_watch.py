"""Watches that no handler blocks the event loop (promise 10)."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from skyloom.node.node import Node

BLOCKED_SECONDS: Final = 0.1
"""A turn of the loop that takes longer is logged with the stack that blocks it."""

PERIOD_SECONDS: Final = 0.05
"""How often the loop is asked for a sign of life."""

OVERLOAD_STRIKES: Final = 4
"""Late signs of life in a row that make a sustained overload."""

LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""The bounds by which lags are counted."""

_STACK_FRAMES: Final = 12

log = structlog.get_logger("skyloom.loop")


class LoopWatch:
    """A thread that asks the event loop for a sign of life and looks at its stack when none comes.

    Counted in `node.counters`: ``loop_blocked`` (times) and ``loop_overloaded`` (times that it lasted); in
    `node.loop_lag`: how long each sign of life took. The thread uses real time on purpose: a virtual clock stands still
    while a handler blocks.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = threading.Event()
        self._alive = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="skyloom loop watch", daemon=True)
        self._loop_thread = 0

    def start(self) -> None:
        """Start watching the loop of the calling thread."""
        self._loop_thread = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the thread, which takes at most `BLOCKED_SECONDS`."""
        self._stop.set()
        self._alive.set()
        self._thread.join()

    def _watch(self) -> None:
        strikes = 0
        while not self._stop.wait(PERIOD_SECONDS):
            self._alive.clear()
            if self._stop.is_set():  # set between the wait and the clear, which undid its sign
                return
            try:
                self._node.loop.call_soon_threadsafe(self._live, self._node.stopwatch())
            except RuntimeError:  # the loop is closed: its node was not stopped
                return
            if self._alive.wait(BLOCKED_SECONDS):
                strikes = 0
                continue
            if self._stop.is_set():
                return
            strikes += 1
            self._node.counters["loop_blocked"] += 1
            self._report(strikes)
            while not self._alive.wait(PERIOD_SECONDS) and not self._stop.is_set():
                pass

    def _live(self, asked: float) -> None:
        """On the loop's thread: the sign of life."""
        self._node.loop_lag.add(self._node.stopwatch() - asked)
        self._alive.set()

    def _running(self) -> str:
        """Whose handler or fork runs. From the watch's own thread: it may just have ended, hence no certainty."""
        task = asyncio.current_task(self._node.loop)
        for worker in list(self._node.executor.workers):
            cell = worker.cell
            if worker.task is task and cell is not None:
                return cell.service.title
        return task.get_name() if task is not None else ""

    def _report(self, strikes: int) -> None:
        if strikes < OVERLOAD_STRIKES:
            frame = sys._current_frames().get(self._loop_thread)
            stack = traceback.format_stack(frame)[-_STACK_FRAMES:] if frame is not None else []
            log.warning(
                "a handler blocks the event loop",
                seconds=BLOCKED_SECONDS,
                service=self._running(),
                stack="".join(stack),
                node=self._node.name,
                remedy="await what takes long, or run it by asyncio.to_thread",
            )
        elif strikes == OVERLOAD_STRIKES:
            self._node.counters["loop_overloaded"] += 1
            log.warning("the event loop is overloaded", node=self._node.name, late_in_a_row=strikes)
