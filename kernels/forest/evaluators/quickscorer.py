"""A forest over one row: the leaves that each failed test rules out.

for each column: for each predicate that the row fails: rule out the leaves to the left of its nodes
for each tree: add the value of the leftmost leaf that is left

This is QuickScorer (C. Lucchese et al., "QuickScorer: a Fast Algorithm to Rank Documents with Additive Ensembles of
Regression Trees", SIGIR 2015). The predicates that a row fails of a numeric column are the first ones, as many as its
rank says. So what a stretch of them rules out together is stored every so often, and a row starts from the nearest such
*checkpoint*: it costs one pass over the trees' bitsets, and spares on average half of the column's nodes.
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.errors import ForestError
from kernels.forest.evaluators.bitset import lowest_bit
from kernels.forest.predicates import (
    CATEGORIES,
    FEATURE,
    KIND,
    PREDICATE,
    PREDICATES,
    SET,
    SET_WORDS,
    Predicates,
    in_set,
    rank,
)
from kernels.forest.tree_shape import TreeShape

WORD = 64
"""Leaves in a word of a tree's bitset."""

SPACING = 4
"""Exclusions from one checkpoint to the next are the words of the forest divided by this. Reading a checkpoint is one
vectorised pass over all words, and so costs about as much as the exclusions that are left to do."""


MAX_EXCLUSIONS = 2**25
"""Most exclusions of a forest. Each takes up to 100 bytes while it is laid out. Only deep chains have so many: one of
65,000 levels, or 500 of 3,000."""


class QuickScorer(NamedTuple):
    """T trees as W words of leaves, and what tests rule out.

    A leaf is a bit, and trees stand one after the other: several in a word, as long as none is divided that fits into
    one.

    Attributes:
        exclusion_start: int32[P + 1], where each predicate's exclusions start.
        exclusions: uint64[E, 2], a word and what is left of it.
        checkpoints: uint64[C, W], all words after some exclusions.
        checkpoint_start: int32[V], each column's first; there is one after each 2 ** `spacing` exclusions.
        spacing: int.
        leaf_start: int32[T], each tree's first bit.
        values: float64[64 W], the leaf value of each bit, each tree's from left to right.
    """

    exclusion_start: NDArray[np.int32]
    exclusions: NDArray[np.uint64]
    checkpoints: NDArray[np.uint64]
    checkpoint_start: NDArray[np.int32]
    spacing: int
    leaf_start: NDArray[np.int32]
    values: NDArray[np.float64]


def quick_scorer(shape: TreeShape, predicates: Predicates) -> QuickScorer:
    """Lay out a forest for `predict`."""
    leaf_start, n_words = _places(np.diff(shape.leaf_start))
    order = np.argsort(predicates.of_node, kind="stable")
    start = leaf_start[shape.tree[shape.node[order]]]
    first, end = start + shape.first_leaf[shape.left[order]], start + shape.end_leaf[shape.left[order]]
    spans = (end - 1) // WORD - first // WORD + 1
    if (count := int(spans.sum())) > MAX_EXCLUSIONS:
        raise ForestError(
            f"the booster's trees are so deep that the leaves left of their nodes fill {count} words, and at most "
            f"{MAX_EXCLUSIONS} are laid out"
        )
    node = np.repeat(np.arange(len(order)), spans)
    word = first[node] // WORD + np.arange(len(node)) - np.repeat(np.cumsum(spans) - spans, spans)
    ruled_out = _below(end[node] - word * WORD) & ~_below(first[node] - word * WORD)
    exclusions = np.stack([word.astype(np.uint64), ~ruled_out], axis=1)
    of_predicate = np.bincount(predicates.of_node[order][node], minlength=len(predicates.column))
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(of_predicate)])
    spacing = max(4, round(math.log2(max(1, n_words) / SPACING)))
    stride = 1 << spacing
    checkpoints: list[NDArray[np.uint64]] = []
    checkpoint_start: list[int] = []
    for column in predicates.columns:
        checkpoint_start.append(len(checkpoints))
        if column[KIND] == CATEGORIES:
            continue
        begin, finish = starts[column[PREDICATE]], starts[column[PREDICATE] + column[PREDICATES]]
        left = np.full(n_words, ~np.uint64(0))
        for at in range(begin + stride, finish + 1, stride):
            stretch = exclusions[at - stride : at]
            np.bitwise_and.at(left, stretch[:, 0].astype(np.int64), stretch[:, 1])
            checkpoints.append(left.copy())
    values = np.zeros(n_words * WORD)
    leaves = np.diff(shape.leaf_start)
    values[np.arange(len(shape.leaf_value)) + np.repeat(leaf_start - shape.leaf_start[:-1], leaves)] = shape.leaf_value
    return QuickScorer(
        exclusion_start=starts.astype(np.int32),
        exclusions=exclusions,
        checkpoints=np.array(checkpoints, dtype=np.uint64).reshape(len(checkpoints), n_words),
        checkpoint_start=np.array(checkpoint_start, dtype=np.int32),
        spacing=spacing,
        leaf_start=leaf_start.astype(np.int32),
        values=values,
    )


