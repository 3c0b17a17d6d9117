"""The CUDA kernels of contributions: nodes to tables, and ranks to contributions. Otherwise as `kernels.cuda.steps`.

The sums are those of `kernels.forest.explanation.contributions`, point by point and not four at a time. A thread has a
row and a part of the trees. Neighbouring threads have neighbouring rows and the same trees, so that they meet the same
nodes at the same time and differ in the nodes' states only; what a thread works in lies beside its neighbour's. Nothing
is added atomically: a part's sums are its thread's own, and parts are added up in their order by another kernel.
"""

import numpy as np
from numba import cuda, types

from kernels.cuda.forest import goes_left
from kernels.forest.explanation.paths import (
    BEFORE,
    EDGE,
    FIRST,
    LAST,
    NODES,
    POINTS,
    PREDICATE,
    RULE,
    SHARE,
    TABLE,
    USED,
    VALUE,
)
from kernels.forest.explanation.tables import (
    GROW_LEFT,
    GROW_RIGHT,
    LAST_PARTS,
    PARTS,
    STATES,
    SUM,
    WEIGH,
    WEIGH_LEFT,
    WEIGH_RIGHT,
    edge_factor,
)

ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)

WIDE, WIDE_NODE = np.uint64(PARTS), np.uint64(STATES * PARTS)
"""Numbers of a state of a node and of a node in a table, at a point."""
NARROW, NARROW_NODE = np.uint64(LAST_PARTS), np.uint64(STATES * LAST_PARTS)
"""Those of a node whose children are both leaves."""

RIGHT_GROWS, LEFT_GROWS, RIGHT_WEIGHS, LEFT_WEIGHS, SUMS, WEIGHS = (
    np.uint64(part) for part in (GROW_RIGHT, GROW_LEFT, WEIGH_RIGHT, WEIGH_LEFT, SUM, WEIGH)
)

_DOUBLES = types.float64[::1]
_TREES = types.int64[:, ::1]
_NODES = types.uint32[:, ::1]


@cuda.jit
def tabulate(first, end, owners, trees, nodes, edges, rules, start, table):
    """Write the tables of consecutive trees, a node to a thread, threads striding.

    Args:
        first: The first node.
        end: One after the last node.
        owners: Of the `PackedPaths`, as are the next four.
        trees: int64[T, 6].
        nodes: uint32[N, 4].
        edges: float64[S, 2].
        rules: float64.
        start: Where the first tree's table starts among all.
        table: float64[1, >= numbers], written: of a tree for each point its nodes' [3, 4], the last ones' [3, 2].
    """
    for index in range(first + cuda.grid(1), end, cuda.gridsize(1)):  # pyright: ignore[reportCallIssue]
        tree = owners[index]
        node, last = index - trees[tree, FIRST], trees[tree, LAST]
        root = 2 * trees[tree, FIRST] + tree
        right = root + 2 * node + 1
        before = nodes[index, BEFORE]
        known = edges[root + before, SHARE] if before else 1.0
        n_points = trees[tree, POINTS]
        rule = trees[tree, RULE]
        for point in range(n_points):
            t, weight = rules[rule + point], rules[rule + n_points + point]
            at = trees[tree, TABLE] - start + point * STATES * (PARTS * last + LAST_PARTS * (trees[tree, NODES] - last))
            at += STATES * (PARTS * min(node, last) + LAST_PARTS * max(node - last, 0))
            for state in range(STATES):
                grow_right, weigh_right = edge_factor(known, edges[right, SHARE], state > 0, state == 1, t)
                grow_left, weigh_left = edge_factor(known, edges[right + 1, SHARE], state > 0, state == 2, t)
                grow_right *= edges[right, VALUE]
                grow_left *= edges[right + 1, VALUE]
                if node < last:
                    table[0, at + GROW_RIGHT] = grow_right
                    table[0, at + GROW_LEFT] = grow_left
                    table[0, at + WEIGH_RIGHT] = weigh_right * weight
                    table[0, at + WEIGH_LEFT] = weigh_left * weight
                    at += PARTS
                else:
                    table[0, at + SUM] = grow_right + grow_left
                    table[0, at + WEIGH] = grow_right * (weigh_right * weight) + grow_left * (weigh_left * weight)
                    at += LAST_PARTS


@cuda.jit
def contributions(
    places, n_rows, first, end, n_parts, trees, nodes, sets, set_starts, start, table, states, paths, sums
):  # fmt: skip
    """Add the contributions by consecutive trees to the sums: a part to a row of the grid, a row to a thread, striding.

    Args:
        places: uint16[>= V, >= B], the ranks.
        n_rows: B, how many rows there are.
        first: The first tree; with 0 the sums start anew.
        end: One after the last tree.
        n_parts: P. Part p has the trees p, p + P, and so on.
        trees: Of the `PackedPaths`, as is the next.
        nodes: uint32[N, 4].
        sets: Of the `PackedForests`, as is the next.
        set_starts: int32.
        start: As `tabulate` takes it, as is the next.
        table: float64[1, >= numbers].
        states: uint8[P times nodes of the largest tree, >= B], to work in.
        paths: float64[P times kept edges of the largest tree, >= B], to work in.
        sums: float64[P times U, >= B], written.
    """
    all_parts, batch_end, begin = np.uint64(n_parts), np.uint64(n_rows), np.uint64(first)
    part = np.uint64(cuda.blockIdx.y)  # pyright: ignore[reportArgumentType]
    while part < all_parts:
        row = np.uint64(cuda.grid(1))  # pyright: ignore[reportCallIssue, reportArgumentType]
        while row < batch_end:
            _explain(
                places, row, part, all_parts, begin, np.uint64(end), trees, nodes, sets, set_starts, np.uint64(start),
                table, states, paths, sums,
            )  # fmt: skip
            row += np.uint64(cuda.gridsize(1))  # pyright: ignore[reportCallIssue, reportArgumentType]
        part += np.uint64(cuda.gridDim.y)  # pyright: ignore[reportArgumentType]


