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

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.bitset import lowest_bit
from kernels.forest.errors import ForestError
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

    Attributes:
        exclusion_start: int32[P + 1], where each predicate's exclusions start.
        exclusions: uint64[E, 2], a word and what is left of it.
        checkpoints: uint64[C, W], all words after some exclusions.
        checkpoint_start: int32[V], each column's first; there is one after each `spacing` exclusions.
        spacing: int.
        words: int32[T + 1], each tree's first word.
        leaf_start: int32[T], where each tree's leaf values start.
        values: float64[L], leaf values from left to right.
    """

    exclusion_start: NDArray[np.int32]
    exclusions: NDArray[np.uint64]
    checkpoints: NDArray[np.uint64]
    checkpoint_start: NDArray[np.int32]
    spacing: int
    words: NDArray[np.int32]
    leaf_start: NDArray[np.int32]
    values: NDArray[np.float64]


def quick_scorer(shape: TreeShape, predicates: Predicates) -> QuickScorer:
    """Lay out a forest for `predict`."""
    sizes = -(-np.diff(shape.leaf_start) // WORD)
    words = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    order = np.argsort(predicates.of_node, kind="stable")
    first, end = shape.first_leaf[shape.left[order]], shape.end_leaf[shape.left[order]]
    spans = (end - 1) // WORD - first // WORD + 1
    if (count := int(spans.sum())) > MAX_EXCLUSIONS:
        raise ForestError(
            f"the booster's trees are so deep that the leaves left of their nodes fill {count} words, and at most "
            f"{MAX_EXCLUSIONS} are laid out"
        )
    node = np.repeat(np.arange(len(order)), spans)
    word = first[node] // WORD + np.arange(len(node)) - np.repeat(np.cumsum(spans) - spans, spans)
    ruled_out = _below(end[node] - word * WORD) & ~_below(first[node] - word * WORD)
    exclusions = np.stack([(words[shape.tree[shape.node[order]]][node] + word).astype(np.uint64), ~ruled_out], axis=1)
    of_predicate = np.bincount(predicates.of_node[order][node], minlength=len(predicates.column))
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(of_predicate)])
    spacing = max(16, int(words[-1]) // SPACING)
    checkpoints: list[NDArray[np.uint64]] = []
    checkpoint_start: list[int] = []
    for column in predicates.columns:
        checkpoint_start.append(len(checkpoints))
        if column[KIND] == CATEGORIES:
            continue
        begin, finish = starts[column[PREDICATE]], starts[column[PREDICATE] + column[PREDICATES]]
        left = np.full(int(words[-1]), ~np.uint64(0))
        for at in range(begin + spacing, finish + 1, spacing):
            stretch = exclusions[at - spacing : at]
            np.bitwise_and.at(left, stretch[:, 0].astype(np.int64), stretch[:, 1])
            checkpoints.append(left.copy())
    return QuickScorer(
        exclusion_start=starts.astype(np.int32),
        exclusions=exclusions,
        checkpoints=np.array(checkpoints, dtype=np.uint64).reshape(len(checkpoints), int(words[-1])),
        checkpoint_start=np.array(checkpoint_start, dtype=np.int32),
        spacing=spacing,
        words=words.astype(np.int32),
        leaf_start=shape.leaf_start[:-1].astype(np.int32),
        values=shape.leaf_value,
    )


def _below(bits: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Words whose lowest bits are set, as many as asked, none below 0 and all above 64."""
    inside = np.clip(bits, 0, WORD - 1).astype(np.uint64)
    return np.where(bits >= WORD, ~np.uint64(0), (np.uint64(1) << inside) - np.uint64(1))


@njit(nogil=True, cache=True, error_model="numpy")
def predict(
    columns, thresholds, sets, exclusion_start, exclusions, checkpoints, checkpoint_start, spacing, words, leaf_start,
    values, rows, out,
):  # fmt: skip
    """Raw scores, a row at a time.

    Args:
        columns: Of the `Predicates`, as are the next two.
        thresholds: float64.
        sets: uint32.
        exclusion_start: Of the `QuickScorer`, as are the next seven.
        exclusions: uint64[E, 2].
        checkpoints: uint64[C, W].
        checkpoint_start: int32[V].
        spacing: int.
        words: int32[T + 1].
        leaf_start: int32[T].
        values: float64[L].
        rows: float64[B, F].
        out: float64[B, K], written.
    """
    n_words = checkpoints.shape[1]
    n_trees = leaf_start.shape[0]
    n_outputs = out.shape[1]
    left = np.empty(n_words, dtype=np.uint64)
    places = np.empty(columns.shape[0], dtype=np.uint64)
    for row in range(rows.shape[0]):
        left[:] = ~np.uint64(0)
        # All ranks first: a processor then has many searches under way at once.
        for index in range(columns.shape[0]):
            places[index] = rank(rows[row, columns[index, FEATURE]], thresholds, columns[index])
        for index in range(columns.shape[0]):
            column = columns[index]
            place = places[index]
            predicate = np.uint64(column[PREDICATE])
            if column[KIND] == CATEGORIES:
                for one in range(column[PREDICATES]):
                    if not in_set(place, sets, column[SET] + one * column[SET_WORDS]):
                        _exclude(left, exclusions, exclusion_start, predicate + np.uint64(one), np.uint64(1), 0)
                continue
            failed = np.int64(exclusion_start[predicate + place] - exclusion_start[predicate])
            checkpoint = failed // spacing
            if checkpoint > 0:
                stored = checkpoints[checkpoint_start[index] + checkpoint - 1]
                for word in range(n_words):
                    left[word] &= stored[word]
            _exclude(left, exclusions, exclusion_start, predicate, place, checkpoint * spacing)
        for output in range(n_outputs):
            total = 0.0
            for tree in range(np.uint64(output), np.uint64(n_trees), np.uint64(n_outputs)):
                word = np.uint64(words[tree])
                value = np.uint64(leaf_start[tree])
                while left[word] == np.uint64(0):
                    word += np.uint64(1)
                    value += np.uint64(WORD)
                total += values[value + lowest_bit(left[word])]
            out[row, output] = total


@njit(nogil=True, cache=True, error_model="numpy")
def _exclude(left, exclusions, exclusion_start, predicate, count, done):
    """Rule out the leaves that `count` predicates from `predicate` on exclude.

    The first `done` exclusions are skipped, since a checkpoint has applied them.
    """
    first = np.uint64(exclusion_start[predicate] + done)
    for index in range(first, np.uint64(exclusion_start[predicate + count])):
        left[exclusions[index, np.uint64(0)]] &= exclusions[index, np.uint64(1)]
