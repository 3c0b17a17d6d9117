"""Which raw column each output of a pipeline's steps is computed from.

Only steps are allowed whose outputs each depend on one column: on a number monotonically, apart from a missing value,
or on a category in any way. Then a tree's test of an output is a test of the raw column.
"""

import math
from typing import Any, Literal, NamedTuple

from app.feature import Category
from app.models.convert.refused import ConversionRefused
from app.models.convert.wrapped import Step, is_named

Way = Literal["raw", "filled", "scaled", "encoded"]

SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")
ENCODERS = ("OrdinalEncoder", "OneHotEncoder", "TargetEncoder")
HINTS = {
    "PCA": "it mixes columns",
    "TruncatedSVD": "it mixes columns",
    "PolynomialFeatures": "it mixes columns",
    "SplineTransformer": "it is not monotone",
    "Normalizer": "it divides by the length of the row",
    "KNNImputer": "it compares with stored rows",
    "IterativeImputer": "it fits a model for each column",
    "QuantileTransformer": "it interpolates; trees do not need it: train without it",
    "PowerTransformer": "its powers are not exactly monotone; trees do not need it: train without it",
    "FunctionTransformer": "it calls a function of yours; compute the column before the model is asked",
    "KBinsDiscretizer": "trees do not need it: train without it",
}


class Origin(NamedTuple):
    """Where an output comes from.

    Attributes:
        column: Index of the raw column.
        way: What has been done to it.
    """

    column: int
    way: Way


class Origins(NamedTuple):
    """Origin of each output of the steps, and the categories of raw columns that an encoder reads, by their index."""

    outputs: tuple[Origin, ...]
    categories: dict[int, tuple[Category, ...]]


def trace(steps: tuple[Step, ...], names: tuple[str, ...]) -> Origins:
    """Follow the raw columns of these names through the steps.

    Raises:
        ConversionRefused: A step cannot be folded into the trees.
    """
    categories: dict[int, tuple[Category, ...]] = {}
    outputs = [Origin(index, "raw") for index in range(len(names))]
    for step in steps:
        outputs = _follow(step, outputs, categories)
    for output in outputs:
        if output.column in categories and output.way != "encoded":
            raise ConversionRefused(
                f"the pipeline uses column {names[output.column]!r} both as a category and as a number"
            )
    return Origins(tuple(outputs), categories)


def _follow(step: Step, inputs: list[Origin], categories: dict[int, tuple[Category, ...]]) -> list[Origin]:
    """Outputs of one step."""
    transformer: Any = step.transformer
    kind = type(transformer).__name__
    if is_named(transformer, "passthrough"):
        return inputs
    # A subclass may do anything, and so may a class of the same name from elsewhere.
    if not type(transformer).__module__.startswith("sklearn."):
        raise _refusal(step, "its code is not scikit-learn's")
    if kind == "Pipeline":
        for name, inner in transformer.steps:
            inputs = _follow(Step(f"{step.path} → {name!r}", inner), inputs, categories)
        return inputs
    if kind == "ColumnTransformer":
        found: list[Origin] = []
        for name, inner, selected in transformer.transformers_:
            indices = transformer._transformer_to_input_indices[name]
            if is_named(inner, "drop") or len(indices) == 0:
                continue
            if isinstance(selected, (str, int)):
                raise _refusal(step, f"it gives {name!r} a single column and not a table")
            chosen = [inputs[index] for index in indices]
            found.extend(_follow(Step(f"{step.path} → {name!r}", inner), chosen, categories))
        return found
    if kind == "FeatureUnion":
        return [
            output
            for name, inner in transformer.transformer_list
            if not is_named(inner, "drop")
            for output in _follow(Step(f"{step.path} → {name!r}", inner), inputs, categories)
        ]
    if kind in SCALERS:
        return [Origin(item.column, _later(item.way, "scaled")) for item in inputs]
    if kind == "SimpleImputer":
        return _filled(step, inputs)
    if kind in ENCODERS:
        return _encoded(step, inputs, categories)
    if kind == "FunctionTransformer" and transformer.func is None:
        return inputs
    if hasattr(transformer, "get_support"):
        return [inputs[index] for index in transformer.get_support(indices=True)]
    raise _refusal(step, HINTS.get(kind))


def _later(way: Way, now: Way) -> Way:
    """What has been done to a column in all, of which the last that matters counts."""
    return way if way == "encoded" or (way == "scaled" and now == "filled") else now


def _filled(step: Step, inputs: list[Origin]) -> list[Origin]:
    imputer = step.transformer
    missing = imputer.missing_values
    if not (missing is None or str(missing) == "<NA>" or (isinstance(missing, float) and math.isnan(missing))):
        raise _refusal(step, f"it replaces the value {missing!r}, and not missing values")
    kept = [
        item
        for item, value in zip(inputs, imputer.statistics_, strict=True)
        if imputer.keep_empty_features or not (isinstance(value, float) and math.isnan(value))
    ]
    indicated = [] if imputer.indicator_ is None else [inputs[index] for index in imputer.indicator_.features_]
    return [Origin(item.column, _later(item.way, "filled")) for item in [*kept, *indicated]]


def _encoded(step: Step, inputs: list[Origin], categories: dict[int, tuple[Category, ...]]) -> list[Origin]:
    encoder, kind = step.transformer, type(step.transformer).__name__
    outputs: list[Origin] = []
    for index, item in enumerate(inputs):
        if item.way not in ("raw", "filled"):
            raise _refusal(step, "it encodes what an earlier step has computed, and not a raw column")
        values = _values(step, encoder.categories_[index])
        known = categories.setdefault(item.column, values)
        if set(known) != set(values):
            raise _refusal(step, "its categories of a column are not those of another encoder of the column")
        width = 1
        if kind == "OneHotEncoder":
            width = encoder._n_features_outs[index]
        elif kind == "TargetEncoder" and encoder.target_type_ == "multiclass":
            width = len(encoder.classes_)
        outputs.extend([Origin(item.column, "encoded")] * width)
    return outputs


def _values(step: Step, found: Any) -> tuple[Category, ...]:
    """Categories without missing values, as Python's own values."""
    values = [value.item() if hasattr(value, "item") else value for value in found]
    there = [value for value in values if value is not None and str(value) != "<NA>" and value == value]
    for value in there:
        if not isinstance(value, (str, int, float, bool)):
            raise _refusal(step, f"it has a category of type {type(value).__name__}")
    return tuple(there)


def _refusal(step: Step, reason: str | None) -> ConversionRefused:
    kind = type(step.transformer).__name__
    return ConversionRefused(
        f"step {step.path} is a {kind}, which cannot be folded into the trees"
        + (f": {reason}" if reason else "")
        + ". Scalers, SimpleImputer, OrdinalEncoder, OneHotEncoder, TargetEncoder, selections of columns, "
        "ColumnTransformer and Pipeline can. Other steps must be computed before the model is asked"
    )
