"""A plan in plain Python, numpy and scikit-learn: what the tests of the kernels hold results against."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from kernels.plan.plan import (
    Clip,
    GaussianProcess,
    Log,
    Neighbours,
    Plan,
    PointDistance,
    PolylineDistance,
    Product,
    Ratio,
    Regression,
    Rotation,
    Standardise,
)
from kernels.plan.references import AnyReferenceStep


def by_hand(plan: Plan, X: NDArray[np.floating], table: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """float64[B, O] of a plan, a row at a time in plain Python, before it is rounded to float32."""
    result = np.empty((len(X), len(plan.outputs)))
    columns: dict[str, NDArray[np.float64]] = {}
    if plan.references is not None and table is not None:
        columns = dict(zip(plan.references.columns, table.T, strict=True))
    with np.errstate(all="ignore"):
        for index, row in enumerate(X):
            values = {column.name: np.float64(value) for column, value in zip(plan.inputs, row, strict=True)}
            for step in plan.steps:
                operands = (values[name] for name in step.operand_names())
                values[step.output] = np.float64(FORMULAS[type(step)](step, *operands))
            for step in plan.reference_steps:
                values |= step_by_hand(step, columns, values)
            result[index] = [values[name] for name in plan.outputs]
    return result


def step_by_hand(
    step: AnyReferenceStep, columns: Mapping[str, NDArray[np.float64]], values: Mapping[str, float]
) -> dict[str, np.float64]:
    """A reference step's outputs of one row, by numpy and scikit-learn in float64."""
    if isinstance(step, GaussianProcess):
        return {step.output: _process_by_hand(step, columns, values)}
    if not all(math.isfinite(values[name]) for name in step.inputs):
        return dict.fromkeys(step.outputs, np.float64(math.nan))
    keys, rows = nearest_by_hand(step, columns, values)
    return dict(zip(step.outputs, describe_by_hand(step, keys, rows, columns, values), strict=True))


def nearest_by_hand(
    step: Neighbours,
    columns: Mapping[str, NDArray[np.float64]],
    values: Mapping[str, float],
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Squared distances and indices of a row's neighbours: all rows sorted, those that are not allowed left out."""
    squared = np.zeros(len(columns[step.target]))
    for name, scale in zip(step.inputs, step.scales, strict=True):
        squared += (columns[name] / scale - values[name] / scale) ** 2
    keys = squared.astype(np.float32)
    order = np.lexsort((np.arange(len(keys)), keys))
    if allowed is not None:
        order = order[allowed[order]]
    order = order[: step.searched]
    return keys[order], order


def describe_by_hand(
    step: Neighbours,
    keys: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: Mapping[str, NDArray[np.float64]],
    values: Mapping[str, float],
) -> list[np.float64]:
    """What a neighbours step says of these neighbours, in the order of its outputs."""
    distances, target = np.sqrt(keys.astype(np.float64)), columns[step.target][rows]
    result = [distances[0]]
    for count in step.counts:
        near = target[:count]
        mean = np.average(near, weights=1 / (distances[:count] + step.softening))
        result += [near.mean(), mean, near.std(), np.median(near), distances[:count][-1]]
    for count in step.contrast_counts:
        result += [values[name] - columns[name][rows[:count]].mean() for name in step.contrasts]
    for regression in step.regressions:
        result += _regression_by_hand(step, regression, distances, rows, columns, values)
    return result


def _regression_by_hand(
    step: Neighbours,
    regression: Regression,
    distances: NDArray[np.float64],
    rows: NDArray[np.intp],
    columns: Mapping[str, NDArray[np.float64]],
    values: Mapping[str, float],
) -> list[np.float64]:
    from sklearn.linear_model import Ridge  # not for those that want no description: its import takes two seconds

    near, scales = rows[: regression.count], np.array(regression.scales)
    means = np.array([columns[name].mean() for name in regression.inputs])
    attributes = (np.stack([columns[name][near] for name in regression.inputs], axis=1) - means) / scales
    distances = distances[: regression.count]
    weights = (1 - (distances / (distances[-1] + step.softening)) ** 2) ** 2
    ridge = Ridge(alpha=regression.ridge).fit(attributes, columns[step.target][near], weights / weights.sum())
    here = (np.array([values[name] for name in regression.inputs]) - means) / scales
    return [ridge.intercept_ + (ridge.coef_ * here).sum(), ridge.intercept_, *ridge.coef_]


def _process_by_hand(
    step: GaussianProcess, columns: Mapping[str, NDArray[np.float64]], values: Mapping[str, float]
) -> np.float64:
    if not all(math.isfinite(values[name]) for name in step.operand_names()):
        return np.float64(math.nan)
    covariance = np.full(len(columns[step.weights]), step.constant)
    for term in step.terms:
        part = np.full(len(covariance), term.variance)
        for factor in term.factors:
            gaps = [(columns[name] - values[name]) / at for name, at in zip(factor.inputs, factor.lengths, strict=True)]
            part = part * COVARIANCES[factor.shape](np.linalg.norm(gaps, axis=0))
        covariance = covariance + part
    return np.dot(covariance, columns[step.weights])


COVARIANCES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "exponential": lambda r: np.exp(-r),
    "matern32": lambda r: (1 + math.sqrt(3) * r) * np.exp(-math.sqrt(3) * r),
    "squared_exponential": lambda r: np.exp(-(r**2) / 2),
}


