"""The chat's SQL: the same for SQLite and PostgreSQL but where it says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, ScalarSelect, bindparam, delete, func, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite

from skyloom_chat.schema import messages, rooms


def _newest_hidden(room: str) -> ScalarSelect[Any]:
    """The newest id beyond the `kept` messages of a room; NULL when there are not so many."""
    other = messages.alias()
    query = select(other.c.id).where(other.c.room == bindparam(room)).order_by(other.c.id.desc())
    return query.limit(1).offset(bindparam("kept")).scalar_subquery()


ROOMS = select(rooms.c.name)

LAST = (
    select(messages)
    .where(messages.c.room == bindparam("room"))
    .order_by(messages.c.id.desc())
    .limit(bindparam("count"))
)
"""Parameters: room, count. Newest first."""

# Rooms are trimmed late, so pages leave out what is due to go.
BEFORE = LAST.where(messages.c.id < bindparam("before"), messages.c.id > func.coalesce(_newest_hidden("room"), 0))
"""Parameters: room, before, count, kept. Newest first."""

TRIM = delete(messages).where(messages.c.room == bindparam("trimmed"), messages.c.id <= _newest_hidden("trimmed"))
"""Parameters: trimmed (a room), kept."""

_SQLITE_LAST_ID = text("SELECT seq FROM sqlite_sequence WHERE name = 'chat_messages'")


def insert_rooms(connection: Connection, names: Sequence[str]) -> list[bool]:
    """Make rooms; for each name whether it is new. Of a name that is there twice the first one is."""
    if not names:
        return []
    # Sorted, so that two processes take the rows' locks in one order.
    rows = [{"name": name} for name in sorted(set(names))]
    insert_into = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert_into(rooms).values(rows).on_conflict_do_nothing().returning(rooms.c.name)
    new = set(connection.execute(statement).scalars())
    created: list[bool] = []
    for name in names:
        created.append(name in new)
        new.discard(name)
    return created


def message_row(room: str, user: str, text: str, time: float) -> dict[str, object]:
    """The columns of a message that is not numbered yet; `time` is Unix time in seconds."""
    return {"room": room, "user_name": user, "body": text, "sent_seconds": time}


def insert_messages(connection: Connection, rows: Sequence[dict[str, object]]) -> Sequence[int]:
    """Store messages; their ids in the order of the rows, which grow in that order."""
    if not rows:
        return []
    if connection.dialect.name == "sqlite":
        # SQLite's RETURNING promises no order, so SQLAlchemy would insert row by row, 100 times slower. But
        # this transaction holds the write lock: nobody else takes the next ids.
        first = (connection.execute(_SQLITE_LAST_ID).scalar() or 0) + 1
        ids = range(first, first + len(rows))
        numbered = [row | {"id": number} for row, number in zip(rows, ids, strict=True)]
        connection.execute(insert(messages), numbered)
        return ids
    statement = insert(messages).returning(messages.c.id, sort_by_parameter_order=True)
    stored: Sequence[int] = connection.execute(statement, list(rows)).scalars().all()
    return stored
