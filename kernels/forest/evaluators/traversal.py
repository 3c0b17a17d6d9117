"""A forest over one row: down each tree, eight trees at a time.

a key for each column
for each of eight lanes at once: down a tree, and from its leaf on to the root of the lane's next tree
for each tree: add its leaf's value

A step waits for memory and has no branch to predict, so eight trees at once use what one would leave idle. A lane goes
on to its next tree without waiting for the others. A row costs as many steps as its ways have nodes, which is less than
ruling out leaves if there are many features or large trees.
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.evaluators.descent import LANES, descend
from kernels.forest.predicates import (
    CATEGORIES,
    FEATURE,
    FIRST,
    KIND,
    MISSING_RANK,
    PREDICATE,
    PREDICATES,
    SET,
    SET_WORDS,
    Predicates,
    cleaned,
    in_set,
    rank,
)
from kernels.forest.tree_shape import TreeShape

AT_LEAF = np.uint64(1 << 31)
"""Bit of a record: the row stays."""

SIGN = np.uint64(1 << 63)
NEVER = np.uint64(2**64 - 1)
"""A key that is below no bound."""


class Traversal(NamedTuple):
    """Trees as records, in which a node's children stand side by side, the right one first.

    Attributes:
        records: uint64, the predicate in the lower half, the right child's record in the upper one. A leaf's predicate
            is the one after the last, and its child the leaf itself.
        roots: uint32[T], the record of each root, each tree's first.
        values: float64, by record; of a leaf its value.
    """

    records: NDArray[np.uint64]
    roots: NDArray[np.uint32]
    values: NDArray[np.float64]


class Lanes(NamedTuple):
    """The same trees as `predict` walks them, every eighth in the same lane.

    Children share four words: two of the right and the left one, and two links. A node's word is its bound, below which
    a row's key must be to go left; a leaf's word is its value. A link has the place of the key in the lower half, and
    in the upper one the right child's word, which the left one's follows. After a leaf comes the next tree's root, and
    after the last one word 0, which leads to itself. So a comparison's outcome is added to the link and that is a step.

    Attributes:
        words: uint64.
        starts: uint32[8], the first word of each lane.
        n_places: Keys of a row: one for each column, or of categories one for each predicate. Two more are below no
            bound, those of word 0 and of leaves.
        n_trees: T.
    """

    words: NDArray[np.uint64]
    starts: NDArray[np.uint32]
    n_places: int
    n_trees: int


def lay_out(shape: TreeShape, predicates: Predicates) -> Traversal:
    """Lay out a forest: each tree level by level."""
    slot_node = np.full(len(shape.tree), -1)
    slot_node[shape.node] = np.arange(len(shape.node))
    nodes, position = places(shape)
    of_node = predicates.of_node[slot_node[nodes]].astype(np.uint64)
    right = position[shape.right[slot_node[nodes]]]
    records = np.arange(len(position), dtype=np.uint64) << np.uint64(32) | AT_LEAF | np.uint64(len(predicates.column))
    records[position[nodes]] = right.astype(np.uint64) << np.uint64(32) | of_node
    values = np.zeros(len(position))
    leaves = np.flatnonzero(slot_node < 0)
    values[position[leaves]] = shape.leaf_value[shape.leaf_start[shape.tree[leaves]] + shape.first_leaf[leaves]]
    return Traversal(records, shape.start[:-1].astype(np.uint32), values)


def places(shape: TreeShape) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The slots of all nodes, each tree's level by level, and the record of each slot.

    The right child of a tree's node k, so counted, is its record 2 k + 1, and the left one the next.
    """
    nodes = shape.node[np.lexsort((shape.depth[shape.node], shape.tree[shape.node]))]
    node_of = np.empty(len(shape.tree), dtype=np.int64)
    node_of[shape.node] = np.arange(len(shape.node))
    tree = shape.tree[nodes]
    counts = np.bincount(tree, minlength=len(shape.start) - 1)
    place = np.arange(len(nodes)) - (np.cumsum(counts) - counts)[tree]
    position = shape.start[shape.tree].copy()
    position[shape.right[node_of[nodes]]] = shape.start[tree] + 1 + 2 * place
    position[shape.left[node_of[nodes]]] = shape.start[tree] + 2 + 2 * place
    return nodes, position


