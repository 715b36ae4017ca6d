r"""The stock, in SQL: each function is one transaction's work for many orders, with an answer for each.

            hold              confirm
    (none) ------> held -------------------> sold
       |            |  \--(until passed)--> expired      available  held  sold     always: available + held + sold
       | release    | release                  | release     -n      +n                    = stocked, none below 0
       '--------> released <-------------------'                     -n    +n

An order's row is its record of what was done for it, in the same transaction as the stock itself. It is also its
tombstone: `release` before `hold` leaves one, so that a hold which comes late is refused; so does a refusal, so that
it is the same when it is asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from skyloom import Failed
from skyloom_shop.catalogue import DEMO, Ware
from skyloom_shop.crash_points import reach
from skyloom_shop.errors import HoldLost, OutOfStock
from skyloom_shop.order_state import Lines
from skyloom_shop.schema import holds, items, restocks

EXPIRED_AT_ONCE_MAX: Final = 500
"""Holds that expire in one transaction."""

_ITEMS = select(items).order_by(items.c.position, items.c.sku)
_AVAILABLE = select(items.c.sku, items.c.available).where(items.c.sku.in_(bindparam("skus", expanding=True)))
_HOLDS = select(holds).where(holds.c.key.in_(bindparam("keys", expanding=True)))
_EXPIRED = (
    select(holds)
    .where(holds.c.state == "held", holds.c.until_seconds <= bindparam("now"))
    .order_by(holds.c.until_seconds)
    .limit(EXPIRED_AT_ONCE_MAX)
)
_SET_STATE = update(holds).where(holds.c.key == bindparam("of")).values(state=bindparam("becomes"))
_MOVE = (
    update(items)
    .where(items.c.sku == bindparam("of"))
    .values(
        available=items.c.available + bindparam("more_available"),
        held=items.c.held + bindparam("more_held"),
        sold=items.c.sold + bindparam("more_sold"),
    )
)
_RESTOCK = (
    update(items)
    .where(items.c.sku == bindparam("of"))
    .values(stocked=items.c.stocked + bindparam("more"), available=items.c.available + bindparam("more"))
)


@dataclass(frozen=True, slots=True)
class Hold:
    """A wish to keep `lines` for the order `key` until that time, in seconds since 1970."""

    key: str
    lines: Lines
    until: float


@dataclass(frozen=True, slots=True)
class Restock:
    """`quantity` more pieces of an item; `key` makes it happen once. `at` is in seconds since 1970."""

    key: str
    sku: str
    quantity: int
    at: float


class _Moves:
    """What a transaction does to the items, summed up."""

    def __init__(self) -> None:
        self.available: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.sold: Counter[str] = Counter()

    def write(self, connection: Connection) -> None:
        skus = sorted({*self.available, *self.held, *self.sold})
        rows = [
            {
                "of": sku,
                "more_available": self.available[sku],
                "more_held": self.held[sku],
                "more_sold": self.sold[sku],
            }
            for sku in skus
        ]
        if rows:
            connection.execute(_MOVE, rows)


def read_items(connection: Connection) -> Sequence[Row[Any]]:
    """All items, in the catalogue's order."""
    return connection.execute(_ITEMS).all()


def hold(connection: Connection, wishes: Sequence[Hold]) -> list[Failed | None]:
    """Hold the stock of each order, all its lines or none: None, or why not (OutOfStock, HoldLost)."""
    known = _known(connection, (wish.key for wish in wishes))
    skus = {sku for wish in wishes for sku, _ in wish.lines}
    left = {row.sku: row.available for row in connection.execute(_AVAILABLE, {"skus": sorted(skus)})}
    moves = _Moves()
    new: dict[str, dict[str, Any]] = {}
    answers: list[Failed | None] = []
    for wish in wishes:
        before = known.get(wish.key) or new.get(wish.key)
        if before is not None:
            answers.append(_of_state(before))
            continue
        missing = [sku for sku, quantity in wish.lines if left.get(sku, 0) < quantity]
        if not missing:
            for sku, quantity in wish.lines:
                left[sku] -= quantity
                moves.available[sku] -= quantity
                moves.held[sku] += quantity
        row = {
            "key": wish.key,
            "state": "refused" if missing else "held",
            "lines": [list(line) for line in wish.lines],
            "missing": missing,
            "until_seconds": wish.until,
        }
        new[wish.key] = row
        answers.append(_of_state(row))
    if new:
        connection.execute(insert(holds), list(new.values()))
    moves.write(connection)
    reach("stock.in_hold")
    return answers


