"""The nearest stored rows of a row: row-level functions, written once for both targets.

    search:   for each block of stored rows, nearest first: stop at a block whose box is farther than the worst
              neighbour; else for each of its rows: insert
    describe: for each count: statistics of the nearest rows' targets; for each count: contrasts with their attributes;
              for each regression: the attributes' weighted covariance, and its Cholesky solution

Neighbours are ordered by the pair (squared distance rounded to float32, index in the table). The rounding is what makes
CPU and GPU agree: their float64 distances differ by last digits, for the GPU contracts to fused multiply-adds, and
coordinates on a grid give many distances that are equal but for those digits.
"""

import math

import numpy as np
from numba import njit

from kernels.plan.regression import regress

STATISTICS = 5
"""Numbers that `summarise` writes."""

NO_LABEL = -1
"""Excludes no stored row."""


@njit(cache=True, error_model="numpy")
def insert(keys, rows, filled, key, row):
    """Insert (key, row) into the ascending pairs (keys, rows), of which `filled` are in use; the last falls out.

    Args:
        keys: float32[K] or longer, squared distances.
        rows: int32, as many; indices in the table.
        filled: int, pairs in use.
        key: float32.
        row: int32.

    Returns the number of pairs in use afterwards.
    """
    capacity = len(keys)
    position = filled
    if filled == capacity:
        position = capacity - 1
        if keys[position] < key or (keys[position] == key and rows[position] < row):
            return filled
    while position > 0 and (keys[position - 1] > key or (keys[position - 1] == key and rows[position - 1] > row)):
        keys[position] = keys[position - 1]
        rows[position] = rows[position - 1]
        position -= 1
    keys[position] = key
    rows[position] = row
    return min(filled + 1, capacity)


@njit(cache=True, error_model="numpy")
def describe(
    keys, rows, filled, here, attributes, target, counts, contrasts, contrast_counts, regressions, regressors,
    regressor_scales, numbers, matrix, scratch, out,
):  # fmt: skip
    """Statistics, contrasts and local regressions of a row's nearest stored rows.

    Args:
        keys: float32[filled], their squared distances, ascending.
        rows: int32[filled], their indices in the table.
        filled: int, how many they are; where a count asks for more, all of them are taken. None give NaN.
        here: float64[Z], the row's own attributes, less the centres.
        attributes: As all up to `numbers`, of a `NeighbourArrays`.
        target: float64[N].
        counts: int32, ascending.
        contrasts: int32.
        contrast_counts: int32, ascending.
        regressions: int32[R, 3].
        regressors: int32.
        regressor_scales: float64.
        numbers: float64[1 + R].
        matrix: float64[Z * Z] or longer, to work in.
        scratch: float64[max(64, 3 * Z)] or longer, to work in.
        out: float64[Q], written: distance of the nearest; mean, weighted mean, deviation, median and greatest distance
            by count; contrasts by count; local, intercept and slopes by regression.
    """
    if filled == 0:
        for index in range(len(out)):
            out[index] = math.nan
        return
    out[0] = math.sqrt(np.float64(keys[0]))
    place = np.int64(1)  # a literal has a type of its own, which callees are compiled for as well
    for index in range(len(counts)):
        summarise(keys, rows, min(counts[index], filled), target, numbers[0], scratch, out, place)
        place += STATISTICS
    for index in range(len(contrast_counts)):
        count = min(contrast_counts[index], filled)
        for number in range(len(contrasts)):
            column = contrasts[number]
            total = 0.0
            for near in range(count):
                total += attributes[rows[near], column]
            out[place] = here[column] - total / count
            place += 1
    for index in range(len(regressions)):
        count = min(regressions[index, 0], filled)
        first = regressions[index, 1]
        size = regressions[index, 2] - first
        regress(
            keys, rows, count, here, attributes, target, regressors, regressor_scales, first, size, numbers[0],
            numbers[1 + index], matrix, scratch, out, place,
        )  # fmt: skip
        place += 2 + size


@njit(cache=True, error_model="numpy")
def summarise(keys, rows, count, target, softening, scratch, out, place):
    """Statistics of the nearest rows' target: five numbers into `out` from `place` on.

    Args:
        keys: float32[count], squared distances, ascending.
        rows: int32[count], indices in the table.
        count: int, at least 1.
        target: float64[N].
        softening: float64, added to distances before they are inverted.
        scratch: float64[count] or longer, to work in.
        out: float64, written: mean, mean weighted by inverse distance, standard deviation, median, greatest distance.
        place: int.
    """
    total = 0.0
    weights = 0.0
    weighted = 0.0
    for near in range(count):
        value = target[rows[near]]
        weight = 1.0 / (math.sqrt(np.float64(keys[near])) + softening)
        total += value
        weights += weight
        weighted += weight * value
        # Sorted as they come, for the median.
        position = near
        while position > 0 and scratch[position - 1] > value:
            scratch[position] = scratch[position - 1]
            position -= 1
        scratch[position] = value
    mean = total / count
    squares = 0.0
    for near in range(count):
        squares += (scratch[near] - mean) * (scratch[near] - mean)
    out[place] = mean
    out[place + 1] = weighted / weights
    out[place + 2] = math.sqrt(squares / count)
    out[place + 3] = 0.5 * (scratch[(count - 1) // 2] + scratch[count // 2])
    out[place + 4] = math.sqrt(np.float64(keys[count - 1]))
