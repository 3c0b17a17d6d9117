"""LightGBM's native model text, read into arrays.

Every number that a prediction relies on is checked. So is what only LightGBM's own parser relies on: it runs on several
threads, where an error in a damaged text ends the whole process instead of raising, and it reads the texts of forests
that the kernels do not evaluate. The format is written and read by src/boosting/gbdt_model_text.cpp and src/io/tree.cpp
of LightGBM.
"""

import re

import msgspec

from kernels.forest.header import Header, bounded
from kernels.forest.pandas_categories import Category, feature_codes, read_pandas_categories
from kernels.forest.sections import divide
from kernels.forest.trees import CATEGORICAL, Trees, join_trees, read_tree

MAX_LEAVES = 2**25
"""Most leaves of all trees together: layouts number them with 32 bits."""

LINEAR = "it has linear trees"

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
    sections = divide(text)
    header, rest = sections.header, sections.rest
    pandas_categories = read_pandas_categories(rest)
    trees: list[tuple[Trees, bool]] = []
    leaves = 0
    for index, block in enumerate(sections.blocks()):
        trees.append(read_tree(index, block, len(header.names)))
        leaves = bounded("leaves", leaves + len(trees[-1][0].leaf_value), MAX_LEAVES)
    unsupported = None
    if any(linear for _, linear in trees):
        unsupported = LINEAR
    elif "\n[pred_early_stop: 1]\n" in rest:
        unsupported = "it asks for early stopping of predictions (pred_early_stop)"
    joined = join_trees([tree for tree, _ in trees])
    return ModelText(
        feature_names=header.names,
        n_outputs=header.outputs,
        n_trees=sections.n_trees,
        objective=header.objective,
        average=header.average,
        unsupported=unsupported,
        categorical=_categorical(header, rest, joined),
        pandas_categories=pandas_categories,
        codes=feature_codes(header.infos) if pandas_categories else (),
        trees=joined,
    )


def _categorical(header: Header, rest: str, trees: Trees) -> tuple[int, ...]:
    """Indices of the features that LightGBM treats as categories.

    The parameters name those of the training; a text may lack them, as those of 2.x do. What the header says of a
    feature's values goes before them, but it says nothing of a feature that LightGBM could not use.
    """
    _, _, told = rest.partition(CATEGORICAL_PARAMETER)
    value = told.partition("]\n")[0]
    if value.startswith("name:"):
        index = {name: position for position, name in enumerate(header.names)}
        chosen = {index[name] for name in value.removeprefix("name:").split(",") if name in index}
    else:
        chosen = {int(number) for number in value.split(",") if re.fullmatch(r"[0-9]{1,9}", number)}
    infos = header.infos
    # Of no use are numbers as well as categories.
    used = {index for index, info in enumerate(infos) if info != "none" and not info.startswith("[")}
    split = set(trees.feature[trees.decision & CATEGORICAL == 1].tolist())
    return tuple(sorted({index for index in chosen if index < len(infos) and infos[index] == "none"} | used | split))
