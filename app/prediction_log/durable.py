"""A log of predictions that loses no row of an answered request.

The rows of a request are in a file on the disk before its answer is sent. The writing process reads the file, and tells
how far it has come; a file whose rows are all written is deleted.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from app.errors import PredictionLogUnavailable
from app.headers import Headers
from app.prediction_log.messages import Categories, Drained, Intervals
from app.prediction_log.process import LogWriter
from app.prediction_log.spool.group_commit import GroupCommit
from app.prediction_log.spool.left import LeftSpools
from app.prediction_log.spool.records import SpooledModel, SpooledRequest, encode
from app.prediction_log.spool.segments import Spool
from app.prediction_log.status import PredictionLogStatus, PrunedRows
from app.telemetry.counters import FastHistogram
from app.telemetry.metrics import LATENCY_BUCKETS_S, Metrics

DRAIN_INTERVAL_S = 0.1
LONGEST_INTERVAL_S = 1.0
"""Pause before the next look for rows to write, and while nothing can be written."""

CLOSE_S = 3.0
"""Time for writing rows when the service ends; the others stay in the spool."""

MODELS = 8
"""Number of models whose records are kept, a few more than can be in service together."""

IS_NOT_OPEN = "The prediction could not be logged: the log is not open."

log = logging.getLogger(__name__)

Model = tuple[tuple[str, str], int, int, str | None]
"""Name and version of a model, identity of the tuple of its features' names, number of outputs, and id of a key."""


