"""Fits prediction intervals: the forest that tells how difficult a row is, their calibration, and how well they hold.

Three disjoint parts of the data are needed: rows that booster and difficulty forest are fitted on (the difficulty
forest on residuals that are out of fold), rows that the intervals are calibrated on, and rows that coverage is
measured on. The method is in `app.models.interval`.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray

from app.models.interval import Intervals, Quantile

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
DEFAULT_LEVEL = 0.9
DIFFICULTY_ROUNDS = 100
LEAST_SHARE = 0.1
"""Of the mean absolute error, the least difficulty where forecasts reach zero: with a smaller one, the few rows below
it have scores so large that the quantiles of high levels, and so every row's interval, are made by them alone."""
DECILES = 10

Array = NDArray[np.float64]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How well the intervals of one level hold the true values of rows that they were not calibrated on.

    Attributes:
        level: Of the intervals.
        rows: How many were looked at.
        coverage: Share of the rows whose true value is in the interval.
        mean_width: Of the intervals, in the target's unit.
        by_difficulty: Coverage within each tenth of the rows, in order of the predicted difficulty.
        by_prediction: The same, in order of the prediction.
        worst_decile: The least of these twenty.
    """

    level: float
    rows: int
    coverage: float
    mean_width: float
    by_difficulty: tuple[float, ...]
    by_prediction: tuple[float, ...]
    worst_decile: float


def difficulty_parameters() -> dict[str, Any]:
    """LightGBM's parameters for the forest of difficulties: small and slow to learn, for errors are mostly noise.

    One thread and fixed seeds make a run repeatable bit for bit.
    """
    return {
        "objective": "regression",
        "metric": "None",
        "num_leaves": 15,
        "learning_rate": 0.05,
        "min_data_in_leaf": 20,
        "seed": 7,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def fit_difficulty(
    features: NDArray[np.float32], absolute_residual: Array, names: Sequence[str], weight: Array | None = None
) -> str:
    """Fit the forest that predicts a booster's absolute error.

    Args:
        features: float32[N, O], the booster's features.
        absolute_residual: float64[N], |target - prediction| by boosters that did not see the row: a booster's error
            on its own training rows says little of its error on others.
        names: The O features' names, as the booster has them.
        weight: float64[N], of the rows.

    Returns:
        The forest in LightGBM's native text.

    Raises:
        ValueError: A residual is below zero or not finite.
    """
    if not (np.isfinite(absolute_residual) & (absolute_residual >= 0)).all():
        raise ValueError("absolute residuals must be finite and not below zero")
    parameters = difficulty_parameters()
    data = lgb.Dataset(features, absolute_residual, weight=weight, feature_name=list(names), params=parameters)
    return lgb.train(parameters, data, num_boost_round=DIFFICULTY_ROUNDS).model_to_string()


def fit_intervals(
    predictions: Array,
    difficulty: Array,
    target: Array,
    levels: Sequence[float] = LEVELS,
    default_level: float = DEFAULT_LEVEL,
) -> Intervals:
    """Calibrate intervals on n rows that neither booster nor difficulty forest was fitted on.

    The least difficulty is the 1 % quantile of the rows' difficulties, or where that is not above zero, LEAST_SHARE
    of the mean absolute error (the median can be zero while errors are not). It is taken from the same rows as the
    quantiles, so that the guarantee of coverage is exact but for the rows that it applies to.

    Args:
        predictions: float64[n].
        difficulty: float64[n], as the difficulty forest predicts it.
        target: float64[n].
        levels: To fit; one that n rows are too few for is left out.
        default_level: One of them.

    Raises:
        ValueError: Arrays do not fit or are not finite, a level is not between 0 and 1, the rows are too few for the
            default level, or every prediction is exact.
    """
    _check(predictions, difficulty, target)
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must be above 0 and below 1, got {tuple(levels)}")
    if default_level not in levels:
        raise ValueError(f"the default level {default_level} is none of the levels {tuple(levels)}")
    count = len(target)
    ranks = {level: rank for level in sorted(set(levels)) if (rank := _rank(count, level)) <= count}
    if default_level not in ranks:
        raise ValueError(f"{count} calibration rows are too few for intervals of level {default_level}")
    errors = np.abs(target - predictions)
    if not errors.any():
        raise ValueError("every prediction of the calibration rows is exact: there is no error to calibrate on")
    least = float(np.quantile(difficulty, 0.01))
    if least <= 0:
        least = LEAST_SHARE * float(errors.mean())
    scores = np.sort(errors / np.maximum(difficulty, least))
    return Intervals(
        quantiles=tuple(Quantile(level, float(scores[rank - 1])) for level, rank in ranks.items()),
        default_level=default_level,
        least_difficulty=least,
        calibration_rows=count,
    )


def coverage(
    intervals: Intervals, predictions: Array, difficulty: Array, target: Array, level: float | None = None
) -> Coverage:
    """Measure intervals on rows that they were not calibrated on.

    Rows of equal difficulty or prediction are put into deciles in their given order.

    Args:
        intervals: To be measured.
        predictions: float64[B], B >= 10.
        difficulty: float64[B], as the difficulty forest predicts it.
        target: float64[B].
        level: One of the intervals' levels; their default one where it is not given.

    Raises:
        ValueError: Arrays do not fit, are not finite, or have fewer than ten rows, or there is no such level.
    """
    _check(predictions, difficulty, target)
    if len(target) < DECILES:
        raise ValueError(f"{len(target)} rows have no deciles")
    level = intervals.default_level if level is None else level
    if level not in intervals.levels:
        raise ValueError(f"level {level} is none of the intervals' levels {intervals.levels}")
    half_width = intervals.half_width(difficulty, level)
    held = np.abs(target - predictions) <= half_width
    by_difficulty, by_prediction = _by_decile(held, difficulty), _by_decile(held, predictions)
    return Coverage(
        level=level,
        rows=len(target),
        coverage=float(held.mean()),
        mean_width=float(2 * half_width.mean()),
        by_difficulty=by_difficulty,
        by_prediction=by_prediction,
        worst_decile=min(by_difficulty + by_prediction),
    )


def _rank(count: int, level: float) -> int:
    """ceil((n + 1) p) of the decimal p that is meant: in floats, 100 * 0.55 is above 55."""
    return math.ceil((count + 1) * Fraction(str(float(level))))


def _by_decile(held: NDArray[np.bool_], values: Array) -> tuple[float, ...]:
    parts = np.array_split(np.argsort(values, kind="stable"), DECILES)
    return tuple(float(held[part].mean()) for part in parts)


def _check(*arrays: Array) -> None:
    if any(array.ndim != 1 or len(array) != len(arrays[0]) for array in arrays):
        raise ValueError(f"expected arrays of one length, got shapes {[array.shape for array in arrays]}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("predictions, difficulties and targets must be finite")
