"""LightGBM's native model text, read into arrays.

Every number that a prediction relies on is checked. So is what only LightGBM's own parser relies on: it runs on several
threads, where an error in a damaged text ends the whole process instead of raising, and it reads the texts of forests
that the kernels do not evaluate. The format is written and read by src/boosting/gbdt_model_text.cpp and src/io/tree.cpp
of LightGBM.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.forest.fields import count_numbers, integer, integers, numbers, read_fields

END_OF_TREES = "end of trees"
NODE_INTEGERS = ("split_feature", "decision_type", "left_child", "right_child")
LEAF_STATISTICS = ("leaf_weight", "leaf_count")
NODE_STATISTICS = ("split_gain", "internal_value", "internal_weight", "internal_count")
"""Columns that no prediction reads, but LightGBM parses."""

MAX_FEATURES = 2**17
MAX_OUTPUTS = 10_000
MAX_TREES = 1_000_000
MAX_LEAVES = 2**25
"""Most leaves of all trees together: layouts number them with 32 bits."""

CATEGORICAL = 1
"""Bit of a node's decision type: its threshold is the number of a set of categories."""


class ForestError(ValueError):
    """The text is not a LightGBM model that can be used; the message says where it is wrong."""


class UnsupportedForestError(ForestError):
    """The text is a LightGBM model of a kind that the kernels do not evaluate; the message names it."""


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
    sets: tuple[NDArray[np.uint32], ...]


class ModelText(msgspec.Struct, frozen=True):
    """The content of a model text.

    Attributes:
        feature_names: One for each of the F features, blanks replaced by underscores.
        n_outputs: K, the trees of one iteration and so the raw scores of one row.
        n_trees: Trees in all.
        objective: As LightGBM writes it, such as `binary sigmoid:1`; empty for a custom one.
        average: Whether the sum of the leaf values is divided by the number of iterations, as in a random forest.
        unsupported: Why the kernels cannot evaluate it; None if they can.
        categorical: Indices of the features that LightGBM treats as categories.
        pandas_categories: Categories of each pandas column of categories, in the columns' order, each in the order of
            its codes; the text does not say which columns these are.
        trees: The trees; for an unsupported model, the fields that all kinds have.
    """

    feature_names: tuple[str, ...]
    n_outputs: int
    n_trees: int
    objective: str
    average: bool
    unsupported: str | None
    categorical: tuple[int, ...]
    pandas_categories: tuple[tuple[str | int | float | bool, ...], ...]
    trees: Trees


