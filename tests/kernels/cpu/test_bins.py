"""Counts in bins: those of a loop over the rows, to the last one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.cpu.bins import BLOCK, add_many_rows, add_rows
from kernels.rows import as_rows

Array = NDArray[np.float64]

EDGES = [-math.inf, -1.5, -0.0, 0.25, 3.0, np.nextafter(3.0, 4.0)]
VALUES = st.sampled_from([*EDGES, *np.nextafter(EDGES[1:], -9.0).tolist(), 7.0, -7.0, math.nan, math.inf, 5e-324])


def by_hand(rows: Array, columns: list[int], thresholds: list[list[float]], categories: list[bool]) -> list[list[int]]:
    """For each column the finite values, and those found at each threshold."""
    counts = [[0] * (1 + len(found)) for found in thresholds]
    for row in rows.tolist():
        for place, column in enumerate(columns):
            value = row[column]
            if math.isfinite(value):
                counts[place][0] += 1
                for index, threshold in enumerate(thresholds[place]):
                    counts[place][1 + index] += value == threshold if categories[place] else value >= threshold
    return counts


def by_kernel(
    rows: Array, columns: list[int], thresholds: list[list[float]], categories: list[bool], kernel: object = add_rows
) -> list[list[int]]:
    width = max(map(len, thresholds))
    padded = np.array([[*found, *[math.nan] * (width - len(found))] for found in thresholds])
    present, hits = np.zeros(len(columns), np.int64), np.zeros(padded.shape, np.int64)
    sizes = np.array(list(map(len, thresholds)), dtype=np.int64)
    kernel(  # type: ignore[operator]
        as_rows(rows, rows.shape[1]),
        np.array(columns, dtype=np.int64),
        sizes,
        padded,
        np.array(categories),
        present,
        hits,
    )
    assert all(not hits[place, size:].any() for place, size in enumerate(sizes))
    return [[int(first), *others[:size].tolist()] for first, others, size in zip(present, hits, sizes, strict=True)]


@pytest.mark.parametrize("kernel", [add_rows, add_many_rows])
@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=9))
def test_counts_are_those_of_a_loop(kernel: object, values: list[tuple[float, ...]]) -> None:
    rows = np.array(values)
    given = [2, 0], [EDGES[1:], [0.25, -1.5]], [False, True]
    assert by_kernel(rows, *given, kernel) == by_hand(rows, *given)


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_blocks_are_counted_whole(count: int) -> None:
    rows = np.random.default_rng(count).normal(size=(count, 3))
    rows[::5, 1] = math.nan
    given = [0, 1, 2], [[-1.0, 0.0, 1.0], [0.5], []], [False, False, False]
    assert by_kernel(rows, *given) == by_hand(rows, *given)