def confirm(connection: Connection, keys: Sequence[str]) -> list[Failed | None]:
    """What is held for each order becomes sold: None, or HoldLost."""
    known = _known(connection, keys)
    moves = _Moves()
    changes: list[dict[str, str]] = []
    answers: list[Failed | None] = []
    for key in keys:
        row = known.get(key)
        if row is None or row["state"] not in ("held", "sold"):
            answers.append(HoldLost("nothing is held for this order any more"))
            continue
        if row["state"] == "held":
            _change(row, "sold", moves, changes)
        answers.append(None)
    if changes:
        connection.execute(_SET_STATE, changes)
    moves.write(connection)
    reach("stock.in_confirm")
    return answers


def release(connection: Connection, keys: Sequence[str]) -> list[None]:
    """What was held for each order, or sold to it, is available again, and nothing can be held for it any more."""
    known = _known(connection, keys)
    moves = _Moves()
    changes: list[dict[str, str]] = []
    tombstones: dict[str, dict[str, Any]] = {}
    for key in keys:
        row = known.get(key)
        if row is None:
            tombstones[key] = {"key": key, "state": "released", "lines": [], "missing": [], "until_seconds": 0.0}
        elif row["state"] in ("held", "sold"):
            _change(row, "released", moves, changes)
    if tombstones:
        connection.execute(insert(holds), list(tombstones.values()))
    if changes:
        connection.execute(_SET_STATE, changes)
    moves.write(connection)
    reach("stock.in_release")
    return [None] * len(keys)


def expire(connection: Connection, times: Sequence[float]) -> list[int]:
    """Release what is held for longer than it was to be, at the latest of `times`: how many orders that were."""
    rows = [dict(row._mapping) for row in connection.execute(_EXPIRED, {"now": max(times)})]
    moves = _Moves()
    changes: list[dict[str, str]] = []
    for row in rows:
        _change(row, "expired", moves, changes)
    if changes:
        connection.execute(_SET_STATE, changes)
    moves.write(connection)
    return [len(rows)] * len(times)


def restock(connection: Connection, wishes: Sequence[Restock]) -> list[bool]:
    """Put more pieces on the shelf, once for each key: whether this was the time. The item must be there."""
    keys = [wish.key for wish in wishes]
    done = set(connection.execute(select(restocks.c.key).where(restocks.c.key.in_(keys))).scalars())
    answers: list[bool] = []
    for wish in wishes:
        answers.append(wish.key not in done)
        if wish.key in done:
            continue
        done.add(wish.key)
        connection.execute(
            insert(restocks), {"key": wish.key, "sku": wish.sku, "quantity": wish.quantity, "at_seconds": wish.at}
        )
        connection.execute(_RESTOCK, {"of": wish.sku, "more": wish.quantity})
    return answers


def seed(connection: Connection, times: Sequence[float], wares: Sequence[Ware] = DEMO) -> list[int]:
    """Put the demo's items into the catalogue, those that are not there yet; how many. `times`: seconds since 1970."""
    there = set(connection.execute(select(items.c.sku)).scalars())
    new = [(position, ware) for position, ware in enumerate(wares) if ware.sku not in there]
    for position, ware in new:
        row = {"sku": ware.sku, "name": ware.name, "price": ware.price, "position": position}
        connection.execute(insert(items), row | {"stocked": 0, "available": 0, "held": 0, "sold": 0})
        restock(connection, [Restock(f"seed:{ware.sku}", ware.sku, ware.quantity, max(times))])
    return [len(new)] * len(times)


def _known(connection: Connection, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    rows = connection.execute(_HOLDS, {"keys": sorted(set(keys))})
    return {row.key: dict(row._mapping) for row in rows}


def _change(row: dict[str, Any], state: str, moves: _Moves, changes: list[dict[str, str]]) -> None:
    """Move the pieces of a row that is held or sold. The row is changed too, for a key that is there twice."""
    for sku, quantity in row["lines"]:
        (moves.held if row["state"] == "held" else moves.sold)[sku] -= quantity
        (moves.sold if state == "sold" else moves.available)[sku] += quantity
    row["state"] = state
    changes.append({"of": row["key"], "becomes": state})


def _of_state(row: dict[str, Any]) -> Failed | None:
    """The answer to a hold, by the row that there is."""
    if row["state"] in ("held", "sold"):
        return None
    if row["state"] == "refused":
        skus = list(row["missing"])
        return OutOfStock(f"not enough left of {', '.join(skus)[:200]}", details={"skus": skus})
    return HoldLost("what was held for this order has been given back")