def _places(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Each tree's first bit by the trees' leaves, and how many words they take."""
    starts: list[int] = []
    end = 0
    for size in sizes.tolist():
        if end % WORD + size > WORD:
            end += -end % WORD
        starts.append(end)
        end += size
    return np.array(starts, dtype=np.int64), -(-end // WORD)


def _below(bits: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Words whose lowest bits are set, as many as asked, none below 0 and all above 64."""
    inside = np.clip(bits, 0, WORD - 1).astype(np.uint64)
    return np.where(bits >= WORD, ~np.uint64(0), (np.uint64(1) << inside) - np.uint64(1))


# Without numba's counting of references, two atomic operations for each view of an array.
@njit(nogil=True, cache=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def predict(
    columns, thresholds, sets, exclusion_start, exclusions, checkpoints, checkpoint_start, spacing, leaf_start, values,
    work, rows, out,
):  # fmt: skip
    """Raw scores, a row at a time. For compiled callers only.

    Args:
        columns: Of the `Predicates`, as are the next two.
        thresholds: float64.
        sets: uint32.
        exclusion_start: Of the `QuickScorer`, as are the next six.
        exclusions: uint64[E, 2].
        checkpoints: uint64[C, W].
        checkpoint_start: int32[V].
        spacing: int.
        leaf_start: int32[T].
        values: float64[64 W].
        work: uint64[W + 2 V], to work in.
        rows: float64[B, F].
        out: float64[B, K], written.
    """
    n_words, n_columns = checkpoints.shape[1], columns.shape[0]
    left, places, starts = work[:n_words], work[n_words : n_words + n_columns], work[n_words + n_columns :]
    for row in range(rows.shape[0]):
        # All ranks first: a processor then has many searches under way at once.
        for index in range(n_columns):
            places[index] = rank(rows[row, columns[index, FEATURE]], thresholds, columns[index])
        # All checkpoints before all exclusions: a vector that is read waits for words that were written one by one.
        _start(columns, places, exclusion_start, checkpoints, checkpoint_start, spacing, left, starts)
        _exclude(columns, places, sets, exclusion_start, exclusions, starts, left)
        _add(leaf_start, values, left, out, row)


@njit(inline="always")
def _start(columns, places, exclusion_start, checkpoints, checkpoint_start, spacing, left, starts):
    """Rule out what the nearest checkpoints do, and write where the exclusions start that are left to do."""
    left[:] = ~np.uint64(0)
    for index in range(columns.shape[0]):
        predicate = np.uint64(columns[index, PREDICATE])
        first = exclusion_start[predicate]
        starts[index] = first
        if columns[index, KIND] == CATEGORIES:
            continue
        checkpoint = (exclusion_start[predicate + places[index]] - first) >> spacing
        if checkpoint > 0:
            starts[index] = first + (checkpoint << spacing)
            stored = checkpoints[checkpoint_start[index] + checkpoint - 1]
            for word in range(left.shape[0]):
                left[word] &= stored[word]


@njit(inline="always")
def _exclude(columns, places, sets, exclusion_start, exclusions, starts, left):
    """Rule out the leaves that failed predicates exclude, and no checkpoint has."""
    for index in range(columns.shape[0]):
        column, place = columns[index], places[index]
        predicate = np.uint64(column[PREDICATE])
        if column[KIND] != CATEGORIES:
            _exclude_between(exclusions, starts[index], exclusion_start[predicate + place], left)
            continue
        for one in range(np.uint64(column[PREDICATES])):
            if not in_set(place, sets, column[SET] + np.int64(one) * column[SET_WORDS]):
                first = predicate + one
                _exclude_between(exclusions, exclusion_start[first], exclusion_start[first + np.uint64(1)], left)


@njit(inline="always")
def _exclude_between(exclusions, first, end, left):
    for index in range(np.uint64(first), np.uint64(end)):
        left[exclusions[index, np.uint64(0)]] &= exclusions[index, np.uint64(1)]


@njit(inline="always")
def _add(leaf_start, values, left, out, row):
    """Add up the values of each tree's leftmost leaf that is left."""
    n_trees, n_outputs = leaf_start.shape[0], out.shape[1]
    for output in range(n_outputs):
        total = 0.0
        for tree in range(np.uint64(output), np.uint64(n_trees), np.uint64(n_outputs)):
            bit = np.uint64(leaf_start[tree])
            word = bit // np.uint64(WORD)
            bits = left[word] >> (bit % np.uint64(WORD))
            while bits == np.uint64(0):
                word += np.uint64(1)
                bit = word * np.uint64(WORD)
                bits = left[word]
            total += values[bit + lowest_bit(bits)]
        out[row, output] = total
