"""Raw features of a model, joined from the MLflow signature, the feature plan and the booster."""

import re
from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec
import numpy as np

from app.codecs.rules import LARGEST_WHOLE
from app.feature import Category, Feature, Kind
from app.models.category_columns import Column, category_columns
from app.models.refusal import ModelRefused
from kernels.forest.layout import ForestData
from kernels.plan.plan import Plan

KINDS: dict[str, Kind] = {
    "double": "number",
    "float": "number",
    "long": "integer",
    "integer": "integer",
    "boolean": "boolean",
    "string": "category",
    "any": "number",
}
"""MLflow column types (mlflow/types/schema.py) that a forest takes, with our kind of feature; of a column of any type,
MLflow knows nothing."""

Layout = Literal["named", "positional", "tensor", "unsigned"]
"""How the columns of a model's input are told apart: by the names of its signature, by their places among columns
without names or in a tensor, or by nothing, where there is no signature."""

INTEGERS = {"long": "int64", "integer": "int32"}
SHAPELESS = ("any", "array", "map", "object")
"""Types of the one column without a name that a signature has where MLflow found no columns."""

SHOWN = 20
"""Most names that a message lists."""


def signature_columns(signature: Any) -> tuple[Column, ...] | None:
    """Read the input columns of a signature.

    Args:
        signature: Value of the `signature` key of the MLmodel file. Its `inputs` is JSON text.

    Returns:
        The columns, or None where the signature, if there is one, tells of none. A tensor of shape (-1, F) is F columns
        of its dtype.

    Raises:
        ModelRefused: A column has a type that no LightGBM model takes, or the name of another.
    """
    if not signature:
        return None
    if not isinstance(signature, dict):
        raise ModelRefused("the signature is not a mapping")
    if not signature.get("inputs"):
        return None
    try:
        inputs: Any = msgspec.json.decode(signature["inputs"])
    except (msgspec.DecodeError, TypeError, RecursionError) as error:
        raise ModelRefused("the signature's inputs are not valid JSON") from error
    if not isinstance(inputs, list) or not all(isinstance(item, dict) for item in inputs):
        raise ModelRefused("the signature's inputs are not a list of columns")
    items = cast(list[dict[str, Any]], inputs)
    if any(item.get("type") == "tensor" for item in items):
        return _tensor_columns(items)
    if len(items) == 1 and items[0].get("name") is None and items[0].get("type") in SHAPELESS:
        return None
    columns = tuple(map(_column, items))
    names = [column.name for column in columns if column.name is not None]
    if len(set(names)) != len(names):
        raise ModelRefused("the signature names a column twice")
    return columns


def layout_of(columns: tuple[Column, ...] | None) -> Layout:
    """Layout of the columns of a signature, as `signature_columns` reads them."""
    if columns is None:
        return "unsigned"
    if all(column.name is not None for column in columns):
        return "named"
    return "positional" if all(column.type in KINDS for column in columns) else "tensor"


def join_features(columns: tuple[Column, ...] | None, plan: Plan | None, forest: ForestData) -> tuple[Feature, ...]:
    """Features of the model, in the engine's order.

    Args:
        columns: Columns of the signature, where it has any. One without a name has that of its place.
        plan: Feature plan, where the model has one; its inputs are then the features.
        forest: The booster, whose features are the model's where there is no plan.

    Raises:
        ModelRefused: The three do not agree.
    """
    names = forest.feature_names if plan is None else tuple(item.name for item in plan.inputs)
    if columns is not None and len(columns) == len(names):
        columns = tuple(
            msgspec.structs.replace(column, name=name) if column.name is None else column
            for column, name in zip(columns, names, strict=True)
        )
    if plan is not None:
        return _planned(columns, plan)
    if columns is not None:
        _check_names(columns, names)
    categories = category_columns(columns, forest)
    columns = tuple(Column(name=name) for name in names) if columns is None else columns
    return tuple(_feature(column, categories.get(index)) for index, column in enumerate(columns))


def _column(item: dict[str, Any]) -> Column:
    """Column that is an item of the signature's JSON. pandas names columns by numbers too, LightGBM by their text."""
    name, kind = item.get("name"), item.get("type")
    name = str(name) if isinstance(name, str | bool | int | float) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ModelRefused(
            f"the signature's column {name!r} has type {kind!r}, and LightGBM takes numbers, booleans and categories"
        )
    limits = _limits(np.dtype(INTEGERS[kind])) if kind in INTEGERS else None
    required = bool(item.get("required", not item.get("optional")))  # MLflow 2 wrote that a column is optional
    return Column(name=name, type=kind, kind=KINDS[kind], required=required, limits=limits, single=kind == "float")


