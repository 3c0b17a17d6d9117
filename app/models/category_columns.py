"""Columns of pandas categories: which of a model's columns have the categories that the booster's text lists."""

import msgspec
import numpy as np

from app.feature import Category, Kind
from app.models.refusal import ModelRefused
from kernels.forest.layout import ForestData
from kernels.forest.pandas_categories import only_features, pandas_features

TAKES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "long": (int,),
    "integer": (int,),
    "double": (float, int),
    "float": (float, int),
    "boolean": (bool,),
}
"""Python's types of the categories of a column, by the type that MLflow infers for it."""

MAX_PAIRS = 2**22
"""Most pairs of a list of categories and a feature that are compared."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of an MLflow signature.

    Attributes:
        name: Name; None where the signature has none.
        type: MLflow's name of its type, or NumPy's for a tensor.
        kind: Kind of a feature that has no categories.
        required: Whether every row must name it.
        limits: Least and greatest whole number of its type; None for other types.
        single: Whether LightGBM gets its values as float32.
    """

    name: str | None
    type: str = "any"
    kind: Kind = "number"
    required: bool = True
    limits: tuple[float, float] | None = None
    single: bool = False


def category_columns(columns: tuple[Column, ...] | None, forest: ForestData) -> dict[int, tuple[Category, ...]]:
    """Categories of the features that have some, by the feature's index, in the order of their codes.

    The text lists the categories of each pandas column, but not the columns. It tells which features LightGBM treats
    as categories; ordered categories are numbers to it, so that only a signature tells these.

    Args:
        columns: Columns of the signature, one for each feature; None if there are none.
        forest: The booster.

    Raises:
        ModelRefused: A column of text has no categories, or it cannot be told which columns the categories are of.
    """
    lists = forest.pandas_categories
    texts = {index for index, column in enumerate(columns or ()) if column.kind == "category"}
    if not lists and not texts:
        return {}
    found = _find(columns, texts, forest) if lists else ()
    if found is None:
        raise ModelRefused(
            f"the booster has pandas categories of {len(lists)} columns, and it cannot be told of which: "
            + ("log it with a signature" if columns is None else "the signature's columns do not fit them")
        )
    for index in sorted(texts.difference(found)):
        raise ModelRefused(
            f"the signature's column {columns[index].name if columns else ''!r} has type 'string', and the booster has "
            "no categories for it: LightGBM takes text from pandas category columns only"
        )
    return dict(zip(found, lists, strict=True))


def _find(columns: tuple[Column, ...] | None, texts: set[int], forest: ForestData) -> tuple[int, ...] | None:
    """The feature of each list of categories, or None."""
    lists = forest.pandas_categories
    if columns is None:
        return pandas_features(lists, forest.categorical, forest.codes) or only_features(_possible(columns, forest))
    # By type: each column with each list of categories would be millions of pairs for a wide table.
    types = {column.type: column for column in columns}
    types_that_fit = {kind for kind, column in types.items() if any(_fits(column, values) for values in lists)}
    fitting = {index for index, column in enumerate(columns) if column.type in types_that_fit}
    for allowed in (texts, fitting):
        found = pandas_features(lists, forest.categorical, forest.codes, allowed)
        if found is not None and all(_fits(columns[index], values) for index, values in zip(found, lists, strict=True)):
            return found
    return only_features(_possible(columns, forest))


def _possible(columns: tuple[Column, ...] | None, forest: ForestData) -> list[list[int]]:
    """Features that each list of categories may be of, by the codes in training and the columns' types.

    There is none for any list where the lists and features are too many to compare.
    """
    lists, codes = forest.pandas_categories, np.array(forest.codes)
    if len(lists) * len(codes) > MAX_PAIRS:
        return [[] for _ in lists]
    types = np.array([column.type for column in columns or ()])
    of_type = {column.type: column for column in columns or ()}
    found: list[list[int]] = []
    for values in lists:
        possible = (codes >= 0) & (codes <= len(values))
        if columns is not None:
            possible &= np.isin(types, [kind for kind, column in of_type.items() if _fits(column, values)])
        found.append(np.flatnonzero(possible).tolist())
    return found


def _fits(column: Column, categories: tuple[Category, ...]) -> bool:
    """Whether a column of that type could have the categories; one of any type could have all."""
    types = TAKES.get(column.type)
    if types is None:
        return column.type == "any"
    return all(isinstance(value, types) and isinstance(value, bool) == (types == (bool,)) for value in categories)
