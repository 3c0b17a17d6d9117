"""A log of predictions in a database, written beside the request path.

Requests leave their rows in a bounded queue; a background task writes them in batches. When the database is slow or
away the queue fills, and rows that find no place are dropped and counted: an answer is never held up for its log.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import event, exc

from app.pacing import Pace
from app.telemetry.metrics import Metrics

QUEUE_ROWS = 10_000
TRANSACTION_ROWS = 5_000
PACED_ROWS = 64
FLUSH_ROWS = 100
"""Rows in one statement. All of them in one: a driver that is given many lets go of the interpreter's lock and asks for
it again at every row, which under load is a wait for each, and one for the requests too."""

FLUSH_INTERVAL_S = 0.1
"""Short, so that the work is spread: a second's rows at once take a processor from the requests for a tenth of it."""

REST = 2.0
"""Seconds that the writer sleeps for each that it works: batches are predicted faster than any database takes rows."""

RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
PRUNE_INTERVAL_ROWS = 10_000
CONNECT_TIMEOUT_S = 5

MOMENT_LENGTH = len("2026-01-02 03:04:05.000006")

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode

TABLE = sa.Table(
    "predictions",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("request_id", sa.String(128), nullable=False, index=True),
    sa.Column("prediction_type", sa.String(16), nullable=False),
    sa.Column("model_name", sa.String(256), nullable=False),
    sa.Column("model_version", sa.String(32), nullable=False),
    sa.Column("features", sa.JSON, nullable=False),
    sa.Column("prediction", sa.JSON, nullable=False),
)


COLUMNS = tuple(column.name for column in TABLE.columns if not column.primary_key)


class LoggedPredictions(msgspec.Struct, frozen=True):
    """What one request adds to the log: a row for each of its rows.

    Attributes:
        names: Of the F features.
        rows: float64[B, F].
        predictions: float64[B], or float64[B, K].
    """

    request_id: str
    prediction_type: str
    model_name: str
    model_version: str
    names: tuple[str, ...]
    rows: NDArray[np.float64]
    predictions: NDArray[np.float64]
    created_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))

    def first(self, count: int) -> "LoggedPredictions":
        """Its first rows alone, copied, so that the rest is not kept."""
        return msgspec.structs.replace(self, rows=self.rows[:count].copy(), predictions=self.predictions[:count].copy())

    def parameters(self, *, sqlite: bool) -> Iterator[tuple[str, ...]]:
        """For each row the values of the table's `COLUMNS`, as text that either database reads."""
        moment = self.created_at.isoformat(" ", "microseconds")
        if sqlite:
            moment = moment[:MOMENT_LENGTH]  # without a time zone: SQLite keeps none, and times are UTC
        constant = (moment, self.request_id, self.prediction_type, self.model_name, self.model_version)
        for row, prediction in zip(self.rows.tolist(), self.predictions.tolist(), strict=True):
            features = _encode(dict(zip(self.names, row, strict=True))).decode()
            yield (*constant, features, _encode(prediction).decode())


class PredictionLogStatus(msgspec.Struct, frozen=True):
    """What is known of the log."""

    enabled: bool
    queued: int
    last_error: str | None


