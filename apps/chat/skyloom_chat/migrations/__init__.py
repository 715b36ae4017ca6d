"""The revisions of the chat's tables, one file each in `versions`."""

from __future__ import annotations

from typing import Final

from skyloom.sql import Migrations

# The lock is "chat" in ASCII.
MIGRATIONS: Final = Migrations("skyloom_chat.migrations", version_table="chat_alembic_version", lock=0x63686174)
