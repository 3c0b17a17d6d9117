"""A forest's distinct tests, and features as ranks among their thresholds.

A node tests whether a row goes left. Many nodes have the same test of the same feature, so distinct tests are
collected: a *predicate* is one of them, and a *column* holds all predicates that read one feature in one way. Which of
a column's predicates a row passes depends on one integer only, its *rank*: how many of the column's thresholds it
exceeds, or which of the column's categories it has. `x <= threshold[j]` is then `rank <= j`, exactly, and the rules for
missing values are settled once for the column and not again at every node.

The rules are LightGBM's (include/LightGBM/tree.h, NumericalDecision and CategoricalDecision; src/c_api.cpp, where a
value within 1e-35 of zero is dropped from a row, and so becomes zero, before any tree sees it).
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.evaluators.select import select
from kernels.forest.trees import CATEGORICAL, Trees

NEAR_ZERO = float(np.float32(1e-35))
"""kZeroThreshold of LightGBM's meta.h, a float32 literal: what is not above it is zero."""

LARGEST = 1e300
"""Thresholds from this size on are none: see `Predicates.span`."""

MISSING_NONE, MISSING_ZERO, MISSING_NAN, CATEGORIES = range(4)
"""Kinds of column: nothing, zero or NaN goes a way of its own, the first three numbered as in a node's decision; or the
thresholds are categories."""

FEATURE, KIND, MISSING_RANK, FIRST, COUNT, PREDICATE, PREDICATES, SET, SET_WORDS = range(9)
"""Fields of a column."""


class Predicates(NamedTuple):
    """P predicates in V columns.

    Attributes:
        columns: int32[V, 9], by the fields above: the feature; the kind; the rank of a missing value, or of a category
            that no predicate names; where the column's thresholds start and how many there are; its first predicate and
            how many it has; for categories, where its sets start and the words of each.
        thresholds: float64, each column's ascending and distinct.
        sets: uint32, bitmaps over ranks: those whose rows go left.
        column: int32[P], the column of each predicate.
        rank: int32[P], the last rank that goes left; for categories, where the predicate's set starts in `sets`.
        of_node: int64[N], the predicate of each node.
    """

    columns: NDArray[np.int32]
    thresholds: NDArray[np.float64]
    sets: NDArray[np.uint32]
    column: NDArray[np.int32]
    rank: NDArray[np.int32]
    of_node: NDArray[np.int64]

    def span(self, feature: int) -> tuple[float, float] | None:
        """Least and greatest threshold of a feature that is a number; None where no node tests it.

        A threshold of the size of the greatest float64 stands for none: LightGBM writes it where only missing values
        go right.
        """
        own = [
            self.thresholds[column[FIRST] : column[FIRST] + column[COUNT]]
            for column in self.columns
            if column[FEATURE] == feature and column[KIND] != CATEGORIES
        ]
        found = np.concatenate([np.zeros(0), *own])
        found = found[np.abs(found) < LARGEST]
        return (float(found.min()), float(found.max())) if len(found) else None


def collect(trees: Trees) -> Predicates:
    """The predicates of all trees."""
    categorical = trees.decision & CATEGORICAL == 1
    missing = trees.decision >> 2 & 3
    missing[missing > MISSING_NAN] = MISSING_NONE
    left = np.where(missing == MISSING_NONE, 0, trees.decision >> 1 & 1)
    keys = trees.feature * 8 + np.where(categorical, CATEGORIES * 2, missing * 2 + left)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    of_node = np.empty(len(keys), dtype=np.int64)
    columns: list[tuple[int, ...]] = []
    thresholds: list[NDArray[np.float64]] = []
    sets: list[NDArray[np.uint32]] = []
    ranks: list[NDArray[np.int64]] = []
    first = predicates = words = 0
    for nodes in np.split(order, starts[1:]) if len(keys) else ():
        key = int(keys[nodes[0]])
        feature, kind, goes_left = key // 8, key % 8 // 2, key % 2
        if kind == CATEGORIES:
            values, bitmaps, own = _categories(trees, nodes)
            missing_rank, of_node[nodes], width = len(values), predicates + own, bitmaps.shape[1]
            last_left = words + width * np.arange(len(bitmaps))
        else:
            values, own = np.unique(trees.threshold[nodes], return_inverse=True)
            missing_rank, of_node[nodes], width = 0 if goes_left else len(values), predicates + own, 0
            bitmaps, last_left = np.zeros((0, 0), dtype=np.uint32), np.arange(len(values))
        columns.append((feature, kind, missing_rank, first, len(values), predicates, len(last_left), words, width))
        thresholds.append(values)
        sets.append(bitmaps.ravel())
        ranks.append(last_left)
        first += len(values)
        predicates += len(last_left)
        words += bitmaps.size
    table = np.array(columns, dtype=np.int32).reshape(-1, 9)
    return Predicates(
        columns=table,
        thresholds=np.concatenate([*thresholds, np.zeros(1)]),  # one to spare: a search reads where it ends
        sets=np.concatenate([np.zeros(0, dtype=np.uint32), *sets]),
        column=np.repeat(np.arange(len(table), dtype=np.int32), table[:, PREDICATES]),
        rank=np.concatenate([np.zeros(0, dtype=np.int64), *ranks]).astype(np.int32),
        of_node=of_node,
    )


