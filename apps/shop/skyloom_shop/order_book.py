"""All orders, in SQL: the records of their sagas, who drives each, and the outbox.

A row in `orders` is both what a client sees of an order and the record from which its saga goes on. Each change is
saved in one transaction with the message about it in `outbox`, so that neither can be without the other.

Several processes may share the database. An order is driven by one of them at a time: by the one that began it, until
it has not been heard of for `DRIVE_SECONDS`; then another may `claim` it. A save by one that lost it, or of a version
that is not the next, is a SagaConflict. Should both still act for a moment, the records of the other services (see
`stock` and `ledger`) make a step that comes twice harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from skyloom import Failed
from skyloom.patterns.saga_store import SagaConflict, SagaRecord, SagaStatus
from skyloom_shop.crash_points import reach
from skyloom_shop.errors import OrderMismatch, TooManyOrders, storable
from skyloom_shop.order_state import NEWS, STATES, STEPS, Order, OrderState
from skyloom_shop.schema import orders, outbox

SAGA: Final = "shop.order"

DRIVE_SECONDS: Final = 10.0
"""How long an order may stand still until another process takes it up."""

OPEN_ORDERS_MAX: Final = 256
"""Unfinished orders of one user."""

MESSAGES_OF_A_SAVE_MAX: Final = max(map(len, NEWS.values()))
"""Messages that are written with one version of an order."""

Record = SagaRecord[Order]

_UNFINISHED = orders.c.saga_status.in_([SagaStatus.RUNNING.value, SagaStatus.UNDOING.value])
_BY_KEY = select(orders).where(orders.c.key.in_(bindparam("keys", expanding=True)))
_VERSIONS = select(orders.c.key, orders.c.version, orders.c.state, orders.c.driver).where(
    orders.c.key.in_(bindparam("keys", expanding=True))
)
_OPEN = (
    select(orders.c.user_name, func.count())
    .where(_UNFINISHED, orders.c.user_name.in_(bindparam("users", expanding=True)))
    .group_by(orders.c.user_name)
)
_OF_USER = (
    select(orders)
    .where(orders.c.user_name == bindparam("user"))
    .order_by(orders.c.created_seconds.desc(), orders.c.key.desc())
    .limit(bindparam("count"))
)
_STANDING = (
    select(orders)
    .where(_UNFINISHED, orders.c.driven_until_seconds <= bindparam("now"))
    .order_by(orders.c.driven_until_seconds, orders.c.key)
    .limit(bindparam("count"))
)
_DRIVE = (
    update(orders)
    .where(orders.c.key == bindparam("of"))
    .values(driver=bindparam("by"), driven_until_seconds=bindparam("until"))
)
_RENEW = (
    update(orders)
    .where(orders.c.key.in_(bindparam("keys", expanding=True)), orders.c.driver == bindparam("by"), _UNFINISHED)
    .values(driven_until_seconds=bindparam("until"))
)
_SAVE = (
    update(orders)
    .where(orders.c.key == bindparam("of"))
    .values(
        state=bindparam("new_state"),
        saga_status=bindparam("new_status"),
        steps_done=bindparam("new_steps"),
        version=bindparam("new_version"),
        transaction_id=bindparam("transaction"),
        failure=bindparam("why", type_=orders.c.failure.type),
        changed_seconds=bindparam("now"),
        driven_until_seconds=bindparam("until"),
    )
)


class DrivenElsewhere(Exception):
    """Another process has this order in hand; it is not known yet how it ends."""


@dataclass(frozen=True, slots=True)
class Change:
    """A record to create or to save, by whom, and when in seconds since 1970."""

    record: Record
    driver: str
    at: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish to drive up to `count` orders that stand still."""

    driver: str
    at: float
    count: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """Word that these orders are still being driven."""

    keys: tuple[str, ...]
    driver: str
    at: float


def create(connection: Connection, changes: Sequence[Change]) -> list[bool | Failed | DrivenElsewhere]:
    """Write new orders: True; False for one that is there, with the same lines, and ended or ours to drive.

    Else why not: OrderMismatch, TooManyOrders, DrivenElsewhere.
    """
    known = {row.key: row for row in connection.execute(_BY_KEY, {"keys": _keys(changes)})}
    users = sorted({change.record.state.user for change in changes if change.record.id not in known})
    is_open: dict[str, int] = dict(map(tuple, connection.execute(_OPEN, {"users": users}))) if users else {}
    new: dict[str, dict[str, Any]] = {}
    taken: list[dict[str, Any]] = []
    answers: list[bool | Failed | DrivenElsewhere] = []
    for change in changes:
        order = change.record.state
        row = known.get(change.record.id)
        lines = new[order.key]["lines"] if order.key in new else None if row is None else row.lines
        if lines is not None and lines != _as_lists(order):
            answers.append(OrderMismatch("there is an order of this id with other items"))
        elif order.key in new:
            answers.append(DrivenElsewhere(order.key))
        elif row is None and is_open.get(order.user, 0) >= OPEN_ORDERS_MAX:
            answers.append(TooManyOrders(f"{OPEN_ORDERS_MAX} orders are not finished yet: wait for one"))
        elif row is None:
            is_open[order.user] = is_open.get(order.user, 0) + 1
            new[order.key] = _new_row(change)
            answers.append(True)
        elif SagaStatus(row.saga_status).ended:
            answers.append(False)
        elif row.driver == change.driver or row.driven_until_seconds <= change.at:
            taken.append({"of": order.key, "by": change.driver, "until": change.at + DRIVE_SECONDS})
            answers.append(False)
        else:
            answers.append(DrivenElsewhere(order.key))
    if new:
        connection.execute(insert(orders), list(new.values()))
    if taken:
        connection.execute(_DRIVE, taken)
    reach("order.in_create")
    return answers


