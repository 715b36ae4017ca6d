"""Items, holds, accounts with their entries, charges, orders and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
HOUSE_ACCOUNTS = ("sales", "grants", "outside")


def upgrade(op: Operations) -> None:
    _stock(op)
    _ledger(op)
    _orders(op)


def _stock(op: Operations) -> None:
    op.create_table(
        "shop_items",
        sa.Column("sku", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("stocked", sa.BigInteger(), nullable=False),
        sa.Column("available", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("sold", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("price > 0", name="shop_items_price"),
        sa.CheckConstraint("available >= 0", name="shop_items_available"),
        sa.CheckConstraint("held >= 0", name="shop_items_held"),
        sa.CheckConstraint("sold >= 0", name="shop_items_sold"),
        sa.CheckConstraint("available + held + sold = stocked", name="shop_items_constant"),
    )
    op.create_table(
        "shop_restocks",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("sku", sa.String(64), sa.ForeignKey("shop_items.sku"), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("at_seconds", sa.Double(), nullable=False),
        sa.CheckConstraint("quantity > 0", name="shop_restocks_quantity"),
    )
    op.create_table(
        "shop_holds",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("lines", sa.JSON(), nullable=False),
        sa.Column("missing", sa.JSON(), nullable=False),
        sa.Column("until_seconds", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('held', 'sold', 'released', 'expired', 'refused')", name="shop_holds_state"),
    )
    held = sa.text("state = 'held'")
    op.create_index("shop_holds_open", "shop_holds", ["until_seconds"], postgresql_where=held, sqlite_where=held)


def _ledger(op: Operations) -> None:
    accounts = op.create_table(
        "shop_accounts",
        sa.Column("name", sa.String(144), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('wallet', 'house')", name="shop_accounts_kind"),
        sa.CheckConstraint("balance >= 0 OR kind = 'house'", name="shop_accounts_overdrawn"),
    )
    op.bulk_insert(accounts, [{"name": name, "kind": "house", "balance": 0} for name in HOUSE_ACCOUNTS])
    op.create_table(
        "shop_entries",
        sa.Column("transfer", sa.String(208), primary_key=True),
        sa.Column("account", sa.String(144), sa.ForeignKey("shop_accounts.name"), primary_key=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("at_seconds", sa.Double(), nullable=False),
        sa.CheckConstraint("amount <> 0", name="shop_entries_amount"),
    )
    op.create_table(
        "shop_charges",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("user_name", sa.String(128), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("transaction_id", sa.String(100)),
        sa.Column("refusal", sa.JSON()),
        sa.Column("posted", sa.Boolean(), nullable=False),
        sa.Column("outside", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "state IN ('intended', 'charged', 'refused', 'refunding', 'refunded')", name="shop_charges_state"
        ),
    )
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER shop_entries_no_{event.lower()} BEFORE {event} ON shop_entries "
                "BEGIN SELECT RAISE(ABORT, 'shop_entries is append-only'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION shop_entries_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'shop_entries is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER shop_entries_append_only BEFORE UPDATE OR DELETE ON shop_entries "
            "FOR EACH ROW EXECUTE FUNCTION shop_entries_append_only()"
        )


def _orders(op: Operations) -> None:
    op.create_table(
        "shop_orders",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("user_name", sa.String(128), nullable=False),
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("saga_status", sa.String(16), nullable=False),
        sa.Column("steps_done", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("lines", sa.JSON(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("transaction_id", sa.String(100)),
        sa.Column("failure", sa.JSON()),
        sa.Column("created_seconds", sa.Double(), nullable=False),
        sa.Column("changed_seconds", sa.Double(), nullable=False),
        sa.Column("driver", sa.String(32), nullable=False),
        sa.Column("driven_until_seconds", sa.Double(), nullable=False),
    )
    op.create_index("shop_orders_by_user", "shop_orders", ["user_name", "created_seconds"])
    open_orders = sa.text("saga_status IN ('running', 'undoing')")
    op.create_index(
        "shop_orders_unfinished",
        "shop_orders",
        ["user_name"],
        postgresql_where=open_orders,
        sqlite_where=open_orders,
    )
    op.create_table(
        "shop_outbox",
        sa.Column("id", ROW_ID, sa.Identity(always=True), primary_key=True),
        sa.Column("user_name", sa.String(128), nullable=False),
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at_seconds", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade(op: Operations) -> None:
    for table in ("outbox", "orders", "charges", "entries", "accounts", "holds", "restocks", "items"):
        op.drop_table(f"shop_{table}")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION shop_entries_append_only()")
