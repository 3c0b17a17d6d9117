"""Execution of batches: cheap ones on the event loop, expensive ones in threads, others on a device.

Handing a batch to a thread and back costs tens of microseconds, more than predicting a few rows. A large batch on the
event loop would delay every other request. The measured cost of the engine decides between the two. A batch for a
device is always handed over, so that the event loop never waits for the device.

A large batch is cut into chunks, of which no more are queued at once than there are threads. So all processors work on
it, other requests get a thread soon, and the rest is not computed when the caller has gone.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.models.served import ServedModel
from app.serving.gather import LARGEST_BATCH, GatherQueue, joined
from app.serving.needs import PLAIN, Needs
from app.telemetry.metrics import Metrics
from app.telemetry.stages import Stages
from app.telemetry.tracing.current import current_trace
from kernels.engine import Engine, Evaluation

PredictionType = Literal["single", "batch", "bulk"]
T = TypeVar("T")
Evaluate = Callable[[NDArray[np.float64]], Evaluation]

INLINE_SECONDS = 0.0005
"""Largest cost of a batch that is computed on the event loop."""

CHUNK_SECONDS = 0.02
"""Cost of one chunk of a large batch."""

WEIGHED_ROWS = 1000
"""Rows of the batch by which the cost of a row with an explanation is compared with that of a row alone."""

LEAF_ROWS = 1024
"""Rows of one chunk whose leaves are found, in some 20 ms by LightGBM."""

THREADS = os.cpu_count() or 1
"""Threads of a service, which its workers share."""


class Executor:
    """Computes predictions, and counts their rows and seconds.

    Args:
        metrics: Metrics of the service.
        threads: Number of threads.
    """

    def __init__(self, metrics: Metrics, threads: int = THREADS) -> None:
        self._metrics = metrics
        self._most = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="executor")
        self._device = GatherQueue()

    async def predict(
        self, served: ServedModel, rows: NDArray[np.float64], prediction_type: PredictionType | None,
        needs: Needs = PLAIN, stages: Stages | None = None,
    ) -> Evaluation:  # fmt: skip
        """Evaluate float64[B, F] raw features.

        When the caller is cancelled, because its deadline has passed or its client has gone, chunks that no thread has
        begun are not computed.

        Args:
            served: The model.
            rows: float64[B, F].
            prediction_type: Kind of the request; None for rows that are not counted.
            needs: What to compute beside the predictions. Raw scores take as long again, an explanation longer.
            stages: Stages of the request, which are added to.
        """
        if len(rows) == 0:
            evaluation = served.engine.evaluate(rows)
            evaluation = evaluation._replace(raw_score=evaluation.prediction) if needs.raw_score else evaluation
            return await self._explained(served.engine, rows, needs, evaluation)
        started, engine = time.perf_counter(), served.engine
        begins: list[float] = []
        if self.is_cheap(served, len(rows)):
            evaluation = engine.evaluate(rows)
        else:
            evaluation = await self._run(engine, rows, begins)
        if needs.raw_score:
            evaluation = evaluation._replace(raw_score=await self._raw_score(served, rows))
        ended = time.perf_counter()
        if prediction_type is not None:
            self.count(served, prediction_type, len(rows), ended - started)
        if stages is not None:
            begun = min(begins, default=started)
            if begins:
                stages.append(("queue", started, begun))
            stages.append(("evaluate", begun, ended))
        if needs.is_plain:
            return evaluation
        evaluation = await self._explained(engine, rows, needs, evaluation)
        if stages is not None:
            stages.append(("explain", ended, time.perf_counter()))
        return evaluation

    def evaluate_here(self, served: ServedModel, rows: NDArray[np.float64], needs: Needs) -> Evaluation | None:
        """Evaluate rows in the calling thread, without counting them; None if they are better divided, or on a device.

        So a thread that has decoded rows evaluates them as well, and the request is handed over only once. Rows that
        are to be explained are not evaluated here.
        """
        engine = served.engine
        total = len(rows)
        if not total or engine.on_device(total) or engine.chunk(total, CHUNK_SECONDS, on_cpu=True) < total:
            return None
        if not needs.is_plain:
            return None
        evaluation = engine.evaluate_on_cpu(rows)
        return evaluation._replace(raw_score=engine.raw_score_on_cpu(rows)) if needs.raw_score else evaluation

    async def check(self, served: ServedModel) -> NDArray[np.float64]:
        """Predict the model's sample row in the same way as a request, without counting it."""
        engine, sample = served.engine, served.artifact.sample()
        evaluation = engine.evaluate(sample) if self.is_cheap(served, 1) else await self._run(engine, sample, [])
        return evaluation.prediction

    def is_cheap(self, served: ServedModel, rows: int, needs: Needs = PLAIN) -> bool:
        """Whether a batch of this many rows is computed on the event loop, with all that it needs."""
        engine = served.engine
        cheap = not engine.on_device(rows) and engine.cost(rows) <= INLINE_SECONDS
        return cheap and (needs.is_plain or (not needs.leaves and _explains_cheaply(engine, rows)))

    def weight(self, served: ServedModel, needs: Needs) -> tuple[float, int]:
        """How many times as long as a row alone one takes with what it needs, and numbers that are held for it.

        What is not known yet counts as nothing.
        """
        if needs.is_plain:
            return 1.0, 0
        engine, forest = served.engine, served.artifact.forest
        alone, times, values = engine.cost(WEIGHED_ROWS), 1.0, 0
        if needs.space is not None:
            values += forest.n_outputs * (len(served.feature_names) if needs.space == "raw" else forest.n_features)
            ratio = engine.explain_cost(WEIGHED_ROWS) / alone
            times += ratio if math.isfinite(ratio) else 0.0
        if needs.leaves:
            values += -(-forest.n_trees // 2)  # each takes half a float64
            times += 1.0
        return times, values

    def count(self, served: ServedModel, prediction_type: PredictionType, rows: int, seconds: float) -> None:
        """Count predicted rows, and the seconds that they took."""
        name, version = served.identity.name, served.identity.version
        self._metrics.predictions.add((name, version, prediction_type), rows)
        self._metrics.prediction_duration.observe((name, version), seconds)
        self._metrics.rows.observe((prediction_type,), rows)
        if (trace := current_trace.get()) is not None:
            trace.computed(name, version, prediction_type, rows)

    async def _explained(
        self, engine: Engine, rows: NDArray[np.float64], needs: Needs, evaluation: Evaluation
    ) -> Evaluation:
        """The evaluation with contributions and leaves: on the event loop, or chunk by chunk in threads."""
        if needs.space is not None:
            explain = partial(engine.explain, space=needs.space)
            if _explains_cheaply(engine, len(rows)):
                explanation = explain(rows)
            else:
                parts = await self._in_chunks(explain, rows, engine.explain_chunk(len(rows), CHUNK_SECONDS))
                contributions = np.concatenate([part.contributions for part in parts])
                explanation = parts[0]._replace(contributions=contributions)
            evaluation = evaluation._replace(explanation=explanation)
        if needs.leaves:
            evaluation = evaluation._replace(
                leaves=np.concatenate(await self._in_chunks(engine.leaves, rows, LEAF_ROWS))
            )
        return evaluation

    async def _in_chunks(
        self, compute: Callable[[NDArray[np.float64]], T], rows: NDArray[np.float64], size: int
    ) -> list[T]:
        """What is computed for each `size` rows, in threads. When the caller is cancelled, the rest is not computed."""
        starts = iter(range(0, max(1, len(rows)), size))  # no rows are a chunk, too
        found: dict[int, T] = {}

        async def work() -> None:
            for start in starts:
                found[start] = await self.in_thread(partial(compute, rows[start : start + size]))

        await _together([work() for _ in range(max(1, min(self._most, -(-len(rows) // size))))])
        return [found[start] for start in sorted(found)]

    async def _raw_score(self, served: ServedModel, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw scores by the CPU: on the event loop or in threads, as predictions are computed."""
        engine = served.engine
        if self.is_cheap(served, len(rows)):
            return engine.raw_score_on_cpu(rows)
        scored = await self._run(engine, rows, [], on_cpu=lambda chunk: Evaluation(engine.raw_score_on_cpu(chunk)))
        return scored.prediction

    async def _run(
        self, engine: Engine, rows: NDArray[np.float64], begins: list[float], *, on_cpu: Evaluate | None = None
    ) -> Evaluation:
        """Evaluate chunk by chunk: on the device if the engine chooses it, else in threads.

        Args:
            engine: The engine.
            rows: float64[B, F].
            begins: Times at which threads begin chunks, which are added; the device's thread does not tell.
            on_cpu: Evaluates every chunk, in threads; None to let the engine choose.
        """
        total, in_threads = len(rows), on_cpu is not None
        compute = on_cpu or engine.evaluate_on_cpu
        evaluations: dict[int, Evaluation] = {}
        begun = 0

        async def work() -> None:
            nonlocal begun
            while begun < total:
                # Checked for each chunk, since the device may have failed meanwhile.
                start, left = begun, total - begun
                on_device = not in_threads and engine.on_device(left)
                size = engine.chunk(left, CHUNK_SECONDS, on_cpu=in_threads)
                begun = start + min(size, LARGEST_BATCH if on_device else left)
                chunk = rows[start:begun]
                if not on_device:
                    evaluations[start] = await self.in_thread(partial(_timed, compute, chunk, begins))
                elif (evaluation := await self._device.evaluate(engine, chunk)) is not None:
                    evaluations[start] = evaluation
                else:  # the device failed, and the chunk is too large for a single thread of the CPU
                    evaluations[start] = await self._run(engine, chunk, begins, on_cpu=engine.evaluate_on_cpu)

        chunks = -(-total // engine.chunk(total, CHUNK_SECONDS, on_cpu=in_threads))
        await _together([work() for _ in range(min(self._most, chunks))])
        return joined(evaluations[start] for start in sorted(evaluations))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work that takes milliseconds or more in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._device.close()


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do several works at once, and none of them any more once one has failed."""
    workers = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()


def _explains_cheaply(engine: Engine, rows: int) -> bool:
    """Whether a batch of this many rows is explained on the event loop."""
    return not engine.explains_on_device(rows) and engine.explain_cost(rows) <= INLINE_SECONDS


def _timed(compute: Evaluate, chunk: NDArray[np.float64], begins: list[float]) -> Evaluation:
    begins.append(time.perf_counter())
    return compute(chunk)
