"""Rows of the log as `GET /predictions` answers them."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from app.prediction_log.reading.query import Position, Query


class LoggedRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the log. Of JSON that the log holds as text, this has the text.

    Attributes:
        id: Number of the row, which grows with the time; null in the log's Parquet files.
        created_at: When it was predicted.
        request_id: Id of the request.
        row: Index within the request; null for a row of a batch that an early release logged, which has no outcome.
        features: Features by name, null where missing.
        prediction: A number, or a list of one for each output.
        interval_lower, interval_upper, interval_level: Interval at the model's default level.
        latency_ms: Time from the request's start until it was logged.
        key_id: First 8 hex digits of the SHA-256 of the key that was given; null if none was needed.
        actual: The actual value, if an outcome is known; of rows with one id and index, the newest has it.
        received_at: When that came.
    """

    id: int | None
    created_at: datetime
    request_id: str
    row: int | None
    prediction_type: str
    model_name: str
    model_version: str
    features: dict[str, Any]
    prediction: float | list[float]
    interval_lower: float | None
    interval_upper: float | None
    interval_level: float | None
    latency_ms: float | None
    key_id: str | None
    actual: Any
    received_at: datetime | None


as_row: Callable[..., LoggedRow] = LoggedRow
"""Makes a row whose times and JSON are the text that a database holds: times as text, the other as `msgspec.Raw`."""


class PredictionsPage(msgspec.Struct, frozen=True):
    """A page of rows.

    Attributes:
        predictions: The rows.
        next: The `cursor` of the next page; null if there is none now.
    """

    predictions: list[LoggedRow]
    next: str | None


class Page(NamedTuple):
    """Some rows, at least one.

    Attributes:
        rows: The rows.
        positions: Position of each.
    """

    rows: list[LoggedRow]
    positions: list[Position]


class Source(Protocol):
    """A place that rows are read from. Its methods block."""

    def pages(self, query: Query, limit: int, size: int) -> Iterator[Page]:
        """The rows of a query, some at a time.

        Args:
            query: The query.
            limit: Most rows in all.
            size: Most rows of a page.

        Raises:
            SQLAlchemyError, OSError: The place cannot be read.
        """
        ...

    def close(self) -> None:
        """Close the place."""
        ...
