"""What a batch costs on a backend, measured."""

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
"""Rows that are timed one by one: a row of its own each, as a busy service meets, for what a processor has guessed
right for the last one it guesses wrong for the next."""

FACTOR = 8
"""From one size that is measured to the next."""

SIZES = (1, 8, 64, 512)
"""Rows of the batches that every backend is measured with."""

LARGE_REPEATS = 3


class Cost(msgspec.Struct, frozen=True):
    """Seconds that batches of some sizes take. What lies between is interpolated.

    Beyond the largest size a batch takes as long as so many of that size.

    Attributes:
        rows: Sizes, ascending.
        seconds: Of a batch of each size, not descending, the last one above 0.

    Raises:
        ValueError: They are not so.
    """

    rows: tuple[Annotated[int, msgspec.Meta(ge=1)], ...]
    seconds: tuple[Annotated[float, msgspec.Meta(ge=0)], ...]

    def __post_init__(self) -> None:
        """Check what was given, or read."""
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
        """Rows of the largest batch that takes at most so many seconds; 0 for none."""
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
    """Rows to measure with, like the sample's (but for its zeros) and all different: float64[512, F].

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

    The medians of single rows and of batches. Predictors take turns, so that a machine which gets slower meanwhile does
    so for all of them.

    Args:
        predictors: Called with float64[B, F].
        rows: float64[512, F], as `vary` makes them.
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
    """The same cost, measured for larger batches too, each eight times the one before.

    Args:
        cost: Of the same predictor, as `measure` found it.
        predict: Called with float64[B, F].
        rows: float64[512, F], repeated.
        largest: Rows of the largest batch.
    """
    medians = dict(zip(cost.rows, cost.seconds, strict=True))
    size = cost.rows[-1]
    while size < largest:
        size = min(size * FACTOR, largest)
        batch = np.resize(rows, (size, rows.shape[1]))
        predict(batch)  # for it may need larger buffers, which are kept
        medians[size] = statistics.median(_seconds(predict, [batch]) for _ in range(LARGE_REPEATS))
    return _cost(medians)


def _seconds(predict: Callable[[NDArray[np.float64]], object], batches: list[NDArray[np.float64]]) -> float:
    """Mean of a batch."""
    started = time.perf_counter()
    for batch in batches:
        predict(batch)
    return (time.perf_counter() - started) / len(batches)


def _cost(medians: dict[int, float]) -> Cost:
    """A clock that shows no time has passed, or a larger batch that took less, would make all sizes alike."""
    seconds = itertools.accumulate((max(value, 1e-9) for value in medians.values()), max)
    return Cost(tuple(medians), tuple(seconds))
