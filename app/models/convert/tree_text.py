"""LightGBM's native text taken apart into lines that can be changed, and put together again."""

import json
from collections.abc import Iterable, Iterator
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.feature import Category
from kernels.forest.fields import integers, numbers
from kernels.forest.sections import END_OF_TREES
from kernels.forest.trees import CATEGORICAL

Lines = dict[str, str]
"""Values of the lines of a block by their keys, in the lines' order."""


class TextColumn(msgspec.Struct, frozen=True):
    """A feature as the text describes it: its name, and its categories in the order of their codes, if it has any."""

    name: str
    categories: tuple[Category, ...] | None = None


class TreeText:
    """A booster's text.

    Args:
        text: Text as LightGBM writes it.

    Attributes:
        head: Lines before the trees; a line without a value, such as `average_output`, has an empty one.
        trees: Lines of each tree.
        parameters: The part between the feature importances and the pandas categories.
    """

    def __init__(self, text: str) -> None:
        start, end = text.find("\nTree="), text.find(f"\n{END_OF_TREES}")
        self.head = list(_lines(text[: start if start >= 0 else end]))
        self.trees: list[Lines] = []
        self._categories: list[list[Category]] = []
        position = start + 1
        for size in integers(dict(self.head), "tree_sizes"):
            self.trees.append(dict(_lines(text[position : position + int(size)])))
            position += int(size)
        _, found, rest = text[max(end, 0) :].partition("\nparameters:\n")
        self.parameters = rest.partition("\npandas_categorical:")[0] if found else ""

    @property
    def n_features(self) -> int:
        """Features that the booster takes."""
        return int(dict(self.head)["max_feature_idx"]) + 1

    def with_columns(self, columns: tuple[TextColumn, ...]) -> Self:
        """Describe other features, for trees that were rewritten to test these; returns itself."""
        names = [column.name.replace(" ", "_") for column in columns]
        plain = all(name and name.isprintable() and not set(name) & set(' ",:[]{}=') for name in names)
        if not plain or len(set(names)) != len(names):
            names = [f"Column_{index}" for index in range(len(columns))]
        infos = ["none" if c.categories is None else ":".join(map(str, range(len(c.categories)))) for c in columns]
        told = {"feature_names": " ".join(names), "feature_infos": " ".join(info or "none" for info in infos)}
        told |= {"max_feature_idx": str(len(columns) - 1)}
        self.head = [(key, told.get(key, value)) for key, value in self.head if key != "monotone_constraints"]
        codes = ",".join(str(index) for index, column in enumerate(columns) if column.categories is not None)
        self.parameters = "\n".join(_parameter(line, codes) for line in self.parameters.split("\n"))
        self._categories = [list(column.categories) for column in columns if column.categories is not None]
        return self

    def write(self) -> str:
        """The text, with the sizes of its trees as they are now."""
        blocks = ["".join(f"{key}={value}\n" for key, value in tree.items()) + "\n\n" for tree in self.trees]
        sizes = " ".join(str(len(block)) for block in blocks)
        head = "".join(
            f"{key}={sizes if key == 'tree_sizes' else value}\n" if value or key == "tree_sizes" else f"{key}\n"
            for key, value in self.head
        )
        parameters = f"\nparameters:\n{self.parameters}" if self.parameters else ""
        categories = json.dumps(self._categories) if self._categories else "null"
        return f"{head}\n{''.join(blocks)}{END_OF_TREES}\n{parameters}\npandas_categorical:{categories}\n"


def _lines(block: str) -> Iterator[tuple[str, str]]:
    """Key and value of each line."""
    for line in block.split("\n"):
        if line:
            key, _, value = line.partition("=")
            yield key, value


def _parameter(line: str, codes: str) -> str:
    """A line of the parameters, without what was said of features that are no longer there."""
    key = line.partition(":")[0]
    if key == "[categorical_feature":
        return f"[categorical_feature: {codes}]"
    gone = ("[monotone_constraints", "[feature_contri", "[interaction_constraints", "[max_bin_by_feature")
    return f"{key}: ]" if key in gone else line


class Nodes(msgspec.Struct):
    """The N inner nodes of a tree, as arrays that can be changed.

    Attributes:
        feature: int64[N].
        threshold: float64[N]; for a categorical node, ignored in favour of `sets`.
        decision: int64[N], LightGBM's bits; see `kernels.forest.trees.Trees`.
        left: int64[N].
        right: int64[N].
        sets: uint32, of each categorical node by its number a bitmap of the categories that go left.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    decision: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    sets: dict[int, NDArray[np.uint32]]


def read_nodes(tree: Lines) -> Nodes:
    """The inner nodes of a tree; none for a tree of one leaf."""
    if int(tree["num_leaves"]) < 2:
        none = np.zeros(0, np.int64)
        return Nodes(none, np.zeros(0), none, none, none, {})
    nodes = Nodes(
        feature=integers(tree, "split_feature"),
        threshold=numbers(tree, "threshold"),
        decision=integers(tree, "decision_type"),
        left=integers(tree, "left_child"),
        right=integers(tree, "right_child"),
        sets={},
    )
    categorical = np.flatnonzero(nodes.decision & CATEGORICAL)
    if len(categorical):
        boundaries, words = integers(tree, "cat_boundaries"), integers(tree, "cat_threshold").astype(np.uint32)
        for node in categorical:
            place = int(nodes.threshold[node])
            nodes.sets[int(node)] = words[boundaries[place] : boundaries[place + 1]]
    return nodes


def write_nodes(tree: Lines, nodes: Nodes) -> None:
    """Replace the inner nodes of a tree of more than one leaf."""
    threshold = nodes.threshold.copy()
    order = sorted(nodes.sets)
    threshold[order] = np.arange(len(order))
    tree["num_cat"] = str(len(order))
    tree["split_feature"] = _joined(nodes.feature.tolist())
    # The shortest text that reads as the same float.
    tree["threshold"] = " ".join(
        str(int(value)) if nodes.decision[node] & CATEGORICAL else repr(value)
        for node, value in enumerate(threshold.tolist())
    )
    tree["decision_type"] = _joined(nodes.decision.tolist())
    tree["left_child"] = _joined(nodes.left.tolist())
    tree["right_child"] = _joined(nodes.right.tolist())
    for key in ("cat_boundaries", "cat_threshold"):
        tree.pop(key, None)
    if order:
        sets = [nodes.sets[node] for node in order]
        tree["cat_boundaries"] = _joined(np.cumsum([0, *map(len, sets)]).tolist())
        tree["cat_threshold"] = _joined(np.concatenate(sets).tolist())
        for key in ("is_linear", "shrinkage"):  # LightGBM writes them last
            if key in tree:
                tree[key] = tree.pop(key)


def _joined(values: Iterable[int]) -> str:
    return " ".join(map(str, values))
