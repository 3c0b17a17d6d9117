"""Rows of the log's tables, by keyset paging: each page begins behind the id of the last row of the one before.

So each page is a short transaction of its own, and rows that are added or deleted meanwhile move no others. Times and
JSON are taken as the database holds them: SQLite has text for both, but numbers where the JSON is one.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.prediction_log.engine import open_engine
from app.prediction_log.messages import LogTarget
from app.prediction_log.reading.page import Page, as_row
from app.prediction_log.reading.query import Query
from app.prediction_log.tables import OUTCOMES, PREDICTIONS, newest_of, place_of

_C = PREDICTIONS.c
_ROW = place_of(PREDICTIONS)
# The key of an outcome finds it; of the rows with this key, `newest_of` chooses one.
_OWN = sa.and_(OUTCOMES.c.request_id == _C.request_id, OUTCOMES.c.row == _ROW, newest_of(OUTCOMES))
_JOINED = PREDICTIONS.outerjoin(OUTCOMES, _OWN)


class TableRows:
    """Reads the tables.

    Args:
        target: The database.
        statement_timeout_s: Time limit of each statement.

    Raises:
        SQLAlchemyError, OSError: The database cannot be opened.
    """

    def __init__(self, target: LogTarget, statement_timeout_s: float) -> None:
        self._engine = open_engine(target, statement_timeout_s)

    def pages(self, query: Query, limit: int, size: int) -> Iterator[Page]:
        """See `Source.pages`."""
        after = query.after if isinstance(query.after, int) else None
        while limit > 0:
            page = self._page(query, after, min(size, limit))
            if page.rows:
                yield page
                after = page.rows[-1].id
            if len(page.rows) < min(size, limit):
                return
            limit -= len(page.rows)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def _page(self, query: Query, after: int | None, size: int) -> Page:
        sqlite = self._engine.dialect.name == "sqlite"
        with self._engine.connect() as connection:
            found: Sequence[Any] = connection.execute(_statement(query, after, size, sqlite=sqlite)).all()
        moment = _rfc3339 if sqlite else _same
        rows = [
            as_row(
                id_, moment(created), *known, _json(features), _json(prediction), *measured,
                _json(actual), moment(received),
            )
            for (id_, created, *known), features, prediction, (*measured, actual, received) in map(_split, found)
        ]  # fmt: skip
        return Page(rows, [row[0] for row in found])


def _statement(query: Query, after: int | None, size: int, *, sqlite: bool) -> Any:
    """The rows behind an id."""
    conditions: list[sa.ColumnElement[bool]] = [_C[name] == value for name, value in query.equal.items()]
    if query.since is not None:
        conditions.append(_C.created_at >= query.since)
    if query.until is not None:
        conditions.append(_C.created_at < query.until)
    if after is not None:
        conditions.append(_C.id < after if query.order == "newest" else _C.id > after)
    created, received = (_raw(column) if sqlite else column for column in (_C.created_at, OUTCOMES.c.received_at))
    # A cast would round SQLite's numbers to 15 digits; without one, psycopg would decode the JSON.
    text = _raw if sqlite else _as_text
    columns = (
        _C.id, created, _C.request_id, _ROW, _C.prediction_type, _C.model_name, _C.model_version,
        text(_C.features), text(_C.prediction), _C.interval_lower, _C.interval_upper, _C.interval_level,
        _C.latency_ms, _C.key_id, text(OUTCOMES.c.actual), received,
    )  # fmt: skip
    order = _C.id.desc() if query.order == "newest" else _C.id
    return sa.select(*columns).select_from(_JOINED).where(*conditions).order_by(order).limit(size)


def _split(row: Any) -> tuple[Any, Any, Any, Any]:
    """What stands before the JSON of a row, that JSON, and what stands behind it."""
    return row[:7], row[7], row[8], row[9:]


def _raw(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.type_coerce(column, sa.Text)


def _as_text(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(column, sa.Text)


def _json(value: Any) -> Any:
    return msgspec.Raw(value) if isinstance(value, str) else value


def _same(moment: Any) -> Any:
    return moment


def _rfc3339(text: str | None) -> Any:
    """SQLite's text of a time, which is UTC."""
    return None if text is None else f"{text[:10]}T{text[11:]}Z"
