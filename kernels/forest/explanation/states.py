"""The states of a tree's nodes with rows: which conditions hold.

A word has a byte for each of one or eight rows (`kernels.forest.explanation.vectors`).
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

import numpy as np
from numba import njit

from kernels.forest.explanation.paths import BEFORE, FIRST, LAST, NODES, TABLE
from kernels.forest.explanation.paths import PREDICATE as TEST
from kernels.forest.explanation.tables import LAST_PARTS, PARTS, STATES
from kernels.forest.explanation.vectors import LANES, ROWS, prefetch
from kernels.forest.predicates import CATEGORIES, FEATURE, KIND, PREDICATE, PREDICATES, SET, SET_WORDS, in_set, rank


@njit(nogil=True, cache=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def test_rows(rows, begin, end, columns, thresholds, sets, width, places, passed, word, n_predicates):
    """Write whether rows go left at each predicate.

    Args:
        rows: float64[B, F].
        begin: The first of at most `width` rows.
        end: One after the last.
        columns: Of the `Predicates`, as are the next two.
        thresholds: float64.
        sets: uint32.
        width: Rows in a word.
        places: uint32[8], to work in.
        passed: uint8, written; the bytes of each predicate are a word.
        word: uint64, how many times P words stand before.
        n_predicates: P.
    """
    for index in range(columns.shape[0]):
        column = columns[index]
        for row in range(begin, end):
            places[row - begin] = rank(rows[row, column[FEATURE]], thresholds, column)
        for row in range(end - begin, width):
            places[row] = 0
        at = (word * np.uint64(n_predicates) + np.uint64(column[PREDICATE])) * np.uint64(width)
        for one in range(np.uint32(column[PREDICATES])):
            if column[KIND] == CATEGORIES:
                start = column[SET] + np.int64(one) * column[SET_WORDS]
                for row in range(np.uint64(width)):
                    passed[at + row] = in_set(np.uint64(places[row]), sets, start)
            elif width == 1:
                passed[at] = one >= places[0]
            else:
                for row in range(np.uint64(ROWS)):
                    passed[at + row] = one >= places[row]
            at += np.uint64(width)


@njit(cache=True, error_model="numpy", forceinline=True, _nrt=False, no_cfunc_wrapper=True)
def decide(trees, tree, nodes, passed, passed_start, all_rows, holds, states, states_start):
    """Write the states of a tree's nodes.

    Args:
        trees: int64[T, 6].
        tree: Which.
        nodes: uint32[N, 4].
        passed: Words, whether rows go left at each predicate.
        passed_start: uint64, where they start.
        all_rows: A word, 1 for each row.
        holds: Words, to work in: whether an edge's feature meets all conditions.
        states: Words, written: of each node.
        states_start: uint64, where they start.
    """
    first, n_nodes = np.uint64(trees[tree, FIRST]), np.uint64(trees[tree, NODES])
    one, two = np.uint64(1), np.uint64(2)
    holds[np.uint64(0)] = all_rows
    for node in range(n_nodes):
        held = holds[np.uint64(nodes[first + node, BEFORE])]
        to_left = held & passed[passed_start + np.uint64(nodes[first + node, TEST])]
        right = two * node + one
        holds[right], holds[right + one] = held ^ to_left, to_left
        states[states_start + node] = held + to_left


@njit(cache=True, error_model="numpy", forceinline=True, _nrt=False, no_cfunc_wrapper=True)
def fetch(trees, tree, tables, states, states_start):
    """Have the parts of a tree's table fetched that a row needs for the first four points."""
    n_nodes, last = np.uint64(trees[tree, NODES]), np.uint64(trees[tree, LAST])
    start = np.uint64(trees[tree, TABLE])
    part = np.uint64(PARTS * LANES)
    for node in range(last):
        state = np.uint64(states[states_start + node])
        prefetch(tables, start + (node * np.uint64(STATES) + state) * part, np.uint64(2))
    start += last * np.uint64(STATES) * part
    part = np.uint64(LAST_PARTS * LANES)
    for node in range(n_nodes - last):
        state = np.uint64(states[states_start + last + node])
        prefetch(tables, start + (node * np.uint64(STATES) + state) * part, np.uint64(1))
