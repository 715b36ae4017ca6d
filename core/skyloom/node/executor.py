"""Runs handlers: their first step by hand, and what comes of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from skyloom.message.errors import (
    CallError,
    Expired,
    Failed,
    Unknown,
    ValueRefused,
    error_from_values,
    error_to_values,
)
from skyloom.message.value import ATOMS, copied
from skyloom.node.current_task import swap_current_task
from skyloom.node.dead_letters import traceback_text
from skyloom.node.handling import NotBegun, handled
from skyloom.node.pending import OPEN, Pending
from skyloom.node.worker import IDLE, WORKERS_IDLE_MAX, Worker

if TYPE_CHECKING:
    from skyloom.message.message import Message
    from skyloom.message.protocol import Protocol
    from skyloom.node.cell import Cell
    from skyloom.node.node import Node

INLINE_CALLS_MAX: Final = 256
"""Calls run inside their callers in one turn of the event loop; the next ones go through mailboxes, so that a
caller in a tight loop does not starve the others."""

log = structlog.get_logger("skyloom.service")


class Executor:
    """Steps handlers with pooled workers, and sends the answers of those that end.

    `inline_left` is how many more calls may run inside their callers in this turn of the loop, `depth` how many are
    nested in the stack right now, `leaving` the messages whose end a service's `exit` waits for.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._idle: list[Worker] = []
        self.workers: set[Worker] = set()
        self.leaving: dict[Message, asyncio.Future[None]] = {}
        self.inline_left = INLINE_CALLS_MAX
        self.depth = 0

    def step(self, target: Cell, message: Message, protocol: Protocol) -> object:
        """Run the first step of the handler of a call at once. Returns its answer, or OPEN if that comes later.

        Raises CallError when the handler ended with an error.
        """
        left = self.inline_left
        loop = self._node.loop
        if left == INLINE_CALLS_MAX:
            loop.call_soon(self._refill)
        self.inline_left = left - 1
        target.handled += 1
        idle = self._idle
        worker = idle.pop() if idle else self._new_worker()
        worker.cell = target
        message.claim = True
        self.depth += 1
        before = swap_current_task(loop, worker.task)
        try:
            awaited = worker.context.run(worker.send, message)
        finally:
            swap_current_task(loop, before)
            self.depth -= 1
        if awaited is not IDLE:
            self._suspended(worker, target, message, awaited)
            return OPEN
        value, error = worker.value, worker.error
        if error is None and len(worker.context) == 1 and not message.taken and not self.leaving:
            idle.append(worker)
            if protocol.pack is None and type(value) in ATOMS:
                return value
        else:
            self.recycle(worker)
        self._left(message)
        if error is not None:
            fault = self._fault(target, message, error)
            error = None  # else the caller's traceback would keep the handler's frames, and all that is in them
            if message.taken:
                return OPEN
            raise fault
        if message.taken:
            return OPEN
        if protocol.pack is None:
            try:
                return copied(value)
            except ValueRefused as refused:
                raise self._fault(target, message, refused) from None
        try:
            payload = target.protocol(message.ptype).to_payload((value,))
        except ValueRefused as refused:
            raise self._fault(target, message, refused) from None
        pending = Pending(target.address, protocol, message.session)
        pending.settle(payload)
        return pending.result()

    def _refill(self) -> None:
        self._node.run_queue.handled += INLINE_CALLS_MAX - self.inline_left
        self.inline_left = INLINE_CALLS_MAX

    def step_ended(self, worker: Worker, cell: Cell, message: Message, awaited: object) -> bool:
        """After the first step of a message from the mailbox: True when the worker is not free any more."""
        if awaited is IDLE and worker.error is None and not message.session and not self.leaving:
            worker.cell = None
            return len(worker.context) != 1
        if awaited is not IDLE:
            self._suspended(worker, cell, message, awaited)
            return True
        self._conclude(worker, cell, message)
        # The run queue gives back the worker that has no cell; an unclean one must not see another message.
        worker.cell = None
        return len(worker.context) != 1

    def _suspended(self, worker: Worker, cell: Cell, message: Message, awaited: object) -> None:
        worker.adopt(message, awaited)
        if cell.address not in self._node.cells:  # killed during this very step
            worker.task.cancel()
            if message.session and not message.taken:
                cell.take(message)
                self._node.answer(message, Unknown(f"{cell.service.title} was killed while it handled the call"))
        if cell.workers is None:
            cell.workers = set()
        cell.workers.add(worker)
        if message.session and not message.taken:
            cell.hold(message, worker)
        cell.running += 1
        if cell.running >= cell.concurrency:
            cell.held()

    def finished(self, worker: Worker) -> bool:
        """A half-run handler has ended in the worker's task. False when the worker shall end too."""
        cell, message = worker.cell, worker.message
        assert cell is not None
        assert message is not None
        cell.running -= 1
        if cell.workers is not None:
            cell.workers.discard(worker)
        if not message.taken:  # else a Response holds it
            cell.release(message)
        self._conclude(worker, cell, message)
        cell.wake()
        return self.recycle(worker)

    def _conclude(self, worker: Worker, cell: Cell, message: Message) -> None:
        """Send the answer of a handler that has ended, unless it was taken."""
        value, error = worker.value, worker.error
        outcome: tuple[object, ...] | bytes | CallError | None = None
        if error is not None:
            worker.error = None
            outcome = self._fault(cell, message, error)
        if message.session and not message.taken:
            if outcome is None:
                try:
                    outcome = cell.protocol(message.ptype).to_payload((value,))
                except ValueRefused as refused:
                    outcome = self._fault(cell, message, refused)
            self._node.answer(message, outcome)
        self._left(message)

    def _left(self, message: Message) -> None:
        """Tell the service that waits for the end of this message's handler."""
        if self.leaving and message in self.leaving:
            future = self.leaving.pop(message)
            if not future.done():
                future.set_result(None)

    def _fault(self, cell: Cell, message: Message, error: BaseException) -> CallError:
        """What the caller is told of an error in a handler; the rest goes into our log."""
        title = cell.service.title
        if isinstance(error, NotBegun):
            if not message.session:
                self._node.dead_letters.add(self._node.clock.time(), cell.address, message, error.code)
            return error_from_values(error_to_values(error))
        if isinstance(error, Failed):
            if not message.session:
                log.warning(
                    "handler failed",
                    service=title,
                    handling=handled(cell, message),
                    code=error.code,
                    message=error.message,
                )
            try:
                return error_from_values(copied(error_to_values(error)))
            except ValueRefused as refused:
                error = refused
        if isinstance(error, asyncio.CancelledError):
            if cell.address not in self._node.cells:
                return Unknown(f"{title} ended while it handled the call")
            return Failed("the handler was cancelled", code="skyloom.cancelled", kind="aborted")
        if isinstance(error, Expired):  # of a call of the handler's own: whoever did not answer is to be looked at
            log.warning("handler ran out of time", service=title, handling=handled(cell, message), error=error.message)
            return Failed(error.message, code=error.code, kind=error.kind, details=dict(error.details))
        if isinstance(error, CallError) and error.kind == "unavailable":  # likewise: it is away, or moves
            log.warning(
                "handler could not reach a service", service=title, handling=handled(cell, message), error=str(error)
            )
            return Failed(error.message, code=error.code, kind=error.kind, details=dict(error.details))
        log.error("handler failed", service=title, handling=handled(cell, message), exc_info=error)
        node, trace = self._node, traceback_text(error)
        node.dead_letters.add(node.clock.time(), cell.address, message, "skyloom.internal", trace)
        if isinstance(error, CallError):
            return Failed(error.message, code=error.code, kind=error.kind, details=dict(error.details))
        return Failed(f"{type(error).__name__}: {error}", code="skyloom.internal")

    def running(self, cell: Cell, current: Message | None) -> list[Message]:
        """The messages that a service is handling; `current`, the caller's own, may be in its first step."""
        messages = [worker.message for worker in cell.workers or () if worker.message is not None]
        task = asyncio.current_task()
        if current is not None and any(
            worker.task is task and worker.cell is cell and worker.message is None for worker in self.workers
        ):
            messages.append(current)
        return messages

    def idle_worker(self) -> Worker:
        """A free worker; it has no cell until it runs a handler."""
        worker = self._idle.pop() if self._idle else self._new_worker()
        worker.cell = None
        return worker

    def _new_worker(self) -> Worker:
        worker = Worker(self._node)
        self.workers.add(worker)
        return worker

    def recycle(self, worker: Worker) -> bool:
        """Take an idle worker back. False if it must not be used again and ends."""
        worker.value = worker.error = worker.message = worker.cell = None
        if worker.clean and len(self._idle) < WORKERS_IDLE_MAX:
            self._idle.append(worker)
            return True
        worker.end()
        return False

    def ended(self, worker: Worker) -> None:
        """A worker's task ends: it was told to, or a handler that is over left it cancelled."""
        self.workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
