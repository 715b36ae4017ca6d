"""Where sagas are remembered: the record, the interface of a store, and a store in memory for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from skyloom.message.errors import CallError, SkyloomError, error_from_values
from skyloom.message.value import copied

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORDS_MAX: Final = 10_000
"""Records that a `MemorySagaStore` holds; for a new one it forgets the oldest that has ended."""

S = TypeVar("S")


class SagaConflict(SkyloomError, RuntimeError):
    """The record is not what this saga left behind: somebody else runs it too, or the steps have changed."""


class SagaStatus(StrEnum):
    """Where a saga is."""

    RUNNING = "running"
    UNDOING = "undoing"
    DONE = "done"
    UNDONE = "undone"

    @property
    def ended(self) -> bool:
        return self in (SagaStatus.DONE, SagaStatus.UNDONE)


@dataclass(frozen=True, slots=True)
class SagaRecord(Generic[S]):
    """What is remembered of one saga; a value, so it may be sent and published.

    `done` names the steps that have taken effect, or may have, in order; undoing takes them off its end. `error` is
    why it is undone, as values (see `failure`). `tries` counts the failed tries of the undo under way, for observers;
    a store need not keep it. `version` grows by 1 with every save.
    """

    saga: str
    id: str
    state: S
    status: SagaStatus = SagaStatus.RUNNING
    done: tuple[str, ...] = ()
    error: tuple[object, ...] | None = None
    tries: int = 0
    version: int = 0

    @property
    def failure(self) -> CallError | None:
        """The error that made it undo."""
        return None if self.error is None else error_from_values(self.error)


class SagaStore(Protocol[S]):
    """Keeps `SagaRecord`s, each by its (saga, id). A write that returned outlives a crash.

    On SQL: ``insert ... on conflict do nothing``, ``update ... where version = ?`` and an index on (saga, status). The
    state travels as bytes by ``skyloom.message.value.pack((state,))``, the error likewise.
    """

    async def create(self, record: SagaRecord[S]) -> bool:
        """Keep a new record; False, and nothing kept, when there is one of that saga and id."""

    async def load(self, saga: str, id: str) -> SagaRecord[S] | None:
        """The record as it was saved last."""

    async def save(self, record: SagaRecord[S]) -> None:
        """Replace the record of version ``record.version - 1``. Raises SagaConflict when there is none."""

    async def unfinished(self, saga: str, limit: int) -> Sequence[SagaRecord[S]]:
        """The records of that saga which are RUNNING or UNDOING, the oldest first, at most `limit`."""


class MemorySagaStore(Generic[S]):
    """A `SagaStore` that lives as long as the object, for tests and examples.

    Share one between two lives of a service and the second finds what the first left.
    """

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], SagaRecord[S]] = {}

    async def create(self, record: SagaRecord[S]) -> bool:
        if (record.saga, record.id) in self._records:
            return False
        if len(self._records) >= RECORDS_MAX:
            for key, old in self._records.items():
                if old.status.ended:
                    del self._records[key]
                    break
            else:
                raise RuntimeError(f"a MemorySagaStore holds {RECORDS_MAX} records, and all of these are unfinished")
        self._records[record.saga, record.id] = _own(record)
        return True

    async def load(self, saga: str, id: str) -> SagaRecord[S] | None:
        record = self._records.get((saga, id))
        return None if record is None else _own(record)

    async def save(self, record: SagaRecord[S]) -> None:
        key = (record.saga, record.id)
        found = self._records.get(key)
        if found is None or found.version != record.version - 1:
            raise SagaConflict(f"saga {record.saga!r} {record.id!r}: version {record.version - 1} is not in the store")
        self._records[key] = _own(record)

    async def unfinished(self, saga: str, limit: int) -> list[SagaRecord[S]]:
        found = [r for (name, _), r in self._records.items() if name == saga and not r.status.ended]
        return [_own(record) for record in found[:limit]]


def _own(record: SagaRecord[S]) -> SagaRecord[S]:
    return replace(record, state=copied(record.state))
