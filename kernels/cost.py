"""What a batch costs on a backend, measured."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

REPEATS = 7
SMALL_CALLS = 20
"""Rows that are timed one by one: a row of its own each, as a busy service meets, for what a processor has guessed
right for the last one it guesses wrong for the next."""

LARGE_ROWS = 512


Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Cost(msgspec.Struct, frozen=True):
    """A batch of B rows takes `fixed_seconds + seconds_per_row * B`."""

    fixed_seconds: Seconds
    seconds_per_row: Seconds

    def of(self, rows: int) -> float:
        """Seconds for a batch of this many rows."""
        return self.fixed_seconds + self.seconds_per_row * rows


def vary(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows to measure with, like the sample's (but for its zeros) and all different: float64[512, F].

    Args:
        sample: float64[N, F], N >= 1.
    """
    random = np.random.default_rng(0)
    rows = np.resize(sample, (LARGE_ROWS, sample.shape[1]))
    return np.where(rows == 0, random.normal(size=rows.shape), rows * random.uniform(0.7, 1.3, rows.shape))


def measure(
    predictors: Sequence[Callable[[NDArray[np.float64]], object]], rows: NDArray[np.float64]
) -> tuple[Cost, ...]:
    """Measure the cost of each predictor.

    A line through the medians of single rows and of a batch of all. Predictors take turns, so that a machine which gets
    slower meanwhile does so for all of them.

    Args:
        predictors: Called with float64[B, F].
        rows: float64[512, F], as `vary` makes them.
    """
    timings: dict[tuple[int, int], list[float]] = {}
    for repeat in range(REPEATS):
        singles = [rows[index : index + 1] for index in range(repeat * SMALL_CALLS, (repeat + 1) * SMALL_CALLS)]
        for index, predict in enumerate(predictors):
            for batches in (singles, [rows]):
                started = time.perf_counter()
                for batch in batches:
                    predict(batch)
                seconds = (time.perf_counter() - started) / len(batches)
                timings.setdefault((index, len(batches[0])), []).append(seconds)
    costs: list[Cost] = []
    for index in range(len(predictors)):
        one = statistics.median(timings[index, 1])
        many = statistics.median(timings[index, LARGE_ROWS])
        per_row = max(0.0, (many - one) / (LARGE_ROWS - 1))
        costs.append(Cost(max(0.0, one - per_row), per_row))
    return tuple(costs)
