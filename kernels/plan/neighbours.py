"""Nearest stored rows: row-level functions for both targets, and the stored rows laid out for them.

    search:   for each block of stored rows, nearest first: stop at a block whose box is farther than the worst
              neighbour; else for each of its rows: insert
    describe: for each count: statistics of the nearest rows' targets; for each count: contrasts with their attributes;
              for each regression: the attributes' weighted covariance, and its Cholesky solution

Neighbours are ordered by the pair (squared distance rounded to float32, index in the table). The rounding is what makes
CPU and GPU agree: their float64 distances differ by last digits, for the GPU contracts to fused multiply-adds, and
coordinates on a grid give many distances that are equal but for those digits.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.plan.references import Neighbours
from kernels.plan.regression import regress

BLOCK_ROWS = 64
"""Stored rows to a block: few enough that a search sees little more than it needs, enough that their distances are
computed by whole vectors."""

STATISTICS = 5
NO_LABEL = -1
FARTHEST = 1e18
"""Scaled coordinates are held within this, so that no squared distance overflows a float32."""


class NeighbourArrays(NamedTuple):
    """A `Neighbours` step over N stored rows, packed. All arrays are C-contiguous and read-only.

    Attributes:
        points: int32[D + Z], columns of the batch's points that hold the row's coordinates, then its attributes.
        scales: float64[D].
        coordinates: float64[D, N], scaled, in the order of `order`.
        order: int32[N], index in the table of each.
        low: float64[D, ceil(N / 64)], the least coordinate in each block of 64.
        high: float64[D, ceil(N / 64)], the greatest.
        centres: float64[Z], the attributes' means in the table.
        attributes: float64[N, Z], less the centres, in the table's order.
        target: float64[N], in the table's order.
        counts: int32, of neighbours, for statistics.
        contrasts: int32, columns of `attributes`.
        contrast_counts: int32, of neighbours, for contrasts.
        regressions: int32[R, 3], of each regression the count of neighbours, and its first and one past its last
            column in the next two.
        regressors: int32, columns of `attributes`.
        regressor_scales: float64, what each is divided by.
        numbers: float64[1 + R], softening, and the regressions' ridges.
        columns: int32[Q], where the step's outputs go among the model's features; -1 for one that is no feature.
        capacity: int32[1], neighbours to look for.
    """

    points: NDArray[np.int32]
    scales: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    order: NDArray[np.int32]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    centres: NDArray[np.float64]
    attributes: NDArray[np.float64]
    target: NDArray[np.float64]
    counts: NDArray[np.int32]
    contrasts: NDArray[np.int32]
    contrast_counts: NDArray[np.int32]
    regressions: NDArray[np.int32]
    regressors: NDArray[np.int32]
    regressor_scales: NDArray[np.float64]
    numbers: NDArray[np.float64]
    columns: NDArray[np.int32]
    capacity: NDArray[np.int32]


def pack_neighbours(
    step: Neighbours,
    table: dict[str, NDArray[np.float64]],
    points: dict[str, int],
    features: dict[str, int],
) -> NeighbourArrays:
    """Lay a step out.

    Args:
        step: What to compute.
        table: The table's columns, float64[N], by name.
        points: Column of each operand in the batch's points.
        features: Column of each name among the model's features.
    """
    scales = np.array(step.scales)
    with np.errstate(over="ignore"):
        coordinates = np.stack([table[name] for name in step.inputs], axis=1) / scales
    coordinates = coordinates.clip(-FARTHEST, FARTHEST)
    order = block_order(coordinates, BLOCK_ROWS)
    ordered = coordinates[order]
    starts = np.arange(0, len(order), BLOCK_ROWS)
    attributes = np.empty((len(order), len(step.attributes)))
    for column, name in enumerate(step.attributes):
        attributes[:, column] = table[name]
    centres = attributes.mean(axis=0)
    place = {name: column for column, name in enumerate(step.attributes)}
    ends = np.cumsum([0, *(len(regression.inputs) for regression in step.regressions)])
    regressions = [
        (regression.count, ends[index], ends[index + 1]) for index, regression in enumerate(step.regressions)
    ]
    arrays = NeighbourArrays(
        points=np.array([points[name] for name in (*step.inputs, *step.attributes)], dtype=np.int32),
        scales=scales,
        coordinates=np.ascontiguousarray(ordered.T),
        order=order.astype(np.int32),
        low=np.ascontiguousarray(np.minimum.reduceat(ordered, starts).T),
        high=np.ascontiguousarray(np.maximum.reduceat(ordered, starts).T),
        centres=centres,
        attributes=attributes - centres,
        target=np.array(table[step.target]),
        counts=np.array(step.counts, dtype=np.int32),
        contrasts=np.array([place[name] for name in step.contrasts], dtype=np.int32),
        contrast_counts=np.array(step.contrast_counts, dtype=np.int32),
        regressions=np.array(regressions, dtype=np.int32).reshape(-1, 3),
        regressors=np.array([place[name] for one in step.regressions for name in one.inputs], dtype=np.int32),
        regressor_scales=np.array([scale for one in step.regressions for scale in one.scales], dtype=np.float64),
        numbers=np.array([step.softening, *(regression.ridge for regression in step.regressions)]),
        columns=np.array([features.get(name, -1) for name in step.outputs], dtype=np.int32),
        capacity=np.array([step.searched], dtype=np.int32),
    )
    for array in arrays:
        array.flags.writeable = False
    return arrays


def block_order(coordinates: NDArray[np.float64], size: int) -> NDArray[np.intp]:
    """An order of float64[N, D] in which each run of `size` rows, from the first on, is close together.

    As in a k-d tree (J. L. Bentley, Multidimensional Binary Search Trees, CACM 18, 1975), halves along the widest
    dimension until a part fits a block; parts begin at whole blocks.
    """
    order = np.arange(len(coordinates))

    def split(start: int, end: int) -> None:
        n_blocks = -(-(end - start) // size)
        if n_blocks < 2:
            return
        part = coordinates[order[start:end]]
        widest = int(np.argmax(part.max(axis=0) - part.min(axis=0)))
        order[start:end] = order[start:end][np.argsort(part[:, widest], kind="stable")]
        middle = start + n_blocks // 2 * size
        split(start, middle)
        split(middle, end)

    split(0, len(order))
    return order


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
    place = 1
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