def _tensor_columns(items: Sequence[dict[str, Any]]) -> tuple[Column, ...] | None:
    """Columns of a tensor of shape (-1, F); None for any other tensor, or several."""
    spec: Any = items[0].get("tensor-spec")
    shape: Any = spec.get("shape") if isinstance(spec, dict) else None
    if len(items) != 1 or not isinstance(shape, list) or len(cast(list[Any], shape)) != 2:
        return None
    width: Any = cast(list[Any], shape)[1]
    if not isinstance(width, int) or width < 1:
        return None
    given: Any = cast(dict[str, Any], spec).get("dtype")
    try:
        dtype = np.dtype(given)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        raise ModelRefused(f"the signature's tensor has dtype {given!r}, and LightGBM takes numbers")
    kind: Kind = "number" if dtype.kind == "f" else "boolean" if dtype.kind == "b" else "integer"
    limits = _limits(dtype) if kind == "integer" else None
    single = dtype.kind != "b" and dtype != np.float64  # LightGBM reads an array of any other dtype as float32
    return (Column(name=None, type=str(dtype), kind=kind, limits=limits, single=single),) * width


def _check_names(columns: tuple[Column, ...], names: tuple[str, ...]) -> None:
    """Raise ModelRefused unless the columns are the booster's features."""
    if len(columns) != len(names):
        raise ModelRefused(f"the signature has {len(columns)} columns, the booster {len(names)} features", "agreement")
    if all(name == f"Column_{index}" for index, name in enumerate(names)):  # of features without a name
        return
    given = [name if column.name is None else column.name for column, name in zip(columns, names, strict=True)]
    if not _are_alike(given, names) and any(
        name not in (other, _stored(other)) for other, name in zip(given, names, strict=True)
    ):
        raise ModelRefused(
            f"the signature's columns {_list([column.name for column in columns])} are not the booster's features "
            f"{_list(names)}",
            "agreement",
        )


def _are_alike(given: Sequence[str], names: Sequence[str]) -> bool:
    """Whether each name has the letters and digits of the other at its place, and of no other.

    LightGBM refuses names with brackets, colons, commas and quotes. Who takes them out before training may log the
    signature of the frame as it was; MLflow hands its columns to LightGBM by their places.
    """
    bare = [re.sub(r"[\W_]+", "", name).casefold() for name in names]
    theirs = [re.sub(r"[\W_]+", "", name).casefold() for name in given]
    return bare == theirs and len(set(bare)) == len(bare)


def _stored(name: str) -> str:
    """The name under which LightGBM keeps a column: with underscores for blanks, up to a NUL, without a leading =."""
    name = name.partition("\0")[0].replace(" ", "_")
    bare = name.lstrip("=")
    return name if "=" in bare else bare


def _feature(column: Column, categories: tuple[Category, ...] | None) -> Feature:
    """Feature of a booster without a plan.

    A number may be missing: that a column is required means to MLflow that it is there. For whole numbers and booleans
    it also means that no value is missing.
    """
    kind = column.kind if categories is None else "category"
    return Feature(
        name=column.name or "",
        kind=kind,
        required=column.required,
        nullable=kind in ("number", "category"),
        single=column.single and categories is None,
        categories=categories,
        physical_range=column.limits if categories is None else None,
    )


def _planned(columns: tuple[Column, ...] | None, plan: Plan) -> tuple[Feature, ...]:
    """Features of a model with a plan, which takes numbers only."""
    names = [item.name for item in plan.inputs]
    by_name = {column.name: column for column in columns or ()}
    if columns is not None and by_name.keys() != set(names):
        raise ModelRefused(
            f"the signature's columns {_list([column.name for column in columns])} are not the plan's inputs "
            f"{_list(names)}",
            "agreement",
        )
    if texts := [column.name for column in columns or () if column.kind == "category"]:
        raise ModelRefused(f"the signature's columns {_list(texts)} are of text, and a feature plan takes numbers")
    features: list[Feature] = []
    for item in plan.inputs:
        column = by_name.get(item.name, Column(name=item.name))
        feature = Feature(
            name=item.name,
            kind=column.kind,
            required=column.required,
            single=column.single,
            description=item.description,
            unit=item.unit,
            physical_range=_narrower(item.physical_range, column.limits),
            training_range=item.training_range,
        )
        features.append(feature)
    return tuple(features)


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Least and greatest whole number of a dtype that float64 tells from its neighbours."""
    info = np.iinfo(dtype)
    return max(float(info.min), -LARGEST_WHOLE), min(float(info.max), LARGEST_WHOLE)


def _narrower(left: tuple[float, float] | None, right: tuple[float, float] | None) -> tuple[float, float] | None:
    if left is None or right is None:
        return left or right
    return max(left[0], right[0]), min(left[1], right[1])


def _list(names: Sequence[str | None]) -> str:
    shown = ", ".join(map(str, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
