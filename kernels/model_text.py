"""LightGBM's native model text, checked before LightGBM reads it.

LightGBM parses trees on several threads, where an error in a damaged text ends the whole process instead of raising. So
every number that its parser and its trees rely on is checked here first. The format is written and read by
src/boosting/gbdt_model_text.cpp and src/io/tree.cpp of LightGBM.
"""

import math
import re
from collections.abc import Iterator

import msgspec

END_OF_TREES = "end of trees"
LEAF_COLUMNS = ("leaf_value", "leaf_weight", "leaf_count")
NODE_COLUMNS = (
    *("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child"),
    *("internal_value", "internal_weight", "internal_count"),
)
STATISTICS = ("leaf_weight", "leaf_count", "split_gain", "internal_value", "internal_weight", "internal_count")
"""Columns that no prediction reads, but LightGBM parses."""

NUMBERS = re.compile(r"[-+0-9.eEinfa ]*", re.ASCII)


class ForestError(ValueError):
    """The text is not a LightGBM model that can be used; the message says where it is wrong."""


class Header(msgspec.Struct, frozen=True):
    """What stands before the first tree.

    Attributes:
        feature_names: One for each of the F features, blanks replaced by underscores.
        n_outputs: K, the trees of one iteration and so the raw scores of one row.
        n_trees: Trees in all.
        objective: As LightGBM writes it, such as `binary sigmoid:1`; empty for a custom one.
    """

    feature_names: tuple[str, ...]
    n_outputs: int
    n_trees: int
    objective: str


def check_model_text(text: str) -> Header:
    """Check that a model text is whole and its trees are trees.

    Raises:
        ForestError: It is not.
    """
    start = text.find("\nTree=")
    if not text.startswith("tree") or END_OF_TREES not in text:
        raise ForestError("the booster's text is not a LightGBM model, or ends before its last tree")
    if "\0" in text:
        raise ForestError("the booster's text holds a zero byte, where LightGBM stops reading")
    fields = _fields(text[: start if start >= 0 else text.find(END_OF_TREES)], "the header")
    try:
        names = tuple(fields["feature_names"].split(" "))
        features = _integer(fields, "max_feature_idx") + 1
        outputs = _integer(fields, "num_tree_per_iteration")
        classes = _integer(fields, "num_class")
        sizes = _integers(fields, "tree_sizes")
        objective = fields.get("objective", "")
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
    for index, block in enumerate(_blocks(text, start + 1, sizes)):
        _check_tree(index, block, features)
    return Header(feature_names=names, n_outputs=outputs, n_trees=len(sizes), objective=objective)


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


def _check_tree(index: int, block: str, features: int) -> None:
    fields = _fields(block, f"tree {index}")
    try:
        leaves = _integer(fields, "num_leaves")
        nodes = leaves - 1
        columns = {name: _numbers(fields, name) for name in (*LEAF_COLUMNS, *NODE_COLUMNS)}
        split_feature, decisions, *children = (
            _whole(columns[name], name) for name in ("split_feature", "decision_type", "left_child", "right_child")
        )
        if len(_numbers(fields, "shrinkage")) > 1:
            raise ValueError("shrinkage is not one number")
        _check_categories(fields, decisions, columns["threshold"])
        if "is_linear" in fields and _integer(fields, "is_linear"):
            _check_linear(fields, leaves, features)
    except (KeyError, ValueError) as error:
        raise ForestError(f"tree {index} of the booster is damaged: {error}") from error
    values = columns["leaf_value"]
    if leaves < 1 or len(values) != leaves:
        raise ForestError(f"tree {index} of the booster has {leaves} leaves and {len(values)} leaf values")
    for name, column in columns.items():
        length = leaves if name in LEAF_COLUMNS else nodes
        absent = name in STATISTICS and name not in fields
        # A tree of one leaf has no more than its value; its other columns are there and empty.
        if leaves > 1 and len(column) != length and not absent:
            raise ForestError(f"tree {index} of the booster has {len(column)} numbers in {name}, not {length}")
    if leaves > 1 and not all(0 <= feature < features for feature in split_feature):
        raise ForestError(f"tree {index} of the booster splits on a feature that does not exist")
    if any(math.isnan(value) for value in values):
        raise ForestError(f"tree {index} of the booster has a leaf value that is not a number")
    # Nodes are numbered as they were split, so a child's number is above its parent's: there can be no cycle.
    for column in children:
        if not all(node < child < nodes or -leaves <= child < 0 for node, child in enumerate(column)):
            raise ForestError(f"tree {index} of the booster has a child that does not exist")


def _check_categories(fields: dict[str, str], decisions: list[int], thresholds: list[float]) -> None:
    """Raise ValueError unless each categorical split (bit 0 of its decision type) has its set of categories.

    The threshold of such a split is the number of its set; set i is the words `cat_boundaries[i:i + 2]` of the bitmap
    `cat_threshold`.
    """
    sets = _integer(fields, "num_cat")
    boundaries = _integers(fields, "cat_boundaries")
    words = _integers(fields, "cat_threshold")
    if sets < 0 or (sets and (len(boundaries) != sets + 1 or boundaries[0] != 0 or boundaries[-1] != len(words))):
        raise ValueError(f"num_cat={sets} does not fit cat_boundaries and cat_threshold")
    if boundaries != sorted(boundaries) or not all(0 <= word < 2**32 for word in words):
        raise ValueError("cat_boundaries or cat_threshold is out of range")
    for decision, threshold in zip(decisions, thresholds, strict=False):
        if decision & 1 and not (0 <= threshold < sets and threshold.is_integer()):
            raise ValueError(f"threshold {threshold} is not one of {sets} sets of categories")


def _check_linear(fields: dict[str, str], leaves: int, features: int) -> None:
    """Raise ValueError unless each leaf of a linear tree has its constant, its features and a coefficient for each."""
    counts = _integers(fields, "num_features")
    used = _integers(fields, "leaf_features")
    if len(_numbers(fields, "leaf_const")) != leaves or len(counts) != leaves or min(counts) < 0:
        raise ValueError("leaf_const or num_features is not one for each leaf")
    if len(used) != sum(counts) or len(_numbers(fields, "leaf_coeff")) != sum(counts):
        raise ValueError("leaf_features or leaf_coeff does not fit num_features")
    if not all(0 <= feature < features for feature in used):
        raise ValueError("leaf_features names a feature that does not exist")


def _numbers(fields: dict[str, str], name: str) -> list[float]:
    value = fields.get(name, "")
    # Python reads more than LightGBM does: 1_000, and digits of other scripts.
    if not NUMBERS.fullmatch(value):
        raise ValueError(f"{name} holds what is not a number")
    return [float(number) for number in value.split()]


def _integer(fields: dict[str, str], name: str) -> int:
    numbers = _integers(fields, name)
    if len(numbers) != 1:
        raise ValueError(f"{name} is not one whole number")
    return numbers[0]


def _integers(fields: dict[str, str], name: str) -> list[int]:
    return _whole(_numbers(fields, name), name)


def _whole(numbers: list[float], name: str) -> list[int]:
    if not all(number.is_integer() for number in numbers):
        raise ValueError(f"{name} holds what is not a whole number")
    return [int(number) for number in numbers]


def _fields(block: str, owner: str) -> dict[str, str]:
    """The `key=value` lines of a block."""
    fields: dict[str, str] = {}
    for line in block.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            if key in fields:
                raise ForestError(f"{owner} of the booster has {key} twice")
            fields[key] = value
    return fields
