"""Runs batches: cheap ones on the event loop, dear ones in a thread.

Handing a batch to a thread and back costs tens of microseconds, more than predicting a few rows; a large batch, on
the other hand, would hold up every other request. The engine's measured cost decides.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.models.artifact import ServedModel
from app.telemetry.metrics import Metrics

PredictionType = Literal["single", "batch", "bulk"]
T = TypeVar("T")

INLINE_SECONDS = 0.0005
"""Batches that cost up to this are computed on the event loop."""

THREADS = 2
"""LightGBM's own threads parallelise a large batch, so more of ours would only compete with them."""


class Predictor:
    """Computes predictions and times them.

    Args:
        metrics: Where rows and durations are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="predictor")

    async def predict(
        self, served: ServedModel, rows: NDArray[np.float64], prediction_type: PredictionType
    ) -> NDArray[np.float64]:
        """Predict float64[B, F] raw features.

        A caller that is cancelled (its deadline passed) takes its batch out of the queue if no thread has begun it.

        Returns:
            float64[B], or float64[B, K] for K classes.
        """
        started = time.perf_counter()
        output = await self._run(served, rows)
        if len(rows):
            self.count(served, len(rows), prediction_type, time.perf_counter() - started)
        return output

    async def check(self, served: ServedModel) -> NDArray[np.float64]:
        """Predict the model's sample row by the way that requests go, uncounted."""
        return await self._run(served, served.artifact.sample())

    async def _run(self, served: ServedModel, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if served.engine.cost(len(rows)) <= INLINE_SECONDS:
            return served.engine.predict(rows)
        return await self.in_thread(lambda: served.engine.predict(rows))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work that takes milliseconds or more beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def count(self, served: ServedModel, rows: int, prediction_type: PredictionType, seconds: float) -> None:
        """Count rows that were predicted in `seconds`."""
        version = served.identity.version
        self._metrics.predictions.labels(version, prediction_type).inc(rows)
        self._metrics.prediction_duration.labels(version).observe(seconds)

    def close(self) -> None:
        """Let go of the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)
