"""The shape of a forest's trees: parents, children, depths and the order of leaves from left to right."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.forest.trees import Trees


class TreeShape(NamedTuple):
    """S slots: each tree's nodes and then its leaves, tree after tree.

    Attributes:
        start: int64[T + 1], where each tree's slots start; its first one is its root.
        tree: int64[S], whose slot it is.
        parent: int64[S], the slot above; -1 for a root.
        depth: int64[S], of a root 0.
        first_leaf: int64[S], the leftmost leaf below, by its position in the tree from left to right.
        end_leaf: int64[S], one after the rightmost leaf below.
        node: int64[N], the slot of each node.
        left: int64[N], the slot of its left child.
        right: int64[N], the slot of its right child.
        leaf_start: int64[T + 1], where each tree's leaf values start in `leaf_value`.
        leaf_value: float64[L], each tree's from left to right.
    """

    start: NDArray[np.int64]
    tree: NDArray[np.int64]
    parent: NDArray[np.int64]
    depth: NDArray[np.int64]
    first_leaf: NDArray[np.int64]
    end_leaf: NDArray[np.int64]
    node: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf_start: NDArray[np.int64]
    leaf_value: NDArray[np.float64]


def shape_of(trees: Trees) -> TreeShape:
    """Lay out all trees."""
    leaves = trees.n_leaves
    start, leaf_start, node_start = (_starts(counts) for counts in (2 * leaves - 1, leaves, leaves - 1))
    owner = np.repeat(np.arange(len(leaves)), leaves - 1)
    node = start[owner] + np.arange(len(owner)) - node_start[owner]
    left, right = (
        start[owner] + np.where(child >= 0, child, leaves[owner] - 1 + ~child) for child in (trees.left, trees.right)
    )
    tree = np.repeat(np.arange(len(leaves)), 2 * leaves - 1)
    parent, depth, first, count = (np.full(len(tree), value, dtype=np.int64) for value in (-1, 0, 0, 1))
    parent[left] = parent[right] = node
    # Level by level, all trees at once: there are few levels and many nodes.
    levels: list[NDArray[np.int64]] = []
    level = node_start[:-1][leaves > 1]
    while len(level):
        levels.append(level)
        children = np.concatenate([trees.left[level], trees.right[level]])
        level = np.sort((children + np.tile(node_start[owner[level]], 2))[children >= 0])
    for level in reversed(levels):
        count[node[level]] = count[left[level]] + count[right[level]]
    for level in levels:
        depth[left[level]] = depth[right[level]] = depth[node[level]] + 1
        first[left[level]] = first[node[level]]
        first[right[level]] = first[node[level]] + count[left[level]]
    is_leaf = np.ones(len(tree), dtype=bool)
    is_leaf[node] = False
    # Slots of a tree's leaves are in the order in which the text has their values.
    values = np.empty(len(trees.leaf_value))
    values[leaf_start[tree[is_leaf]] + first[is_leaf]] = trees.leaf_value
    return TreeShape(start, tree, parent, depth, first, first + count, node, left, right, leaf_start, values)


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
