"""Several steps that all take effect, or none: each step has an undo, and a store remembers how far it came.

What to write::

    class Orders(Service):
        async def on_start(self) -> None:
            steps = [
                Step("hold", self.hold, undo=self.release),
                Step("charge", self.charge, undo=self.refund),
                Step("record", self.record),
            ]
            self.orders = Saga(self, "shop.order", steps, store)
            await self.orders.resume()  # what a crash left half done

        @rpc
        async def order(self, order: Order) -> Order:
            return await self.orders.run(order.id, order)

        async def hold(self, order: Order) -> Order: ...  # takes the state, returns the new one
        async def release(self, order: Order) -> None: ...

What happens::

    RUNNING   step 1 -> step 2 -> ... -> DONE                 `run` returns the last state
                 | raises
    UNDOING   undo 1 <- undo 2 ...    -> UNDONE               `run` raises, and nothing has remained

The rules. Steps run in order, the undos in reverse order. A step that raises `NotExecuted`, or a `Failed` with a code
of its own, has done nothing; with anything else (a lost peer, a deadline, a bug) it may have done its work, so its own
undo runs too. So it does after a refusal of a step that is repeated after a crash: the first time it may have run. An
undo that fails is tried again, for ever, with growing pauses. Every change is saved before the saga goes on; a
step without effect, `Step("paid")`, is a mark in the record, saved together with the step before it. After a
crash `resume` repeats what was under way: so **steps and undos must be idempotent** (give the saga's id along, and do
nothing the second time), and an undo must bear that its step did nothing.

The id is the key: running a saga again that runs joins it, and one that has ended gives the same end again. A saga
belongs to its service, not to the request: it goes on when the caller is gone, and has no deadline but the steps' own.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import structlog

from skyloom.message.errors import CallError, Expired, Failed, NotExecuted, error_to_values
from skyloom.message.value import copied
from skyloom.patterns.saga_store import SagaConflict, SagaRecord, SagaStatus, SagaStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from skyloom.service.service import Service

STEP_SECONDS: Final = 30.0
"""How long a step or an undo may take unless its `Step` says otherwise."""

RUNNING_MAX: Final = 1_000
"""Sagas that one `Saga` runs at once."""

PAUSE_SECONDS: Final = 0.1
"""About the first pause after an undo, or a save, that failed; each next one is twice as long."""

PAUSE_MAX_SECONDS: Final = 60.0
"""The longest of these pauses."""

S = TypeVar("S")

log = structlog.get_logger("skyloom.saga")


class SagaUndone(Failed, code="skyloom.saga_undone", kind="aborted"):
    """The saga failed and every step is undone. The details say in which `saga` and `id`, and the `cause`'s code."""


class TooManySagas(Failed, code="skyloom.too_many_sagas", kind="resource_exhausted", retryable=True):
    """As many sagas are running as there may be; nothing was begun."""


class Step(Generic[S]):
    """One step: ``await do(state)`` returns the new state, ``await undo(state)`` takes its effect back.

    A step without `undo` has no effect that must be taken back, and one without `do` none at all: it is a mark.
    `timeout` is in seconds, for either.
    """

    __slots__ = ("do", "name", "timeout", "undo")

    def __init__(
        self,
        name: str,
        do: Callable[[S], Coroutine[Any, Any, S]] | None = None,
        undo: Callable[[S], Coroutine[Any, Any, object]] | None = None,
        *,
        timeout: float = STEP_SECONDS,
    ) -> None:
        self.name = name
        self.do = do
        self.undo = undo
        self.timeout = timeout


