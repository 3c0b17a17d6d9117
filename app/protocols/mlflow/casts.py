"""Conversion of decoded JSON values to a column's type, as pandas and NumPy do it for MLflow.

Text that reads as a number is that number, a fraction in a column of whole numbers is cut off, and NaN and infinity are
numbers. What MLflow takes for something else than was sent is refused: a whole number beyond its type, and anything but
true, false, 1 and 0 in a column of booleans.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.codecs.batch_builder import BatchBuilder
from app.codecs.faults import Faults
from app.codecs.rules import FloatArray, Rule, broken_rule, limits_of, number_of
from app.feature import Feature
from app.protocols.mlflow.schema import Places, check_required, limits_in_mlflow, values_as_bad_request

FAILED = (ValueError, TypeError, OverflowError)
"""Errors of a conversion."""


def convert(
    column: Callable[[int], Sequence[Any]], places: Places, rows: int, features: tuple[Feature, ...], *, texts: bool
) -> FloatArray:
    """Convert columns of JSON values to float64[B, F] in the features' order.

    Args:
        column: Gives the values [B] of the body's column at a place.
        places: Position of each feature's column.
        rows: Number of rows.
        features: The model's features.
        texts: Whether text that reads as a number is one.

    Raises:
        BadRequest: Values cannot be converted.
        InvalidInput: A required column is not there.
    """
    faults = Faults(features)
    found = [
        np.full(rows, math.nan) if place is None else _column(index, feature, column(place), faults, texts)
        for index, (feature, place) in enumerate(zip(features, places, strict=True))
    ]
    with values_as_bad_request():
        faults.check(rows)
    check_required(places, features)
    with values_as_bad_request():
        builder = BatchBuilder(features, rows, limits=limits_in_mlflow)
        if rows:
            builder.add_columns(found)
        return builder.matrix()


def _column(index: int, feature: Feature, values: Sequence[Any], faults: Faults, texts: bool) -> FloatArray:
    """Numbers of a column, float64[B]; those of faulty values mean nothing."""
    if not texts and feature.kind != "category":
        for row, value in enumerate(values):
            if isinstance(value, str):
                faults.add(index, "kind", row)
    if feature.kind == "number":
        try:
            return _numbers(values, single=feature.single)
        except FAILED:
            pass  # one by one, to find the faults
    limits = limits_of(feature)
    column = np.full(len(values), math.nan)
    for row, value in enumerate(values):
        try:
            number = _number(feature, value, limits)
        except FAILED:
            number = "kind"
        if isinstance(number, str):
            faults.add(index, number, row)
        else:
            column[row] = number
    return column


def _numbers(values: Sequence[Any], *, single: bool) -> FloatArray:
    kind = np.float32 if single else np.float64
    # Whole numbers alone are rounded to float32 in one step; among fractions, they are float64 before.
    whole = single and set(map(type, values)) == {int}
    with np.errstate(over="ignore"):
        column = np.array(values, np.int64) if whole else np.fromiter(values, np.object_, len(values))
        return column.astype(kind).astype(np.float64)


def _number(feature: Feature, value: Any, limits: tuple[float, float]) -> float | Rule:
    """The number of a value, or the rule that it breaks."""
    if value is None and feature.takes_missing:
        return math.nan
    given: Any = value
    if feature.kind == "integer":
        whole = _whole(given)
        return float(whole) if limits[0] <= whole <= limits[1] else "range"
    if feature.kind == "number":
        return float(given)
    return broken_rule(feature, value, limits) or number_of(feature, value)


def _whole(value: Any) -> int:
    """A value without its fraction; text may have none."""
    return math.trunc(value) if isinstance(value, float) else int(value)