def _categories(
    trees: Trees, nodes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.uint32], NDArray[np.int64]]:
    """A column's categories, a bitmap over their ranks for each distinct set of them, and each node's set."""
    distinct: dict[bytes, int] = {}
    members: list[NDArray[np.uint32]] = []
    own = np.empty(len(nodes), dtype=np.int64)
    for index, node in enumerate(nodes):
        chosen = trees.sets[int(trees.threshold[node])]
        own[index] = distinct.setdefault(chosen.tobytes(), len(distinct))
        if own[index] == len(members):
            members.append(chosen)
    named = np.zeros(max(map(len, members)), dtype=np.uint32)
    for chosen in members:
        named[: len(chosen)] |= chosen
    values = np.flatnonzero(_bits(named))
    # One rank more than there are categories: all others' rows, which are in no set.
    words = -(-(len(values) + 1) // 32)
    bitmaps = np.zeros((len(members), words), dtype=np.uint32)
    for bitmap, chosen in zip(bitmaps, members, strict=True):
        bits = np.zeros(words * 32, dtype=np.uint8)
        inside = values[: np.searchsorted(values, 32 * len(chosen))]
        bits[: len(inside)] = _bits(chosen)[inside]
        bitmap[:] = np.packbits(bits, bitorder="little").view("<u4")
    return values.astype(np.float64), bitmaps, own


def _bits(bitmap: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """uint8[32 * W], of W words each bit, the lowest first."""
    return np.unpackbits(bitmap.astype("<u4").view(np.uint8), bitorder="little")


@njit(cache=True, error_model="numpy", forceinline=True, no_cfunc_wrapper=True)
def cleaned(value, kind):
    """What a column's thresholds are compared with: the value, zero or the category in its place, NaN if missing."""
    if abs(value) <= NEAR_ZERO:
        value = 0.0
    if kind == CATEGORIES:
        # LightGBM converts to int32, towards zero; what does not fit is in no set, as are negative numbers.
        return float(math.trunc(value)) if -1.0 < value < 2147483648.0 else math.nan
    if math.isnan(value):
        return 0.0 if kind == MISSING_NONE else math.nan
    return math.nan if kind == MISSING_ZERO and value == 0.0 else value


@njit(cache=True, error_model="numpy", forceinline=True, no_cfunc_wrapper=True)
def rank(value, thresholds, column):
    """A value's rank in a column.

    Args:
        value: float64.
        thresholds: float64, all columns'.
        column: int32[9], one row of `Predicates.columns`.

    Returns uint64.
    """
    value = cleaned(value, column[KIND])
    if math.isnan(value):
        return np.uint64(column[MISSING_RANK])
    start, count = np.uint64(column[FIRST]), np.uint64(column[COUNT])
    if count == np.uint64(0):
        return count
    # Halving without branches: which way a search goes cannot be predicted, and a wrong guess costs more than a step.
    below, size = start, count
    while size > np.uint64(1):
        half = size >> np.uint64(1)
        below = select(thresholds[below + half - np.uint64(1)] < value, below + half, below)
        size -= half
    place = below - start + np.uint64(thresholds[below] < value)
    if column[KIND] == CATEGORIES and (place == count or thresholds[start + place] != value):
        return np.uint64(column[MISSING_RANK])
    return place


@njit(cache=True, error_model="numpy", forceinline=True, no_cfunc_wrapper=True)
def in_set(place, sets, start):
    """Whether a category's rank is in the set that starts at a word of `Predicates.sets`: uint64, 1 or 0."""
    word = np.uint64(sets[np.uint64(start) + (place >> np.uint64(5))])
    return word >> (place & np.uint64(31)) & np.uint64(1)


@njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
def rank_block(rows, first, count, thresholds, column, values, ranks):
    """`rank` for the rows of a block: searches take turns, so that none waits for its own last step.

    Args:
        rows: float64[B, F].
        first: The block's first row.
        count: How many it has.
        thresholds: float64, all columns'.
        column: int32[9].
        values: float64[512], to work in.
        ranks: int32[512], written.
    """
    kind = column[KIND]
    missing = column[MISSING_RANK]
    size = np.uint32(column[COUNT])
    own = thresholds[column[FIRST] : column[FIRST] + column[COUNT]]
    for row in range(count):
        values[row] = cleaned(rows[first + row, column[FEATURE]], kind)
        ranks[row] = 0
    while size > np.uint32(1):
        half = np.int32(size >> np.uint32(1))
        for row in range(count):
            below = ranks[row]
            ranks[row] = select(own[np.uint32(below + half - np.int32(1))] < values[row], np.int32(below + half), below)
        size -= np.uint32(half)
    for row in range(count):
        below = ranks[row]
        value = values[row]
        if np.isnan(value) or size == np.uint32(0):
            ranks[row] = missing
        elif kind == CATEGORIES:
            ranks[row] = _place(own, below + np.int32(own[np.uint32(below)] < value), value, missing)
        else:
            ranks[row] = below + np.int32(own[np.uint32(below)] < value)


@njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
def _place(categories, place, value, missing):
    return place if place < len(categories) and categories[place] == value else missing
