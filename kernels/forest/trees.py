"""Trees of a model text, read into arrays.

Every number that a prediction relies on is checked, and so is what only LightGBM's own parser of trees relies on
(src/io/tree.cpp).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.forest.errors import ForestError
from kernels.forest.fields import count_numbers, integer, integers, numbers, read_fields

NODE_INTEGERS = ("split_feature", "decision_type", "left_child", "right_child")
LEAF_STATISTICS = ("leaf_weight", "leaf_count")
NODE_STATISTICS = ("split_gain", "internal_value", "internal_weight", "internal_count")
"""Columns that no prediction reads, but LightGBM parses; explanations read the counts."""

MOST_LINES = 23
"""Most lines of a tree, the first of them its number: LightGBM reads no more."""

CATEGORICAL = 1
"""Bit of a node's decision type: its threshold is the number of a set of categories."""


class Trees(NamedTuple):
    """T trees, N inner nodes and L leaves in all; each tree's nodes and leaves follow those of the one before.

    Attributes:
        n_leaves: int64[T]; a tree of n leaves has n - 1 nodes.
        feature: int64[N], the feature that a node tests.
        threshold: float64[N], a row goes left up to it; for a categorical node the index of its set in `sets`.
        decision: int64[N], LightGBM's bits: 1 categorical, 2 missing goes left, 4 zero is missing, 8 NaN is.
        left: int64[N], a node of the same tree, always above its parent's number, or ~leaf.
        right: int64[N], likewise.
        leaf_value: float64[L].
        node_count: int64[N], training rows that came to a node; zeros for a tree whose text does not tell.
        leaf_count: int64[L], likewise.
        sets: uint32, of each categorical node a bitmap of the categories that go left, 32 to a word, up to its last
            word that is not zero.
    """

    n_leaves: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    decision: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf_value: NDArray[np.float64]
    node_count: NDArray[np.int64]
    leaf_count: NDArray[np.int64]
    sets: tuple[NDArray[np.uint32], ...]


def read_tree(index: int, block: str, features: int) -> tuple[Trees, bool]:
    """Read one tree, which counts its sets from zero.

    Args:
        index: Its number, for messages.
        block: Its lines.
        features: F.

    Returns:
        The tree, and whether it is linear.

    Raises:
        ForestError: It is damaged.
    """
    try:
        fields = read_fields(block)
        lines = block.rstrip("\n").split("\n")
        if len(lines) > MOST_LINES or not all("=" in line for line in lines):
            raise ValueError("it has a line without a value, or more lines than LightGBM reads")
        leaves = integer(fields, "num_leaves")
        values, thresholds = numbers(fields, "leaf_value"), numbers(fields, "threshold")
        feature, decision, left, right = (integers(fields, name) for name in NODE_INTEGERS)
        lengths = {name: count_numbers(fields, name) for name in (*LEAF_STATISTICS, *NODE_STATISTICS) if name in fields}
        if len(numbers(fields, "shrinkage")) > 1:
            raise ValueError("shrinkage is not one number")
        if "num_cat" not in fields:
            raise ValueError("it has no num_cat, and LightGBM itself reads no text older than that of 2.0.5")
        sets = _categories(fields, decision, thresholds)
        linear = "is_linear" in fields and integer(fields, "is_linear") != 0
        if linear:
            _check_linear(fields, leaves, features)
    except (KeyError, ValueError) as error:
        raise ForestError(f"tree {index} of the booster is damaged: {error}") from error
    nodes = leaves - 1
    if leaves < 1 or len(values) != leaves:
        raise ForestError(f"tree {index} of the booster has {leaves} leaves and {len(values)} leaf values")
    if np.isnan(values).any():
        raise ForestError(f"tree {index} of the booster has a leaf value that is not a number")
    if leaves == 1:
        # A tree of one leaf has no more than its value; its other columns are there and empty, or hold one zero.
        none = np.zeros(0, dtype=np.int64)
        return Trees(np.array([1]), none, np.zeros(0), none, none, none, values, none, np.zeros(1, int), ()), linear
    lengths |= dict(zip(NODE_INTEGERS, map(len, (feature, decision, left, right)), strict=True))
    lengths["threshold"] = len(thresholds)
    for name, length in lengths.items():
        wanted = leaves if name in LEAF_STATISTICS else nodes
        if length != wanted:
            raise ForestError(f"tree {index} of the booster has {length} numbers in {name}, not {wanted}")
    if np.isnan(thresholds).any():
        raise ForestError(f"tree {index} of the booster has a threshold that is not a number")
    if feature.min() < 0 or feature.max() >= features:
        raise ForestError(f"tree {index} of the booster splits on a feature that does not exist")
    # Nodes are numbered as they were split, so a child's number is above its parent's: there can be no cycle.
    children = np.concatenate([left, right])
    parents = np.tile(np.arange(nodes), 2)
    if ((children >= 0) & (children <= parents)).any() or not np.array_equal(
        np.sort(children), np.concatenate([np.arange(-leaves, 0), np.arange(1, nodes)])
    ):
        raise ForestError(f"tree {index} of the booster has a child that does not exist, or one with two parents")
    node_count, leaf_count = _counts(fields, "internal_count", nodes), _counts(fields, "leaf_count", leaves)
    columns = (feature, thresholds, decision, left, right, values, node_count, leaf_count)
    return Trees(np.array([leaves]), *columns, tuple(sets)), linear


