"""Rooms and their messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table("chat_rooms", sa.Column("name", sa.String(64), primary_key=True))
    op.create_table(
        "chat_messages",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True),
            primary_key=True,
        ),
        sa.Column("room", sa.String(64), sa.ForeignKey("chat_rooms.name"), nullable=False),
        sa.Column("user_name", sa.String(128), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("sent_seconds", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("chat_messages_by_room", "chat_messages", ["room", "id"])


def downgrade(op: Operations) -> None:
    op.drop_table("chat_messages")
    op.drop_table("chat_rooms")
