r"""A worker runs handlers: the first step by hand, the rest, if there is any, as an asyncio task.

    step by hand --- handler returns or raises -------------------> idle again (no task step, no turn of the loop)
         \-------- handler awaits something that is not ready ---> the worker's task takes the half-run handler
                                                                     over and finishes it

Both parts see the same task as `asyncio.current_task()` and the same context variables. Workers are pooled by the
node. One whose handler left a context variable set is not used again, so that nothing leaks into the next message.
"""

from __future__ import annotations

import asyncio
import types
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final

from skyloom.message.errors import Failed
from skyloom.message.ptype import Ptype
from skyloom.node.handling import NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from skyloom.message.message import Message
    from skyloom.node.cell import Cell
    from skyloom.node.node import Node

_LUA: Final = int(Ptype.LUA)

IDLE: Final = object()
"""What a worker yields when it has finished a message."""

CURRENT: Final[ContextVar[Message | None]] = ContextVar("skyloom_current", default=None)
"""The message whose handler is running."""

WORKERS_IDLE_MAX: Final = 256
"""Idle workers that a node keeps; one costs about 3 KiB."""


class Worker:
    """One pooled worker. `send` gives it a message for `cell`; it answers `IDLE`, or what the handler awaits."""

    __slots__ = (
        "_state",
        "_wake",
        "cell",
        "context",
        "error",
        "generator",
        "message",
        "node",
        "send",
        "task",
        "value",
    )

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cell: Cell | None = None
        self.message: Message | None = None
        self.value: object = None
        self.error: BaseException | None = None
        self.context = Context()
        self.generator: Generator[Any, Any, None] = _run_handlers(self)
        self.send: Callable[[Any], object] = self.generator.send
        # The first `send` starts the generator and creates the one context variable that is always there.
        self.context.run(self.send, None)
        self._state: object = IDLE
        self._wake: asyncio.Future[None] | None = None
        life = _live(self)
        # Started before its task is, so that a cancellation which comes before the task's first step is not lost.
        self.context.run(life.send, None)
        self.task = node.spawner.spawn(life, name="skyloom worker", context=self.context)

    @property
    def clean(self) -> bool:
        """Whether the last handler left no context variable of its own and no cancellation behind."""
        return len(self.context) == 1 and not self.task.cancelling()

    def adopt(self, message: Message, awaited: object) -> None:
        """Let the task finish the handler, which has just yielded `awaited`."""
        self.message = message
        self._state = awaited
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    def end(self) -> None:
        """Let the task end; only for an idle worker."""
        self.generator.close()
        self.task.cancel()


@types.coroutine
def _run_handlers(worker: Worker) -> Generator[Any, Any, None]:
    """Run one handler after another; never ends by itself, so that a finished handler costs no StopIteration."""
    set_current = CURRENT.set
    set_current(None)
    message = yield IDLE
    while True:
        set_current(message)
        cell: Any = worker.cell
        args = message.payload
        try:
            # The usual cases, unpacked arguments for an rpc or a handler, spelt out; `begin` knows these and all.
            if type(args) is not tuple:
                worker.value = yield from cell.begin(message)
            elif message.ptype == _LUA and cell.quick_rpc and args and args[0] in cell.methods:
                try:
                    handler = cell.methods[args[0]](cell.service, *args[1:])
                except TypeError:
                    handler = cell.begin(message)  # says what is wrong with the arguments
                worker.value = yield from handler
            elif (quick := cell.quick) is not None and message.ptype in quick:
                value = yield from quick[message.ptype](message.session, message.source, *args)
                if value is None and message.session and not message.taken:
                    raise Failed(NO_ANSWER, code="skyloom.no_answer")
                worker.value = value
            else:
                worker.value = yield from cell.begin(message)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the caller is told
            worker.error = error
        message = yield IDLE


async def _live(worker: Worker) -> None:
    """The body of the worker's task."""
    await _finish_handlers(worker)


@types.coroutine
def _finish_handlers(worker: Worker) -> Generator[Any, Any, None]:
    """Finish one half-run handler after another."""
    loop = worker.node.loop
    generator = worker.generator
    thrown: BaseException | None = None
    try:
        yield
    except asyncio.CancelledError as error:
        thrown = error
    while True:
        if worker._state is IDLE and thrown is None:
            worker._wake = loop.create_future()
            try:
                yield from worker._wake
            except asyncio.CancelledError as error:
                thrown = error
        if worker._state is IDLE:
            worker.node.executor.ended(worker)
            return
        state = worker._state
        if thrown is not None:
            # As Task.cancel does: what the handler awaits is cancelled, and only where that cannot be, the handler.
            cancel = getattr(state, "cancel", None)
            if cancel is None or not cancel():
                state = generator.throw(thrown)
            thrown = None
        while state is not IDLE:
            try:
                sent = yield state
            except GeneratorExit:
                generator.close()
                raise
            except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the handler
                state = generator.throw(error)
            else:
                state = generator.send(sent)
        worker._state = IDLE
        if not worker.node.executor.finished(worker):
            worker.node.executor.ended(worker)
            return