def assert_rounded(actual: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    """`actual` is `expected` rounded to float32, give or take the last digit."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
        below, above = (np.nextafter(rounded, np.float32(limit)) for limit in (-np.inf, np.inf))
    near = (below <= actual) & (actual <= above)
    wrong = np.argwhere(~(near | (np.isnan(actual) & np.isnan(rounded))))
    assert not len(wrong), f"{actual[tuple(wrong[0])]} at {wrong[0]}, expected {rounded[tuple(wrong[0])]}"


def _log(step: Log, value: np.float64) -> float:
    total = value + step.offset
    if total == 0:
        return -math.inf
    return math.log(total) if total > 0 else math.nan


def _clip(step: Clip, value: np.float64) -> float:
    return value if math.isnan(value) else max(step.lower, min(step.upper, value))


def _rotation(step: Rotation, x: np.float64, y: np.float64) -> float:
    return x * math.cos(math.radians(step.degrees)) + y * math.sin(math.radians(step.degrees))


def _point_distance(step: PointDistance, latitude: np.float64, longitude: np.float64) -> float:
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return math.nan
    north, east = _half_turn(step.point[0] - latitude), _half_turn(step.point[1] - longitude)
    # The cosine as the sine of the complement: 0 at the poles, where math.cos of the rounded angle is not.
    cosines = math.prod(math.sin(math.radians(90 - abs(_half_turn(end)))) for end in (latitude, step.point[0]))
    chord = math.sin(math.radians(north) / 2) ** 2 + cosines * math.sin(math.radians(east) / 2) ** 2
    return 6371.0088 * 2 * math.asin(math.sqrt(min(1.0, max(0.0, chord))))


def _half_turn(degrees: float) -> float:
    """The angle within half a turn, exact; of an angle too large for that, what compiled code makes of it."""
    return min(180.0, max(-180.0, degrees - 360.0 * np.rint(degrees * (1 / 360))))


def _polyline_distance(step: PolylineDistance, latitude: np.float64, longitude: np.float64) -> float:
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return math.nan
    nearest = np.inf
    shrink = math.cos(math.radians(latitude))
    vertices = np.array(step.vertices)
    turns = np.round(np.diff(vertices[:, 1]) / 360.0)  # the short way round, at most half a turn
    for start, end, turn in zip(vertices, vertices[1:], turns, strict=False):
        west = start[1] - longitude
        # To int64, because that is what math.floor gives in compiled code: it matters beyond 10**21 degrees.
        whole = 360.0 * np.floor((west + 180.0) / 360.0).astype(np.int64)
        first = np.array([(west - whole) * shrink, start[0] - latitude])
        second = np.array([(end[1] - 360.0 * turn - longitude - whole) * shrink, end[0] - latitude])
        along = second - first
        length = (along * along).sum()
        share = min(1.0, max(0.0, -(first * along).sum() / length)) if length > 0 else 0.0
        nearest = min(nearest, ((first + share * along) ** 2).sum())
    return np.sqrt(nearest) * (6371.0088 * math.pi / 180)


FORMULAS: dict[type, Callable[..., float]] = {
    Ratio: lambda step, numerator, denominator: numerator / denominator,
    Product: lambda step, left, right: left * right,
    Log: _log,
    Clip: _clip,
    Standardise: lambda step, value: (value - step.mean) / step.scale,
    Rotation: _rotation,
    PointDistance: _point_distance,
    PolylineDistance: _polyline_distance,
}
