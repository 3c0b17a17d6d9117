"""The leaf of each tree that a row comes to, by LightGBM's numbers."""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

import numpy as np
from numba import njit

from kernels.forest.evaluators.traversal import AT_LEAF
from kernels.forest.predicates import CATEGORIES, FEATURE, KIND, in_set, rank


@njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
def leaves(rows, columns, thresholds, sets, column_of, rank_of, records, roots, numbers, out):
    """Numbers of leaves.

    Args:
        rows: float64[B, F].
        columns: Of the `Predicates`, as are the next four.
        thresholds: float64.
        sets: uint32.
        column_of: int32[P].
        rank_of: int32[P].
        records: Of the `Traversal`, as is the next.
        roots: uint32[T].
        numbers: Of the `Covers`.
        out: int32[B, T], written.
    """
    ranks = np.empty(columns.shape[0], dtype=np.uint64)
    for row in range(rows.shape[0]):
        for index in range(columns.shape[0]):
            ranks[index] = rank(rows[row, columns[index, FEATURE]], thresholds, columns[index])
        for tree in range(roots.shape[0]):
            place = np.uint64(roots[tree])
            record = records[place]
            while not record & AT_LEAF:
                predicate = record & np.uint64(0xFFFFFFFF)
                column = column_of[predicate]
                if columns[column, KIND] == CATEGORIES:
                    left = in_set(ranks[column], sets, rank_of[predicate])
                else:
                    left = np.uint64(ranks[column] <= np.uint64(rank_of[predicate]))
                place = (record >> np.uint64(32)) + left
                record = records[place]
            out[row, tree] = numbers[place]
