"""A log of predictions by best effort, written outside the request path.

Requests put their rows into a bounded queue, and a background task has a separate process write them in batches. If
the database is slow or unavailable the queue fills up, and further rows are dropped and counted: an answer never waits
for its log. `durable.py` is the log that loses no row.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.headers import Headers
from app.prediction_log.messages import Categories, Intervals, LoggedPredictions, LoggedRequest
from app.prediction_log.process import LogWriter
from app.prediction_log.status import PredictionLogStatus, PrunedRows
from app.telemetry.metrics import Metrics

QUEUE_ROWS = 100_000
QUEUE_BYTES = 64 * 2**20
"""Rows in the queue, and bytes of their features, whichever is fewer."""

TRANSACTION_ROWS = 5_000
FLUSH_INTERVAL_S = 0.1
RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

log = logging.getLogger(__name__)


class PredictionLog:
    """Queues rows, and has them written.

    Args:
        writer: Writer of the rows.
        metrics: Metrics that count written and dropped rows.
        enabled: Whether predictions are logged.
        key_id_of: Gives the id of a request's key by its headers; None where none is needed.

    Attributes:
        enabled: Whether predictions are logged.
        durable: Whether an answer waits for its log.
        started: Whether the writer has started, or has failed to: then it is tried again beside the requests.
    """

    durable = False

    def __init__(
        self, writer: LogWriter, metrics: Metrics, *, enabled: bool = True,
        key_id_of: Callable[[Headers], str | None] = lambda headers: None,
    ) -> None:  # fmt: skip
        self.enabled = enabled
        self.started = not enabled
        self._writer = writer
        self._metrics = metrics
        self._pruned = PrunedRows(writer, metrics)
        self._key_id_of = key_id_of
        self._newest: dict[str | None, LoggedPredictions] = {}
        self._most_rows = QUEUE_ROWS
        self._queue: deque[LoggedPredictions] = deque()
        # Each count is written by one thread only: the event loop's, and the writing one.
        self._recorded = 0
        self._written = 0
        self._last_error: str | None = None
        self._writing = threading.Lock()
        if enabled:
            metrics.logged_predictions.labels("dropped")  # so that the first dropped row is an increase

    @property
    def status(self) -> PredictionLogStatus:
        """Rows in the queue, and the last fault."""
        return PredictionLogStatus(self.enabled, self._queued(), self._last_error)

    def record(
        self,
        request_id: str,
        prediction_type: str,
        model: tuple[str, str],
        names: tuple[str, ...],
        rows: NDArray[np.float64],
        predictions: NDArray[np.float64],
        categories: Categories | None = None,
        intervals: Intervals | None = None,
        difficulty: bytes = b"",
        latency_ms: float | None = None,
        places: tuple[int, ...] | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Queue the rows of a request. Rows beyond the room in the queue are dropped and counted.

        Args:
            request_id: Id of the request.
            prediction_type: Kind of prediction, such as `single` or `batch`.
            model: Name and version of the model.
            names: Names of the F features; always the same object for the same model in service.
            rows: float64[B, F], B > 0; copied.
            predictions: float64[B], or float64[B, K]; copied.
            categories: Value of each code, of each column of categories.
            intervals: Intervals of the model, None for a model without.
            difficulty: Bytes of float64[B], from which the model's intervals are made; empty without.
            latency_ms: Time since the request's start.
            places: Index of each row within the request; None for 0 to B - 1.
            headers: Headers of the request, which may have a key.
        """
        if not self.enabled:
            return
        count, room = len(rows), self._most_rows - self._queued()
        if count > room:
            self._metrics.logged_predictions.labels("dropped").inc(count - max(0, room))
            if room <= 0:
                return
            rows, predictions, difficulty, count = rows[:room], predictions[:room], difficulty[: 8 * room], room
            places = places and places[:room]
        key_id = self._key_id_of(headers or {})
        newest, outputs = self._newest.get(key_id), predictions.size // count
        fits = newest is not None and newest.names is names and newest.outputs == outputs
        if newest is None or not fits or newest.count >= TRANSACTION_ROWS:
            self._seal()
            calibration = None if intervals is None else intervals.default
            newest = self._newest[key_id] = LoggedPredictions(
                model, names, outputs, categories or {}, calibration=calibration, key_id=key_id
            )
            self._most_rows = min(QUEUE_ROWS, QUEUE_BYTES // (8 * (len(names) + outputs)))
        request = LoggedRequest(request_id, prediction_type, time.time(), count, latency_ms, places)
        newest.add(request, rows.tobytes(), predictions.tobytes(), difficulty)
        self._recorded += count

    def _seal(self) -> None:
        """Move the newest rows of each key into the queue, as batches that grow no more; on the event loop only."""
        self._queue += self._newest.values()
        self._newest = {}

    def _queued(self) -> int:
        """Rows that are not written, those included that are being written."""
        return self._recorded - self._written

    async def run(self) -> None:
        """Have rows written for ever. A failed write is retried with the same rows, with backoff."""
        if (fault := await asyncio.to_thread(self._writer.start)) is not None:
            self._note(fault)
        self.started = True
        delay = FLUSH_INTERVAL_S
        while True:
            await asyncio.sleep(delay)
            self._seal()
            if self._pruned.is_due:
                await asyncio.to_thread(self._pruned.ask)
            if not self._queue or await asyncio.to_thread(self._flush):
                delay = FLUSH_INTERVAL_S
            else:
                delay = min(max(RETRY_S, 2 * delay), LONGEST_RETRY_S)

    def flush(self) -> bool:
        """Write all queued rows. Blocks on the database; no other thread may record meanwhile.

        Returns:
            Whether all rows are written.
        """
        self._seal()
        return self._flush()

    def _flush(self) -> bool:
        with self._writing:
            while batch := self._take():
                if not self._write(batch):
                    return False
        return True

    def close(self) -> None:
        """Try once to write the remaining rows, and close the database."""
        if self.enabled and not self.flush():
            self._metrics.logged_predictions.labels("dropped").inc(self._queued())
            log.error("predictions left unlogged at shutdown", extra={"rows": self._queued()})
        self._writer.close()

    def _write(self, batch: list[LoggedPredictions]) -> bool:
        count = sum(predictions.count for predictions in batch)
        for predictions in batch:
            if predictions.categories:
                predictions.drop_unused_categories()
        fault = self._writer.write(batch)
        if fault is None:
            self._written += count
            self._metrics.logged_predictions.labels("written").inc(count)
        else:
            self._queue.extendleft(reversed(batch))
        self._note(fault)
        return fault is None

    def _note(self, fault: str | None) -> None:
        """Keep the last fault, and log a new one."""
        if fault is not None and self._last_error != fault:
            log.warning("prediction log cannot be written", extra={"error": fault})
        self._last_error = fault

    def _take(self) -> list[LoggedPredictions]:
        """Oldest rows of the queue, enough for one transaction."""
        batch: list[LoggedPredictions] = []
        count = 0
        while self._queue and count < TRANSACTION_ROWS:
            batch.append(self._queue.popleft())
            count += batch[-1].count
        return batch
