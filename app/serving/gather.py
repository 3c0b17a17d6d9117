"""Batching for a device that computes one batch at a time: requests that come while it is busy go to it together.

A GPU takes hardly longer for the rows of ten requests than for those of one. No timer is needed for that: requests
gather only while the device is busy, so a single request never waits.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.cuda.device_thread import DEVICE
from kernels.engine import Engine, Evaluation

LARGEST_BATCH = 262_144
"""Most rows that are put together; one request may have more."""


class _Waiting(NamedTuple):
    engine: Engine
    rows: NDArray[np.float64]
    result: asyncio.Future[Evaluation | None]


class GatherQueue:
    """Queue of the requests for the thread that owns the device."""

    def __init__(self) -> None:
        self._closed = False
        self._waiting: deque[_Waiting] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def evaluate(self, engine: Engine, rows: NDArray[np.float64]) -> Evaluation | None:
        """Evaluate float64[B, F], possibly together with the rows of other requests; None if the device cannot.

        The rows of a caller that is cancelled while it waits are not computed. If they are being computed already, the
        other requests of the batch still get their results.

        Raises:
            RuntimeError: The queue is closed.
            Exception: The engine fails for these rows even when they are alone.
        """
        if self._closed:
            raise RuntimeError("the device's queue is closed")
        waiting = _Waiting(engine, rows, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="device-queue")
        return await waiting.result

    def close(self) -> None:
        """Refuse new requests."""
        self._closed = True

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._evaluate(batch)
        finally:
            self._runner = None

    def _next(self) -> list[_Waiting]:
        """The next batch: requests at the front of the queue for the same engine, as many as fit."""
        batch: list[_Waiting] = []
        total = 0
        while self._waiting:
            waiting = self._waiting[0]
            if not waiting.result.done():
                if batch and (waiting.engine is not batch[0].engine or total + len(waiting.rows) > LARGEST_BATCH):
                    break
                batch.append(waiting)
                total += len(waiting.rows)
            self._waiting.popleft()
        return batch

    async def _evaluate(self, batch: list[_Waiting]) -> None:
        """Evaluate requests together; on failure each half by itself, so that only the request at fault fails."""
        loop = asyncio.get_running_loop()
        try:
            evaluation = await loop.run_in_executor(DEVICE, _evaluate, batch)
        except Exception as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                for half in (batch[:middle], batch[middle:]):
                    if left := [waiting for waiting in half if not waiting.result.done()]:
                        await self._evaluate(left)
            elif not batch[0].result.done():
                batch[0].result.set_exception(error)
            return
        start = 0
        for waiting in batch:
            end = start + len(waiting.rows)
            if not waiting.result.done():
                waiting.result.set_result(part(evaluation, start, end) if evaluation and len(batch) > 1 else evaluation)
            start = end


def _evaluate(batch: list[_Waiting]) -> Evaluation | None:
    """Evaluate a batch in the device's thread, which also joins its rows."""
    rows = batch[0].rows if len(batch) == 1 else np.concatenate([waiting.rows for waiting in batch])
    return batch[0].engine.evaluate_on_device(rows)


def part(evaluation: Evaluation, start: int, end: int) -> Evaluation:
    """The evaluation of rows `start` to `end`."""
    return Evaluation(*(None if array is None else array[start:end] for array in evaluation))  # pyright: ignore[reportArgumentType]


def joined(evaluations: Iterable[Evaluation]) -> Evaluation:
    """One evaluation of all rows; parts that the model does not compute stay None."""
    return Evaluation(*map(_concatenated, zip(*evaluations, strict=True)))


def _concatenated(parts: tuple[Any, ...]) -> Any:
    return parts[0] if len(parts) == 1 or parts[0] is None else np.concatenate(parts)
