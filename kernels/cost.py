"""What a batch costs on a backend, measured."""

import statistics
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

REPEATS = 7
SMALL_CALLS = 20
"""Calls in one timing of a single row: the first ones after a large batch find cold caches, as no busy service does."""

LARGE_ROWS = 512


class Cost(msgspec.Struct, frozen=True):
    """A batch of B rows takes `fixed_seconds + seconds_per_row * B`."""

    fixed_seconds: float
    seconds_per_row: float

    def of(self, rows: int) -> float:
        """Seconds for a batch of this many rows."""
        return self.fixed_seconds + self.seconds_per_row * rows


def measure(
    predictors: Sequence[Callable[[NDArray[np.float64]], object]], sample: NDArray[np.float64]
) -> tuple[Cost, ...]:
    """Measure the cost of each predictor.

    A line through the medians of batches of 1 and of 512 rows. Predictors take turns, so that a machine which gets
    slower meanwhile does so for all of them.

    Args:
        predictors: Called with float64[B, F].
        sample: float64[N, F], N >= 1; rows that batches are tiled from.
    """
    small = sample[:1]
    large = np.resize(sample, (LARGE_ROWS, sample.shape[1]))
    timings: dict[tuple[int, int], list[float]] = {}
    for _ in range(REPEATS):
        for index, predict in enumerate(predictors):
            for batch, calls in ((small, SMALL_CALLS), (large, 1)):
                started = time.perf_counter()
                for _ in range(calls):
                    predict(batch)
                timings.setdefault((index, len(batch)), []).append((time.perf_counter() - started) / calls)
    costs: list[Cost] = []
    for index in range(len(predictors)):
        one = statistics.median(timings[index, 1])
        many = statistics.median(timings[index, LARGE_ROWS])
        per_row = max(0.0, (many - one) / (LARGE_ROWS - 1))
        costs.append(Cost(max(0.0, one - per_row), per_row))
    return tuple(costs)
