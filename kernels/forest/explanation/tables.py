"""The factors of nodes at the points of integration."""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.explanation.paths import BEFORE, FIRST, LAST, NODES, POINTS, RULE, SHARE, TABLE, VALUE, Paths
from kernels.forest.explanation.vectors import LANES

MAX_BYTES = 2**26
"""Most memory of tables that are kept. Those of further trees are made anew for each block of rows."""

STATES = 3
"""Of a node with a row: its feature's conditions failed before; hold, and the row goes right; and the row goes left."""

GROW_RIGHT, GROW_LEFT, WEIGH_RIGHT, WEIGH_LEFT = range(4)
"""Of a node in a state: factors of the polynomials of the paths to its children, and weights of the sums below them."""

PARTS = 4

SUM, WEIGH = range(2)
"""Of a node whose children are both leaves: factors of the sum of their polynomials, and of the weighted sum."""

LAST_PARTS = 2


class Tables(NamedTuple):
    """The tables of T trees.

    Attributes:
        trees: Those of the `Paths` with two fields more: where the tree's table starts in `values`, -1 if it is not
            kept; and where its points start in `rules`.
        values: float64, the tables that are kept, as `tabulate` writes them.
        rules: float64, `quadrature` for each number of points.
    """

    trees: NDArray[np.int64]
    values: NDArray[np.float64]
    rules: NDArray[np.float64]


def make_tables(paths: Paths) -> Tables:
    """Make the tables of the first trees, as many as may be kept."""
    trees, rules = place_tables(paths)
    sizes = table_sizes(trees)
    kept = int(np.searchsorted(np.cumsum(sizes), MAX_BYTES // 8, side="right"))
    trees[kept:, TABLE] = -1
    tables = Tables(trees, _aligned(int(sizes[:kept].sum())), rules)
    _fill(trees, paths.nodes, paths.edges, tables.rules, tables.values)
    return tables


def place_tables(paths: Paths) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Trees as in `Tables`, with places for all of their tables, one after the other; and the rules."""
    trees = paths.trees.copy()
    numbers, used = np.unique(trees[:, POINTS], return_inverse=True)
    rules = [quadrature(int(points)).ravel() for points in numbers if points]
    trees[:, RULE] = (np.cumsum(2 * numbers) - 2 * numbers)[used]
    sizes = table_sizes(trees)
    trees[:, TABLE] = np.cumsum(sizes) - sizes
    return trees, np.concatenate([np.zeros(0), *rules])


def table_sizes(trees: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[T], the numbers in each tree's table."""
    last = trees[:, NODES] - trees[:, LAST]
    return STATES * (PARTS * trees[:, LAST] + LAST_PARTS * last) * trees[:, POINTS]


def _aligned(count: int) -> NDArray[np.float64]:
    """float64[count], aligned to a cache line: a vector that crosses two takes two loads."""
    buffer = np.zeros(count + 8)
    start = -buffer.ctypes.data % 64 // 8
    return buffer[start : start + count]


def quadrature(points: int) -> NDArray[np.float64]:
    """Gauss-Legendre points and weights on 0 to 1: float64[2, Q]; exact for polynomials of degree 2 Q - 1."""
    x, weights = np.polynomial.legendre.leggauss(points)
    return np.stack([(x + 1) / 2, weights / 2])


@njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def tabulate(tree, trees, nodes, edges, rules, out, start):
    """Write a tree's table.

    With h(z, o, t) = z (1 - t) + o t the polynomial of a feature of share z whose conditions hold (o = 1) or not, an
    edge multiplies a path's polynomial by h over that of the edge before; its weights are those of the integral times
    (o - z) / h, less the same of the edge before.

    Args:
        tree: Which.
        trees: int64[T, 6], of the `Tables`.
        nodes: Of the `Paths`, as is the next.
        edges: float64[S, 2].
        rules: Of the `Tables`.
        out: float64, written from `start` on: for each four points of nodes [3, 4, 4] each, and of the last ones
            [3, 2, 4].
        start: int.
    """
    first, n_nodes, n_points = trees[tree, FIRST], trees[tree, NODES], trees[tree, POINTS]
    root = 2 * first + tree
    at = start
    for place in range(n_points // LANES * n_nodes):
        node = place % n_nodes
        rule = trees[tree, RULE] + place // n_nodes * LANES
        before = nodes[first + node, BEFORE]
        known = edges[root + before, SHARE] if before else 1.0
        is_last = node >= trees[tree, LAST]
        parts = LAST_PARTS if is_last else PARTS
        for state in range(STATES):
            for index in range(LANES):
                t, weight = rules[rule + index], rules[rule + n_points + index]
                total = weighted = 0.0
                for side in range(2):
                    edge = root + 2 * node + 1 + side
                    factor, share = edge_factor(known, edges[edge, SHARE], state > 0, state == side + 1, t)
                    factor, share = factor * edges[edge, VALUE], share * weight
                    total += factor
                    weighted += factor * share
                    if not is_last:
                        out[at + (GROW_RIGHT + side) * LANES + index] = factor
                        out[at + (WEIGH_RIGHT + side) * LANES + index] = share
                if is_last:
                    out[at + SUM * LANES + index] = total
                    out[at + WEIGH * LANES + index] = weighted
            at += parts * LANES


@njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def edge_factor(known, share, held, taken, t):
    """An edge's factor of the polynomial at a point, and (o - z) / h less the same of the edge before.

    Args:
        known: Share of the edge before.
        share: The edge's own.
        held: Whether the conditions of the feature held before.
        taken: Whether they hold here.
        t: The point.
    """
    if not held:
        # Both (o - z) / h are -1 / (1 - t). Where the share before is zero, so is the polynomial.
        return (share / known if known > 0 else 0.0), 0.0
    below = known + (1 - known) * t
    gone = (1 - known) / below
    if taken:
        here = share + (1 - share) * t
        return here / below, (1 - share) / here - gone
    return share * (1 - t) / below, -1 / (1 - t) - gone


@njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
def _fill(trees, nodes, edges, rules, out):
    """Write the tables that are kept."""
    for tree in range(len(trees)):
        if trees[tree, TABLE] >= 0:
            tabulate(tree, trees, nodes, edges, rules, out, trees[tree, TABLE])
