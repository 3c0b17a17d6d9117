"""Scores a share of the answered rows by a second model, beside the requests, and shows how far apart the two are.

Requests leave their rows in a bounded queue, and a background task scores them a few at a time. Rows that find no
place are dropped and counted: no answer is held up for its comparison.
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

from app.codecs.rules import FloatArray
from app.feature import Feature
from app.models.identity import ModelIdentity
from app.models.served import ServedModel
from app.models.slot import ModelSlot
from app.serving.share import Share
from app.telemetry.metrics import Metrics

QUEUE_ROWS = 10_000

CHUNK_ELEMENTS = 250
"""Predicted numbers that are compared at a time. The histogram takes them one by one, at 1.4 µs each under the GIL, so
this is how long others wait for it."""

CHUNK_SECONDS = 0.05
"""Cost of the chunks that dear rows come in."""

PAUSE_S = 0.025
"""Before every chunk: requests that come one by one share one, and comparing (0.7 to 0.9 ms a chunk, of which the model
is a small part if it is cheap) takes 4 % of one processor at most. What comes faster than 10,000 numbers a second fills
the queue."""

NICENESS = 10

log = logging.getLogger(__name__)


class _Answers(NamedTuple):
    """Rows of one request and what was answered.

    Attributes:
        served: The model that answered.
        rows: float64[B, F], in that model's column order.
        prediction: float64[B] or float64[B, K].
    """

    served: ServedModel
    rows: FloatArray
    prediction: FloatArray


class Shadow:
    """Queues answered rows and scores them by the slot's shadow.

    Args:
        slot: Holds the shadow.
        metrics: Where rows are counted and differences shown.
        percent: Share of the requests whose rows are scored, from 0 to 100.

    Attributes:
        queued: Rows that wait or are being scored.
    """

    def __init__(self, slot: ModelSlot, metrics: Metrics, percent: float) -> None:
        self.queued = 0
        self._slot = slot
        self._metrics = metrics
        self._share = Share(percent, b"shadow")
        self._queue: deque[_Answers] = deque()
        self._waiting = asyncio.Event()
        self._scoring = asyncio.Lock()
        self._last_failed: ModelIdentity | None = None
        # A thread of its own: none that predictions need waits for a shadow.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="shadow", initializer=_give_way)

    def offer(self, served: ServedModel, rows: FloatArray, prediction: FloatArray, request_id: str) -> None:
        """Queue what was answered, if the request is in the share and there is a shadow of another version.

        Of more rows than there is room for, as many as fit are taken, evenly spaced: bulk requests, which can be
        larger than the queue, would otherwise never be compared, and their first rows need not be like the rest.

        Args:
            served: The model that answered.
            rows: float64[B, F], not changed afterwards.
            prediction: float64[B] or float64[B, K], not changed afterwards.
            request_id: Decides whether the request is in the share.
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
            self._count("dropped", len(rows) - taken)
            if not taken:
                return
            # Copies, so that the queue does not keep all of a large request.
            rows, prediction = rows[::step].copy(), prediction[::step].copy()
        self._queue.append(_Answers(served, rows, prediction))
        self.queued += len(rows)
        self._waiting.set()

    async def run(self) -> None:
        """Score what is queued, for ever."""
        while True:
            await self._waiting.wait()
            await asyncio.sleep(PAUSE_S)
            await self.score()

    async def score(self) -> None:
        """Score the oldest rows, as many as fit into one chunk, by the shadow that is there now."""
        async with self._scoring:
            if not self._queue:
                return
            shadow = self._slot.shadow
            chunk = self._next(shadow)
            served, count = chunk[0].served, sum(len(answers.rows) for answers in chunk)
            try:
                if shadow is None or shadow.identity.is_same_version(served.identity):
                    self._count("dropped", count)
                    return
                loop = asyncio.get_running_loop()
                difference = await loop.run_in_executor(self._executor, _difference, shadow, served, chunk)
                self._show(shadow, served, difference)
            except Exception as error:  # whatever is wrong with a shadow, the next one may be better
                self._fail(shadow, served, count, error)
            finally:
                self.queued -= count
                if not self._queue:
                    self._waiting.clear()

    def close(self) -> None:
        """Let go of the thread; a chunk that is under way is not waited for."""
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

        Here and not in the thread: a loop in Python holds the GIL wherever it runs, and a thread that gives way to
        others might be put aside while it holds it.
        """
        finite = np.isfinite(difference).reshape(len(difference), -1).all(axis=1)
        scored = int(np.count_nonzero(finite))
        if scored:
            histogram = self._metrics.shadow_difference.labels(served.identity.version, shadow.identity.version)
            for value in difference[finite].ravel().tolist():
                histogram.observe(value)
            self._count("scored", scored)
        if scored < len(difference):
            self._fail(shadow, served, len(difference) - scored, ValueError("the difference is not finite"))

    def _fail(self, shadow: ServedModel | None, served: ServedModel, rows: int, error: Exception) -> None:
        self._count("failed", rows)
        if shadow is None or (self._last_failed and self._last_failed.is_same_version(shadow.identity)):
            return
        self._last_failed = shadow.identity
        log.warning(
            "shadow cannot be compared",
            extra={"shadow_version": shadow.identity.version, "model_version": served.identity.version},
            exc_info=error,
        )

    def _count(self, outcome: Literal["scored", "dropped", "failed"], rows: int) -> None:
        self._metrics.shadow_rows.labels(outcome).inc(rows)


def _difference(shadow: ServedModel, served: ServedModel, chunk: list[_Answers]) -> FloatArray:
    """The shadow's predictions minus those that were answered, float64[B] or float64[B, K].

    Raises:
        ValueError: They differ in shape, or the shadow asks for a feature that the answering model does not take.
    """
    rows = np.concatenate([answers.rows for answers in chunk])
    answered = np.concatenate([answers.prediction for answers in chunk])
    predicted = shadow.engine.predict(_arranged(rows, served.artifact.features, shadow.artifact.features))
    if predicted.shape != answered.shape:
        raise ValueError(f"the shadow predicts {predicted.shape}, and {answered.shape} was answered")
    with np.errstate(invalid="ignore", over="ignore"):
        return predicted - answered


def _arranged(rows: FloatArray, have: tuple[Feature, ...], want: tuple[Feature, ...]) -> FloatArray:
    """Rows in another model's column order; an optional feature that they do not have is missing in all of them."""
    columns = {feature.name: index for index, feature in enumerate(have)}
    arranged = np.full((len(rows), len(want)), np.nan)
    for index, feature in enumerate(want):
        if feature.name in columns:
            arranged[:, index] = rows[:, columns[feature.name]]
        elif feature.required:
            raise ValueError(f"the shadow requires {feature.name!r}, which the model that answered does not take")
    return arranged


def _give_way() -> None:
    """Have the thread run after all others. Only on Linux is this set for a thread alone."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
