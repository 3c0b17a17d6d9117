"""A log of predictions in a database, written beside the request path.

Requests leave their rows in a bounded queue; a background task writes them in batches. When the database is slow or
away the queue fills, and rows that find no place are dropped and counted: an answer is never held up for its log.
"""

import asyncio
import logging
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from app.telemetry.metrics import Metrics

QUEUE_ROWS = 10_000
FLUSH_ROWS = 1_000
FLUSH_INTERVAL_S = 1.0
PRUNE_INTERVAL_ROWS = 10_000
CONNECT_TIMEOUT_S = 5

log = logging.getLogger(__name__)

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


class LoggedPrediction(msgspec.Struct, frozen=True):
    """One row of the log."""

    request_id: str
    prediction_type: str
    model_name: str
    model_version: str
    features: dict[str, float]
    prediction: float | list[float]
    created_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))


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
        self._queue: deque[LoggedPrediction] = deque()
        self._last_error: str | None = None
        self._engine: sa.Engine | None = None
        self._since_prune = 0
        self._writing = threading.Lock()

    @property
    def status(self) -> PredictionLogStatus:
        """Queue length and the newest error."""
        return PredictionLogStatus(self.enabled, len(self._queue), self._last_error)

    def record(self, row: LoggedPrediction) -> None:
        """Queue a row, or drop and count it when the queue is full."""
        if not self.enabled:
            return
        if len(self._queue) >= QUEUE_ROWS:
            self._metrics.logged_predictions.labels("dropped").inc()
        else:
            self._queue.append(row)

    async def run(self) -> None:
        """Write for ever. A failed write is tried again with the same rows, less often each time."""
        delay = FLUSH_INTERVAL_S
        while True:
            await asyncio.sleep(delay)
            delay = FLUSH_INTERVAL_S if await asyncio.to_thread(self.flush) else min(2 * delay, 60.0)

    def flush(self) -> bool:
        """Write all that is queued; blocks on the database. Says whether the database took it."""
        with self._writing:
            return self._flush()

    def _flush(self) -> bool:
        while rows := [self._queue.popleft() for _ in range(min(FLUSH_ROWS, len(self._queue)))]:
            try:
                self._write(rows)
            except (exc.SQLAlchemyError, OSError) as error:
                self._queue.extendleft(reversed(rows))
                # The driver's text can hold the URL with its password: the class says enough.
                name = type(error.orig if isinstance(error, exc.DBAPIError) and error.orig else error).__name__
                if self._last_error != name:
                    log.warning("prediction log cannot be written", extra={"error": name})
                self._last_error = name
                return False
            self._last_error = None
            self._metrics.logged_predictions.labels("written").inc(len(rows))
        return True

    def close(self) -> None:
        """Write what is left, once, and let go of the database."""
        if self.enabled and not self.flush():
            self._metrics.logged_predictions.labels("dropped").inc(len(self._queue))
            log.error("predictions left unlogged at shutdown", extra={"rows": len(self._queue)})
        if self._engine is not None:
            self._engine.dispose()

    def _write(self, rows: list[LoggedPrediction]) -> None:
        with self._connected().begin() as connection:
            connection.execute(sa.insert(TABLE), [msgspec.structs.asdict(row) for row in rows])
        self._since_prune += len(rows)
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
            engine = sa.create_engine(
                url, connect_args=arguments, pool_size=1, max_overflow=1, pool_pre_ping=True,
                json_serializer=lambda value: msgspec.json.encode(value).decode(),
            )  # fmt: skip
            TABLE.metadata.create_all(engine)
            self._engine = engine
        return self._engine
