"""Work that takes longer than a call: started at once, asked after later.

What to write::

    class Reports(OperationService[Report]):
        @rpc
        async def build(self, month: str) -> str:
            return self.operations.start(self.work(month))  # the id, at once

        async def work(self, month: str) -> Report: ...

What its callers have then::

    id = await Reports.at(self, reports).build("may")
    status = await Reports.at(self, reports).operation_status(id)  # .state is RUNNING, DONE, FAILED or CANCELLED
    report = await Reports.at(self, reports).operation_result(id)  # waits for it, or raises its error
    await Reports.at(self, reports).operation_cancel(id)


    @rpc  # in the service that started it: called once, when the operation has ended in any way
    async def operation_ended(self, status: OperationStatus[Report]) -> None: ...

The life of an operation::

    start -> RUNNING -> DONE       the work returned
                     -> FAILED     it raised: `error_code` and `error_message` say what
                     -> CANCELLED  `cancel`, or its service ended
                         ... kept for `keep` seconds, then forgotten: OperationNotFound

The work belongs to the service, not to the request that started it: it has no deadline and ends with the service. Use
`Operations` by itself for rpc methods of your own making.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import structlog

from skyloom.message.errors import CallError, Failed
from skyloom.message.message import NEVER
from skyloom.message.value import copied
from skyloom.node.worker import CURRENT
from skyloom.service.rpc import rpc
from skyloom.service.service import Service

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from skyloom.message.address import Address
    from skyloom.node.clock import Timer

OPERATIONS_MAX: Final = 1_000
"""Operations that one `Operations` holds, running and ended."""

KEEP_SECONDS: Final = 300.0
"""How long an operation is kept once it has ended."""

RESULT_SECONDS: Final = 5.0
"""How long `result` waits unless told otherwise."""

T = TypeVar("T")

log = structlog.get_logger("skyloom.operations")


class OperationNotFound(Failed, code="skyloom.operation_not_found", kind="not_found"):
    """There is no operation of this id: there never was, or it ended and its time is over."""


class OperationRunning(Failed, code="skyloom.operation_running", kind="failed_precondition", retryable=True):
    """The operation had not ended when the wait for its result was over; ask again."""


class OperationCancelled(Failed, code="skyloom.operation_cancelled", kind="aborted"):
    """There is no result, for the operation was cancelled."""


class TooManyOperations(Failed, code="skyloom.too_many_operations", kind="resource_exhausted", retryable=True):
    """As many operations are running as there may be; nothing was started."""


class OperationState(StrEnum):
    """What has become of an operation."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class OperationStatus(Generic[T]):
    """An operation as others see it, and the notice of its end. Times are seconds since 1970."""

    id: str
    state: OperationState
    started: float
    ended: float | None = None
    value: T | None = None
    error_code: str | None = None
    error_message: str | None = None


class _Operation(Generic[T]):
    """An operation as its table sees it."""

    __slots__ = ("error", "expires", "notify", "starter", "status", "task")

    def __init__(self, status: OperationStatus[T], starter: Address | None, notify: str | None) -> None:
        self.status = status
        self.starter = starter
        self.notify = notify
        self.error: CallError | None = None
        self.expires = NEVER
        self.task: asyncio.Task[None] | None = None


