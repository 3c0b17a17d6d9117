"""Fits prediction intervals: the forest of difficulties, the calibration, and the measured coverage.

This needs three disjoint parts of the data: rows that booster and difficulty forest are fitted on (the difficulty
forest on out-of-fold residuals), rows that the intervals are calibrated on, and rows that coverage is measured on. The
method is described in `app.models.predictions.interval`.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray

from app.models.predictions.interval import Intervals, Quantile

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
DEFAULT_LEVEL = 0.9
DIFFICULTY_ROUNDS = 100
LEAST_SHARE = 0.1
"""Least difficulty, as a share of the mean absolute error, if predicted difficulties reach zero. With a smaller one, a
few rows below it would have such large scores that they alone would decide the quantiles of high levels."""
DECILES = 10

Array = NDArray[np.float64]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """Coverage of the intervals of one level on rows that they were not calibrated on.

    Attributes:
        level: Level of the intervals.
        rows: Number of rows.
        coverage: Share of the rows whose true value is in the interval.
        mean_width: Mean width of the intervals, in the target's unit.
        by_difficulty: Coverage of each tenth of the rows, ordered by predicted difficulty.
        by_prediction: Coverage of each tenth of the rows, ordered by prediction.
        worst_decile: Least of these twenty values.
    """

    level: float
    rows: int
    coverage: float
    mean_width: float
    by_difficulty: tuple[float, ...]
    by_prediction: tuple[float, ...]
    worst_decile: float


def difficulty_parameters() -> dict[str, Any]:
    """LightGBM's parameters for the forest of difficulties: small and slow to learn, because errors are mostly noise.

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
    features: NDArray[np.floating],
    absolute_residual: Array,
    names: Sequence[str],
    weight: Array | None = None,
    categories: Sequence[int] = (),
) -> str:
    """Fit the forest that predicts a booster's absolute error.

    Args:
        features: float32[N, O] or float64[N, O], the booster's features.
        absolute_residual: float64[N], |target - prediction| by boosters that were not fitted on the row: the error on
            training rows says little about the error on others.
        names: Names of the O features, as in the booster.
        weight: float64[N], weights of the rows.
        categories: Columns that hold codes of categories.

    Returns:
        The forest in LightGBM's native text.

    Raises:
        ValueError: A residual is negative or not finite.
    """
    if not (np.isfinite(absolute_residual) & (absolute_residual >= 0)).all():
        raise ValueError("absolute residuals must be finite and not negative")
    parameters = difficulty_parameters()
    data = lgb.Dataset(
        features,
        absolute_residual,
        weight=weight,
        feature_name=list(names),
        categorical_feature=list(categories),
        params=parameters,
    )
    return lgb.train(parameters, data, num_boost_round=DIFFICULTY_ROUNDS).model_to_string()


def fit_intervals(
    predictions: Array,
    difficulty: Array,
    target: Array,
    levels: Sequence[float] = LEVELS,
    default_level: float = DEFAULT_LEVEL,
) -> Intervals:
    """Calibrate intervals on n rows that neither booster nor difficulty forest was fitted on.

    The least difficulty is the 1 % quantile of the rows' difficulties. If that is not above zero, it is LEAST_SHARE of
    the mean absolute error (the median can be zero while errors are not). It is taken from the same rows as the
    quantiles, so the guarantee of coverage is exact except for the rows that it applies to.

    Args:
        predictions: float64[n].
        difficulty: float64[n], predicted by the difficulty forest.
        target: float64[n].
        levels: Levels to fit; a level that needs more than n rows is left out.
        default_level: One of the levels.

    Raises:
        ValueError: Arrays differ in length or are not finite, a level is not between 0 and 1, the rows are too few for
            the default level, or every prediction is exact.
    """
    _check(predictions, difficulty, target)
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must be above 0 and below 1, got {tuple(levels)}")
    if default_level not in levels:
        raise ValueError(f"the default level {default_level} is not one of the levels {tuple(levels)}")
    count = len(target)
    ranks = {level: rank for level in sorted(set(levels)) if (rank := quantile_rank(count, level)) <= count}
    if default_level not in ranks:
        raise ValueError(f"{count} calibration rows are too few for intervals of level {default_level}")
    errors = np.abs(target - predictions)
    if not errors.any():
        raise ValueError("every prediction of the calibration rows is exact: no error is left to calibrate on")
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

    Rows of equal difficulty or prediction go into deciles in the given order.

    Args:
        intervals: Intervals to measure.
        predictions: float64[B], B >= 10.
        difficulty: float64[B], predicted by the difficulty forest.
        target: float64[B].
        level: One of the intervals' levels; None for their default level.

    Raises:
        ValueError: Arrays differ in length, are not finite, or have fewer than ten rows, or there is no such level.
    """
    _check(predictions, difficulty, target)
    if len(target) < DECILES:
        raise ValueError(f"{len(target)} rows are too few for deciles")
    level = intervals.default_level if level is None else level
    if level not in intervals.levels:
        raise ValueError(f"level {level} is not one of the intervals' levels {intervals.levels}")
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


def quantile_rank(count: int, level: float) -> int:
    """Rank of the score of a level among those of n rows: ceil((n + 1) p), more than n where the rows are too few.

    p is the decimal that is meant: in floats, 100 * 0.55 is above 55.
    """
    return math.ceil((count + 1) * Fraction(str(float(level))))


def _by_decile(held: NDArray[np.bool_], values: Array) -> tuple[float, ...]:
    parts = np.array_split(np.argsort(values, kind="stable"), DECILES)
    return tuple(float(held[part].mean()) for part in parts)


def _check(*arrays: Array) -> None:
    if any(array.ndim != 1 or len(array) != len(arrays[0]) for array in arrays):
        raise ValueError(f"expected arrays of one length, got shapes {[array.shape for array in arrays]}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("predictions, difficulties and targets must be finite")