@cuda.jit(device=True)
def _explain(
    places, row, part, n_parts, first, end, trees, nodes, sets, set_starts, start, table, states, paths, sums
):  # fmt: skip
    """A row's part. Arguments are those of `contributions`, numbers as uint64; and the row, and the part."""
    states_at = part * (np.uint64(states.shape[0]) // n_parts)
    paths_at = part * (np.uint64(paths.shape[0]) // n_parts)
    n_used = np.uint64(sums.shape[0]) // n_parts
    sums_at = part * n_used
    if first == ZERO:
        for used in range(n_used):
            sums[sums_at + used, row] = 0.0
    tree = first + (part + n_parts - first % n_parts) % n_parts
    while tree < end:
        begin, n_nodes, last = (
            np.uint64(trees[tree, FIRST]),
            np.uint64(trees[tree, NODES]),
            np.uint64(trees[tree, LAST]),
        )
        for node in range(n_nodes):
            before = np.uint64(nodes[begin + node, BEFORE])
            state = ZERO
            # Edges 2 k + 1 to the right and 2 k + 2 to the left: whether they are met tells node k's state.
            if before == ZERO or np.uint64(states[states_at + ((before - ONE) >> ONE), row]) == TWO - (before & ONE):
                state = ONE + goes_left(places, np.uint64(nodes[begin + node, PREDICATE]), sets, set_starts, row)
            states[states_at + node, row] = state
        at = np.uint64(trees[tree, TABLE]) - start
        for _ in range(trees[tree, POINTS]):
            _add(
                row, begin, n_nodes, last, nodes, at, table, states_at, states, paths_at, paths, sums_at, sums
            )  # fmt: skip
            at += last * WIDE_NODE + (n_nodes - last) * NARROW_NODE
        tree += n_parts


@cuda.jit(device=True)
def _add(row, begin, n_nodes, last, nodes, at, table, states_at, states, paths_at, paths, sums_at, sums):
    """Add a row's contributions by a tree at a point: products of paths from the root down, sums from the leaves up."""
    paths[paths_at, row] = 1.0
    for node in range(last):
        path = paths[paths_at + np.uint64(nodes[begin + node, EDGE]), row]
        factors = at + node * WIDE_NODE + np.uint64(states[states_at + node, row]) * WIDE
        below = paths_at + TWO * node + ONE
        paths[below, row] = path * table[ZERO, factors + RIGHT_GROWS]
        paths[below + ONE, row] = path * table[ZERO, factors + LEFT_GROWS]
    for node in range(last, n_nodes):
        edge = paths_at + np.uint64(nodes[begin + node, EDGE])
        used = sums_at + np.uint64(nodes[begin + node, USED])
        path = paths[edge, row]
        factors = at + last * WIDE_NODE + (node - last) * NARROW_NODE
        factors += np.uint64(states[states_at + node, row]) * NARROW
        paths[edge, row] = path * table[ZERO, factors + SUMS]
        sums[used, row] += path * table[ZERO, factors + WEIGHS]
    for rest in range(last):
        node = last - ONE - rest
        used = sums_at + np.uint64(nodes[begin + node, USED])
        factors = at + node * WIDE_NODE + np.uint64(states[states_at + node, row]) * WIDE
        below = paths_at + TWO * node + ONE
        right, left = paths[below, row], paths[below + ONE, row]
        paths[paths_at + np.uint64(nodes[begin + node, EDGE]), row] = right + left
        sums[used, row] += right * table[ZERO, factors + RIGHT_WEIGHS] + left * table[ZERO, factors + LEFT_WEIGHS]


@cuda.jit
def add_parts(sums, n_rows, n_parts, n_outputs, out):
    """Add up the parts of every row, in their order: columns to rows of the grid, a row to a thread, all striding.

    Args:
        sums: float64[P times U, >= B].
        n_rows: B, how many rows there are.
        n_parts: P.
        n_outputs: K; the part p is of the output p % K.
        out: float64[>= B, K times U], written.
    """
    n_used = out.shape[1] // n_outputs
    for row in range(cuda.grid(1), n_rows, cuda.gridsize(1)):  # pyright: ignore[reportCallIssue]
        for column in range(cuda.blockIdx.y, out.shape[1], cuda.gridDim.y):
            total = 0.0
            for part in range(column // n_used, n_parts, n_outputs):
                total += sums[part * n_used + column % n_used, row]
            out[row, column] = total


SIGNATURES = {
    "tabulate": types.void(
        types.int64, types.int64, types.int32[::1], _TREES, _NODES, types.float64[:, ::1], _DOUBLES, types.int64,
        types.float64[:, ::1],
    ),
    "contributions": types.void(
        types.uint16[:, ::1], types.int64, types.int64, types.int64, types.int64, _TREES, _NODES, types.uint32[::1],
        types.int32[::1], types.int64, types.float64[:, ::1], types.uint8[:, ::1], types.float64[:, ::1],
        types.float64[:, ::1],
    ),
    "add_parts": types.void(types.float64[:, ::1], types.int64, types.int64, types.int64, types.float64[:, ::1]),
}  # fmt: skip
"""Kernel name to the types it is launched with."""
