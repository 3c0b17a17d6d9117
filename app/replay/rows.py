"""Logged rows that are replayed, the newest first, with their outcomes: those that `GET /predictions` tells."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from app.feature import Category
from app.prediction_log.reading.page import Source
from app.prediction_log.reading.query import Query

PAGE = 1000


class Selection(msgspec.Struct, frozen=True):
    """Which rows are replayed.

    Attributes:
        model: Name of the model whose predictions they are.
        since: Time of the first ones.
        until: Time that they are before; None for no end.
        limit: Most rows, the newest ones.
    """

    model: str
    since: datetime
    until: datetime | None
    limit: int


class LoggedRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the log.

    Attributes:
        created_at: When it was answered.
        request_id: Id of its request.
        row: Its index in the request, None for a row of a batch that an early release logged.
        model_version: Version that answered.
        features: Its features, as JSON.
        prediction: The prediction; None if it was not finite.
        interval_lower: Lower bound of the logged interval, None where there is none.
        interval_upper: Upper bound.
        actual: The actual value, None where it is not known.
    """

    created_at: datetime
    request_id: str
    row: int | None
    model_version: str
    features: msgspec.Raw
    prediction: float | list[float] | None
    interval_lower: float | None
    interval_upper: float | None
    actual: Category | None


_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(LoggedRow)


def logged_pages(source: Source, selection: Selection) -> Iterator[list[LoggedRow]]:
    """Rows in pages, the newest first. A page is read when it is asked for.

    Raises:
        SQLAlchemyError, OSError: The log cannot be read.
    """
    query = Query(since=selection.since, until=selection.until, equal={"model_name": selection.model})
    for page in source.pages(query, selection.limit, PAGE):
        # By way of JSON, since a database's rows hold parts of it, whose numbers it keeps to the last bit.
        yield _decoder.decode_lines(_encoder.encode_lines(page.rows))