def in_lanes(walk: Traversal, predicates: Predicates) -> Lanes:
    """Lay out a forest for `predict`."""
    roots, count = walk.roots.astype(np.int64), len(walk.records)
    tree = np.repeat(np.arange(len(roots)), np.diff(roots, append=count))
    record = np.arange(count)
    number = record - roots[tree]  # in the tree: its root, and then a right and a left child by turns
    word = 4 * (1 + (record + tree + 1) // 2) + ((number > 0) & (number % 2 == 0))
    roots_and_end = np.concatenate([word[roots], np.zeros(LANES, dtype=np.int64)])
    bound, place, n_places = _questions(predicates)
    predicate = (walk.records & (AT_LEAF - np.uint64(1))).astype(np.int64)
    leaf = walk.records & AT_LEAF != 0
    words = np.zeros(4 * (1 + (count + len(roots) + 1) // 2), dtype=np.uint64)
    words[word] = np.where(leaf, walk.values.view(np.uint64), bound[predicate])
    child = np.where(leaf, roots_and_end[tree + LANES], word[(walk.records >> np.uint64(32)).astype(np.int64)])
    words[word + 2] = (child << 32 | place[predicate]).astype(np.uint64)
    words[2] = n_places
    return Lanes(words, roots_and_end[:LANES].astype(np.uint32), n_places, len(roots))


def _questions(predicates: Predicates) -> tuple[NDArray[np.uint64], NDArray[np.int64], int]:
    """Each predicate's bound and its key's place, with those of a leaf as the last; and how many keys there are."""
    columns, of = predicates.columns.astype(np.int64), predicates.column
    categorical = columns[:, KIND] == CATEGORIES
    keys = np.where(categorical, columns[:, PREDICATES], 1)
    first = np.cumsum(keys) - keys
    n_places = int(keys.sum())
    own = np.where(categorical[of], np.arange(len(of)) - columns[of, PREDICATE], 0)
    # A set's place in `sets` is no threshold, nor need it be within them.
    threshold = predicates.thresholds[columns[of, FIRST] + np.where(categorical[of], 0, predicates.rank)]
    bits = (threshold + 0.0).view(np.uint64)  # zeros without a sign
    above = np.where(bits & SIGN, ~bits, bits | SIGN) + np.uint64(1)
    bound = np.where(categorical[of], np.uint64(1), above)
    return np.append(bound, np.uint64(0)), np.append(first[of] + own, n_places + 1), n_places


# Without numba's counting of references, two atomic operations for each view of an array.
@njit(nogil=True, cache=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def predict(columns, thresholds, sets, words, starts, n_places, n_trees, work, rows, out):
    """Raw scores, a row at a time. For compiled callers only.

    Args:
        columns: Of the `Predicates`, as are the next two.
        thresholds: float64.
        sets: uint32.
        words: Of the `Lanes`, as are the next three.
        starts: uint32[8].
        n_places: int.
        n_trees: int.
        work: uint64 to work in, as many as `work_words` says.
        rows: float64[B, F].
        out: float64[B, K], written.
    """
    n_keys = n_places + 2
    keys, found = work[:n_keys], work[n_keys:].view(np.float64)
    keys[n_places:] = NEVER
    stride = _stride(n_trees)
    for row in range(rows.shape[0]):
        _write_keys(columns, thresholds, sets, rows, row, keys)
        descend(words, starts, keys, np.uint32(n_places + 1), found, stride)
        _add(found, stride, n_trees, out, row)


@njit(inline="always")
def work_words(n_places, n_trees):
    """Words that `predict` works in: a row's keys and the leaves that it finds."""
    return n_places + 2 + LANES * _stride(n_trees)


@njit(inline="always")
def _stride(n_trees):
    """Words for the leaves that a lane finds: one a tree and one more."""
    return n_trees // LANES + 2


@njit(inline="always")
def _write_keys(columns, thresholds, sets, rows, row, keys):
    """Write the keys of a row: uint64[V or more]."""
    numbers = keys.view(np.float64)
    place = 0
    for index in range(columns.shape[0]):
        column = columns[index]
        value = rows[row, column[FEATURE]]
        if column[KIND] == CATEGORIES:
            category = rank(value, thresholds, column)
            for one in range(column[PREDICATES]):
                keys[place] = not in_set(category, sets, column[SET] + one * column[SET_WORDS])
                place += 1
            continue
        value = cleaned(value, column[KIND])
        numbers[place] = value
        # The bits of float64 in an order that is the numbers' own: all turned over below zero, else the sign alone.
        bits = keys[place]
        key = bits ^ (np.uint64(np.int64(bits) >> np.int64(63)) | SIGN)
        missing = np.uint64(0) if column[MISSING_RANK] == 0 else NEVER
        keys[place] = missing if math.isnan(value) else key
        place += 1


@njit(inline="always")
def _add(found, stride, n_trees, out, row):
    """Add up the leaf values, tree after tree."""
    n_outputs = out.shape[1]
    for output in range(n_outputs):
        total = 0.0
        for tree in range(np.uint64(output), np.uint64(n_trees), np.uint64(n_outputs)):
            total += found[tree % np.uint64(LANES) * np.uint64(stride) + tree // np.uint64(LANES)]
        out[row, output] = total
