"""Logged rows of the prediction log, the newest first, with their outcomes."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from app.feature import Category
from app.outcomes.store import as_utc, place_of
from app.prediction_log.tables import OUTCOMES, PREDICTIONS

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


class LoggedRow(NamedTuple):
    """A row of the log.

    Attributes:
        created_at: When it was answered.
        request_id: Id of its request.
        row: Its index in the request, None where that is not known.
        version: Version that answered.
        features: Its features, as JSON.
        prediction: The prediction.
        lower: Lower bound of the logged interval, None where there is none.
        upper: Upper bound.
        actual: The actual value, None where it is not known.
    """

    created_at: datetime
    request_id: str
    row: int | None
    version: str
    features: str
    prediction: float | list[float]
    lower: float | None
    upper: float | None
    actual: Category | None


def logged_pages(engine: sa.Engine, selection: Selection) -> Iterator[list[LoggedRow]]:
    """Rows in pages, the newest first. A page is read when it is asked for.

    Raises:
        SQLAlchemyError, OSError: The database does not answer.
    """
    columns, place = PREDICTIONS.c, place_of(PREDICTIONS)
    own = sa.and_(OUTCOMES.c.request_id == columns.request_id, OUTCOMES.c.row == place)
    query = (
        sa.select(
            columns.id, columns.created_at, columns.request_id, place, columns.model_version,
            sa.cast(columns.features, sa.Text), columns.prediction, columns.interval_lower, columns.interval_upper,
            OUTCOMES.c.actual,
        )
        .select_from(PREDICTIONS.outerjoin(OUTCOMES, own))
        .where(columns.model_name == selection.model, columns.created_at >= selection.since)
        .order_by(columns.id.desc())
    )  # fmt: skip
    if selection.until is not None:
        query = query.where(columns.created_at < selection.until)
    left, last = selection.limit, None
    while left > 0:
        page = query.limit(min(left, PAGE))
        with engine.connect() as connection:
            found: Any = connection.execute(page if last is None else page.where(columns.id < last)).all()
        if found:
            last = found[-1][0]
            yield [LoggedRow(as_utc(moment), *rest) for _, moment, *rest in found]
        if len(found) < min(left, PAGE):
            return
        left -= len(found)
