"""Forests packed for a GPU: all of a pipeline's in one, so that two launches evaluate them.

A node is one word of eight bytes, and a step down a tree one load of it and one of the row's rank:

    bits 0 to 15: the rank from which on a row goes right; of a categorical node the number of its set
    bits 16 to 30: the column
    bit 31: the node is categorical
    bits 32 to 61: the record of the right child; the left one is the next record
    bit 62: the right child is a leaf, and so is, by bit 63, the left one

A leaf's word is its value: its parent's word says that it is a leaf. A root has no parent, so the roots' words are
stored apart. A tree of one leaf has a root whose test no row passes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.forest.evaluators.traversal import AT_LEAF
from kernels.forest.forest import Forest
from kernels.forest.predicates import CATEGORIES, COUNT, FIRST, KIND

MAX_COUNT = 2**16 - 1
"""Thresholds of a column: as many ranks, and one, as 16 bits hold."""

MAX_COLUMNS = 2**15
MAX_SETS = 2**16
MAX_RECORDS = 2**30


class ForestTooLargeError(ValueError):
    """The forests do not fit the layout; the message says which limit they exceed."""


class PackedForests(NamedTuple):
    """Forests with M outputs in all, C-contiguous arrays as the kernels take them.

    Attributes:
        columns: int32[V, 9], the forests' `Predicates.columns` one after the other, with `FIRST` in `thresholds` here.
            `SET` and `PREDICATE` are still the forest's own, and not used.
        thresholds: float64.
        roots: uint64[T], each tree's root; trees by output, and of an output in the order in which they are added.
        starts: int32[M + 1], where each output's trees start.
        records: uint64, nodes and leaves as above.
        sets: uint32, bitmaps over ranks.
        set_starts: int32, where each set starts.
    """

    columns: NDArray[np.int32]
    thresholds: NDArray[np.float64]
    roots: NDArray[np.uint64]
    starts: NDArray[np.int32]
    records: NDArray[np.uint64]
    sets: NDArray[np.uint32]
    set_starts: NDArray[np.int32]


def too_large(forests: Sequence[Forest]) -> str | None:
    """Which limit of the layout the forests exceed, in words; None if they fit."""
    counts = [int(forest.predicates.columns[:, COUNT].max(initial=0)) for forest in forests]
    for name, number, most in (
        ("columns", sum(len(forest.predicates.columns) for forest in forests), MAX_COLUMNS),
        ("thresholds of a feature", max(counts, default=0), MAX_COUNT),
        ("sets of categories", sum(int(_categorical(forest).sum()) for forest in forests), MAX_SETS),
        ("nodes and leaves", sum(len(forest.traversal.records) for forest in forests), MAX_RECORDS),
    ):
        if number > most:
            return f"the forests have {number} {name}, and a GPU's layout {most} at most"
    return None


def pack_forests(forests: Sequence[Forest]) -> PackedForests:
    """Pack forests; none at all are packed too.

    Raises:
        ForestTooLargeError: They do not fit.
    """
    reason = too_large(forests)
    if reason is not None:
        raise ForestTooLargeError(reason)
    # Each starts with an empty part, since without a forest there is no other.
    columns, thresholds = [np.zeros((0, 9), dtype=np.int32)], [np.zeros(0)]
    roots, starts = [np.zeros(0, dtype=np.uint64)], [0]
    records, sets, set_starts = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    places = [0] * 5
    for forest in forests:
        column, threshold, record, word, set_number = places
        predicates = forest.predicates
        own = predicates.columns.copy()
        own[:, FIRST] += threshold
        packed, root = _records(forest, words_of(forest, column, set_number), record)
        for output in range(forest.n_outputs):
            roots.append(root[output :: forest.n_outputs])
            starts.append(starts[-1] + len(roots[-1]))
        columns.append(own)
        thresholds.append(predicates.thresholds)
        records.append(packed)
        sets.append(predicates.sets)
        set_starts.append(predicates.rank[_categorical(forest)].astype(np.int64) + word)
        grown = (own, predicates.thresholds, packed, predicates.sets, set_starts[-1])
        places = [place + len(part) for place, part in zip(places, grown, strict=True)]
    return PackedForests(
        columns=np.concatenate(columns),
        thresholds=np.concatenate(thresholds),
        roots=np.concatenate(roots),
        starts=np.array(starts, dtype=np.int32),
        records=np.concatenate(records),
        sets=np.concatenate(sets),
        set_starts=np.concatenate(set_starts).astype(np.int32),
    )


def words_of(forest: Forest, first_column: int, first_set: int) -> NDArray[np.int64]:
    """int64[P], the lower half of a node's word by predicate, after so many columns and sets of other forests."""
    predicates, categorical = forest.predicates, _categorical(forest)
    bound = np.where(categorical, first_set + np.cumsum(categorical) - 1, predicates.rank.astype(np.int64) + 1)
    return bound | (predicates.column.astype(np.int64) + first_column) << 16 | categorical.astype(np.int64) << 31


def _categorical(forest: Forest) -> NDArray[np.bool_]:
    """bool[P]: whether each predicate is a test for a set of categories."""
    return forest.predicates.columns[forest.predicates.column, KIND] == CATEGORIES


def _records(forest: Forest, test: NDArray[np.int64], first: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """A forest's words and its roots' own, where the first of the records is number `first`.

    Args:
        forest: The forest.
        test: int64[P], the lower half of a node's word, by predicate.
        first: Number of records of the forests before it.
    """
    walk, half = forest.traversal, np.uint64(32)
    is_leaf = walk.records & AT_LEAF != 0
    nodes = np.flatnonzero(~is_leaf)
    right = (walk.records[nodes] >> half).astype(np.int64)
    packed = walk.values.view(np.uint64).copy()
    packed[nodes] = (
        test[(walk.records[nodes] & np.uint64(2**31 - 1)).astype(np.int64)].astype(np.uint64)
        | (right + first).astype(np.uint64) << half
        | is_leaf[right].astype(np.uint64) << np.uint64(62)
        | is_leaf[right + 1].astype(np.uint64) << np.uint64(63)
    )
    at = walk.roots.astype(np.int64)
    # No rank is below 0, so all go right.
    alone = (at + first).astype(np.uint64) << half | np.uint64(1 << 62)
    return packed, np.where(is_leaf[at], alone, packed[at])
