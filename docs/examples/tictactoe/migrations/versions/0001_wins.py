"""Who has won how often."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "wins",
        sa.Column("player", sa.String(64), primary_key=True),
        sa.Column("won", sa.Integer(), nullable=False),
    )
