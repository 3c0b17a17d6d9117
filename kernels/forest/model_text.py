"""LightGBM's native model text, read into arrays.

Every number that a prediction relies on is checked. So is what only LightGBM's own parser relies on: it runs on several
threads, where an error in a damaged text ends the whole process instead of raising, and it reads the texts of forests
that the kernels do not evaluate. The format is written and read by src/boosting/gbdt_model_text.cpp and src/io/tree.cpp
of LightGBM.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from kernels.forest.errors import ForestError
from kernels.forest.fields import integer, integers, read_fields
from kernels.forest.pandas_categories import Category, feature_codes, read_pandas_categories
from kernels.forest.trees import CATEGORICAL, Trees, join_trees, read_tree

END_OF_TREES = "end of trees"

MAX_FEATURES = 2**17
MAX_OUTPUTS = 10_000
MAX_TREES = 1_000_000
MAX_LEAVES = 2**25
"""Most leaves of all trees together: layouts number them with 32 bits."""

CATEGORICAL_PARAMETER = "\n[categorical_feature: "


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
            its codes; the text does not say which columns these are, see `pandas_features`.
        codes: How many codes each feature needs by the values of its training data, `NO_CODES` if they were no codes;
            empty for a booster without pandas categories.
        trees: The trees; for an unsupported model, the fields that all kinds have.
    """

    feature_names: tuple[str, ...]
    n_outputs: int
    n_trees: int
    objective: str
    average: bool
    unsupported: str | None
    categorical: tuple[int, ...]
    pandas_categories: tuple[tuple[Category, ...], ...]
    codes: tuple[int, ...]
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
        infos = fields["feature_infos"].split(" ")
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
    if len(infos) != features:
        raise ForestError(f"the booster's header has feature_infos of {len(infos)} features, and counts {features}")
    pandas_categories = read_pandas_categories(text)
    trees: list[tuple[Trees, bool]] = []
    leaves = 0
    for index, block in enumerate(_blocks(text, start + 1, sizes)):
        trees.append(read_tree(index, block, features))
        leaves = _bounded("leaves", leaves + len(trees[-1][0].leaf_value), MAX_LEAVES)
    unsupported = None
    if any(linear for _, linear in trees):
        unsupported = "it has linear trees"
    elif "\n[pred_early_stop: 1]\n" in text:
        unsupported = "it asks for early stopping of predictions (pred_early_stop)"
    joined = join_trees([tree for tree, _ in trees])
    return ModelText(
        feature_names=names,
        n_outputs=outputs,
        n_trees=len(sizes),
        objective=objective,
        average="average_output" in head.split("\n"),
        unsupported=unsupported,
        categorical=_categorical(text, names, infos, joined),
        pandas_categories=pandas_categories,
        codes=feature_codes(infos) if pandas_categories else (),
        trees=joined,
    )


def _bounded(what: str, count: int, most: int) -> int:
    """The count; raise ForestError where it is more than a model may have."""
    if count > most:
        raise ForestError(f"the booster has {count} {what}, and at most {most} are read")
    return count


def _categorical(text: str, names: Sequence[str], infos: Sequence[str], trees: Trees) -> tuple[int, ...]:
    """Indices of the features that LightGBM treats as categories.

    The parameters name those of the training; a text may lack them, as those of 2.x do. What the header says of a
    feature's values goes before them, but it says nothing of a feature that LightGBM could not use.
    """
    told = text.find(CATEGORICAL_PARAMETER, text.find(END_OF_TREES))
    chosen: set[int] = set()
    if told >= 0:
        value = text[told + len(CATEGORICAL_PARAMETER) : text.find("]\n", told)]
        if value.startswith("name:"):
            index = {name: position for position, name in enumerate(names)}
            chosen = {index[name] for name in value.removeprefix("name:").split(",") if name in index}
        else:
            chosen = {int(number) for number in value.split(",") if re.fullmatch(r"[0-9]{1,9}", number)}
    # Of no use are numbers as well as categories.
    used = {index for index, info in enumerate(infos) if info != "none" and not info.startswith("[")}
    split = set(trees.feature[trees.decision & CATEGORICAL == 1].tolist())
    return tuple(sorted({index for index in chosen if index < len(infos) and infos[index] == "none"} | used | split))


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
