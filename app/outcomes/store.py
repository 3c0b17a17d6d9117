"""The outcomes in the database of the prediction log, joined with the predictions that they are of.

Everything here blocks on the database, and belongs into a thread. A statement has STATEMENT_TIMEOUT_S; SQLite waits as
long for a lock.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from app.feature import Category
from app.outcomes.body import Outcome
from app.prediction_log.engine import open_engine
from app.prediction_log.messages import LogTarget
from app.prediction_log.tables import OUTCOMES, PREDICTIONS, newest_of, place_of, rows_of

STATEMENT_TIMEOUT_S = 5.0

CHUNK = 500
"""Keys of one statement."""

PAGE = 500
"""Rows of one page, which take some milliseconds: other threads wait for no longer."""

TOO_MANY = "is of no logged prediction, and too many outcomes wait for theirs"

REST = 4.0
"""Seconds to sleep for each second of CPU time between pages, so that a pass takes a fifth of a processor."""

Key = tuple[str, int]
"""Id of a request, and index of a row in it."""

Model = tuple[str, str]
"""Name and version of a model."""

Fate = Literal["matched", "waiting", "duplicate", "corrected"]

T = TypeVar("T")


class Stopped(Exception):
    """The service ends."""


class Refused(NamedTuple):
    """Why an outcome is not taken: the field at fault, and the end of a sentence about it."""

    field: str
    message: str


class Joined(NamedTuple):
    """An outcome, and its prediction where that is logged: all None where it is not.

    Attributes:
        key: What the outcome is of.
        actual: The actual value.
        received_at: When it came, or was corrected.
        id: Id of the prediction's row, which grows with the time.
        model: Name and version of the model.
        prediction: The model's K outputs, or its one.
        interval: Lower and upper bound, and level.
        created_at: When the prediction was answered.
    """

    key: Key
    actual: Category
    received_at: datetime
    id: int | None
    model: Model
    prediction: float | list[float] | None
    interval: tuple[float | None, float | None, float | None]
    created_at: datetime | None


KEY = sa.tuple_(OUTCOMES.c.request_id, OUTCOMES.c.row)
MODEL = PREDICTIONS.c.model_name, PREDICTIONS.c.model_version


class OutcomeStore:
    """Reads and writes outcomes. Two threads may use it at once.

    Args:
        target: Database of the prediction log.
    """

    def __init__(self, target: LogTarget) -> None:
        self._target = target
        self._engine: sa.Engine | None = None
        self._opening = threading.Lock()
        self._stopped = threading.Event()

    def add(
        self, outcomes: Sequence[Outcome], now: datetime, judge: Callable[[Model, Category], Refused | None], room: int
    ) -> list[Fate | Refused]:
        """Write outcomes, all of them that are not refused, or none. The newest value of a row wins.

        Transactions of this kind wait for one another, so that each value is counted as what it is.

        Args:
            outcomes: The outcomes; one row may have several.
            now: When they came.
            judge: Says why an actual value cannot be one of a model.
            room: Most outcomes whose predictions are not in the table yet; more are refused.

        Raises:
            SQLAlchemyError, OSError: Nothing was written.
        """
        with self._connected().begin() as connection:
            self._lock(connection)
            keys = list(dict.fromkeys(outcome.key for outcome in outcomes))
            known = self._values(connection, keys)
            models = self._models(connection, keys)
            fates: list[Fate | Refused] = []
            changed: dict[Key, Category] = {}
            for outcome in outcomes:
                fate = _fate(outcome, known, models.get(outcome.key), judge)
                if fate == "waiting":
                    room -= 1
                    if room < 0:
                        fate = Refused("request_id", TOO_MANY)
                fates.append(fate)
                if fate in ("matched", "waiting", "corrected"):
                    changed[outcome.key] = known[outcome.key] = outcome.actual
            self._write(connection, changed, now)
        return fates

    def pages(self, since: datetime | None) -> Iterator[list[Joined]]:
        """All outcomes since a time, by the time that they came; with pauses, since there may be many.

        Raises:
            Stopped: The service ends.
            SQLAlchemyError, OSError: The database does not answer.
        """
        after: sa.ColumnElement[bool] = sa.true() if since is None else OUTCOMES.c.received_at >= since
        order = OUTCOMES.c.received_at, OUTCOMES.c.request_id, OUTCOMES.c.row
        while True:
            # A subquery, for else all rows of the same time would be joined before the page ends.
            some = sa.select(OUTCOMES).where(after).order_by(*order).limit(PAGE).subquery()
            join = some.outerjoin(PREDICTIONS, newest_of(some))
            query = _joined_columns(some).select_from(join).order_by(some.c.received_at, some.c.request_id, some.c.row)
            with self._resting(), self._connected().connect() as connection:
                page = [_joined(row) for row in connection.execute(query)]
            if page:
                yield page
            if len(page) < PAGE:
                return
            last = page[-1]
            place = sa.tuple_(*order) > (last.received_at, *last.key)
            after = sa.and_(OUTCOMES.c.received_at >= last.received_at, place)

    def found(self, keys: Iterable[Key]) -> Iterator[Joined]:
        """Those of some outcomes whose predictions are logged by now; with pauses."""
        query = _joined_columns(OUTCOMES).select_from(OUTCOMES.join(PREDICTIONS, newest_of(OUTCOMES)))
        for chunk in _chunks(list(keys)):
            with self._resting(), self._connected().connect() as connection:
                found = [_joined(row) for row in connection.execute(query.where(_among(chunk)))]
            yield from found

    def forget(self, keys: Iterable[Key]) -> int:
        """Delete those of some outcomes whose predictions are still not logged.

        Returns:
            Number of outcomes that this call deleted. Of several replicas that try so, one counts each.
        """
        there = rows_of(OUTCOMES).exists()
        deleted = 0
        for chunk in _chunks(list(keys)):
            with self._resting(), self._connected().begin() as connection:
                deleted += connection.execute(sa.delete(OUTCOMES).where(_among(chunk), ~there)).rowcount
        return deleted

    def stop(self) -> None:
        """End what goes on in other threads at its next pause."""
        self._stopped.set()

    def close(self) -> None:
        """Close the database."""
        if self._engine is not None:
            self._engine.dispose()

    def _connected(self) -> sa.Engine:
        with self._opening:
            if self._engine is None:
                self._engine = open_engine(self._target, STATEMENT_TIMEOUT_S)
            return self._engine

    @contextmanager
    def _resting(self) -> Generator[None]:
        """Pause at the end, in proportion to the CPU time that this thread took meanwhile."""
        begun = time.thread_time()
        yield
        if self._stopped.wait(REST * (time.thread_time() - begun)):
            raise Stopped

    def _lock(self, connection: sa.Connection) -> None:
        """Keep other writers of outcomes out until the transaction ends; readers go on."""
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(f"LOCK TABLE {OUTCOMES.name} IN SHARE ROW EXCLUSIVE MODE")

    def _values(self, connection: sa.Connection, keys: list[Key]) -> dict[Key, Category]:
        """Values of the outcomes that are there."""
        query = sa.select(OUTCOMES.c.request_id, OUTCOMES.c.row, OUTCOMES.c.actual)
        rows = (row for chunk in _chunks(keys) for row in connection.execute(query.where(_among(chunk))))
        return {(row.request_id, row[1]): row.actual for row in rows}

    def _models(self, connection: sa.Connection, keys: list[Key]) -> dict[Key, Model]:
        """Model of each row that is logged; of the newest where callers gave several requests one id."""
        columns = PREDICTIONS.c.request_id, place_of(PREDICTIONS).label("place"), *MODEL, PREDICTIONS.c.id
        wanted = set(keys)
        found: dict[Key, Model] = {}
        for chunk in _chunks(list({request_id for request_id, _ in keys})):
            logged = sa.select(*columns).where(PREDICTIONS.c.request_id.in_(chunk)).subquery().c
            known = logged.request_id, logged.place, logged.model_name, logged.model_version
            newest_last = sa.select(*known).group_by(*known).order_by(sa.func.max(logged.id))
            for request_id, row, name, version in connection.execute(newest_last):
                if (request_id, row) in wanted:
                    found[request_id, row] = name, version
        return found

    def _write(self, connection: sa.Connection, changed: dict[Key, Category], now: datetime) -> None:
        insert: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(OUTCOMES)
        newest = {"actual": insert.excluded.actual, "received_at": insert.excluded.received_at}
        statement = insert.on_conflict_do_update(index_elements=["request_id", "row"], set_=newest)
        rows = [
            {"request_id": request_id, "row": row, "actual": actual, "received_at": now}
            for (request_id, row), actual in changed.items()
        ]
        for chunk in _chunks(rows):
            connection.execute(statement, chunk)


def _fate(
    outcome: Outcome, known: dict[Key, Category], model: Model | None,
    judge: Callable[[Model, Category], Refused | None],
) -> Fate | Refused:  # fmt: skip
    """What becomes of an outcome."""
    if model is not None and (refused := judge(model, outcome.actual)) is not None:
        return refused
    if outcome.key in known:
        before = known[outcome.key]
        same = before == outcome.actual and isinstance(before, str) == isinstance(outcome.actual, str)
        return "duplicate" if same else "corrected"
    return "waiting" if model is None else "matched"


def _joined_columns(outcomes: sa.FromClause) -> Any:
    """The columns of `Joined`."""
    return sa.select(
        outcomes.c.request_id, outcomes.c.row, outcomes.c.actual, outcomes.c.received_at, PREDICTIONS.c.id,
        PREDICTIONS.c.model_name, PREDICTIONS.c.model_version, PREDICTIONS.c.prediction, PREDICTIONS.c.interval_lower,
        PREDICTIONS.c.interval_upper, PREDICTIONS.c.interval_level, PREDICTIONS.c.created_at,
    )  # fmt: skip


def _among(keys: list[Key]) -> sa.ColumnElement[bool]:
    """Whether an outcome has one of some keys. SQLite finds no pairs by an index, but the ids."""
    return sa.and_(OUTCOMES.c.request_id.in_({request_id for request_id, _ in keys}), KEY.in_(keys))


def _joined(row: Any) -> Joined:
    (request_id, place, actual, received_at, number, name, version, prediction, lower, upper, level, created_at) = row
    return Joined(
        (request_id, place), actual, as_utc(received_at), number, (name, version), prediction, (lower, upper, level),
        None if created_at is None else as_utc(created_at),
    )  # fmt: skip


def as_utc(moment: datetime) -> datetime:
    """A time of the database, which in SQLite has no zone."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _chunks(values: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
