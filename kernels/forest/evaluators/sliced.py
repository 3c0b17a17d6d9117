"""A forest over many rows at once, bit-sliced: 512 rows are one bitset, and a node is two operations on it.

for each block of 512 rows:
    for each column: ranks; for each of its predicates: the bitset of rows that go left
    for each four trees:
        for each node, from the roots down: rows of the left child = rows & predicate; of the right one = the others
        for each bit of a leaf's number: unite the rows of the leaves that have it
        turn bits of numbers into numbers; add the leaves' values, tree after tree

The idea is bitslicing (E. Biham, "A Fast New DES Implementation in Software", FSE 1997) put to decision trees; that a
node costs the same for 512 rows as for one is what makes it fast, and that it is done for every node of every tree, on
the row's way or not, what limits it to many rows.
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.evaluators.bitset import GROUP, ROWS, add, equal_to, lowest_bit, numbers, split, unite, up_to
from kernels.forest.predicates import (
    CATEGORIES,
    COUNT,
    KIND,
    PREDICATE,
    PREDICATES,
    SET,
    SET_WORDS,
    Predicates,
    rank_block,
)
from kernels.forest.tree_shape import TreeShape

BYTE_RANKS = 255
"""Ranks to a byte column; a column of more thresholds is compared in parts."""

TREES = 4
"""Trees in a group: their leaves' numbers are the bytes of one word. Walking several trees level by level also keeps a
node's load far from the store that it waits for."""

BYTE_LEAVES = 256
"""Leaves that a byte can number; a larger tree is a group of its own, and its number takes the whole word."""

NODE_END, OUTPUT, PLANES, WIDE, VALUE = range(5)
"""Fields of a group; the last of them four times."""


class SlicedForest(NamedTuple):
    """Trees in groups, and the lines of a workspace: predicates, categories, all rows, planes, slots.

    Attributes:
        nodes: int32[N, 4], lines of predicate, node, left and right child; by group, then by depth.
        groups: int32[G, 8], by the fields above: where the nodes end; the output that the trees add to; bits of a
            leaf's number in a byte; whether the group is one tree of more than 256 leaves; where the leaf values of
            each tree start.
        union_start: int32[U + 1], where each union starts in `members`: of a group one for each bit of each byte.
        members: int32, lines of slots.
        values: float64, leaf values from left to right; the last one is the zero of trees that are not there.
        n_lines: Of the workspace.
        categories: The first line of those for a column's categories; the line of all rows and the planes follow them.
        n_categories: Number of those lines.
    """

    nodes: NDArray[np.int32]
    groups: NDArray[np.int32]
    union_start: NDArray[np.int32]
    members: NDArray[np.int32]
    values: NDArray[np.float64]
    n_lines: int
    categories: int
    n_categories: int

    def workspace(self) -> NDArray[np.uint64]:
        """uint64[n_lines, 8], aligned to a cache line; no two calls of `predict` may use one at a time."""
        buffer = np.zeros((self.n_lines + 1) * 8, dtype=np.uint64)
        start = -buffer.ctypes.data % 64 // 8
        return buffer[start : start + self.n_lines * 8].reshape(-1, 8)


def slice_forest(shape: TreeShape, predicates: Predicates, n_outputs: int) -> SlicedForest:
    """Lay out a forest for `predict`."""
    leaves = np.diff(shape.leaf_start)
    wide = leaves > BYTE_LEAVES
    groups: list[list[int]] = []
    for output in range(n_outputs):
        for tree in range(output, len(leaves), n_outputs):
            last = groups[-1] if groups else []
            if not last or len(last) == TREES or last[0] % n_outputs != output or wide[tree] or wide[last[0]]:
                groups.append([])
            groups[-1].append(tree)
    kinds = predicates.columns[:, KIND]
    n_categories = int(predicates.columns[kinds == CATEGORIES, COUNT].max(initial=0))
    categories = len(predicates.column)
    all_rows = categories + n_categories
    first_slot = all_rows + 1 + 8 * TREES
    group, unit, offset = (np.zeros(len(leaves), dtype=np.int64) for _ in range(3))
    sizes = np.diff(shape.start)
    table = np.zeros((len(groups), VALUE + TREES), dtype=np.int64)
    for index, trees in enumerate(groups):
        group[trees] = index
        unit[trees] = range(len(trees))
        offset[trees] = np.cumsum(sizes[trees]) - sizes[trees]
        bits = 8 if wide[trees[0]] else int(leaves[trees].max() - 1).bit_length()
        table[index, [OUTPUT, PLANES, WIDE]] = trees[0] % n_outputs, bits, wide[trees[0]]
        table[index, VALUE:] = len(shape.leaf_value)
        table[index, VALUE : VALUE + len(trees)] = shape.leaf_start[trees]
    line = first_slot + offset[shape.tree] + np.arange(len(shape.tree)) - shape.start[shape.tree]
    line[shape.start[:-1]] = all_rows
    nodes = np.stack([predicates.of_node, line[shape.node], line[shape.left], line[shape.right]], axis=1)
    owner = group[shape.tree[shape.node]]
    order = np.lexsort((shape.depth[shape.node], owner))
    table[:, NODE_END] = np.cumsum(np.bincount(owner, minlength=len(groups)))
    first_union = np.cumsum(table[:, PLANES] * TREES) - table[:, PLANES] * TREES
    first_union = first_union[group] + unit * table[group, PLANES]
    n_unions = int(table[:, PLANES].sum()) * TREES
    unions, members = _unions(shape, first_union[shape.tree], n_unions, line)
    return SlicedForest(
        nodes=nodes[order].astype(np.int32),
        groups=table.astype(np.int32),
        union_start=unions,
        members=members,
        values=np.append(shape.leaf_value, 0.0),
        n_lines=int(first_slot + np.bincount(group, sizes).max(initial=0)),
        categories=categories,
        n_categories=n_categories,
    )