class PredictionLog:
    """Queues rows and writes them.

    Args:
        url: SQLAlchemy URL of a SQLite or PostgreSQL database.
        keep_rows: Newest rows that are kept; 0 switches the log off.
        metrics: Where written, dropped and failed rows are counted.
    """

    def __init__(self, url: str, keep_rows: int, metrics: Metrics) -> None:
        self.enabled = keep_rows > 0
        self._url = url
        self._keep_rows = keep_rows
        self._metrics = metrics
        self._queue: deque[LoggedPredictions] = deque()
        # Two counts, each written by one thread alone: the event loop's, and the one that writes.
        self._recorded = 0
        self._taken = 0
        self._last_error: str | None = None
        self._engine: sa.Engine | None = None
        self._since_prune = 0
        self._writing = threading.Lock()

    @property
    def status(self) -> PredictionLogStatus:
        """Rows in the queue, and the newest error."""
        return PredictionLogStatus(self.enabled, self._queued(), self._last_error)

    def record(self, predictions: LoggedPredictions) -> None:
        """Queue rows; those that the queue has no room for are dropped and counted.

        The event loop does no more than this, however many rows there are.
        """
        if not self.enabled:
            return
        count, room = len(predictions.rows), QUEUE_ROWS - self._queued()
        if count > room:
            self._metrics.logged_predictions.labels("dropped").inc(count - max(0, room))
            if room <= 0:
                return
            predictions, count = predictions.first(room), room
        self._queue.append(predictions)
        self._recorded += count

    def _queued(self) -> int:
        return self._recorded - self._taken

    async def run(self) -> None:
        """Write for ever, with a third of a processor at most: what exceeds that fills the queue.

        A failed write is tried again with the same rows, less often each time.
        """
        delay = FLUSH_INTERVAL_S
        while True:
            await asyncio.sleep(delay)
            if not self._queue or await asyncio.to_thread(self.flush, REST):
                delay = FLUSH_INTERVAL_S
            else:
                delay = min(max(RETRY_S, 2 * delay), LONGEST_RETRY_S)

    def flush(self, rest: float = 0.0) -> bool:
        """Write all that is queued; blocks on the database.

        Args:
            rest: Seconds to sleep for each second of the processor's.

        Returns whether the database took it.
        """
        with self._writing:
            return self._flush(rest)

    def _flush(self, rest: float) -> bool:
        while batch := self._take():
            count = sum(len(predictions.rows) for predictions in batch)
            try:
                self._write(batch, count, rest)
            except (exc.SQLAlchemyError, OSError) as error:
                self._queue.extendleft(reversed(batch))
                self._taken -= count
                # The driver's text can hold the URL with its password: the class says enough.
                name = type(error.orig if isinstance(error, exc.DBAPIError) and error.orig else error).__name__
                if self._last_error != name:
                    log.warning("prediction log cannot be written", extra={"error": name})
                self._last_error = name
                return False
            self._last_error = None
            self._metrics.logged_predictions.labels("written").inc(count)
        return True

    def _take(self) -> list[LoggedPredictions]:
        """The oldest in the queue, as many as go into one transaction."""
        batch: list[LoggedPredictions] = []
        count = 0
        while self._queue and count < TRANSACTION_ROWS:
            batch.append(self._queue.popleft())
            count += len(batch[-1].rows)
        self._taken += count
        return batch

    def close(self) -> None:
        """Write what is left, once, and let go of the database."""
        if self.enabled and not self.flush():
            self._metrics.logged_predictions.labels("dropped").inc(self._queued())
            log.error("predictions left unlogged at shutdown", extra={"rows": self._queued()})
        if self._engine is not None:
            self._engine.dispose()

    def _write(self, batch: list[LoggedPredictions], count: int, rest: float) -> None:
        engine = self._connected()
        sqlite = engine.dialect.name == "sqlite"
        values = f"({', '.join(['?' if sqlite else '%s'] * len(COLUMNS))})"
        rows = chain.from_iterable(predictions.parameters(sqlite=sqlite) for predictions in batch)
        with engine.begin() as connection:
            started = time.thread_time()
            while part := _paced(rows, FLUSH_ROWS):
                statement = f"INSERT INTO {TABLE.name} ({', '.join(COLUMNS)}) VALUES {', '.join([values] * len(part))}"
                connection.exec_driver_sql(statement, tuple(chain.from_iterable(part)))
                time.sleep(rest * (time.thread_time() - started))
                started = time.thread_time()
        self._since_prune += count
        if self._since_prune >= PRUNE_INTERVAL_ROWS:
            self._prune()

    def _prune(self) -> None:
        with self._connected().begin() as connection:
            # By position and not by arithmetic: a rolled-back write leaves a gap in the ids.
            surplus = sa.select(TABLE.c.id).order_by(TABLE.c.id.desc()).offset(self._keep_rows).limit(1)
            if (last := connection.execute(surplus).scalar()) is not None:
                connection.execute(sa.delete(TABLE).where(TABLE.c.id <= last))
        self._since_prune = 0

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            url = sa.make_url(self._url)
            arguments: dict[str, Any] = {}
            if url.drivername.startswith("postgresql"):
                arguments["connect_timeout"] = CONNECT_TIMEOUT_S
            elif url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            engine = sa.create_engine(url, connect_args=arguments, pool_size=1, max_overflow=1, pool_pre_ping=True)
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", _write_ahead)
            TABLE.metadata.create_all(engine)
            self._engine = engine
        return self._engine


def _paced(rows: Iterator[tuple[str, ...]], count: int) -> list[tuple[str, ...]]:
    """The next rows, made some at a time, so that no request waits long for the interpreter's lock."""
    taken: list[tuple[str, ...]] = []
    pace = Pace()
    while len(taken) < count and (some := list(islice(rows, min(PACED_ROWS, count - len(taken))))):
        taken += some
        pace()
    return taken


def _write_ahead(connection: Any, _: object) -> None:
    """Have SQLite write to a log of its own first: readers are not locked out, and a commit waits for no disk.

    A crash of the machine may take the last commits along, which a log of predictions can do without.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
