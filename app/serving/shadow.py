"""Comparison of the model in use with a second model, the shadow, on a share of the answered rows.

Requests put their rows into a bounded queue, and a background task scores them, a few at a time. Rows for which the
queue has no room are dropped and counted, so that no answer waits for its comparison.
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np

from app.codecs.categories import recoded
from app.codecs.rules import FloatArray
from app.feature import Feature
from app.models.identity import ModelIdentity
from app.models.served import ServedModel
from app.models.slot import ModelSlot
from app.serving.share import Share
from app.telemetry.metrics import Metrics

QUEUE_ROWS = 10_000

CHUNK_ELEMENTS = 250
"""Predicted numbers that are compared at a time. The histogram takes 1.4 µs for each and holds the GIL meanwhile, which
bounds how long requests wait for it."""

CHUNK_SECONDS = 0.05
"""Largest cost of a chunk."""

PAUSE_S = 0.025
"""Pause before each chunk, in which single requests gather into one chunk. Comparing a chunk takes 0.7 to 0.9 ms, so it
takes 4 % of one processor at most. More than 10,000 numbers a second fill the queue."""

NICENESS = 10

log = logging.getLogger(__name__)


class _Answers(NamedTuple):
    """Rows of one request and their predictions.

    Attributes:
        served: Model that answered.
        rows: float64[B, F], in that model's column order.
        prediction: float64[B] or float64[B, K].
    """

    served: ServedModel
    rows: FloatArray
    prediction: FloatArray


class Compared(NamedTuple):
    """Differences of a shadow's predictions from those that were answered, the shadow's less the other's.

    Attributes:
        version: Version of the shadow.
        predictions: Number of predictions that were compared.
        total: Sum of the differences.
        size: Sum of the differences without their signs.
    """

    version: str
    predictions: int = 0
    total: float = 0.0
    size: float = 0.0


class Shadow:
    """Queues answered rows and scores them by the slot's shadow.

    Args:
        slot: Slot with the shadow.
        metrics: Metrics of the service.
        percent: Share of the requests whose rows are scored, from 0 to 100.

    Attributes:
        queued: Number of rows that wait or are being scored.
        compared: Differences of the last version that was a shadow; None before the first.
    """

    def __init__(self, slot: ModelSlot, metrics: Metrics, percent: float) -> None:
        self.queued = 0
        self.compared: Compared | None = None
        self._slot = slot
        self._metrics = metrics
        self._share = Share(percent, b"shadow")
        self._queue: deque[_Answers] = deque()
        self._waiting = asyncio.Event()
        self._scoring = asyncio.Lock()
        self._last_failed: ModelIdentity | None = None
        # A thread of its own, so that no thread for predictions is busy with a shadow.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="shadow", initializer=_lower_priority)

    def offer(self, served: ServedModel, rows: FloatArray, prediction: FloatArray, request_id: str) -> None:
        """Queue answered rows, if the request is in the share and there is a shadow of another version.

        If the queue has too little room, it takes as many rows as fit, evenly spaced. Otherwise bulk requests larger
        than the queue would never be compared; and their first rows alone may differ from the rest.

        Args:
            served: Model that answered.
            rows: float64[B, F], not changed afterwards.
            prediction: float64[B] or float64[B, K], not changed afterwards.
            request_id: Id of the request, which decides whether it is in the share.
        """
        shadow = self._slot.shadow
        if shadow is None or not self._share or shadow.identity.is_same_version(served.identity) or not len(rows):
            return
        if request_id.encode() not in self._share:
            return
        room = QUEUE_ROWS - self.queued
        if len(rows) > room:
            step = -(-len(rows) // room) if room else 0
            taken = -(-len(rows) // step) if step else 0
            self._count(served, "dropped", len(rows) - taken)
            if not taken:
                return
            # Copies, so that the queue does not keep all of a large request.
            rows, prediction = rows[::step].copy(), prediction[::step].copy()
        self._queue.append(_Answers(served, rows, prediction))
        self.queued += len(rows)
        self._waiting.set()

    async def run(self) -> None:
        """Score queued rows until cancelled."""
        while True:
            await self._waiting.wait()
            await asyncio.sleep(PAUSE_S)
            await self.score()

    async def score(self) -> None:
        """Score the oldest rows, as many as fit into one chunk, by the current shadow."""
        async with self._scoring:
            if not self._queue:
                return
            shadow = self._slot.shadow
            chunk = self._next(shadow)
            served, count = chunk[0].served, sum(len(answers.rows) for answers in chunk)
            try:
                if shadow is None or shadow.identity.is_same_version(served.identity):
                    self._count(served, "dropped", count)
                    return
                loop = asyncio.get_running_loop()
                difference = await loop.run_in_executor(self._executor, _difference, shadow, served, chunk)
                self._show(shadow, served, difference)
            except Exception as error:  # the next shadow may work
                self._fail(shadow, served, count, error)
            finally:
                self.queued -= count
                if not self._queue:
                    self._waiting.clear()

    def close(self) -> None:
        """End the thread, without waiting for a chunk that is being scored."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _next(self, shadow: ServedModel | None) -> list[_Answers]:
        """The oldest answers of one model, as many rows as fit into one chunk."""
        served, _, prediction = self._queue[0]
        room = max(1, CHUNK_ELEMENTS // prediction[0].size)
        if shadow is not None:
            room = shadow.engine.chunk(room, CHUNK_SECONDS)
        chunk: list[_Answers] = []
        while room and self._queue and self._queue[0].served is served:
            answers = self._queue.popleft()
            if len(answers.rows) > room:
                self._queue.appendleft(_Answers(served, answers.rows[room:], answers.prediction[room:]))
                answers = _Answers(served, answers.rows[:room], answers.prediction[:room])
            chunk.append(answers)
            room -= len(answers.rows)
        return chunk

    def _show(self, shadow: ServedModel, served: ServedModel, difference: FloatArray) -> None:
        """Count rows and differences, float64[B] or float64[B, K].

        This runs on the event loop and not in the thread: a loop in Python holds the GIL wherever it runs, and a thread
        of low priority might be suspended while it holds the GIL.
        """
        finite = np.isfinite(difference).reshape(len(difference), -1).all(axis=1)
        scored = int(np.count_nonzero(finite))
        if scored:
            histogram = self._metrics.shadow_difference.labels(
                served.identity.name, served.identity.version, shadow.identity.version
            )
            values = difference[finite].ravel()
            for value in values.tolist():
                histogram.observe(value)
            self._add(shadow.identity.version, values)
            self._count(served, "scored", scored)
        if scored < len(difference):
            self._fail(shadow, served, len(difference) - scored, ValueError("the difference is not finite"))

    def _add(self, version: str, values: FloatArray) -> None:
        """Add differences to those of the version. A histogram with negative bounds has no sum that could be read."""
        known = self.compared if self.compared is not None and self.compared.version == version else Compared(version)
        total, size = known.total + float(values.sum()), known.size + float(np.abs(values).sum())
        self.compared = Compared(version, known.predictions + len(values), total, size)

    def _fail(self, shadow: ServedModel | None, served: ServedModel, rows: int, error: Exception) -> None:
        self._count(served, "failed", rows)
        if shadow is None or (self._last_failed and self._last_failed.is_same_version(shadow.identity)):
            return
        self._last_failed = shadow.identity
        log.warning(
            "shadow cannot be compared",
            extra={"shadow_version": shadow.identity.version, "model_version": served.identity.version},
            exc_info=error,
        )

    def _count(self, served: ServedModel, outcome: Literal["scored", "dropped", "failed"], rows: int) -> None:
        self._metrics.shadow_rows.labels(served.identity.name, outcome).inc(rows)


def _difference(shadow: ServedModel, served: ServedModel, chunk: list[_Answers]) -> FloatArray:
    """Predictions of the shadow minus the answered ones, float64[B] or float64[B, K].

    Raises:
        ValueError: They differ in shape, or the shadow requires a feature that the answering model does not have.
    """
    rows = np.concatenate([answers.rows for answers in chunk])
    answered = np.concatenate([answers.prediction for answers in chunk])
    predicted = shadow.engine.predict(_arranged(rows, served.artifact.features, shadow.artifact.features))
    if predicted.shape != answered.shape:
        raise ValueError(f"the shadow predicts {predicted.shape}, and {answered.shape} was answered")
    with np.errstate(invalid="ignore", over="ignore"):
        return predicted - answered


def _arranged(rows: FloatArray, have: tuple[Feature, ...], want: tuple[Feature, ...]) -> FloatArray:
    """Rows as another model takes them: in its column order, with its codes of categories.

    An optional feature that they lack is NaN in all of them, and so is a category that the other model does not know.
    """
    columns = {feature.name: index for index, feature in enumerate(have)}
    arranged = np.full((len(rows), len(want)), np.nan)
    for index, feature in enumerate(want):
        if feature.name in columns:
            column = columns[feature.name]
            arranged[:, index] = recoded(rows[:, column], have[column], feature)
        elif feature.required:
            raise ValueError(f"the shadow requires {feature.name!r}, which the model that answered does not take")
    return arranged


def _lower_priority() -> None:
    """Lower the priority of the current thread. Only Linux has priorities of single threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
