"""The tables of the shop. Migrations make them; a test compares the two.

What must always hold is said here, not only in the code: stock is never below 0 and adds up, wallets are never
overdrawn, and one order has one row in each table, so that it cannot be held, charged or recorded twice.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    text,
)

from skyloom_gateway.auth.identity import USER_CHARS_MAX
from skyloom_shop.messages import ORDER_ID_CHARS_MAX, SKU_CHARS_MAX

metadata = MetaData()

KEY_CHARS_MAX = USER_CHARS_MAX + ORDER_ID_CHARS_MAX + 8
"""The length of `skyloom_shop.order_state.order_key`."""

NAME_CHARS_MAX = 100
ACCOUNT_CHARS_MAX = USER_CHARS_MAX + 16
STATE_CHARS_MAX = 16
TRANSACTION_ID_CHARS_MAX = 100

_HELD = text("state = 'held'")
_UNFINISHED = text("saga_status IN ('running', 'undoing')")
_FAULT = JSON(none_as_null=True)
# SQLite numbers rows by itself only when the column is exactly INTEGER PRIMARY KEY.
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

items = Table(
    "shop_items",
    metadata,
    Column("sku", String(SKU_CHARS_MAX), primary_key=True),
    Column("name", String(NAME_CHARS_MAX), nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("stocked", BigInteger, nullable=False),
    Column("available", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("sold", BigInteger, nullable=False),
    CheckConstraint("price > 0", name="shop_items_price"),
    CheckConstraint("available >= 0", name="shop_items_available"),
    CheckConstraint("held >= 0", name="shop_items_held"),
    CheckConstraint("sold >= 0", name="shop_items_sold"),
    CheckConstraint("available + held + sold = stocked", name="shop_items_constant"),
)

restocks = Table(
    "shop_restocks",
    metadata,
    Column("key", String(KEY_CHARS_MAX), primary_key=True),
    Column("sku", String(SKU_CHARS_MAX), ForeignKey("shop_items.sku"), nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("at_seconds", Double, nullable=False),
    CheckConstraint("quantity > 0", name="shop_restocks_quantity"),
)

holds = Table(
    "shop_holds",
    metadata,
    Column("key", String(KEY_CHARS_MAX), primary_key=True),
    Column("state", String(STATE_CHARS_MAX), nullable=False),
    Column("lines", JSON, nullable=False),
    Column("missing", JSON, nullable=False),
    Column("until_seconds", Double, nullable=False),
    CheckConstraint("state IN ('held', 'sold', 'released', 'expired', 'refused')", name="shop_holds_state"),
    Index("shop_holds_open", "until_seconds", postgresql_where=_HELD, sqlite_where=_HELD),
)

accounts = Table(
    "shop_accounts",
    metadata,
    Column("name", String(ACCOUNT_CHARS_MAX), primary_key=True),
    Column("kind", String(STATE_CHARS_MAX), nullable=False),
    Column("balance", BigInteger, nullable=False),
    CheckConstraint("kind IN ('wallet', 'house')", name="shop_accounts_kind"),
    CheckConstraint("balance >= 0 OR kind = 'house'", name="shop_accounts_overdrawn"),
)

entries = Table(
    "shop_entries",
    metadata,
    Column("transfer", String(KEY_CHARS_MAX + 8), primary_key=True),
    Column("account", String(ACCOUNT_CHARS_MAX), ForeignKey("shop_accounts.name"), primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("at_seconds", Double, nullable=False),
    CheckConstraint("amount <> 0", name="shop_entries_amount"),
)
"""Append-only: the migration has triggers that refuse updates and deletes."""

charges = Table(
    "shop_charges",
    metadata,
    Column("key", String(KEY_CHARS_MAX), primary_key=True),
    Column("user_name", String(USER_CHARS_MAX), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("state", String(STATE_CHARS_MAX), nullable=False),
    Column("transaction_id", String(TRANSACTION_ID_CHARS_MAX)),
    Column("refusal", _FAULT),
    Column("posted", Boolean, nullable=False),
    Column("outside", Boolean, nullable=False),
    CheckConstraint("state IN ('intended', 'charged', 'refused', 'refunding', 'refunded')", name="shop_charges_state"),
)

orders = Table(
    "shop_orders",
    metadata,
    Column("key", String(KEY_CHARS_MAX), primary_key=True),
    Column("user_name", String(USER_CHARS_MAX), nullable=False),
    Column("order_id", String(ORDER_ID_CHARS_MAX), nullable=False),
    Column("state", String(STATE_CHARS_MAX), nullable=False),
    Column("saga_status", String(STATE_CHARS_MAX), nullable=False),
    Column("steps_done", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("lines", JSON, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("transaction_id", String(TRANSACTION_ID_CHARS_MAX)),
    Column("failure", _FAULT),
    Column("created_seconds", Double, nullable=False),
    Column("changed_seconds", Double, nullable=False),
    Column("driver", String(STATE_CHARS_MAX * 2), nullable=False),
    Column("driven_until_seconds", Double, nullable=False),
    Index("shop_orders_by_user", "user_name", "created_seconds"),
    Index(
        "shop_orders_unfinished",
        "user_name",
        postgresql_where=_UNFINISHED,
        sqlite_where=_UNFINISHED,
    ),
)

outbox = Table(
    "shop_outbox",
    metadata,
    Column("id", _ROW_ID, Identity(always=True), primary_key=True),
    Column("user_name", String(USER_CHARS_MAX), nullable=False),
    Column("order_id", String(ORDER_ID_CHARS_MAX), nullable=False),
    Column("status", String(STATE_CHARS_MAX), nullable=False),
    Column("version", Integer, nullable=False),
    Column("at_seconds", Double, nullable=False),
    # An id is never given twice, also when the newest rows are gone: relays remember how far they read.
    sqlite_autoincrement=True,
)