class DurableLog:
    """Puts rows into the spool, and has them written.

    Args:
        writer: Writer of the rows.
        metrics: Metrics that count rows and time flushes.
        spool: Holds the rows until they are written.
        key_id_of: Gives the id of a request's key by its headers; None where none is needed.
        left: Spools of workers that are no more, whose rows are written here; None where another process does.

    Attributes:
        enabled: Whether predictions are logged.
        durable: Whether an answer waits for its log.
        started: Whether the spool is open.
    """

    enabled = True
    durable = True

    def __init__(
        self, writer: LogWriter, metrics: Metrics, spool: Spool,
        key_id_of: Callable[[Headers], str | None] = lambda headers: None, left: LeftSpools | None = None,
    ) -> None:  # fmt: skip
        self.started = False
        self._left = left
        self._writer = writer
        self._pruned = PrunedRows(writer, metrics)
        self._written = metrics.logged_predictions.labels("written")
        self._damaged = Counter(
            "prediction_log_damaged_bytes", "Bytes of the spool that could not be read.", registry=metrics.registry
        )
        self._flushes = FastHistogram(
            "prediction_log_flush_seconds",
            "Time until the rows of a group of requests were on the disk.",
            (),
            LATENCY_BUCKETS_S,
            metrics.registry,
        )
        self._spool = spool
        self._key_id_of = key_id_of
        self._commit: GroupCommit | None = None
        self._models: dict[Model, tuple[int, bytes, tuple[object, ...]]] = {}
        self._numbers = 0
        self._open_fault: str | None = None
        self._writer_fault: str | None = None
        self._writing = threading.Lock()
        self._ends = float("inf")

    @property
    def status(self) -> PredictionLogStatus:
        """Rows that are not written, and the last fault. Rows of earlier starts are not counted."""
        spool_fault = self._open_fault if self._commit is None else self._commit.fault
        return PredictionLogStatus(True, self._spool.rows, spool_fault or self._writer_fault)

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
    ) -> asyncio.Future[None]:
        """Have the rows of a request flushed to the disk; on the event loop only.

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

        Returns:
            Done when the rows are on the disk, and may be answered. It raises PredictionLogUnavailable if they cannot
            be; then nothing of them is kept.

        Raises:
            PredictionLogUnavailable: The log is not open.
        """
        if self._commit is None:
            raise PredictionLogUnavailable(IS_NOT_OPEN)
        count = len(rows)
        key_id = self._key_id_of(headers or {})
        number, declaration = self._declared(model, names, predictions.size // count, categories, intervals, key_id)
        request = SpooledRequest(
            number, request_id, prediction_type, time.time(), count, rows.tobytes(), predictions.tobytes(),
            difficulty, latency_ms, places,
        )  # fmt: skip
        return self._commit.append(encode(request, count), count, number, declaration)

    async def run(self) -> None:
        """Open the spool, and have its rows written for ever."""
        delay = DRAIN_INTERVAL_S
        started = asyncio.create_task(asyncio.to_thread(self._writer.start))
        loop = asyncio.get_running_loop()
        while self._commit is None and not await asyncio.to_thread(self._open, loop):  # noqa: ASYNC110
            await asyncio.sleep(LONGEST_INTERVAL_S)
        self.started = True
        self._note(await started)
        while True:
            await asyncio.sleep(delay)
            if self._pruned.is_due:
                await asyncio.to_thread(self._pruned.ask)
            goes_on = await asyncio.to_thread(self.flush)
            delay = DRAIN_INTERVAL_S if goes_on else LONGEST_INTERVAL_S

    def flush(self) -> bool:
        """Have the rows written that there are now. Blocks on the database.

        Rows that come meanwhile are left for the next call: a transaction for each few of them would flush the disk as
        often as the requests do.

        Returns:
            Whether they are all written.
        """
        with self._writing:
            spools = [self._spool, *(() if self._left is None else self._left.spools())]
            done = [self._drain(spool) for spool in spools]
            return all(done)

    def _drain(self, spool: Spool) -> bool:
        seen = spool.readable() if spool.waits else []
        while spool.is_left(seen) and time.monotonic() < self._ends:
            drained = self._writer.drain(spool.readable())
            self._note(drained.fault)
            if drained.fault is not None or not self._advance(spool, drained):
                return False
        return not spool.is_left(seen)

    def close(self) -> None:
        """Flush what was recorded, have rows written for a moment, and close the database."""
        self._ends = time.monotonic() + CLOSE_S
        commit, self._commit = self._commit, None
        if commit is not None:
            commit.close()
            self._spool.seal()
            if not self.flush():
                log.warning("predictions stay in the spool", extra={"bytes": self._spool.size})
        self._writer.close()
        self._spool.close()
        if self._left is not None:
            self._left.close()

    def _open(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Open the spool; whether that was possible."""
        try:
            self._spool.open()
        except OSError as error:
            fault = type(error).__name__
            if self._open_fault != fault:
                log.error("the prediction log cannot be opened, and requests are refused", extra={"error": fault})
            self._open_fault = fault
            return False
        self._commit = GroupCommit(self._spool, loop, lambda seconds: self._flushes.observe((), seconds))
        return True

    def _declared(
        self, model: tuple[str, str], names: tuple[str, ...], outputs: int, categories: Categories | None,
        intervals: Intervals | None, key_id: str | None,
    ) -> tuple[int, bytes]:  # fmt: skip
        """Number and record of a model, for requests with a key."""
        declared_by = model, id(names), outputs, key_id
        known = self._models.get(declared_by)
        if known is None:
            if len(self._models) >= MODELS:
                del self._models[next(iter(self._models))]
            self._numbers += 1
            calibration = None if intervals is None else intervals.default
            declared = SpooledModel(self._numbers, model, names, outputs, categories or {}, calibration, key_id)
            record = encode(declared, 0)
            known = self._models[declared_by] = (
                self._numbers,
                record,
                (names, categories),
            )  # so that no id is used again
        return known[0], known[1]

    def _advance(self, spool: Spool, drained: Drained) -> bool:
        """Note what is written; whether there may be more to write now."""
        rows, moved, found = spool.advance(drained)
        if rows:
            self._written.inc(rows)
        torn = drained.torn if found else 0
        if torn:  # the service was killed, or the machine went down, while this was written: no answer was sent
            log.warning("the last record of the spool is incomplete, and is dropped", extra={"bytes": torn})
        if damaged := drained.damaged + drained.torn - torn:
            self._damaged.inc(damaged)
            fields = {"segment": drained.name, "bytes": damaged, "before": drained.position}
            log.error("a part of the spool is damaged, and is passed over", extra=fields)
        return moved

    def _note(self, fault: str | None) -> None:
        """Keep the last fault of the writer, and log a new one."""
        if fault is not None and self._writer_fault != fault:
            log.warning("prediction log cannot be written; rows wait in the spool", extra={"error": fault})
        self._writer_fault = fault
