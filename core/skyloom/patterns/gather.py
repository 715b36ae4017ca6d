"""Ask many, and get one result: who answered what, who failed and how.

What to write::

    gathered = await gather(self, servers, "lua", "players_online", timeout=0.5)
    total = sum(gathered.answers.values())
    for server, error in gathered.errors.items():
        ...  # NotExecuted, Expired, ...: those that did not answer

    # typed, and with keys of your own
    gathered = await gather_calls(
        self,
        {"inventory": Inventory.at(self, inventory).check(items), "prices": Prices.at(self, prices).total(items)},
        timeout=0.5,
    )

All are asked at once, under one deadline. The result is there when the last has answered or the deadline has passed,
and then holds every answer that came. To act on each answer as it comes, use `Service.select`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from skyloom.node.cell import CALL_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from skyloom.message.address import Address
    from skyloom.message.errors import CallError
    from skyloom.service.service import Service

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gathered(Generic[K, T]):
    """What came of a gather: every source is in exactly one of `answers` and `errors`, in the order they came."""

    answers: dict[K, T] = field(default_factory=dict)
    errors: dict[K, CallError] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all have answered."""
        return not self.errors

    def all(self) -> dict[K, T]:
        """The answers, when all are needed. Raises the first error if there is one."""
        for error in self.errors.values():
            raise error
        return self.answers


async def gather(
    service: Service,
    sources: Iterable[Address],
    ptype: str | int,
    *args: object,
    timeout: float | None = None,
) -> Gathered[Address, Any]:
    """Make the same call to every one of `sources`, each once, and get answers and errors by source.

    `ptype` and `args` are those of `Service.call`; `timeout` is one deadline for all, in seconds, 5 unless told, and
    never more than what remains of the request being handled. Raises ValueError for over 10,000 sources
    (`SELECT_CALLS_MAX`), ValueRefused and LookupError as `Service.call` does, but no CallError: those are in the
    result.
    """
    calls = {source: service.call(source, ptype, *args, timeout=timeout) for source in dict.fromkeys(sources)}
    return await gather_calls(service, calls, timeout=timeout)


async def gather_calls(
    service: Service, calls: Mapping[K, Coroutine[Any, Any, T]], *, timeout: float | None = None
) -> Gathered[K, T]:
    """Make different calls at once, each under a key; arguments and result as in `gather`.

    Those that have no answer by the deadline are cancelled here; their callees run on.
    """
    gathered: Gathered[K, T] = Gathered()
    async for answer in service.select(calls, timeout=CALL_TIMEOUT_SECONDS if timeout is None else timeout):
        if answer.error is not None:
            gathered.errors[answer.key] = answer.error
        else:
            gathered.answers[answer.key] = answer.result()
    return gathered
