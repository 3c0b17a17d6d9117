"""Which kernel evaluates how many rows the fastest, measured.

All kernels give the same bits, so a choice is about time alone. It is made to come out the same each time on the same
machine: rows are seeded, times are of this thread's processor time and the least of several rounds, the number of rows
from which on the bit-sliced kernel takes over is a power of two, and the default is left only for a clear gain.
"""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.forest.predicates import CATEGORIES, COUNT, FEATURE, FIRST, KIND, Predicates
from kernels.forest.status import Kernel, RowKernel

Evaluate = Callable[[NDArray[np.float64], NDArray[np.float64]], object]
"""Rows float64[B, F] to raw scores float64[B, K], the second argument."""

MOST_ROWS = 512
"""Rows in a block of the bit-sliced kernel: if it is not faster for these, it never is."""

ALONE = 64
"""Rows that are timed one by one: the same one again and again would teach a processor its way."""

CLEAR_ALONE, CLEAR = 1.1, 1.25
"""How many times as fast a kernel must be, for rows alone and for a batch, to take the place of the default. Times of
two kernels for one row are a constant factor apart; for a batch their ratio about doubles from one power of two to the
next, so that a clear gain costs little."""

REPEATS = 7
LONG_S = 0.5
"""Processor time of rounds after which there is no other, however few there were."""


class KernelChoice(NamedTuple):
    """The kernels that a forest uses.

    Attributes:
        few_rows: The kernel for few rows.
        many_rows: From this many rows on, the bit-sliced kernel takes them; None for never.
    """

    few_rows: RowKernel
    many_rows: int | None


DEFAULT_MANY_ROWS = 32
DEFAULT = KernelChoice("quickscorer", DEFAULT_MANY_ROWS)
"""Until it is measured."""


def measure_choice(evaluate: Mapping[Kernel, Evaluate], rows: NDArray[np.float64], n_outputs: int) -> KernelChoice:
    """Choose the kernels of a forest.

    Args:
        evaluate: Each kernel.
        rows: float64[512, F], as of `sample_rows`.
        n_outputs: K.
    """
    alone = [rows[index : index + 1] for index in range(ALONE)]
    few = DEFAULT.few_rows
    if _gain(evaluate[few], evaluate["traversal"], alone, n_outputs) > CLEAR_ALONE:
        few = "traversal"

    def gain(size: int) -> float:
        return _gain(evaluate[few], evaluate["sliced"], [rows[:size]], n_outputs)

    many = DEFAULT_MANY_ROWS
    if gain(many) < 1 / CLEAR:
        while many <= MOST_ROWS and gain(many) < 1:
            many *= 2
        return KernelChoice(few, many if many <= MOST_ROWS else None)
    while many > 1 and gain(many // 2) > CLEAR:
        many //= 2
    return KernelChoice(few, many)


def sample_rows(predicates: Predicates, n_features: int) -> NDArray[np.float64]:
    """Rows that go all ways through the trees: float64[512, F], each value near a threshold of its feature."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(MOST_ROWS, n_features))
    for column in predicates.columns:
        values = predicates.thresholds[column[FIRST] : column[FIRST] + column[COUNT]]
        if len(values):
            chosen = random.choice(values, MOST_ROWS)
            rows[:, column[FEATURE]] = chosen if column[KIND] == CATEGORIES else np.nextafter(chosen, np.inf)
    return rows


def _gain(now: Evaluate, other: Evaluate, batches: list[NDArray[np.float64]], n_outputs: int) -> float:
    """How many times as fast the other kernel is.

    Each one's fastest round counts, since what slows one down is not the kernel; they take turns, so that a processor
    that is slower for a while is so for both.
    """
    out = np.empty((len(batches[0]), n_outputs))
    times: tuple[list[int], list[int]] = [], []
    for evaluate in (now, other):
        evaluate(batches[0], out)  # compiles it, and allocates what it keeps
    while len(times[0]) < REPEATS and sum(times[0]) + sum(times[1]) < LONG_S * 1e9:
        for evaluate, taken in zip((now, other), times, strict=True):
            started = time.thread_time_ns()
            for batch in batches:
                evaluate(batch, out)
            taken.append(time.thread_time_ns() - started)
    return min(times[0]) / max(1, min(times[1]))