class Operations(Generic[T]):
    """The operations of one service. Make it in ``__init__`` or `on_start`: ``Operations[Report](self)``.

    `maximum` is how many it holds, running and ended; when it is full the oldest that has ended is forgotten for a
    new one. `keep` is how long one is kept once it has ended, in seconds.
    """

    def __init__(self, service: Service, *, maximum: int = OPERATIONS_MAX, keep: float = KEEP_SECONDS) -> None:
        self._service = service
        self._maximum = maximum
        self._keep = keep
        self._operations: dict[str, _Operation[T]] = {}
        self._ended: deque[str] = deque()  # in the order in which they expire
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._operations)

    def start(
        self,
        work: Coroutine[Any, Any, T],
        *,
        starter: Address | None = None,
        notify: str | None = "operation_ended",
    ) -> str:
        """Start the work and return the operation's id.

        When it ends, the rpc method `notify` of `starter` is sent the `OperationStatus`; None for no notice. The
        starter is who made the request being handled, unless told. Raises TooManyOperations.
        """
        service = self._service
        if len(self._operations) >= self._maximum:
            if not self._ended:
                work.close()
                raise TooManyOperations(f"{self._maximum} operations are running")
            del self._operations[self._ended.popleft()]
        request = CURRENT.get()
        if starter is None and request is not None:
            starter = request.source
        id = f"{service.random.getrandbits(64):016x}"
        status: OperationStatus[T] = OperationStatus(id, OperationState.RUNNING, service.clock.time())
        operation = self._operations[id] = _Operation(status, starter, notify)
        operation.task = service.fork(self._run(operation, work))
        # A task cancelled before its first step never runs; its end is seen here.
        operation.task.add_done_callback(lambda _: self._end(operation, OperationState.CANCELLED, work))
        return id

    def status(self, id: str) -> OperationStatus[T]:
        """What has become of an operation. Raises OperationNotFound."""
        return self._find(id).status

    async def result(self, id: str, *, timeout: float = RESULT_SECONDS) -> T:
        """The value that the work returned, waiting for it at most `timeout` seconds and the request's deadline.

        Raises what the work raised (as Failed), OperationCancelled, OperationRunning or OperationNotFound.
        """
        operation = self._find(id)
        if operation.status.state is OperationState.RUNNING and timeout > 0:
            assert operation.task is not None
            request = CURRENT.get()
            left = NEVER if request is None else request.deadline - self._service.clock.now()
            # Not awaiting the task itself: who waits may be cancelled without cancelling the work.
            await asyncio.wait([operation.task], timeout=max(0.0, min(left, timeout)))
        state = operation.status.state
        if state is OperationState.RUNNING:
            raise OperationRunning(f"operation {id} is running")
        if state is OperationState.CANCELLED:
            raise OperationCancelled(f"operation {id} was cancelled")
        if operation.error is not None:
            raise operation.error
        return operation.status.value  # type: ignore[return-value]  # T may itself be optional; when done it is a T

    def cancel(self, id: str) -> bool:
        """Cancel the work; False when it has ended already. It is CANCELLED once it has ended, unless it goes on.

        Raises OperationNotFound.
        """
        operation = self._find(id)
        if operation.status.state is not OperationState.RUNNING or operation.task is None:
            return False
        return operation.task.cancel()

    def _find(self, id: str) -> _Operation[T]:
        operation = self._operations.get(id)
        if operation is None:
            raise OperationNotFound(f"no operation {id[:64]!r}; it may have ended long ago")
        return operation

    async def _run(self, operation: _Operation[T], work: Coroutine[Any, Any, T]) -> None:
        try:
            value: T = copied(await work)
        except asyncio.CancelledError:
            self._end(operation, OperationState.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - it is logged, and told to who asks
            self._end(operation, OperationState.FAILED, error=self._fault(operation, error))
        else:
            self._end(operation, OperationState.DONE, value=value)

    def _fault(self, operation: _Operation[T], error: Exception) -> CallError:
        if isinstance(error, Failed):
            return error
        log.error("operation failed", service=self._service.title, operation=operation.status.id, exc_info=error)
        if isinstance(error, CallError):
            return Failed(error.message, code=error.code, kind=error.kind, details=error.details)
        return Failed(f"{type(error).__name__}: {error}", code="skyloom.internal")

    def _end(
        self,
        operation: _Operation[T],
        state: OperationState,
        unused: Coroutine[Any, Any, T] | None = None,
        *,
        value: T | None = None,
        error: CallError | None = None,
    ) -> None:
        if unused is not None:
            unused.close()
        if operation.status.state is not OperationState.RUNNING:
            return
        service = self._service
        operation.error = error
        operation.status = replace(
            operation.status,
            state=state,
            ended=service.clock.time(),
            value=value,
            error_code=None if error is None else error.code,
            error_message=None if error is None else error.message,
        )
        operation.expires = service.clock.now() + self._keep
        self._ended.append(operation.status.id)
        self._set_timer()
        if operation.starter is not None and operation.notify is not None:
            service.send(operation.starter, "lua", operation.notify, operation.status)

    def _set_timer(self) -> None:
        if self._timer is None and self._ended:
            self._timer = self._service.clock.call_at(self._operations[self._ended[0]].expires, self._forget_expired)

    def _forget_expired(self) -> None:
        self._timer = None
        now = self._service.clock.now()
        while self._ended and self._operations[self._ended[0]].expires <= now:
            del self._operations[self._ended.popleft()]
        self._set_timer()


class OperationService(Service, Generic[T]):
    """A service whose operations others may ask after; see the module's docstring."""

    _table: Operations[T] | None = None

    @property
    def operations(self) -> Operations[T]:
        """This service's operations. Set it in ``__init__`` to give it limits of its own."""
        if self._table is None:
            self._table = Operations(self)
        return self._table

    @operations.setter
    def operations(self, operations: Operations[T]) -> None:
        self._table = operations

    @rpc
    async def operation_status(self, id: str) -> OperationStatus[T]:
        """`Operations.status`."""
        return self.operations.status(id)

    @rpc
    async def operation_result(self, id: str, timeout: float = RESULT_SECONDS) -> T:
        """`Operations.result`."""
        return await self.operations.result(id, timeout=timeout)

    @rpc
    async def operation_cancel(self, id: str) -> bool:
        """`Operations.cancel`."""
        return self.operations.cancel(id)
