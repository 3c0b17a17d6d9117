"""Contributions of features to a forest's scores: exact path-dependent SHAP values.

The contribution of feature i by a leaf of value v is, with z_j the share of a path's feature j and o_j whether the row
meets all its conditions,

    v (o_i - z_i) * integral over t from 0 to 1 of product over j != i of h_j,   h_j = z_j (1 - t) + o_j t

(the Shapley value by G. Owen's multilinear extension). Gauss-Legendre points make the integral an exact sum. At each
point a path's product grows edge by edge, and the sums over the leaves below an edge are made once for all of them:

for each tree, for each eight rows:
    for each node, from the root down: products of the paths to its children = product of its own * factors
    for each node above two leaves: sum = product * factors; contribution of its feature += product * weights
    for each other node, up to the root: sum = both children's; contribution of its feature += sums * weights

Factors and weights depend only on the node and on one of three states of it (`kernels.forest.explanation.tables`).
Eight rows are at a node at a time, since a row alone waits for its own last product; few rows go one by one.
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

import numpy as np
from numba import njit

from kernels.forest.explanation.paths import EDGE, FIRST, LAST, NODES, POINTS, TABLE, USED
from kernels.forest.explanation.states import decide, fetch, test_rows
from kernels.forest.explanation.tables import LAST_PARTS, PARTS, STATES, tabulate
from kernels.forest.explanation.vectors import LANES, ROWS, collect, finish, grow

FEW = 2
"""Rows that are explained one by one if so many are left: eight take as long as three or four do so."""

STRIDE, LAST_STRIDE = np.uint64(STATES * PARTS * LANES), np.uint64(STATES * LAST_PARTS * LANES)
"""Numbers of a node in a table."""

ALL = np.uint64(0x0101010101010101)


@njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
def contributions(
    rows, columns, thresholds, sets, nodes, edges, features, trees, rules, tables, sizes, out
):  # fmt: skip
    """Contributions of rows.

    Args:
        rows: float64[B, F].
        columns: Of the `Predicates`, as are the next two.
        thresholds: float64.
        sets: uint32.
        nodes: uint32[N, 4], of the `Paths`, as are the next two.
        edges: float64[S, 2].
        features: int32[U].
        trees: int64[T, 6], of the `Tables`, as are the next two.
        rules: float64.
        tables: float64.
        sizes: (P, rows at a time, a multiple of eight; most nodes of a tree; numbers in the largest table that is not
            kept).
        out: float64[B, K, F], zeros; written.
    """
    n_predicates, block, n_nodes, made = sizes
    count, n_edges, n_used = rows.shape[0], 2 * n_nodes + 1, len(features)
    together = count // ROWS * ROWS
    if count - together > FEW:
        together = count
    work, places = np.empty(made), np.empty(ROWS, dtype=np.uint32)
    if together:
        paths, passed = np.empty(n_edges * ROWS * LANES), np.empty(block * n_predicates, dtype=np.uint8)
        holds, states = np.empty(n_edges, dtype=np.uint64), np.empty(n_nodes, dtype=np.uint64)
        totals = np.empty(block * n_used * LANES)
        for first in range(0, together, block):
            _explain_block(
                rows, first, min(first + block, count), columns, thresholds, sets, nodes, edges, features, trees,
                rules, tables, n_predicates, work, places, paths, passed, passed.view(np.uint64), holds, states,
                totals, out,
            )  # fmt: skip
    if together < count:
        paths, passed = np.empty(n_edges * LANES), np.empty(n_predicates, dtype=np.uint8)
        row_holds, row_states = np.empty(n_edges, dtype=np.uint8), np.empty(2 * n_nodes, dtype=np.uint8)
        totals = np.empty(n_used * LANES)
        for row in range(together, count):
            _explain_row(
                rows, row, columns, thresholds, sets, nodes, edges, features, trees, rules, tables, n_predicates, work,
                places, paths, passed, row_holds, row_states, totals, out,
            )  # fmt: skip


# Without numba's counting of references, two atomic operations for each view of an array.
@njit(nogil=True, cache=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _explain_block(
    rows, first, end, columns, thresholds, sets, nodes, edges, features, trees, rules, tables, n_predicates, work,
    places, paths, passed, words, holds, states, totals, out,
):  # fmt: skip
    """Contributions of a block of rows, tree by tree: a tree's table stays in a core's first cache."""
    n_outputs, size, none = out.shape[1], np.uint64(len(features) * ROWS * LANES), np.uint64(0)
    n_words = np.uint64((end - first + ROWS - 1) // ROWS)
    for word in range(n_words):
        start = first + np.int64(word) * ROWS
        test_rows(
            rows, start, min(start + ROWS, end), columns, thresholds, sets, ROWS, places, passed, word, n_predicates
        )
    for output in range(n_outputs):
        totals[: n_words * size] = 0.0
        for tree in range(output, len(trees), n_outputs):
            place, table = trees[tree, TABLE], tables
            if place < 0:
                place, table = 0, work
                tabulate(tree, trees, nodes, edges, rules, work, np.int64(0))
            for word in range(n_words):
                decide(trees, tree, nodes, words, word * np.uint64(n_predicates), ALL, holds, states, none)
                _add(trees, tree, nodes, table, np.uint64(place), ROWS, states, none, paths, totals, word * size)
        for row in range(first, end):
            start = np.uint64((row - first) // ROWS) * size + np.uint64((row - first) % ROWS * LANES)
            _sum_up(totals, start, ROWS, features, row, output, out)


@njit(nogil=True, cache=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _explain_row(
    rows, row, columns, thresholds, sets, nodes, edges, features, trees, rules, tables, n_predicates, work, places,
    paths, passed, holds, states, totals, out,
):  # fmt: skip
    """Contributions of one row. While it goes through a tree, what it needs of the next tree's table is fetched."""
    n_outputs, none, one, half = out.shape[1], np.uint64(0), np.uint8(1), np.uint64(len(states) // 2)
    test_rows(rows, row, row + 1, columns, thresholds, sets, 1, places, passed, none, n_predicates)
    for output in range(n_outputs):
        totals[:] = 0.0
        now = none
        if output < len(trees):
            decide(trees, output, nodes, passed, none, one, holds, states, now)
        for tree in range(output, len(trees), n_outputs):
            coming = tree + n_outputs
            if coming < len(trees):
                decide(trees, coming, nodes, passed, none, one, holds, states, half - now)
                if trees[coming, TABLE] >= 0:
                    fetch(trees, coming, tables, states, half - now)
            place, table = trees[tree, TABLE], tables
            if place < 0:
                place, table = 0, work
                tabulate(tree, trees, nodes, edges, rules, work, np.int64(0))
            _add(trees, tree, nodes, table, np.uint64(place), 1, states, now, paths, totals, none)
            now = half - now
        _sum_up(totals, none, 1, features, row, output, out)


@njit(nogil=True, cache=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _sum_up(totals, start, width, features, row, output, out):
    """Write a row's contributions to an output: the sums of its features' four parts."""
    for index in range(len(features)):
        at = start + np.uint64(index * width * LANES)
        left, right = totals[at] + totals[at + np.uint64(1)], totals[at + np.uint64(2)] + totals[at + np.uint64(3)]
        out[row, output, features[index]] = left + right


@njit(cache=True, error_model="numpy", forceinline=True, _nrt=False, no_cfunc_wrapper=True)
def _add(trees, tree, nodes, table, start, width, states, states_start, paths, totals, totals_start):
    """Add rows' contributions by a tree.

    Args:
        trees: int64[T, 6].
        tree: Which.
        nodes: uint32[N, 4].
        table: float64, in which the tree's own starts at the next.
        start: uint64.
        width: Rows in a word.
        states: Words, of each node.
        states_start: uint64, where they start.
        paths: float64, to work in.
        totals: float64, in which the rows' own, [U, width, 4], start at the next; added to.
        totals_start: uint64.
    """
    one, two = np.uint64(1), np.uint64(2)
    first, n_nodes, last = np.uint64(trees[tree, FIRST]), np.uint64(trees[tree, NODES]), np.uint64(trees[tree, LAST])
    for _ in range(trees[tree, POINTS] // LANES):
        part = start
        for index in range(np.uint64(LANES * width)):
            paths[index] = 1.0
        for node in range(last):
            edge = np.uint64(nodes[first + node, EDGE])
            grow(paths, edge, two * node + one, table, part, states, states_start + node)
            part += STRIDE
        for node in range(last, n_nodes):
            edge = np.uint64(nodes[first + node, EDGE])
            total = totals_start + np.uint64(nodes[first + node, USED]) * np.uint64(LANES * width)
            finish(paths, edge, table, part, states, states_start + node, totals, total)
            part += LAST_STRIDE
        for below in range(last):
            node = last - one - below
            edge = np.uint64(nodes[first + node, EDGE])
            total = totals_start + np.uint64(nodes[first + node, USED]) * np.uint64(LANES * width)
            own = start + node * STRIDE
            collect(paths, two * node + one, edge, table, own, states, states_start + node, totals, total)
        start = part