def _unions(
    shape: TreeShape, first_union: NDArray[np.int64], n_unions: int, line: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each bit of each tree's leaf numbers the fewest slots below which are just the leaves that have it."""
    below = np.flatnonzero(shape.parent >= 0)
    unions: list[NDArray[np.int64]] = []
    slots: list[NDArray[np.int64]] = []
    for bit in range(int(np.diff(shape.leaf_start).max(initial=1) - 1).bit_length()):
        # All leaves from first to last have the bit, if the first has it and none of the higher bits changes.
        has = (shape.first_leaf >> bit & 1 == 1) & (shape.first_leaf >> bit == (shape.end_leaf - 1) >> bit)
        chosen = below[has[below] & ~has[shape.parent[below]]]
        unions.append(first_union[chosen] + bit)
        slots.append(chosen)
    union = np.concatenate([np.zeros(0, dtype=np.int64), *unions])
    members = line[np.concatenate([np.zeros(0, dtype=np.int64), *slots])][np.argsort(union, kind="stable")]
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.bincount(union, minlength=n_unions))])
    return starts.astype(np.int32), members.astype(np.int32)


@njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
def predict(
    rows, columns, thresholds, sets, nodes, groups, union_start, members, values, categories, n_categories, lines, out
):  # fmt: skip
    """Raw scores of any number of rows.

    Args:
        rows: float64[B, F].
        columns: Of the `Predicates`, as are the next two.
        thresholds: float64.
        sets: uint32.
        nodes: Of the `SlicedForest`, as are the next six.
        groups: int32[G, 8].
        union_start: int32[U + 1].
        members: int32.
        values: float64.
        categories: int.
        n_categories: int.
        lines: uint64[n_lines, 8], aligned, to work in.
        out: float64[B, K], written.
    """
    n_outputs = out.shape[1]
    ranks = np.empty(ROWS, dtype=np.int32)
    part = np.empty(ROWS, dtype=np.uint8)
    cleaned_values = np.empty(ROWS)
    leaf = np.empty(ROWS, dtype=np.uint32)
    totals = np.empty((n_outputs, ROWS))
    all_rows = categories + n_categories
    planes = all_rows + 1
    lines[all_rows] = ~np.uint64(0)
    for first in range(0, rows.shape[0], ROWS):
        count = min(ROWS, rows.shape[0] - first)
        n_groups = (count + GROUP - 1) // GROUP
        for index in range(columns.shape[0]):
            column = columns[index]
            rank_block(rows, first, count, thresholds, column, cleaned_values, ranks)
            _test_block(ranks, part, n_groups, column, sets, lines, categories)
        totals[:] = 0.0
        node = 0
        union = 0
        for group in range(groups.shape[0]):
            for index in range(node, groups[group, NODE_END]):
                split(lines, nodes, index)
            node = groups[group, NODE_END]
            bits = groups[group, PLANES]
            for byte in range(TREES):
                for bit in range(bits):
                    unite(lines, members, union_start[union], union_start[union + 1], planes + byte * 8 + bit)
                    union += 1
            numbers(lines, planes, bits, n_groups, leaf)
            total = totals[groups[group, OUTPUT]]
            first_values = values[groups[group, VALUE] :]
            if groups[group, WIDE]:
                for row in range(count):
                    total[row] += first_values[leaf[row]]
                continue
            second_values = values[groups[group, VALUE + 1] :]
            third_values = values[groups[group, VALUE + 2] :]
            fourth_values = values[groups[group, VALUE + 3] :]
            for row in range(count):
                word = leaf[row]
                value = total[row]
                # One after the other, as LightGBM adds them.
                value += first_values[np.uint8(word)]
                value += second_values[np.uint8(word >> np.uint32(8))]
                value += third_values[np.uint8(word >> np.uint32(16))]
                value += fourth_values[np.uint8(word >> np.uint32(24))]
                total[row] = value
        for row in range(count):
            for output in range(n_outputs):
                out[first + row, output] = totals[output, row]


@njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
def _test_block(ranks, part, n_groups, column, sets, lines, categories):
    """Write the lines of a column's predicates.

    Args:
        ranks: int32[512].
        part: uint8[512], to work in.
        n_groups: How many times 32 rows.
        column: int32[9].
        sets: uint32.
        lines: uint64[n_lines, 8].
        categories: The first line to work in, if the column has categories.
    """
    has_categories = column[KIND] == CATEGORIES
    for start in range(0, column[COUNT], BYTE_RANKS):
        # A rank below this part is lower than all its thresholds, and is none of its categories: it wraps around.
        lowest = np.int32(-1) if has_categories else np.int32(start)
        for row in range(n_groups * GROUP):
            part[row] = min(np.uint32(max(ranks[row], lowest) - np.int32(start)), np.uint32(BYTE_RANKS))
        for index in range(min(column[COUNT] - start, BYTE_RANKS)):
            if has_categories:
                equal_to(part, index, n_groups, lines, categories + start + index)
            else:
                up_to(part, index, n_groups, lines, column[PREDICATE] + start + index)
    if not has_categories:
        return
    for index in range(column[PREDICATES]):
        line = column[PREDICATE] + index
        lines[line] = np.uint64(0)
        for word in range(column[SET_WORDS]):
            bits = np.uint64(sets[column[SET] + index * column[SET_WORDS] + word])
            while bits:
                add(lines, line, categories + word * 32 + np.int64(lowest_bit(bits)))
                bits &= bits - np.uint64(1)
