"""What changed from one contract to the next, and which of it breaks clients that know only the old one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skyloom_gateway.contract.contract import ContractError
from skyloom_gateway.contract.subset import Subset, TooInvolved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from skyloom_gateway.contract.contract import Contract, ErrorCode, Operation
    from skyloom_gateway.contract.subset import Gap

_KINDS = {"request": "a request", "notify": "a notify", "push": "a push"}


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One thing that is not as it was.

    Args:
        route: where; "gateway" for what concerns every route.
        text: what, in words.
        breaks: whether a client made for the old contract may fail.
    """

    route: str
    text: str
    breaks: bool

    def __str__(self) -> str:
        return f"{self.route}: {self.text}"


def compare(old: Contract, new: Contract) -> list[Change]:
    """All changes, by route.

    A body may come to allow more and an answer or a push to say more, never less. A code that a route no longer answers
    with breaks who waits for it; a new one does not, since clients go by the kind of a code that they do not know.

    Raises:
        ContractError: the schemas are too involved to compare.
    """
    try:
        return sorted(_Comparison(old, new).changes())
    except (TooInvolved, RecursionError) as error:
        raise ContractError(f"the contracts cannot be compared: {error}") from error


class _Comparison:
    def __init__(self, old: Contract, new: Contract) -> None:
        self._old, self._new = old, new
        self._sent_by_clients = Subset(old.schemas, new.schemas, taken_is_new=True)
        self._sent_by_server = Subset(new.schemas, old.schemas, taken_is_new=False)

    def changes(self) -> Iterator[Change]:
        old, new = self._old, self._new
        yield from _present(old.routes, new.routes)
        yield from _present(old.pushes, new.pushes)
        for route in old.routes.keys() & new.routes.keys():
            yield from self._route(old.routes[route], new.routes[route])
        for route in old.pushes.keys() & new.pushes.keys():
            yield from self._told(route, "push", old.pushes[route].body, new.pushes[route].body)
        yield from _errors("gateway", old.gateway_errors, new.gateway_errors)

    def _route(self, old: Operation, new: Operation) -> Iterator[Change]:
        if old.kind != new.kind:
            yield Change(old.route, f"was {_KINDS[old.kind]}, is {_KINDS[new.kind]}", breaks=True)
            return
        lost = self._sent_by_clients.gaps(old.body, new.body, "body")
        won = self._sent_by_server.gaps(new.body, old.body, "body")
        yield from _changes(old.route, lost, won)
        if old.answer is not None and new.answer is not None:
            yield from self._told(old.route, "answer", old.answer, new.answer)
        yield from _errors(old.route, old.errors, new.errors)

    def _told(self, route: str, what: str, old: object, new: object) -> Iterator[Change]:
        """Changes to what the server sends."""
        lost = self._sent_by_server.gaps(new, old, what)
        won = self._sent_by_clients.gaps(old, new, what)
        yield from _changes(route, lost, won)


def _changes(route: str, lost: list[Gap], won: list[Gap]) -> Iterator[Change]:
    breaking = {str(gap) for gap in lost if not gap.is_harmless}
    for text in breaking:
        yield Change(route, text, breaks=True)
    for text in {str(gap) for gap in (*lost, *won)} - breaking:
        yield Change(route, text, breaks=False)


def _present(old: Mapping[str, Operation], new: Mapping[str, Operation]) -> Iterator[Change]:
    for route in old.keys() - new.keys():
        yield Change(route, f"was {_KINDS[old[route].kind]}, is gone", breaks=True)
    for route in new.keys() - old.keys():
        yield Change(route, f"is {_KINDS[new[route].kind]}, was not there", breaks=False)


def _errors(route: str, old: Mapping[str, ErrorCode], new: Mapping[str, ErrorCode]) -> Iterator[Change]:
    for code in old.keys() - new.keys():
        yield Change(route, f"error {code} is gone", breaks=True)
    for code in new.keys() - old.keys():
        yield Change(route, f"error {code} ({new[code].kind}) is new", breaks=False)
    for code in old.keys() & new.keys():
        was, now = old[code], new[code]
        if was.kind != now.kind:
            yield Change(route, f"error {code}: was {was.kind}, is {now.kind}", breaks=True)
        if was.retryable != now.retryable:
            words = "may help" if now.retryable else "does not help"
            yield Change(route, f"error {code}: trying again {words} now", breaks=False)
