"""The tables of the chat. Migrations make them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from skyloom_chat.messages import ROOM_NAME_CHARS_MAX
from skyloom_gateway.auth.identity import USER_CHARS_MAX

metadata = MetaData()

# SQLite numbers rows by itself only when the column is exactly INTEGER PRIMARY KEY.
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

rooms = Table(
    "chat_rooms",
    metadata,
    Column("name", String(ROOM_NAME_CHARS_MAX), primary_key=True),
)

messages = Table(
    "chat_messages",
    metadata,
    Column("id", _ROW_ID, Identity(always=True), primary_key=True),
    Column("room", String(ROOM_NAME_CHARS_MAX), ForeignKey("chat_rooms.name"), nullable=False),
    Column("user_name", String(USER_CHARS_MAX), nullable=False),
    Column("body", Text, nullable=False),
    Column("sent_seconds", Double, nullable=False),
    Index("chat_messages_by_room", "room", "id"),
    # An id is never given twice, also when the newest messages are gone: clients keep ids.
    sqlite_autoincrement=True,
)
