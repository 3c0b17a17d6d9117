"""The tables of the releases that had no migrations. Those that are there already are left as they are."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables that are missing."""
    metadata = sa.MetaData()
    predictions = sa.Table(
        "predictions",
        metadata,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False, index=True),
        sa.Column("prediction_type", sa.String(16), nullable=False),
        sa.Column("model_name", sa.String(256), nullable=False),
        sa.Column("model_version", sa.String(32), nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("prediction", sa.JSON, nullable=False),
    )
    sa.Index("ix_predictions_created_at", predictions.c.created_at, postgresql_using="brin").ddl_if(
        dialect="postgresql"
    )
    sa.Table(
        "prediction_log_positions",
        metadata,
        sa.Column("segment", sa.String(80), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    metadata.create_all(op.get_bind())