def join_trees(trees: Sequence[Trees]) -> Trees:
    """Trees one after the other, with their sets counted through."""
    thresholds: list[NDArray[np.float64]] = []
    sets: list[NDArray[np.uint32]] = []
    for tree in trees:
        categorical = tree.decision & CATEGORICAL
        thresholds.append(tree.threshold + categorical * len(sets) if tree.sets else tree.threshold)
        sets.extend(tree.sets)

    def column(name: str) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, dtype=np.int64), *(getattr(tree, name) for tree in trees)])

    return Trees(
        n_leaves=column("n_leaves"),
        feature=column("feature"),
        threshold=np.concatenate([np.zeros(0), *thresholds]),
        decision=column("decision"),
        left=column("left"),
        right=column("right"),
        leaf_value=np.concatenate([np.zeros(0), *(tree.leaf_value for tree in trees)]),
        node_count=column("node_count"),
        leaf_count=column("leaf_count"),
        sets=tuple(sets),
    )


def _counts(fields: dict[str, str], name: str, length: int) -> NDArray[np.int64]:
    """A line of counts; zeros where it is absent or holds others than whole numbers that are not negative.

    No prediction reads them, so a text is not refused for them.
    """
    try:
        found = integers(fields, name)
    except ValueError:
        found = np.zeros(0, dtype=np.int64)
    return found if len(found) == length and found.min(initial=0) >= 0 else np.zeros(length, dtype=np.int64)


def _categories(
    fields: dict[str, str], decisions: NDArray[np.int64], thresholds: NDArray[np.float64]
) -> list[NDArray[np.uint32]]:
    """The sets of categories of a tree's categorical nodes, each named by its node's threshold.

    Set i is the words `cat_boundaries[i : i + 2]` of the bitmap `cat_threshold`, 32 categories to a word.
    Raises ValueError unless each categorical node has its set.
    """
    count = integer(fields, "num_cat")
    if count == 0 and not (decisions & CATEGORICAL).any():
        return []
    boundaries = integers(fields, "cat_boundaries")
    words = integers(fields, "cat_threshold")
    if count < 0 or (count and (len(boundaries) != count + 1 or boundaries[0] != 0 or boundaries[-1] != len(words))):
        raise ValueError(f"num_cat={count} does not fit cat_boundaries and cat_threshold")
    if (np.diff(boundaries) < 0).any() or not ((words >= 0) & (words < 2**32)).all():
        raise ValueError("cat_boundaries or cat_threshold is out of range")
    named = thresholds[: len(decisions)][decisions[: len(thresholds)] & CATEGORICAL == 1]
    if not ((named >= 0) & (named < count) & (named % 1 == 0)).all():
        raise ValueError(f"a threshold is not one of {count} sets of categories")
    # Not the categories themselves: they would take up to 128 times what the text does.
    bitmaps = words.astype(np.uint32)
    return [np.trim_zeros(bitmaps[first:last], "b") for first, last in pairwise(boundaries)]


def _check_linear(fields: dict[str, str], leaves: int, features: int) -> None:
    """Raise ValueError unless each leaf of a linear tree has its constant, its features and a coefficient for each."""
    counts = integers(fields, "num_features")
    used = integers(fields, "leaf_features")
    if len(numbers(fields, "leaf_const")) != leaves or len(counts) != leaves or min(counts) < 0:
        raise ValueError("leaf_const or num_features is not one for each leaf")
    if len(used) != sum(counts) or len(numbers(fields, "leaf_coeff")) != sum(counts):
        raise ValueError("leaf_features or leaf_coeff does not fit num_features")
    if not all(0 <= feature < features for feature in used):
        raise ValueError("leaf_features names a feature that does not exist")
