"""A forest over one row: down each tree, eight trees at a time.

ask all predicates once
for each eight trees: until all are at a leaf: one step down each
for each tree: add its leaf's value

A step waits for its loads and no branch is to be guessed, so what one tree leaves idle others use. The way costs as
many steps as the deepest of the eight needs: less than ruling out leaves where there are many features or large trees.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.predicates import (
    CATEGORIES,
    COUNT,
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
from kernels.tree_shape import TreeShape

TREES = 8
"""Trees at a time: as many positions as registers hold."""

AT_LEAF = np.uint64(1 << 31)
"""Bit of a record: the row stays."""


class Traversal(NamedTuple):
    """Trees as records, in which a node's children stand side by side, the right one first.

    Attributes:
        records: uint64, the predicate in the lower half, the right child's record in the upper one. A leaf's predicate
            is the one after the last, which no row meets, and its child the leaf itself: the row stays there.
        roots: uint32[T rounded up to eight], the record of each root.
        values: float64, by record; of a leaf its value.
    """

    records: NDArray[np.uint64]
    roots: NDArray[np.uint32]
    values: NDArray[np.float64]


def lay_out(shape: TreeShape, predicates: Predicates) -> Traversal:
    """Lay out a forest for `predict`: each tree level by level."""
    nodes = shape.node[np.lexsort((shape.depth[shape.node], shape.tree[shape.node]))]
    slot_node = np.full(len(shape.tree), -1)
    slot_node[shape.node] = np.arange(len(shape.node))
    node_start = np.concatenate(
        [np.zeros(1, dtype=np.int64), np.cumsum(np.bincount(shape.tree[nodes], minlength=len(shape.start) - 1))]
    )
    place = np.arange(len(nodes)) - node_start[shape.tree[nodes]]
    position = shape.start[shape.tree].copy()
    right = shape.start[shape.tree[nodes]] + 1 + 2 * place
    position[shape.right[slot_node[nodes]]] = right
    position[shape.left[slot_node[nodes]]] = right + 1
    records = np.arange(len(position), dtype=np.uint64) << np.uint64(32) | AT_LEAF | np.uint64(len(predicates.column))
    of_node = predicates.of_node[slot_node[nodes]].astype(np.uint64)
    records[position[nodes]] = right.astype(np.uint64) << np.uint64(32) | of_node
    values = np.zeros(len(position))
    leaves = np.flatnonzero(slot_node < 0)
    values[position[leaves]] = shape.leaf_value[shape.leaf_start[shape.tree[leaves]] + shape.first_leaf[leaves]]
    roots = shape.start[:-1]
    spare = np.full(-len(roots) % TREES, leaves[0] if len(leaves) else 0)
    return Traversal(records, np.concatenate([roots, position[spare]]).astype(np.uint32), values)


@njit(nogil=True, cache=True, error_model="numpy")
def predict(columns, thresholds, sets, records, roots, values, n_predicates, n_trees, rows, out):
    """Raw scores, a row at a time.

    Args:
        columns: Of the `Predicates`, as are the next two.
        thresholds: float64.
        sets: uint32.
        records: Of the `Traversal`, as are the next two.
        roots: uint32.
        values: float64.
        n_predicates: P.
        n_trees: T.
        rows: float64[B, F].
        out: float64[B, K], written.
    """
    n_outputs = out.shape[1]
    holds = np.empty(n_predicates + 1, dtype=np.uint8)
    leaf = np.empty(roots.shape[0], dtype=np.uint32)
    for row in range(rows.shape[0]):
        for index in range(columns.shape[0]):
            _ask(rows[row], columns[index], thresholds, sets, holds)
        holds[n_predicates] = 0
        for first in range(np.uint64(0), np.uint64(roots.shape[0]), np.uint64(TREES)):
            _descend(records, roots, holds, first, leaf)
        for output in range(n_outputs):
            total = 0.0
            for tree in range(np.uint64(output), np.uint64(n_trees), np.uint64(n_outputs)):
                total += values[np.uint64(leaf[tree])]
            out[row, output] = total


@njit(nogil=True, cache=True, error_model="numpy")
def _ask(row, column, thresholds, sets, holds):
    place = rank(row[column[FEATURE]], thresholds, column)
    predicate = np.uint64(column[PREDICATE])
    if column[KIND] == CATEGORIES:
        for one in range(column[PREDICATES]):
            holds[predicate + np.uint64(one)] = in_set(place, sets, column[SET] + one * column[SET_WORDS])
        return
    for index in range(place):
        holds[predicate + index] = 0
    for index in range(place, np.uint64(column[COUNT])):
        holds[predicate + index] = 1


@njit(nogil=True, cache=True, error_model="numpy")
def _step(records, record, holds):
    return records[(record >> np.uint64(32)) + np.uint64(holds[record & np.uint64(0x7FFFFFFF)])]


@njit(nogil=True, cache=True, error_model="numpy")
def _descend(records, roots, holds, first, leaf):
    one = records[np.uint64(roots[first])]
    two = records[np.uint64(roots[first + np.uint64(1)])]
    three = records[np.uint64(roots[first + np.uint64(2)])]
    four = records[np.uint64(roots[first + np.uint64(3)])]
    five = records[np.uint64(roots[first + np.uint64(4)])]
    six = records[np.uint64(roots[first + np.uint64(5)])]
    seven = records[np.uint64(roots[first + np.uint64(6)])]
    eight = records[np.uint64(roots[first + np.uint64(7)])]
    while not one & two & three & four & five & six & seven & eight & AT_LEAF:
        one = _step(records, one, holds)
        two = _step(records, two, holds)
        three = _step(records, three, holds)
        four = _step(records, four, holds)
        five = _step(records, five, holds)
        six = _step(records, six, holds)
        seven = _step(records, seven, holds)
        eight = _step(records, eight, holds)
    shift = np.uint64(32)
    leaf[first] = one >> shift
    leaf[first + np.uint64(1)] = two >> shift
    leaf[first + np.uint64(2)] = three >> shift
    leaf[first + np.uint64(3)] = four >> shift
    leaf[first + np.uint64(4)] = five >> shift
    leaf[first + np.uint64(5)] = six >> shift
    leaf[first + np.uint64(6)] = seven >> shift
    leaf[first + np.uint64(7)] = eight >> shift
