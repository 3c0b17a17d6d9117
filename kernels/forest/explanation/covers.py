"""What explanations need of a forest's records besides the trees: training rows and LightGBM's numbers of leaves."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.forest.evaluators.traversal import places
from kernels.forest.explanation.vectors import LANES
from kernels.forest.tree_shape import TreeShape
from kernels.forest.trees import Trees

NODE_NUMBERS = 12
"""Most numbers of a node in a table, for each point."""


class Covers(NamedTuple):
    """By the records of a `Traversal`.

    Attributes:
        counts: int64[S], training rows that came to a node or leaf.
        numbers: int32[S], of a leaf its number in its tree as LightGBM counts; below 0 for a node.
        counted: Whether the text tells the counts of all trees.
        largest: Bound of the numbers in the largest table that an explanation takes.
    """

    counts: NDArray[np.int64]
    numbers: NDArray[np.int32]
    counted: bool
    largest: int


def covers_of(trees: Trees, shape: TreeShape) -> Covers:
    """The covers of all trees."""
    _, position = places(shape)
    n_nodes = trees.n_leaves - 1
    numbers = np.arange(len(shape.tree)) - (shape.start[:-1] + n_nodes)[shape.tree]
    by_slot = np.empty(len(shape.tree), dtype=np.int64)
    by_slot[numbers < 0] = trees.node_count
    by_slot[numbers >= 0] = trees.leaf_count
    counts, leaf_numbers = np.empty_like(by_slot), np.empty(len(by_slot), dtype=np.int32)
    counts[position], leaf_numbers[position] = by_slot, numbers
    roots, leaves = by_slot[shape.start[:-1]], np.bincount(shape.tree, by_slot * (numbers >= 0), len(n_nodes))
    deepest = np.zeros(len(n_nodes), dtype=np.int64)
    np.maximum.at(deepest, shape.tree, shape.depth)
    points = np.minimum(deepest, len(np.unique(trees.feature))) // 2 + LANES
    return Covers(
        counts=counts,
        numbers=leaf_numbers,
        counted=bool(((roots > 0) & (leaves > 0))[n_nodes > 0].all()),
        largest=int((NODE_NUMBERS * points * n_nodes).max(initial=0)),
    )