def read_model_text(text: str) -> ModelText:
    """Read a model text, and check that it is complete and that its trees are valid.

    Args:
        text: The whole text.

    Raises:
        ForestError: It is incomplete or damaged.
    """
    start = text.find("\nTree=")
    if not text.startswith("tree") or END_OF_TREES not in text:
        raise ForestError("the booster's text is not a LightGBM model, or ends before its last tree")
    if "\0" in text:
        raise ForestError("the booster's text holds a zero byte, where LightGBM stops reading")
    head = text[: start if start >= 0 else text.find(END_OF_TREES)]
    try:
        fields = read_fields(head)
        features = _bounded("features", integer(fields, "max_feature_idx") + 1, MAX_FEATURES)
        _bounded("feature names", fields["feature_names"].count(" ") + 1, MAX_FEATURES)
        names = tuple(fields["feature_names"].split(" "))
        outputs = _bounded("outputs", integer(fields, "num_tree_per_iteration"), MAX_OUTPUTS)
        classes = _bounded("classes", integer(fields, "num_class"), MAX_OUTPUTS)
        _bounded("trees", fields.get("tree_sizes", "").count(" ") + 1, MAX_TREES)
        sizes = integers(fields, "tree_sizes").tolist()
        objective = fields.get("objective", "")
    except ForestError:
        raise
    except (KeyError, ValueError) as error:
        raise ForestError(f"the booster's header is damaged: {error}") from error
    if "objective" in fields and not objective.strip():
        raise ForestError("the booster's header is damaged: its objective is blank")
    if len(names) != features:
        raise ForestError(f"the booster's header names {len(names)} features, and counts {features}")
    told = re.search(r" num_class:(\S*)", objective)
    if classes != outputs or (told and told[1] != str(outputs)):
        raise ForestError(f"the booster's header has {classes} classes, {outputs} outputs and objective {objective!r}")
    if start >= 0 and not sizes:
        raise ForestError("the booster's header does not count its trees")
    if outputs < 1 or len(sizes) % outputs:
        raise ForestError(f"the booster has {len(sizes)} trees, which do not share out among {outputs} outputs")
    if has_pandas_categories(text):
        raise ForestError(
            "the booster was trained on pandas categories, whose values only pandas can map to the trees' codes: "
            "train on integer codes with categorical_feature instead"
        )
    trees: list[tuple[Trees, bool]] = []
    leaves = 0
    for index, block in enumerate(_blocks(text, start + 1, sizes)):
        trees.append(_read_tree(index, block, features))
        leaves = _bounded("leaves", leaves + len(trees[-1][0].leaf_value), MAX_LEAVES)
    unsupported = None
    if any(linear for _, linear in trees):
        unsupported = "it has linear trees"
    elif "\n[pred_early_stop: 1]\n" in text:
        unsupported = "it asks for early stopping of predictions (pred_early_stop)"
    return ModelText(
        feature_names=names,
        n_outputs=outputs,
        n_trees=len(sizes),
        objective=objective,
        average="average_output" in head.split("\n"),
        unsupported=unsupported,
        categorical=(),
        pandas_categories=(),
        trees=_joined([tree for tree, _ in trees]),
    )


def _bounded(what: str, count: int, most: int) -> int:
    """The count; raise ForestError where it is more than a model may have."""
    if count > most:
        raise ForestError(f"the booster has {count} {what}, and at most {most} are read")
    return count


def has_pandas_categories(text: str) -> bool:
    """Whether the booster was trained on pandas categories, whose values its last line maps to the trees' codes."""
    _, found, categories = text.rpartition("\npandas_categorical:")
    return bool(found) and categories.strip() not in ("null", "[]")


def _blocks(text: str, position: int, sizes: list[int]) -> Iterator[str]:
    """The text of each tree, by the sizes (in bytes) that the header gives."""
    # Feature names may be any UTF-8, but they stand before the trees: from there on bytes are characters.
    for index, size in enumerate(sizes):
        block = text[position : position + size]
        if not block.startswith(f"Tree={index}\n") or len(block) != size or not block.isascii():
            raise ForestError(f"the booster's text is cut or damaged at tree {index} of {len(sizes)}")
        yield block
        position += size
    if sizes and not text.startswith(END_OF_TREES, position):
        raise ForestError(f"the booster's text does not end after its {len(sizes)} trees")


def _read_tree(index: int, block: str, features: int) -> tuple[Trees, bool]:
    """One tree, which counts its sets from zero, and whether it is linear."""
    try:
        fields = read_fields(block)
        leaves = integer(fields, "num_leaves")
        values, thresholds = numbers(fields, "leaf_value"), numbers(fields, "threshold")
        feature, decision, left, right = (integers(fields, name) for name in NODE_INTEGERS)
        lengths = {name: count_numbers(fields, name) for name in (*LEAF_STATISTICS, *NODE_STATISTICS) if name in fields}
        if len(numbers(fields, "shrinkage")) > 1:
            raise ValueError("shrinkage is not one number")
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
        return Trees(np.array([1]), none, np.zeros(0), none, none, none, values, ()), linear
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
    return Trees(np.array([leaves]), feature, thresholds, decision, left, right, values, tuple(sets)), linear


def _joined(trees: list[Trees]) -> Trees:
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
        sets=tuple(sets),
    )


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
