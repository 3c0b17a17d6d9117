"""Runs batches: cheap ones on the event loop, dear ones in threads, and gathered what goes to a device.

Handing a batch to a thread and back costs tens of microseconds, more than predicting a few rows; a large batch, on
the other hand, would hold up every other request. The engine's measured cost decides. A batch that is for a device is
always handed over, however cheap: the event loop never waits for the device. A large batch goes chunk by chunk, never
with more chunks in the queue than there are threads: others find a thread soon, all processors work on it, and when
its caller has gone the rest of it is not computed.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.models.served import ServedModel
from app.serving.gather import LARGEST_BATCH, GatherQueue, joined
from app.telemetry.metrics import Metrics
from kernels.engine import Engine, Evaluation

PredictionType = Literal["single", "batch", "bulk"]
T = TypeVar("T")

INLINE_SECONDS = 0.0005
"""Batches that cost up to this are computed on the event loop."""

CHUNK_SECONDS = 0.02
"""Cost of the chunks that a large batch is cut into."""

THREADS = os.cpu_count() or 1


class Executor:
    """Computes predictions and times them.

    Args:
        metrics: Where rows and durations are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="executor")
        self._gil_thread = ThreadPoolExecutor(1, thread_name_prefix="turn")
        self._device = GatherQueue()

    async def predict(
        self, served: ServedModel, rows: NDArray[np.float64], prediction_type: PredictionType
    ) -> Evaluation:
        """Evaluate float64[B, F] raw features.

        When the caller is cancelled (its deadline passed, or its own caller left), what no thread has begun is not
        computed.
        """
        if len(rows) == 0:
            return served.engine.evaluate(rows)
        started, engine = time.perf_counter(), served.engine
        evaluation = engine.evaluate(rows) if self.is_cheap(served, len(rows)) else await self._run(engine, rows)
        self._count(served.identity.version, prediction_type, len(rows), time.perf_counter() - started)
        return evaluation

    async def check(self, served: ServedModel) -> NDArray[np.float64]:
        """Predict the model's sample row by the way that requests go, uncounted."""
        engine, sample = served.engine, served.artifact.sample()
        evaluation = engine.evaluate(sample) if self.is_cheap(served, 1) else await self._run(engine, sample)
        return evaluation.prediction

    def is_cheap(self, served: ServedModel, rows: int) -> bool:
        """Whether so many rows are for the processor, and cost less than it would to hand them over."""
        engine = served.engine
        return not engine.on_device(rows) and engine.cost(rows) <= INLINE_SECONDS

    def _count(self, version: str, prediction_type: PredictionType, rows: int, seconds: float) -> None:
        self._metrics.predictions.add((version, prediction_type), rows)
        self._metrics.prediction_duration.observe((version,), seconds)

    async def _run(self, engine: Engine, rows: NDArray[np.float64], *, on_cpu: bool = False) -> Evaluation:
        """Evaluate chunk by chunk, by the device if the rows are for it, or by the CPU in any case."""
        total = len(rows)
        evaluations: dict[int, Evaluation] = {}
        begun = 0

        async def work() -> None:
            nonlocal begun
            while begun < total:
                # Asked for each time, since a device that was to compute all may have failed.
                start, left = begun, total - begun
                on_device = not on_cpu and engine.on_device(left)
                size = engine.chunk(left, CHUNK_SECONDS, on_cpu=on_cpu)
                begun = start + min(size, LARGEST_BATCH if on_device else left)
                chunk = rows[start:begun]
                if not on_device:
                    evaluations[start] = await self.in_thread(partial(engine.evaluate_on_cpu, chunk))
                elif (evaluation := await self._device.evaluate(engine, chunk)) is not None:
                    evaluations[start] = evaluation
                else:  # too many rows for one turn of the CPU, and the device's thread is for the device
                    evaluations[start] = await self._run(engine, chunk, on_cpu=True)

        chunks = -(-total // engine.chunk(total, CHUNK_SECONDS, on_cpu=on_cpu))
        workers = [asyncio.ensure_future(work()) for _ in range(min(THREADS, chunks))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:  # where one chunk has failed, the others are of no use
                worker.cancel()
        return joined(evaluations[start] for start in sorted(evaluations))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work that takes milliseconds or more beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def in_gil_thread(self, work: Callable[[], T]) -> T:
        """Run work that holds the interpreter's lock, such as reading JSON, beside the event loop, one at a time.

        More threads would do it no faster, and each of them makes the event loop wait longer for the lock.
        """
        return await asyncio.get_running_loop().run_in_executor(self._gil_thread, work)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._gil_thread.shutdown(wait=False, cancel_futures=True)
        self._device.close()
