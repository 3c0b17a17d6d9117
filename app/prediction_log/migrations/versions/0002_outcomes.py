"""Place within the request, interval, latency and key of each prediction, and a table of outcomes.

The new columns may be null: such a column is added without rewriting the table, and a process of an earlier release
goes on writing rows while others are upgraded.
"""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("predictions", sa.Column("row", sa.Integer))
    for name in ("interval_lower", "interval_upper", "interval_level", "latency_ms"):
        op.add_column("predictions", sa.Column(name, sa.Double))
    op.add_column("predictions", sa.Column("key_id", sa.String(16)))
    op.create_table(
        "outcomes",
        sa.Column("request_id", sa.String(128), primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("actual", sa.JSON, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_outcomes_received_at", "outcomes", ["received_at"])
