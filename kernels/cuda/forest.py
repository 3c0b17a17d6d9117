"""The CUDA kernels of a forest: features to ranks, and ranks to raw scores. Otherwise as `kernels.cuda.steps`."""

# numba's stubs give `cuda.shared.array` no type that can be called or indexed.
# pyright: reportArgumentType=false, reportOptionalSubscript=false

import numpy as np
from numba import cuda, types

from kernels.forest.predicates import FEATURE, in_set, rank

STAGED = 1024
"""Leaf values that a block stages before it adds them. Twice 8 KiB leave room for all threads of a multiprocessor."""

PLACES = 2 * STAGED

CATEGORICAL = np.uint64(1 << 31)
ONE = np.uint64(1)

_INTS = types.int32[::1]
_LONGS = types.uint64[::1]
_DOUBLES = types.float64[::1]


@cuda.jit
def ranks(features, n_rows, columns, thresholds, distance, places, scores):
    """Rank every row in every column: a column to a row of the grid, a row to a thread, threads striding.

    A column's ranks are side by side, since neighbouring threads write and later read them.

    Args:
        features: float32[>= B, O], or float64[>= B, O] where they are the raw ones.
        n_rows: B, how many rows there are.
        columns: Of the `PackedForests`, as are the thresholds.
        thresholds: float64.
        distance: The feature that goes to the scores' last column as it is; -1 for none.
        places: uint16[>= V, >= B], written.
        scores: float64[>= B, >= 1], whose last column is written if there is a distance.
    """
    number = cuda.blockIdx.y
    for row in range(cuda.grid(1), n_rows, cuda.gridsize(1)):  # pyright: ignore[reportCallIssue]
        if number < columns.shape[0]:
            column = columns[number]
            places[number, row] = rank(np.float64(features[row, column[FEATURE]]), thresholds, column)
        if number == 0 and distance >= 0:
            scores[row, scores.shape[1] - 1] = features[row, distance]


@cuda.jit
def forest(places, n_rows, roots, starts, records, values, sets, set_starts, row_bits, scores):
    """Add up the leaf values of every row, for each output in the order of its trees: the CPU's sums, bit for bit.

    for each round of the grid over the batch: for each output: for each tile of its trees: each thread: descend every
    so many of them with its row and stage the leaves' values; meet; the first lane: add the row's values in order.

    A lane is as many threads as a block has rows, side by side: a warp descends the same tree with 32 rows, or, of few
    rows, several trees. The values are staged in two buffers alternately, so that one barrier a tile is enough: the
    first lane adds a tile while the others descend the trees of the next, and a buffer is written again only after a
    barrier that all its readers have reached. All threads make the same rounds and tiles, with or without a row of
    their own.

    Args:
        places: uint16[>= V, >= B], the ranks.
        n_rows: B, how many rows there are.
        roots: Of the `PackedForests`, as are the next two.
        starts: int32[M + 1].
        records: uint64.
        values: float64, the records by another name: what a leaf's bits say.
        sets: uint32.
        set_starts: int32.
        row_bits: The logarithm to base 2 of a block's rows, which must divide its threads and `STAGED`.
        scores: float64[>= B, >= M], the first M columns of which are written.
    """
    staged = cuda.shared.array(PLACES, np.float64)
    rows_per_block = ONE << np.uint64(row_bits)
    lane = np.uint64(cuda.threadIdx.x) >> np.uint64(row_bits)
    lanes = np.uint64(cuda.blockDim.x) >> np.uint64(row_bits)
    own = np.uint64(cuda.threadIdx.x) & (rows_per_block - ONE)
    tile = np.uint64(STAGED) >> np.uint64(row_bits)
    batch_end, stride = np.uint64(n_rows), np.uint64(cuda.gridDim.x) << np.uint64(row_bits)
    turn = np.uint64(0)
    first = np.uint64(cuda.blockIdx.x) << np.uint64(row_bits)
    while first < batch_end:
        row = first + own
        for output in range(np.uint64(0), np.uint64(starts.shape[0] - 1)):
            total = 0.0
            start, end = np.uint64(starts[output]), np.uint64(starts[output + ONE])
            while start < end:
                count = min(tile, end - start)
                here = turn * np.uint64(STAGED) + own
                if row < batch_end:
                    tree = lane
                    while tree < count:
                        staged[here + (tree << np.uint64(row_bits))] = _leaf_value(
                            places, roots[start + tree], records, values, sets, set_starts, row
                        )
                        tree += lanes
                cuda.syncthreads()  # pyright: ignore[reportCallIssue]
                if lane == np.uint64(0) and row < batch_end:
                    fours, ones = count >> np.uint64(2), count & np.uint64(3)
                    while fours:
                        # Four loads at a time: an addition waits for the one before, and should not for a load too.
                        one, two = staged[here], staged[here + rows_per_block]
                        here += rows_per_block << ONE
                        three, four = staged[here], staged[here + rows_per_block]
                        here += rows_per_block << ONE
                        total = total + one + two + three + four
                        fours -= ONE
                    while ones:
                        total += staged[here]
                        here += rows_per_block
                        ones -= ONE
                turn = ONE - turn
                start += tile
            if lane == np.uint64(0) and row < batch_end:
                scores[row, output] = total
        first += stride


@cuda.jit(device=True)
def _leaf_value(places, record, records, values, sets, set_starts, row):
    """Descend a tree.

    Args:
        places: uint16[>= V, B].
        record: uint64, the root's.
        records: uint64.
        values: float64.
        sets: uint32.
        set_starts: int32.
        row: uint64, which.
    """
    while True:
        left = goes_left(places, record, sets, set_starts, row)
        child = (record >> np.uint64(32) & np.uint64(0x3FFFFFFF)) + left
        if record >> (np.uint64(62) + left) & ONE:
            return values[child]
        record = records[child]


@cuda.jit(device=True)
def goes_left(places, record, sets, set_starts, row):
    """Whether a row goes left at a node: uint64, 1 or 0. Arguments are those of `_leaf_value`, and the node's word."""
    place = np.uint64(places[record >> np.uint64(16) & np.uint64(0x7FFF), row])
    bound = record & np.uint64(0xFFFF)
    return in_set(place, sets, set_starts[bound]) if record & CATEGORICAL else np.uint64(place < bound)


SIGNATURES = {
    "ranks": [
        types.void(
            features[:, ::1], types.int64, types.int32[:, ::1], _DOUBLES, types.int64, types.uint16[:, ::1],
            types.float64[:, ::1],
        )
        for features in (types.float32, types.float64)
    ],
    "forest": types.void(
        types.uint16[:, ::1], types.int64, _LONGS, _INTS, _LONGS, _DOUBLES, types.uint32[::1], _INTS, types.int64,
        types.float64[:, ::1],
    ),
}  # fmt: skip
"""Kernel name to the types it is launched with, or to several such."""
