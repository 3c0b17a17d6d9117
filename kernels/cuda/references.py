"""The CUDA kernel of the reference steps. Imports and `SIGNATURES` are as in `kernels.cuda.steps`."""

# numba's stubs give `cuda.local.array` and `cuda.shared.array` no type that can be called or indexed.
# pyright: reportArgumentType=false, reportOptionalSubscript=false

import math

import numpy as np
from numba import cuda, types

from kernels.plan.gaussian_process import FAINTEST, FARTHEST, MAX_FACTOR_COLUMNS, ZERO, decay, polynomial
from kernels.plan.nearest import describe, insert
from kernels.plan.neighbours import FARTHEST as FARTHEST_PLACE
from kernels.plan.neighbours import MAX_ATTRIBUTES, MAX_COORDINATES, MAX_NEIGHBOURS

TILE_ROWS = 128
"""Stored rows to a tile, at most. As many as a block has threads: each loads one row's share of a column."""

TILE_COORDINATES = 512
"""float64 of coordinates to a tile. Four of them make a whole tile, the most that a plan can have (8) half a tile."""

TILE_COLUMNS = 2048
"""float32 of factors' columns to a tile. Sixteen of them make a whole tile, the most that a plan can have (64) a
quarter.

With indices and weights a tile is 13 KiB. A block may have 48, but a multiprocessor holds 64 to 228 for all its blocks,
and what hides the latency of one block is the others.
"""

GROUP = 4
"""Stored rows whose covariances a thread sums at once: it reads its own column once for all of them."""

MATRIX = MAX_ATTRIBUTES * MAX_ATTRIBUTES

_INTS = types.int32[::1]
_FLOATS = types.float32[::1]
_DOUBLES = types.float64[::1]