def save(connection: Connection, changes: Sequence[Change]) -> list[None | SagaConflict]:
    """Write how far orders are, and the message about it; SagaConflict for one that somebody else has changed."""
    known = {
        row.key: (row.version, row.state, row.driver) for row in connection.execute(_VERSIONS, {"keys": _keys(changes)})
    }
    rows: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    answers: list[None | SagaConflict] = []
    for change in changes:
        record, order = change.record, change.record.state
        version, before, driver = known.get(record.id, (None, "", ""))
        state = STATES[record.status, len(record.done)]
        news = NEWS.get((before, state))
        if version != record.version - 1 or driver != change.driver or news is None:
            answers.append(SagaConflict(f"an order is not as it was left: it is {before}, version {version}"))
            continue
        known[record.id] = (record.version, state, driver)
        answers.append(None)
        rows.append(
            {
                "of": record.id,
                "new_state": state.value,
                "new_status": record.status.value,
                "new_steps": len(record.done),
                "new_version": record.version,
                "transaction": order.transaction_id or None,
                "why": None if record.error is None else storable(record.error),
                "now": change.at,
                "until": change.at + DRIVE_SECONDS,
            }
        )
        for number, status in enumerate(news):
            messages.append(
                {
                    "user_name": order.user,
                    "order_id": order.id,
                    "status": status,
                    "version": record.version * MESSAGES_OF_A_SAVE_MAX + number,
                    "at_seconds": change.at,
                }
            )
    if rows:
        connection.execute(_SAVE, rows)
    if messages:
        connection.execute(insert(outbox), messages)
    reach("order.in_save")
    return answers


def claim(connection: Connection, claims: Sequence[Claim]) -> list[list[Record]]:
    """Take over orders that stand still, those that do so longest first."""
    answers = []
    for wish in claims:
        rows = connection.execute(_STANDING, {"now": wish.at, "count": wish.count}).all()
        taken = [{"of": row.key, "by": wish.driver, "until": wish.at + DRIVE_SECONDS} for row in rows]
        if taken:
            connection.execute(_DRIVE, taken)
        answers.append([_record(row) for row in rows])
    return answers


def renew(connection: Connection, renewals: Sequence[Renewal]) -> list[None]:
    """Say of orders that they are still in hand."""
    for renewal in renewals:
        values = {"keys": list(renewal.keys), "by": renewal.driver, "until": renewal.at + DRIVE_SECONDS}
        connection.execute(_RENEW, values)
    return [None] * len(renewals)


def load(connection: Connection, key: str) -> Record | None:
    """The record of an order."""
    row = connection.execute(_BY_KEY, {"keys": [key]}).one_or_none()
    return None if row is None else _record(row)


def of_user(connection: Connection, user: str, count: int) -> list[Record]:
    """A user's orders, the newest first."""
    return [_record(row) for row in connection.execute(_OF_USER, {"user": user, "count": count})]


def state_of(record: Record) -> OrderState:
    """The state that a record stands for."""
    return STATES[record.status, len(record.done)]


def _keys(changes: Sequence[Change]) -> list[str]:
    return sorted({change.record.id for change in changes})


def _as_lists(order: Order) -> list[list[object]]:
    """The lines as JSON has them."""
    return [list(line) for line in order.lines]


def _new_row(change: Change) -> dict[str, Any]:
    record, order = change.record, change.record.state
    return {
        "key": record.id,
        "user_name": order.user,
        "order_id": order.id,
        "state": STATES[record.status, 0].value,
        "saga_status": record.status.value,
        "steps_done": 0,
        "version": record.version,
        "lines": _as_lists(order),
        "total": order.total,
        "transaction_id": None,
        "failure": None,
        "created_seconds": change.at,
        "changed_seconds": change.at,
        "driver": change.driver,
        "driven_until_seconds": change.at + DRIVE_SECONDS,
    }


def _record(row: Row[Any]) -> Record:
    lines = tuple((sku, quantity) for sku, quantity in row.lines)
    return SagaRecord(
        saga=SAGA,
        id=row.key,
        state=Order(row.user_name, row.order_id, lines, row.total, row.transaction_id or ""),
        status=SagaStatus(row.saga_status),
        done=STEPS[: row.steps_done],
        error=None if row.failure is None else tuple(row.failure),
        version=row.version,
    )
