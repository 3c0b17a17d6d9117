"""LightGBM's native model text, checked before LightGBM reads it.

LightGBM parses trees on several threads, where an error in a damaged text ends the whole process instead of raising. So
the parts that its parser relies on are checked here first. The format is written and read by
src/boosting/gbdt_model_text.cpp and src/io/tree.cpp of LightGBM.
"""

import math
from collections.abc import Iterator

import msgspec

END_OF_TREES = "end of trees"


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
    if not text.startswith("tree") or (start < 0 and "tree_sizes=" in text):
        raise ForestError("the booster's text is not a LightGBM model, or ends before its first tree")
    fields = _fields(text[: start if start >= 0 else text.find(END_OF_TREES)], "the header")
    try:
        names = tuple(fields["feature_names"].split(" "))
        features = int(fields["max_feature_idx"]) + 1
        outputs = int(fields["num_tree_per_iteration"])
        sizes = [int(size) for size in fields.get("tree_sizes", "").split()]
        objective = fields.get("objective", "")
    except (KeyError, ValueError) as error:
        raise ForestError(f"the booster's header is damaged: {error}") from error
    if len(names) != features:
        raise ForestError(f"the booster's header names {len(names)} features, and counts {features}")
    if outputs < 1 or len(sizes) % outputs:
        raise ForestError(f"the booster has {len(sizes)} trees, which do not share out among {outputs} outputs")
    for index, block in enumerate(_blocks(text, start + 1, sizes)):
        _check_tree(index, block, features)
    return Header(feature_names=names, n_outputs=outputs, n_trees=len(sizes), objective=objective)


def _blocks(text: str, position: int, sizes: list[int]) -> Iterator[str]:
    """The text of each tree, by the sizes (in bytes) that the header gives."""
    # Feature names may be any UTF-8, but they stand before the trees: from there on bytes are characters.
    for index, size in enumerate(sizes):
        block = text[position : position + size]
        if not block.startswith(f"Tree={index}\n") or len(block) != size:
            raise ForestError(f"the booster's text is cut or damaged at tree {index} of {len(sizes)}")
        yield block
        position += size
    if sizes and not text.startswith(END_OF_TREES, position):
        raise ForestError(f"the booster's text does not end after its {len(sizes)} trees")


def _check_tree(index: int, block: str, features: int) -> None:
    fields = _fields(block, f"tree {index}")
    try:
        leaves = int(fields["num_leaves"])
        values = [float(value) for value in fields["leaf_value"].split()]
        split_feature = _integers(fields, "split_feature")
        thresholds = [float(value) for value in fields.get("threshold", "").split()]
        decisions = _integers(fields, "decision_type")
        children = (_integers(fields, "left_child"), _integers(fields, "right_child"))
    except (KeyError, ValueError) as error:
        raise ForestError(f"tree {index} of the booster is damaged: {error}") from error
    nodes = leaves - 1
    if leaves < 1 or len(values) != leaves:
        raise ForestError(f"tree {index} of the booster has {leaves} leaves and {len(values)} leaf values")
    if any(len(column) != nodes for column in (split_feature, thresholds, decisions, *children)):
        raise ForestError(f"tree {index} of the booster has {leaves} leaves, and columns of other lengths than {nodes}")
    if not all(0 <= feature < features for feature in split_feature):
        raise ForestError(f"tree {index} of the booster splits on a feature that does not exist")
    if any(math.isnan(value) for value in values):
        raise ForestError(f"tree {index} of the booster has a leaf value that is not a number")
    # Nodes are numbered as they were split, so a child's number is above its parent's: there can be no cycle.
    for column in children:
        if not all(node < child < nodes or -leaves <= child < 0 for node, child in enumerate(column)):
            raise ForestError(f"tree {index} of the booster has a child that does not exist")


def _integers(fields: dict[str, str], name: str) -> list[int]:
    return [int(value) for value in fields.get(name, "").split()]


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
