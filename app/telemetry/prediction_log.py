"""A log of predictions in a database, written beside the request path.

Requests leave their rows in a bounded queue; a background task has them written in batches, by a process of their own.
When the database is slow or away the queue fills, and rows that find no place are dropped and counted: an answer is
never held up for its log.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.child_process import ChildClosed, ChildGone, ChildNotStarted, ChildProcess
from app.telemetry.log_messages import LoggedPredictions, LoggedRequest, LogTarget
from app.telemetry.metrics import Metrics

QUEUE_ROWS = 10_000
TRANSACTION_ROWS = 5_000
WRITE_TIMEOUT_S = 60.0
"""For one transaction. A database that is away says so sooner, unless the network swallows what is said."""

FLUSH_INTERVAL_S = 0.1
RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

log = logging.getLogger(__name__)


class LogWriter(Protocol):
    """Writes rows; blocks on the database."""

    def write(self, batch: list[LoggedPredictions]) -> str | None:
        """Write the rows of a batch, all or none; returns what kept it from being written."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class LogWriterProcess:
    """A `LogDatabase` in a process of its own, started by the first write, and anew where it has gone.

    Args:
        target: Where rows go.
    """

    def __init__(self, target: LogTarget) -> None:
        self._process = ChildProcess("app.telemetry.log_writer", msgspec.msgpack.encode(target))

    def write(self, batch: list[LoggedPredictions]) -> str | None:
        """See `LogDatabase.write`."""
        content = msgspec.msgpack.encode(batch)
        try:
            try:
                answer = self._process.ask(content, WRITE_TIMEOUT_S)
            except ChildGone:
                answer = self._process.ask(content, WRITE_TIMEOUT_S)
        except (TimeoutError, ChildGone, ChildNotStarted, ChildClosed) as error:
            return type(error).__name__
        return msgspec.msgpack.decode(answer, type=str | None)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.end()


class PredictionLogStatus(msgspec.Struct, frozen=True):
    """What is known of the log."""

    enabled: bool
    queued: int
    last_error: str | None


class PredictionLog:
    """Queues rows and has them written.

    Args:
        writer: Takes them.
        metrics: Where written, dropped and failed rows are counted.
        enabled: Whether there is to be a log.
    """

    def __init__(self, writer: LogWriter, metrics: Metrics, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._writer = writer
        self._metrics = metrics
        self._newest: LoggedPredictions | None = None
        self._queue: deque[LoggedPredictions] = deque()
        # Two counts, each written by one thread alone: the event loop's, and the one that writes.
        self._recorded = 0
        self._taken = 0
        self._last_error: str | None = None
        self._writing = threading.Lock()

    @property
    def status(self) -> PredictionLogStatus:
        """Rows in the queue, and the newest error."""
        return PredictionLogStatus(self.enabled, self._queued(), self._last_error)

    def record(
        self,
        request_id: str,
        prediction_type: str,
        model: tuple[str, str],
        names: tuple[str, ...],
        rows: NDArray[np.float64],
        predictions: NDArray[np.float64],
    ) -> None:
        """Queue a request's rows; those that the queue has no room for are dropped and counted.

        Args:
            request_id: Of the request.
            prediction_type: How they were asked for.
            model: Name and version.
            names: Of the F features; always the same object for the same model in service.
            rows: float64[B, F], B > 0; copied.
            predictions: float64[B], or float64[B, K]; copied.
        """
        if not self.enabled:
            return
        count, room = len(rows), QUEUE_ROWS - self._queued()
        if count > room:
            self._metrics.logged_predictions.labels("dropped").inc(count - max(0, room))
            if room <= 0:
                return
            rows, predictions, count = rows[:room], predictions[:room], room
        newest, outputs = self._newest, predictions.size // count
        fits = newest is not None and newest.names is names and newest.outputs == outputs
        if newest is None or not fits or newest.count >= TRANSACTION_ROWS:
            self._seal()
            newest = self._newest = LoggedPredictions(model, names, outputs)
        request = LoggedRequest(request_id, prediction_type, time.time(), count)
        newest.add(request, rows.tobytes(), predictions.tobytes())
        self._recorded += count

    def _seal(self) -> None:
        """Put the newest rows into the queue; done by who records, since it must not grow while it is written."""
        if self._newest is not None:
            self._queue.append(self._newest)
            self._newest = None

    def _queued(self) -> int:
        return self._recorded - self._taken

    async def run(self) -> None:
        """Have rows written for ever. A failed write is tried again with the same rows, less often each time."""
        delay = FLUSH_INTERVAL_S
        while True:
            await asyncio.sleep(delay)
            self._seal()
            if not self._queue or await asyncio.to_thread(self._flush):
                delay = FLUSH_INTERVAL_S
            else:
                delay = min(max(RETRY_S, 2 * delay), LONGEST_RETRY_S)

    def flush(self) -> bool:
        """Write all that is queued; blocks on the database, and nothing may be recorded meanwhile.

        Returns whether it took it.
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
        """Write what is left, once, and let go of the database."""
        if self.enabled and not self.flush():
            self._metrics.logged_predictions.labels("dropped").inc(self._queued())
            log.error("predictions left unlogged at shutdown", extra={"rows": self._queued()})
        self._writer.close()

    def _write(self, batch: list[LoggedPredictions]) -> bool:
        count = sum(predictions.count for predictions in batch)
        fault = self._writer.write(batch)
        if fault is None:
            self._metrics.logged_predictions.labels("written").inc(count)
        else:
            self._queue.extendleft(reversed(batch))
            self._taken -= count
            if self._last_error != fault:
                log.warning("prediction log cannot be written", extra={"error": fault})
        self._last_error = fault
        return fault is None

    def _take(self) -> list[LoggedPredictions]:
        """The oldest in the queue, as many as go into one transaction."""
        batch: list[LoggedPredictions] = []
        count = 0
        while self._queue and count < TRANSACTION_ROWS:
            batch.append(self._queue.popleft())
            count += batch[-1].count
        self._taken += count
        return batch
