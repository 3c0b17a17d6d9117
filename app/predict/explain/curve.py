"""What-if curves: the predictions for a row with other values of one feature.

This is an individual conditional expectation (A. Goldstein, A. Kapelner, J. Bleich and E. Pitkin, Peeking Inside the
Black Box, Journal of Computational and Graphical Statistics 24, 2015).
"""

from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from app.codecs.json.duplicates import check_json, parse
from app.codecs.json.row import wrong_fields
from app.codecs.rules import BODY, INVALID, MAX_ERRORS, MISSING, NOT_OBJECT, FloatArray, limits_of
from app.errors import FieldError, InvalidInput, PredictionNotFinite
from app.feature import Feature
from app.models.served import ServedModel
from app.predict.explain.explanation import Value, value_reader
from app.predict.query import Asked
from app.predict.result import table_answer
from kernels.engine import Evaluation
from kernels.forest.forest import Forest

FIELDS = ("row", "feature", "points")

POINTS, MOST_POINTS = 50, 500
"""Points of a curve that names no number, and most points: a number is computed for each."""

BEYOND = 0.05
"""How far a curve reaches beyond the outermost thresholds of a forest, as a share of the distance between them."""

_encode = msgspec.json.Encoder().encode


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The row itself."""

    value: Value
    prediction: float | list[float]


class CurveResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions for a row with other values of a feature.

    Attributes:
        feature: Name of the feature.
        values: Values of the feature, ascending; of a category all categories in the model's order, at most 500.
        predictions: Prediction for each value.
        lower: Lower bound of the interval of each prediction; null for a model without intervals.
        upper: Upper bounds, likewise.
        level: Level of the intervals.
        at: Value of the feature in the row, and the prediction for the row.
    """

    feature: str
    values: list[Value]
    predictions: list[float | list[float]]
    lower: list[float] | None
    upper: list[float] | None
    level: float | None
    at: CurvePoint
    model_version: str
    request_id: str


class Curve(NamedTuple):
    """A curve that is asked for.

    Attributes:
        column: Column of the feature.
        rows: float64[N + 1, F]: the row with each value of the feature, then the row itself.
    """

    column: int
    rows: FloatArray


def read_curve(body: bytes | bytearray, served: ServedModel) -> Curve:
    """Read the body of a request, `{"row": {...}, "feature": "...", "points"?: 50}`.

    Raises:
        MalformedBody: The body is not JSON.
        InvalidInput: Fields are missing, unknown, repeated or not valid, or the model does not know the values of the
            feature.
    """
    given = parse(body)
    if not isinstance(given, dict):
        raise InvalidInput(INVALID, (FieldError(BODY, "must be an object with row and feature"),))
    fields = cast(dict[str, Any], given)
    errors = wrong_fields(fields, FIELDS)
    errors += [FieldError(name, MISSING) for name in FIELDS[:2] if name not in fields]
    name, points = fields.get("feature"), fields.get("points", POINTS)
    if "row" in fields and not isinstance(fields["row"], dict):
        errors.append(FieldError("row", NOT_OBJECT))
    if "feature" in fields and name not in served.feature_names:
        errors.append(FieldError("feature", "must be the name of one of the model's features"))
    if isinstance(points, bool) or not isinstance(points, int | float) or points not in range(2, MOST_POINTS + 1):
        errors.append(FieldError("points", f"must be a whole number from 2 to {MOST_POINTS}"))
    if errors:
        raise InvalidInput(INVALID, tuple(errors[:MAX_ERRORS]))
    row, _ = served.codec.check_row(fields["row"])
    check_json(body)
    column = served.feature_names.index(cast(str, name))
    values = _values(served, column, int(points))
    rows = np.repeat(row, len(values) + 1, axis=0)
    rows[:-1, column] = values
    return Curve(column, rows)


def curve_answer(request_id: str, served: ServedModel, curve: Curve, evaluation: Evaluation, asked: Asked) -> bytes:
    """The answer, as JSON.

    Raises:
        PredictionNotFinite: The model has no finite prediction for some of the values.
    """
    result = table_answer(served, evaluation, asked)
    finite = result.finite(0, result.rows)
    if not finite.all():
        first = int(np.argmin(finite))
        raise PredictionNotFinite("The model has no finite answer on the curve.", result.faults(first), 1, result.rows)
    feature = served.artifact.features[curve.column]
    *values, own = map(value_reader(feature), curve.rows[:, curve.column].tolist())
    *predictions, at = result.prediction.tolist()
    bounds = result.columns(0, result.rows - 1)
    lower, upper = (bounds[name].tolist() if name in bounds else None for name in ("lower", "upper"))
    answer = CurveResponse(
        feature=feature.name,
        values=values,
        predictions=predictions,
        lower=lower,
        upper=upper,
        level=None if lower is None else asked.level,
        at=CurvePoint(value=own, prediction=at),
        model_version=served.identity.version,
        request_id=request_id,
    )
    return _encode(answer)


def _values(served: ServedModel, column: int, points: int) -> FloatArray:
    """Values of a feature, as the engine takes them: float64[N], N at most `points`, or `MOST_POINTS` categories."""
    feature = served.artifact.features[column]
    if feature.kind == "category":
        return np.arange(min(len(feature.categories or ()), MOST_POINTS), dtype=np.float64)
    if feature.kind == "boolean":
        return np.array([0.0, 1.0])
    span = feature.training_range or _range_of_profile(served, feature) or _range_of_forest(served, column)
    if span is None:
        message = "has no values that are known: the model has no training range, no profile and no thresholds of it"
        raise InvalidInput(INVALID, (FieldError("feature", message),))
    low, high = np.clip(span, *limits_of(feature))
    values = np.linspace(low, high, points)
    if feature.kind == "integer":
        values = np.round(values)
    elif feature.single:
        values = values.astype(np.float32).astype(np.float64)
    return np.unique(values)


def _range_of_profile(served: ServedModel, feature: Feature) -> tuple[float, float] | None:
    """Least and greatest value of a feature in the model's profile, where there is one."""
    profile = served.artifact.profile
    histogram = None if profile is None else profile.numbers.get(feature.name)
    return (histogram.edges[0], histogram.edges[-1]) if histogram is not None and histogram.edges else None


def _range_of_forest(served: ServedModel, column: int) -> tuple[float, float] | None:
    """The range of a forest's thresholds and somewhat more, beyond which a prediction does not change."""
    artifact = served.artifact
    if artifact.plan is not None or not isinstance(artifact.forest, Forest):
        return None
    span = artifact.forest.predicates.span(column)
    if span is None:
        return None
    low, high = span
    beyond = BEYOND * (high - low) or max(1.0, abs(high)) * BEYOND
    return low - beyond, high + beyond
