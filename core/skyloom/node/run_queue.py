"""Whose turn it is: the cells that have messages, each with a share of every turn of the event loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from skyloom.node.current_task import swap_current_task

if TYPE_CHECKING:
    from skyloom.node.cell import Cell
    from skyloom.node.node import Node

TURN_MESSAGES_MAX: Final = 512
"""Messages handled in one turn of the event loop before sockets and timers get theirs."""

SHARE_MESSAGES_MAX: Final = 64
"""Messages of one service handled before the next service has its share."""


class RunQueue:
    """Cells with messages to handle, first come first served."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ready: deque[Cell] = deque()
        self._scheduled = False
        self.handled = 0

    def add(self, cell: Cell) -> None:
        """Give `cell` a place in the queue; it has none yet (`cell.queued` was just set)."""
        self._ready.append(cell)
        if not self._scheduled:
            self._scheduled = True
            self._node.loop.call_soon(self._turn)

    def _turn(self) -> None:
        node = self._node
        ready = self._ready
        left = TURN_MESSAGES_MAX
        while ready and left > 0:
            cell = ready.popleft()
            if cell.mailbox and cell.started and cell.running < cell.concurrency:
                worker = node.executor.idle_worker()
                before = swap_current_task(node.loop, worker.task)
                try:
                    done = worker.context.run(cell.run, worker, min(left, SHARE_MESSAGES_MAX))
                finally:
                    swap_current_task(node.loop, before)
                left -= done
                self.handled += done
                if worker.cell is None:
                    node.executor.recycle(worker)
            if cell.mailbox and cell.started and cell.running < cell.concurrency:
                ready.append(cell)
            else:
                cell.queued = False
                cell.wake()
        if ready:
            node.loop.call_soon(self._turn)
        else:
            self._scheduled = False