class Saga(Generic[S]):
    """Runs the steps for one id after the other; see the module's docstring.

    `name` marks its records in the store, and only one service at a time may run the sagas of a name. The state is any
    value (`skyloom.message.value`); every step gets a copy. ``on_progress(record)`` is called with every record that
    was saved, and with each failed try of an undo (`SagaRecord.tries`); a topic's ``publish`` will do.
    """

    def __init__(
        self,
        service: Service,
        name: str,
        steps: Sequence[Step[S]],
        store: SagaStore[S],
        *,
        on_progress: Callable[[SagaRecord[S]], object] | None = None,
        running_max: int = RUNNING_MAX,
        pause: float = PAUSE_SECONDS,
        pause_max: float = PAUSE_MAX_SECONDS,
    ) -> None:
        self.name = name
        self._steps = {step.name: step for step in steps}
        if not steps or len(self._steps) != len(steps):
            raise ValueError(f"saga {name!r}: it needs steps, and each its own name")
        self._names = tuple(self._steps)
        self._service = service
        self._store = store
        self._on_progress = on_progress
        self._running_max = running_max
        self._pause = pause
        self._pause_max = pause_max
        self._running: dict[str, asyncio.Task[SagaRecord[S] | Exception]] = {}

    @property
    def running(self) -> list[str]:
        """The ids of those under way here."""
        return list(self._running)

    async def run(self, id: str, state: S) -> S:
        """Run the saga of this id to its end, from `state` if it is a new one; returns the state of the last step.

        Raises the step's own error when it was a `Failed` with a code of its own, else SagaUndone; in both cases all
        is undone by then. Raises TooManySagas, and what the store raises on a new record. Cancelling who waits here
        does not end the saga.
        """
        task = self._running.get(id)
        if task is None:
            if len(self._running) >= self._running_max:
                raise TooManySagas(f"{self._running_max} sagas {self.name!r} are running")
            task = self._start(SagaRecord(self.name, id, copied(state)), again=False)
        record = await asyncio.shield(task)
        if isinstance(record, Exception):
            raise record
        if record.status is SagaStatus.DONE:
            final: S = copied(record.state)
            return final
        raise self._undone(record)

    async def resume(self) -> int:
        """Take up what the store has unfinished, the oldest first; returns how many. They go on by themselves.

        No more than may run at once; so where there may be more, call it again now and then.
        """
        records = await self._store.unfinished(self.name, self._running_max)
        waiting = [record for record in records if record.id not in self._running]
        taken = waiting[: max(0, self._running_max - len(self._running))]
        for record in taken:
            self._start(record, again=True)
        return len(taken)

    async def status(self, id: str) -> SagaRecord[S] | None:
        """How far the saga of this id came, by the store; None if there is none."""
        return await self._store.load(self.name, id)

    def _start(self, record: SagaRecord[S], *, again: bool) -> asyncio.Task[Any]:
        task = self._running[record.id] = self._service.fork(self._to_its_end(record, again=again))
        task.add_done_callback(lambda _: self._running.pop(record.id))
        return task

    async def _to_its_end(self, record: SagaRecord[S], *, again: bool) -> SagaRecord[S] | Exception:
        try:
            return await (self._drive(record, again=True) if again else self._begin(record))
        except SagaConflict as conflict:  # whoever has the record now goes on with it: nothing has failed here
            log.warning("saga left to whoever has it now", saga=self.name, id=record.id, reason=str(conflict))
            return conflict

    async def _begin(self, record: SagaRecord[S]) -> SagaRecord[S] | Exception:
        try:
            is_new = await self._store.create(record)
        except Exception as error:  # noqa: BLE001  # told to who waits: the store may refuse, and that is no fault here
            return error
        if is_new:
            self._tell(record)
            return await self._drive(record)
        found = await self._store.load(self.name, record.id)
        if found is None:
            raise SagaConflict(f"saga {self.name!r} {record.id!r}: its record was there and is gone")
        return await self._drive(found, again=True)

    async def _drive(self, record: SagaRecord[S], *, again: bool = False) -> SagaRecord[S]:
        """From wherever it is to the end; `again` after a crash, in which the first step may have run already."""
        names = self._names
        unknown = [name for name in record.done if name not in self._steps]
        if unknown or (record.status is SagaStatus.RUNNING and tuple(record.done) != names[: len(record.done)]):
            raise SagaConflict(
                f"saga {self.name!r} {record.id!r}: it has done {record.done}, but the steps are {names} now; "
                "keep the steps that old records name"
            )
        while record.status is SagaStatus.RUNNING:
            record = await self._step(record, self._steps[names[len(record.done)]], again)
            again = False
        while record.status is SagaStatus.UNDOING:
            record = await self._undo(record, self._steps[record.done[-1]])
        return record

    async def _step(self, record: SagaRecord[S], step: Step[S], again: bool) -> SagaRecord[S]:
        state = record.state
        try:
            if step.do is not None:
                async with asyncio.timeout(step.timeout):
                    # Copies, so that a step which fails or keeps its state cannot change the record.
                    made = await step.do(copied(state))
                    if made is not state:  # else it is immutable: its copy was the state itself
                        state = copied(made)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # kept in the record, whatever it is
            fault = self._fault(record, step, error)
            done = record.done if _did_nothing(error) and not again else (*record.done, step.name)
            status = SagaStatus.UNDOING if done else SagaStatus.UNDONE
            return await self._save(record, status, done, record.state, error_to_values(fault))
        count = len(record.done) + 1
        while count < len(self._names) and self._steps[self._names[count]].do is None:
            count += 1
        status = SagaStatus.DONE if count == len(self._names) else SagaStatus.RUNNING
        return await self._save(record, status, self._names[:count], state)

    async def _undo(self, record: SagaRecord[S], step: Step[S]) -> SagaRecord[S]:
        try:
            if step.undo is not None:
                async with asyncio.timeout(step.timeout):
                    await step.undo(copied(record.state))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # logged, and tried again
            fault = self._fault(record, step, error)
            record = replace(record, tries=record.tries + 1)
            log.warning(
                "undo failed, to be tried again", saga=self.name, id=record.id, step=step.name, error=str(fault)
            )
            self._tell(record)
            await self._service.sleep(self._delay(record.tries))
            return record
        done = record.done[:-1]
        status = SagaStatus.UNDOING if done else SagaStatus.UNDONE
        return await self._save(record, status, done, record.state, record.error)

    async def _save(
        self,
        record: SagaRecord[S],
        status: SagaStatus,
        done: tuple[str, ...],
        state: S,
        error: tuple[object, ...] | None = None,
    ) -> SagaRecord[S]:
        """Save the next version, however often it takes: what it says has happened. Raises SagaConflict."""
        # Not `replace`: that costs several times as much.
        record = SagaRecord(record.saga, record.id, state, status, done, error, version=record.version + 1)
        tries = 0
        while True:
            try:
                # A save that failed may have been one whose confirmation was lost.
                if tries == 0 or not await self._is_saved(record):
                    await self._store.save(record)
                break
            except SagaConflict:
                raise
            except Exception as error:
                tries += 1
                log.error("saga not saved, to be tried again", saga=self.name, id=record.id, exc_info=error)
                await self._service.sleep(self._delay(tries))
        self._tell(record)
        return record

    async def _is_saved(self, record: SagaRecord[S]) -> bool:
        found = await self._store.load(self.name, record.id)
        saved = found is not None and (found.version, found.status, found.done)
        return saved == (record.version, record.status, record.done)

    def _tell(self, record: SagaRecord[S]) -> None:
        if self._on_progress is None:
            return
        try:
            self._on_progress(record)
        except Exception as error:  # an observer's fault is not the saga's
            log.error("a saga's on_progress failed", saga=self.name, id=record.id, exc_info=error)

    def _delay(self, tries: int) -> float:
        longest = min(self._pause_max, self._pause * 2.0 ** min(tries - 1, 64))
        return longest * (0.5 + self._service.random.random() / 2)

    def _fault(self, record: SagaRecord[S], step: Step[S], error: BaseException) -> CallError:
        """The error as it can be kept. Raises it again if it is the end of this service."""
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise error
        if isinstance(error, TimeoutError) and not isinstance(error, CallError):
            return Expired(f"{step.name} timed out (a step has {step.timeout} s)")
        if isinstance(error, CallError):
            return error
        log.error("a saga's step failed", saga=self.name, id=record.id, step=step.name, exc_info=error)
        return Failed(f"{type(error).__name__}: {error}", code="skyloom.internal")

    def _undone(self, record: SagaRecord[S]) -> Failed:
        failure = record.failure
        if isinstance(failure, Failed) and not failure.code.startswith("skyloom."):
            return failure
        message, code = ("", "") if failure is None else (failure.message, failure.code)
        return SagaUndone(
            f"saga {self.name!r} {record.id!r} is undone: {message}",
            details={"saga": self.name, "id": record.id, "cause": code},
        )


def _did_nothing(error: BaseException) -> bool:
    """Whether a step that raised this has surely had no effect: it was not begun, or it refused in its own words.

    A `Failed` with one of the runtime's codes is a handler that broke off somewhere.
    """
    return isinstance(error, NotExecuted) or (isinstance(error, Failed) and not error.code.startswith("skyloom."))
