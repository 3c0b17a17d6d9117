"""Tables of the prediction log, as the newest migration leaves them."""

import sqlalchemy as sa

VERSION_TABLE = "prediction_log_version"
"""Table of the schema's version. Alembic's default name is taken where a registry of MLflow is in the same database."""

NEWEST_VERSION = "2"

METADATA = sa.MetaData()

PREDICTIONS = sa.Table(
    "predictions",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("request_id", sa.String(128), nullable=False, index=True),
    sa.Column("prediction_type", sa.String(16), nullable=False),
    sa.Column("model_name", sa.String(256), nullable=False),
    sa.Column("model_version", sa.String(32), nullable=False),
    sa.Column("features", sa.JSON, nullable=False),
    sa.Column("prediction", sa.JSON, nullable=False),
    sa.Column("row", sa.Integer),
    sa.Column("interval_lower", sa.Double),
    sa.Column("interval_upper", sa.Double),
    sa.Column("interval_level", sa.Double),
    sa.Column("latency_ms", sa.Double),
    sa.Column("key_id", sa.String(16)),
)
"""A row for each prediction.

Columns:
    row: Index of the row within its request, from 0; null in rows that were logged before version 2.
    interval_lower, interval_upper, interval_level: Interval at the model's default level, null for a model without.
    latency_ms: Time from the request's start until its rows were logged, null where unknown.
    key_id: Beginning of the SHA-256 of the key that the request gave, null where none was needed.
"""

# An index of SQLite's would be half of the cost of a row. That of PostgreSQL holds the range of times of many pages.
sa.Index("ix_predictions_created_at", PREDICTIONS.c.created_at, postgresql_using="brin").ddl_if(dialect="postgresql")

OUTCOMES = sa.Table(
    "outcomes",
    METADATA,
    sa.Column("request_id", sa.String(128), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("actual", sa.JSON, nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
)
"""What became of predictions: the actual value for a row of a request, which may be here before its prediction is."""

sa.Index("ix_outcomes_received_at", OUTCOMES.c.received_at)

POSITIONS = sa.Table(
    "prediction_log_positions",
    METADATA,
    sa.Column("segment", sa.String(80), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)
"""Number of bytes of each segment of a spool whose rows are in the table."""


def place_of(predictions: sa.FromClause) -> sa.ColumnElement[int]:
    """Index of a row in its request: 0 for a single row of version 1, null for a row of a batch of that version."""
    return sa.func.coalesce(predictions.c.row, sa.case((predictions.c.prediction_type == "single", 0)))


def rows_of(outcomes: sa.FromClause) -> sa.Select[tuple[int]]:
    """Ids of the rows that an outcome names: several where callers gave several requests one id."""
    rows = PREDICTIONS.alias()
    of_request = rows.c.request_id == outcomes.c.request_id
    return sa.select(rows.c.id).where(of_request, place_of(rows) == outcomes.c.row).correlate(outcomes)


def newest_of(outcomes: sa.FromClause) -> sa.ColumnElement[bool]:
    """What joins an outcome with the one row that it counts for: the newest that it names."""
    rows = rows_of(outcomes)
    return PREDICTIONS.c.id == rows.order_by(rows.selected_columns.id.desc()).limit(1).scalar_subquery()
