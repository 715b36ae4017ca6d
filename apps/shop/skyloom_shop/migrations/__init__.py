"""The revisions of the shop's tables, one file each in `versions`."""

from __future__ import annotations

from typing import Final

from skyloom.sql import Migrations

# The lock is "shop" in ASCII.
MIGRATIONS: Final = Migrations("skyloom_shop.migrations", version_table="shop_alembic_version", lock=0x73686F70)