@cuda.jit
def references(
    places, n_rows,
    points, scales, coordinates, order, centres, attributes, target, counts, contrasts, contrast_counts, regressions,
    regressors, regressor_scales, numbers, columns, capacity,
    mean_points, mean_centres, mean_scales, stored, weights, shapes, factors, terms, variances, offset, mean_columns,
    descriptions, features,
):  # fmt: skip
    """Compute one neighbours step and one Gaussian process in a single pass over the stored rows, a row to a thread.

    for each round of the grid over the batch: for each tile of stored rows: load it, by all threads of the block; each
    thread: insert its rows among the nearest; add its rows' covariances. Then: describe the nearest; write.

    All threads of a block make the same rounds and load every tile, with or without a row of their own, since all must
    meet at the barriers. A step that is absent is one whose arrays are all empty; both have the same stored rows.

    Args:
        places: float64[>= B, P].
        n_rows: B, how many rows there are.
        points: Of a `NeighbourArrays`, as are the next fifteen; its boxes are not used, for the threads of a block have
            rows anywhere, and one that must read a tile has all of them wait for it.
        scales: float64[D].
        coordinates: float64[D, N].
        order: int32[N].
        centres: float64[Z].
        attributes: float64[N, Z].
        target: float64[N].
        counts: int32.
        contrasts: int32.
        contrast_counts: int32.
        regressions: int32[R, 3].
        regressors: int32.
        regressor_scales: float64.
        numbers: float64[1 + R].
        columns: int32[Q].
        capacity: int32[1].
        mean_points: Of an `ExpansionArrays`, as are the next ten.
        mean_centres: float64[C].
        mean_scales: float64[C].
        stored: float32[C, N].
        weights: float32[N].
        shapes: int32[F].
        factors: int32[F + 1].
        terms: int32[T + 1].
        variances: float64[T].
        offset: float64[1].
        mean_columns: int32[1].
        descriptions: float64[>= min(B, threads), Q], to work in; of one column where Q is 0. Not in local memory, of
            which a device reserves as much for every thread that it can hold.
        features: float32[>= B, O], written.
    """
    tile_coordinates = cuda.shared.array(TILE_COORDINATES, np.float64)
    tile_order = cuda.shared.array(TILE_ROWS, np.int32)
    tile_columns = cuda.shared.array(TILE_COLUMNS, np.float32)
    tile_weights = cuda.shared.array(TILE_ROWS, np.float32)
    here = cuda.local.array(MAX_COORDINATES, np.float64)
    scaled = cuda.local.array(MAX_FACTOR_COLUMNS, np.float32)
    keys = cuda.local.array(MAX_NEIGHBOURS, np.float32)
    found = cuda.local.array(MAX_NEIGHBOURS, np.int32)
    own = cuda.local.array(MAX_ATTRIBUTES, np.float64)
    matrix = cuda.local.array(MATRIX, np.float64)
    scratch = cuda.local.array(MAX_NEIGHBOURS, np.float64)

    thread = cuda.grid(1)  # pyright: ignore[reportCallIssue]
    lane = cuda.threadIdx.x
    n_dimensions = scales.shape[0]
    n_columns = mean_centres.shape[0]
    n_stored = max(order.shape[0], weights.shape[0])
    tile = min(TILE_ROWS, TILE_COORDINATES // max(n_dimensions, 1), TILE_COLUMNS // max(n_columns, 1)) // GROUP * GROUP
    for first in range(thread - lane, n_rows, cuda.gridsize(1)):
        row = first + lane
        searching = row < n_rows and n_dimensions > 0
        summing = row < n_rows and n_columns > 0
        if searching:
            for index in range(n_dimensions):
                place = places[row, points[index]]
                searching = searching and math.isfinite(place)
                here[index] = min(max(place / scales[index], -FARTHEST_PLACE), FARTHEST_PLACE)
        if summing:
            for index in range(n_columns):
                place = places[row, mean_points[index]]
                summing = summing and math.isfinite(place)
                value = np.float32((place - mean_centres[index]) * mean_scales[index])
                scaled[index] = min(max(value, -FARTHEST), FARTHEST)
        filled = np.int64(0)  # a literal has a type of its own, which callees are compiled for as well
        total = 0.0
        for start in range(0, n_stored, tile):
            count = min(tile, n_stored - start)
            cuda.syncthreads()  # no thread still reads the tile before
            for near in range(lane, count, cuda.blockDim.x):
                for index in range(n_dimensions):
                    tile_coordinates[index * tile + near] = coordinates[index, start + near]
                for index in range(n_columns):
                    tile_columns[index * tile + near] = stored[index, start + near]
                if n_dimensions > 0:
                    tile_order[near] = order[start + near]
                if n_columns > 0:
                    tile_weights[near] = weights[start + near]
            cuda.syncthreads()
            if searching:
                nearest = keys[: capacity[0]]
                filled = _search(here, n_dimensions, tile_coordinates, tile_order, tile, count, nearest, found, filled)
            if summing:
                total += _covariances(
                    scaled, tile_columns, tile_weights, tile, count, shapes, factors, terms, variances
                )  # fmt: skip
        if row < n_rows and n_dimensions > 0:
            for index in range(attributes.shape[1]):
                own[index] = places[row, points[n_dimensions + index]] - centres[index]
            out = descriptions[thread]
            describe(
                keys, found, filled, own, attributes, target, counts, contrasts, contrast_counts, regressions,
                regressors, regressor_scales, numbers, matrix, scratch, out,
            )  # fmt: skip
            for index in range(columns.shape[0]):
                if columns[index] >= 0:
                    features[row, columns[index]] = out[index]
        if row < n_rows and n_columns > 0:
            features[row, mean_columns[0]] = offset[0] + total if summing else math.nan


@cuda.jit(device=True)
def _search(here, n_dimensions, coordinates, order, tile, count, keys, found, filled):
    """Insert a tile's rows among a row's nearest stored rows.

    Args:
        here: float64[D] or longer, the row's scaled coordinates.
        n_dimensions: D.
        coordinates: float64[D * tile] or longer; one dimension's, then the next one's.
        order: int32[tile] or longer, index in the table of each.
        tile: From one dimension to the next.
        count: Stored rows in the tile.
        keys: float32[K], written: squared distances, ascending.
        found: int32[K] or longer, written: indices in the table.
        filled: How many of them are in use.

    Returns how many are in use now.
    """
    # `insert` says so too, but by reading local memory for every stored row.
    farthest = keys[filled - 1] if filled == keys.shape[0] else np.float32(math.inf)
    for near in range(count):
        squared = 0.0
        for index in range(n_dimensions):
            gap = coordinates[np.uint64(index * tile + near)] - here[np.uint64(index)]
            squared += gap * gap
        key = np.float32(squared)
        if key <= farthest:
            filled = insert(keys, found, filled, key, order[near])
            if filled == keys.shape[0]:
                farthest = keys[filled - 1]
    return filled


@cuda.jit(device=True)
def _covariances(scaled, columns, weights, tile, count, shapes, factors, terms, variances):
    """The sum of a row's weighted covariances with a tile's stored rows, float64; within a term in float32.

    The innermost indices are unsigned, since numba tests each signed one for being negative, at run time.

    Args:
        scaled: float32[C] or longer, the row's own columns.
        columns: float32[C * tile] or longer; one column, then the next.
        weights: float32[tile] or longer.
        tile: From one column to the next.
        count: Stored rows in the tile.
        shapes: Of an `ExpansionArrays`, as are the next three.
        factors: int32[F + 1].
        terms: int32[T + 1].
        variances: float64[T].
    """
    squared = cuda.local.array(GROUP, np.float32)
    exponents = cuda.local.array(GROUP, np.float32)
    shares = cuda.local.array(GROUP, np.float32)
    total = 0.0
    for term in range(variances.shape[0]):
        part = ZERO
        for start in range(0, count, GROUP):
            for near in range(GROUP):
                exponents[near] = ZERO
                shares[near] = weights[start + near]
            for factor in range(terms[term], terms[term + 1]):
                for near in range(GROUP):
                    squared[near] = ZERO
                for column in range(factors[factor], factors[factor + 1]):
                    value = scaled[np.uint64(column)]
                    for near in range(GROUP):
                        gap = value - columns[np.uint64(column * tile + start + near)]
                        squared[near] += gap * gap
                for near in range(GROUP):
                    distance = decay(shapes[factor], squared[near])
                    exponents[near] += distance
                    shares[near] *= polynomial(shapes[factor], distance)
            for near in range(GROUP):
                # The last group may have rows beyond the tile's, of whatever the memory held.
                if start + near < count and exponents[near] < FAINTEST:
                    part += shares[near] * math.exp(-exponents[near])
        total += variances[term] * part
    return total


SIGNATURES = {
    "references": types.void(
        types.float64[:, ::1],
        types.int64,
        *(_INTS, _DOUBLES, types.float64[:, ::1], _INTS, _DOUBLES, types.float64[:, ::1], _DOUBLES),
        *(_INTS, _INTS, _INTS, types.int32[:, ::1], _INTS, _DOUBLES, _DOUBLES, _INTS, _INTS),
        *(_INTS, _DOUBLES, _DOUBLES, types.float32[:, ::1], _FLOATS),
        *(_INTS, _INTS, _INTS, _DOUBLES, _DOUBLES, _INTS),
        types.float64[:, ::1],
        types.float32[:, ::1],
    ),
}
"""Kernel name to the types it is launched with."""
