"""The messages about orders that were written with them, in SQL: read by every process's relay, then forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, select

from skyloom_shop.schema import outbox

READ_MAX: Final = 500
"""Messages that are read at once."""

_AFTER = select(outbox).where(outbox.c.id > bindparam("last")).order_by(outbox.c.id).limit(READ_MAX)
_SINCE = select(func.min(outbox.c.id)).where(outbox.c.at_seconds >= bindparam("since"))
_LAST = select(func.max(outbox.c.id))
_FORGET = delete(outbox).where(outbox.c.at_seconds < bindparam("before"))


@dataclass(frozen=True, slots=True)
class Update:
    """Word that an order has a new status; `version` grows with each of an order."""

    user: str
    order_id: str
    status: str
    version: int


def after(connection: Connection, last: int) -> tuple[int, list[Update]]:
    """The messages after the one of that number, in the order written, and the number of the last of them."""
    rows = connection.execute(_AFTER, {"last": last}).all()
    found = [Update(row.user_name, row.order_id, row.status, row.version) for row in rows]
    return (rows[-1].id if rows else last), found


def position(connection: Connection, since: float) -> int:
    """The number after which the messages were written that are not older than that time."""
    first = connection.execute(_SINCE, {"since": since}).scalar()
    last = connection.execute(_LAST).scalar()
    return int(first) - 1 if first is not None else int(last or 0)


def forget(connection: Connection, times: Sequence[float]) -> list[None]:
    """Delete the messages that are older than these times."""
    connection.execute(_FORGET, {"before": min(times)})
    return [None] * len(times)
