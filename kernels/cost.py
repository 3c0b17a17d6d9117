"""The time that batches take on a backend, measured."""

import itertools
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

REPEATS = 7
SMALL_CALLS = 20
"""Single rows that are timed in each repeat, all different: for the same row again and again a processor predicts every
branch, as it cannot for a service's rows."""

FACTOR = 8
"""Ratio of each measured size to the one before."""

SIZES = (1, 8, 64, 512)
"""Batch sizes that every backend is measured with."""

LARGE_REPEATS = 3


class Cost(msgspec.Struct, frozen=True):
    """Seconds that batches of some sizes take; between sizes they are interpolated.

    Beyond the largest size, seconds are proportional to rows.

    Attributes:
        rows: Batch sizes, ascending.
        seconds: Time of a batch of each size; not descending, the last one above 0.

    Raises:
        ValueError: Sizes or seconds break these rules.
    """

    rows: tuple[Annotated[int, msgspec.Meta(ge=1)], ...]
    seconds: tuple[Annotated[float, msgspec.Meta(ge=0)], ...]

    def __post_init__(self) -> None:
        """Check the values, be they given or decoded."""
        if not 0 < len(self.rows) == len(self.seconds):
            raise ValueError("a cost needs at least one size, and seconds for each")
        if any(size >= larger for size, larger in itertools.pairwise(self.rows)):
            raise ValueError("a cost's sizes must ascend")
        if any(fewer > more for fewer, more in itertools.pairwise(self.seconds)) or self.seconds[-1] <= 0:
            raise ValueError("a cost's seconds must not descend, and end above 0")

    def of(self, rows: int) -> float:
        """Seconds for a batch of this many rows."""
        sizes, seconds = self.rows, self.seconds
        if rows <= sizes[0]:
            return seconds[0]
        if rows >= sizes[-1]:
            return seconds[-1] * rows / sizes[-1]
        above = bisect_right(sizes, rows)
        below = above - 1
        share = (rows - sizes[below]) / (sizes[above] - sizes[below])
        return seconds[below] + share * (seconds[above] - seconds[below])

    def rows_within(self, seconds: float) -> int:
        """Rows of the largest batch that takes at most this many seconds; 0 if not even one row does."""
        sizes, known = self.rows, self.seconds
        if seconds >= known[-1]:
            return int(sizes[-1] * (seconds / known[-1]))
        above = bisect_right(known, seconds)
        if above == 0:
            return 0
        below = above - 1
        share = (seconds - known[below]) / (known[above] - known[below])
        return int(sizes[below] + share * (sizes[above] - sizes[below]))


def vary(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows to measure with: float64[512, F], all different, each like a row of the sample (its zeros become random).

    Args:
        sample: float64[N, F], N >= 1.
    """
    random = np.random.default_rng(0)
    rows = np.resize(sample, (SIZES[-1], sample.shape[1]))
    return np.where(rows == 0, random.normal(size=rows.shape), rows * random.uniform(0.7, 1.3, rows.shape))


def measure(
    predictors: Sequence[Callable[[NDArray[np.float64]], object]], rows: NDArray[np.float64]
) -> tuple[Cost, ...]:
    """Measure the cost of each predictor, for batches of up to 512 rows.

    Costs are medians of single rows and of batches. Predictors take turns, so that a machine that slows down meanwhile
    does so for all of them.

    Args:
        predictors: Called with float64[B, F].
        rows: float64[512, F], from `vary`.
    """
    timings: dict[tuple[int, int], list[float]] = {}
    for repeat in range(REPEATS):
        singles = [rows[index : index + 1] for index in range(repeat * SMALL_CALLS, (repeat + 1) * SMALL_CALLS)]
        for index, predict in enumerate(predictors):
            for batches in (singles, *([rows[:size]] for size in SIZES[1:])):
                timings.setdefault((index, len(batches[0])), []).append(_seconds(predict, batches))
    return tuple(
        _cost({size: statistics.median(timings[index, size]) for size in SIZES}) for index in range(len(predictors))
    )


def measure_larger(
    cost: Cost, predict: Callable[[NDArray[np.float64]], object], rows: NDArray[np.float64], largest: int
) -> Cost:
    """A cost extended to larger batches, each eight times the size of the one before.

    Args:
        cost: The same predictor's, from `measure`.
        predict: Called with float64[B, F].
        rows: float64[512, F], repeated.
        largest: Size of the largest batch.
    """
    medians = dict(zip(cost.rows, cost.seconds, strict=True))
    size = cost.rows[-1]
    while size < largest:
        size = min(size * FACTOR, largest)
        batch = np.resize(rows, (size, rows.shape[1]))
        predict(batch)  # not timed: it may allocate larger buffers, which are kept
        medians[size] = statistics.median(_seconds(predict, [batch]) for _ in range(LARGE_REPEATS))
    return _cost(medians)


def _seconds(predict: Callable[[NDArray[np.float64]], object], batches: list[NDArray[np.float64]]) -> float:
    """Mean seconds of a batch."""
    started = time.perf_counter()
    for batch in batches:
        predict(batch)
    return (time.perf_counter() - started) / len(batches)


def _cost(medians: dict[int, float]) -> Cost:
    """A cost of ascending seconds above 0, even where a clock is coarse or a larger batch happened to take less."""
    seconds = itertools.accumulate((max(value, 1e-9) for value in medians.values()), max)
    return Cost(tuple(medians), tuple(seconds))
