"""The outcomes as the service sees them: taken in threads of their own, and looked at by a background task."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from prometheus_client import CollectorRegistry
from sqlalchemy import exc

from app.codecs.rules import Buffer
from app.errors import Conflict, Overloaded, PredictionLogUnavailable
from app.models.slot import ModelSlot
from app.outcomes.body import read_outcomes
from app.outcomes.report import OutcomesReport
from app.outcomes.store import Fate, OutcomeStore, Refused
from app.outcomes.tracker import OutcomeTracker
from app.prediction_log.engine import NewerSchema
from app.prediction_log.messages import LogTarget

THREADS = 2
MOST_PENDING = 32
"""Requests that wait for a thread or have one, each with a body of at most MAX_JSON_BYTES."""

ANSWER_TIMEOUT_S = 12.0
"""Time limit of writing a request's outcomes: for a connection, for a lock, and for the statements."""

LEAST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 60.0
"""Time between two passes over the tables, if outcomes came here meanwhile, and if none did."""

UNAVAILABLE = "The database of the prediction log does not answer. No outcome was written: send them again later."
NEWER = "No outcome was written, since the tables of the prediction log have a newer schema than this release knows."

T = TypeVar("T")


class Outcomes:
    """Outcomes of predictions, where these are logged in a table.

    Args:
        target: Place of the prediction log.
        slots: The models in service, a slot for each name.
        registry: Registry of metrics.
        window_rows: Newest rows of each version that figures are computed from.

    Attributes:
        reason: Why there are no outcomes; None where there are.
        tracker: Takes them; None where there are none.
    """

    def __init__(
        self, target: LogTarget, slots: Sequence[ModelSlot], registry: CollectorRegistry, window_rows: int
    ) -> None:
        self.reason = _reason(target)
        self.tracker: OutcomeTracker | None = None
        self._window_rows = window_rows
        if self.reason is None:
            self.tracker = OutcomeTracker(OutcomeStore(target), slots, registry, window_rows)
        self._changed = asyncio.Event()
        self._pending = 0
        self._counting = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "outcomes")

    @property
    def report(self) -> OutcomesReport:
        """Error of the model versions in service."""
        if self.tracker is None:
            return OutcomesReport(state="off", reason=self.reason, window_rows=self._window_rows)
        return self.tracker.report

    async def add(self, body: Buffer, content_type: str | None) -> list[Fate | Refused]:
        """Write the outcomes of a body, all of them that are not refused, or none.

        Args:
            body: The body.
            content_type: Its format.

        Returns:
            What became of each.

        Raises:
            Conflict: Predictions are not logged in a table.
            PredictionLogUnavailable: The database does not answer, or its schema is newer.
            Overloaded: Too many requests wait for it.
            ServiceError: The body is not valid, as of `read_outcomes`.
        """
        if self.tracker is None:
            raise Conflict(f"Outcomes cannot be taken: {self.reason}.")
        if self._pending >= MOST_PENDING:
            raise Overloaded("Too many requests with outcomes wait for the database.")
        tracker = self.tracker
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                fates = await self._in_thread(lambda: tracker.add(read_outcomes(body, content_type)))
        except NewerSchema:
            raise PredictionLogUnavailable(NEWER) from None
        except (exc.SQLAlchemyError, OSError, TimeoutError):
            raise PredictionLogUnavailable(UNAVAILABLE) from None
        self._changed.set()
        return fates

    async def run(self) -> None:
        """Read the tables for ever."""
        if self.tracker is None:
            return
        while True:
            await asyncio.sleep(LEAST_PAUSE_S)
            self._changed.clear()
            await self._in_thread(self.tracker.refresh)
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_PAUSE_S - LEAST_PAUSE_S):
                    await self._changed.wait()

    def close(self) -> None:
        """Close the database, once the threads have ended what they do."""
        if self.tracker is not None:
            self.tracker.stop()
        self._threads.shutdown(cancel_futures=True)
        if self.tracker is not None:
            self.tracker.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run work in a thread, which counts as pending until it has ended, even if nobody waits for it any more."""
        with self._counting:
            self._pending += 1
        future = self._threads.submit(work)
        future.add_done_callback(self._ended)
        return await asyncio.wrap_future(future)

    def _ended(self, _: object) -> None:
        with self._counting:
            self._pending -= 1


def _reason(target: LogTarget) -> str | None:
    if target.keep_rows == 0:
        return "predictions are not logged (PREDICTION_LOG, PREDICTION_LOG_ROWS)"
    if target.format != "sql":
        return "predictions are logged in Parquet files, and outcomes need a table (PREDICTION_LOG_FORMAT=sql)"
    return None
