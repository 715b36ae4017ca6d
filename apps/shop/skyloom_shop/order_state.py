"""The states of an order, as tables, and the order itself.

    new -> reserved -> charging -> paid -> confirmed -> done
     |        |           |   |      |        |
     |        |           |   +------+--------+---> refunding --.
     |        '-----------+-----------------------> releasing <-'
     |                                                  |
     '--------------------------------------------> failed

Going right, each state is written before the next thing happens: "reserved" says that the stock is held, "charging"
that the charge may have been made. Two of them between which nothing happens are written as one, and told as two:
"reserved" with "charging", "confirmed" with "done". Going down, each is written before something is taken back.

`STATES` says which of them a saga's record stands for, `NEWS` which changes there may be and what clients hear of each,
and `STATUS` what clients are told of an order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from skyloom.patterns.saga_store import SagaStatus

Lines = tuple[tuple[str, int], ...]
"""What is ordered: (sku, quantity), each sku once, sorted by sku."""

STEPS: Final = ("reserve", "intend", "charge", "confirm", "record")
"""The steps of the saga, in order. Old records name them by number: add new ones at the end, and remove none."""


class OrderState(StrEnum):
    """Where an order is."""

    NEW = "new"
    RESERVED = "reserved"
    CHARGING = "charging"
    PAID = "paid"
    CONFIRMED = "confirmed"
    DONE = "done"
    RELEASING = "releasing"
    REFUNDING = "refunding"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether it stays as it is."""
        return self in (OrderState.DONE, OrderState.FAILED)


_RUNNING = (OrderState.NEW, OrderState.RESERVED, OrderState.CHARGING, OrderState.PAID, OrderState.CONFIRMED)
_UNDOING = (
    OrderState.FAILED,
    OrderState.RELEASING,
    OrderState.RELEASING,
    OrderState.REFUNDING,
    OrderState.REFUNDING,
    OrderState.REFUNDING,
)

STATES: Final[dict[tuple[SagaStatus, int], OrderState]] = {
    **{(SagaStatus.RUNNING, done): state for done, state in enumerate(_RUNNING)},
    **{(SagaStatus.UNDOING, done): state for done, state in enumerate(_UNDOING) if done},
    (SagaStatus.DONE, len(STEPS)): OrderState.DONE,
    (SagaStatus.UNDONE, 0): OrderState.FAILED,
}
"""The state of an order whose saga has that status and so many steps done."""

_CHANGES: Final[dict[OrderState, frozenset[OrderState]]] = {
    OrderState.NEW: frozenset({OrderState.RESERVED, OrderState.CHARGING, OrderState.RELEASING, OrderState.FAILED}),
    OrderState.RESERVED: frozenset({OrderState.CHARGING, OrderState.RELEASING}),
    OrderState.CHARGING: frozenset({OrderState.PAID, OrderState.REFUNDING, OrderState.RELEASING}),
    OrderState.PAID: frozenset({OrderState.CONFIRMED, OrderState.DONE, OrderState.REFUNDING}),
    OrderState.CONFIRMED: frozenset({OrderState.DONE, OrderState.REFUNDING}),
    OrderState.DONE: frozenset(),
    OrderState.REFUNDING: frozenset({OrderState.REFUNDING, OrderState.RELEASING}),
    OrderState.RELEASING: frozenset({OrderState.RELEASING, OrderState.FAILED}),
    OrderState.FAILED: frozenset(),
}
"""Which state may be written after which."""

STATUS: Final[dict[OrderState, str]] = {
    **{state: state.value for state in OrderState},
    # To a client an order is confirmed when nothing can take it back any more.
    OrderState.CONFIRMED: "paid",
    OrderState.DONE: "confirmed",
}
"""What clients are told of an order."""


def _news(before: OrderState, after: OrderState) -> tuple[str, ...]:
    road = [*_RUNNING, OrderState.DONE]
    passed = road[road.index(before) + 1 : road.index(after) + 1] if after in road else [after]
    told = [STATUS[before], *(STATUS[state] for state in passed)]
    return tuple(status for last, status in pairwise(told) if status != last)


NEWS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    (before, after): _news(before, after) for before, afters in _CHANGES.items() for after in afters
}
"""Which changes of an order's state there may be, and the statuses that clients hear of then."""


@dataclass(frozen=True, slots=True)
class Order:
    """The state of the saga. `total` is in minor units; `transaction_id` is empty until it is paid."""

    user: str
    id: str
    lines: Lines
    total: int
    transaction_id: str = ""

    @property
    def key(self) -> str:
        """Its name everywhere behind the agents: see `order_key`."""
        return order_key(self.user, self.id)


def order_key(user: str, order_id: str) -> str:
    """One name for an order of a user, so that two users may choose the same id.

    With the length in front no user and id can be taken for another's.
    """
    return f"{len(user)}:{user}:{order_id}"


def order_lines(items: Iterable[tuple[str, int]]) -> Lines:
    """The lines in the one form in which orders are compared: sorted, and each sku once, with all its pieces."""
    pieces: Counter[str] = Counter()
    for sku, quantity in items:
        pieces[sku] += quantity
    return tuple(sorted(pieces.items()))
