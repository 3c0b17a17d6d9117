"""Intervals of a regressor, from rows that it was not fitted on.

Split conformal prediction, as `app.models.predictions.interval` describes it. The rows are split at random: a part to
learn the difficulty from (`normalised` only), one to calibrate on, and one that coverage is measured on.
"""

from collections.abc import Sequence
from typing import Literal

import lightgbm as lgb
import msgspec
import numpy as np

from app.calibration.errors import CalibrationRefused
from app.calibration.parts import random_parts
from app.codecs.rules import FloatArray
from app.models.artifact import Artifact
from app.models.predictions.interval import Intervals
from app.training.calibrate import (
    DECILES,
    DEFAULT_LEVEL,
    coverage,
    difficulty_parameters,
    fit_difficulty,
    fit_intervals,
    quantile_rank,
)
from kernels.engine import Engine
from kernels.forest.forest import load_forest

Method = Literal["normalised", "plain"]

SHARES = (0.1, 0.5, 0.9)
"""Quantiles of the half-widths that are reported."""


class MeasuredLevel(msgspec.Struct, frozen=True, kw_only=True):
    """Intervals of one level, on rows that they were not calibrated on.

    Attributes:
        level: The level.
        rows: Number of rows.
        coverage: Share of the rows whose target is in the interval.
        worst_tenth: Least coverage of a tenth of the rows, by difficulty or by prediction.
        half_widths: The quantiles `SHARES` of half the width, in the target's unit.
    """

    level: float
    rows: int
    coverage: float
    worst_tenth: float
    half_widths: tuple[float, ...]


class CalibratedIntervals(msgspec.Struct, frozen=True, kw_only=True):
    """Intervals, with what they are worth.

    Attributes:
        method: How they were made.
        difficulty: Forest of the difficulties, in LightGBM's native text. Of the method `plain` it has one leaf of the
            value 1, so that the scores are errors and all intervals are of one width.
        intervals: The calibration.
        measured: Coverage of each level, on rows of which neither of both has seen any.
    """

    method: Method
    difficulty: str
    intervals: Intervals
    measured: tuple[MeasuredLevel, ...]


def calibrate_intervals(
    artifact: Artifact,
    engine: Engine,
    rows: FloatArray,
    prediction: FloatArray,
    actual: FloatArray,
    *,
    levels: Sequence[float],
    default_level: float | None,
    method: Method,
) -> CalibratedIntervals:
    """Fit intervals and measure them.

    Args:
        artifact: The model, with one output that is in the target's unit.
        engine: Its engine.
        rows: float64[N, F], raw features.
        prediction: float64[N], the model's for these rows.
        actual: float64[N], the target.
        levels: Levels of the intervals.
        default_level: One of them; None for 0.9, or the first of the levels where that is none of them.
        method: `normalised` for widths that follow a predicted error, `plain` for one width.

    Raises:
        CalibrationRefused: The rows are too few for a level, or every prediction is exact.
    """
    parts = random_parts(len(rows), 3 if method == "normalised" else 2)
    calibrating, measuring = parts[-2], parts[-1]
    _check_counts(len(rows), len(calibrating), len(measuring), levels)
    features = np.asarray(engine.transform(rows))
    names = artifact.forest.feature_names
    if method == "normalised":
        learning = parts[0]
        categories = [index for index, feature in enumerate(artifact.features) if feature.kind == "category"]
        errors = np.abs(actual - prediction)[learning]
        text = fit_difficulty(features[learning], errors, names, categories=categories)
    else:
        text = constant_difficulty(names)
    difficulty = load_forest(text).predict(features)
    if default_level is None or default_level not in levels:
        default_level = DEFAULT_LEVEL if DEFAULT_LEVEL in levels else levels[0]
    try:
        intervals = fit_intervals(
            prediction[calibrating], difficulty[calibrating], actual[calibrating], levels, default_level
        )
    except ValueError as error:
        raise CalibrationRefused(str(error)) from error
    held = prediction[measuring], difficulty[measuring], actual[measuring]
    measured = tuple(_measured(intervals, held, level) for level in intervals.levels)
    return CalibratedIntervals(method=method, difficulty=text, intervals=intervals, measured=measured)


def _measured(intervals: Intervals, held: tuple[FloatArray, FloatArray, FloatArray], level: float) -> MeasuredLevel:
    """Measure a level on predictions, difficulties and targets of rows."""
    prediction, difficulty, actual = held
    found = coverage(intervals, prediction, difficulty, actual, level)
    half_widths = np.quantile(intervals.half_width(difficulty, level), SHARES)
    return MeasuredLevel(
        level=level,
        rows=found.rows,
        coverage=found.coverage,
        worst_tenth=found.worst_decile,
        half_widths=tuple(half_widths.tolist()),
    )


def constant_difficulty(names: Sequence[str]) -> str:
    """A forest of one leaf, of the value 1, in LightGBM's native text, over features of these names."""
    parameters = difficulty_parameters()
    data = lgb.Dataset(np.zeros((1, len(names))), [1.0], feature_name=list(names), params=parameters)
    return lgb.train(parameters, data, num_boost_round=1).model_to_string()


def _check_counts(rows: int, calibrating: int, measuring: int, levels: Sequence[float]) -> None:
    for level in sorted(levels):
        if quantile_rank(calibrating, level) > calibrating:
            least = next(count for count in range(calibrating, 10**9) if quantile_rank(count, level) <= count)
            raise CalibrationRefused(
                f"the level {level} needs {least} rows to calibrate on, and the file's {rows} rows leave {calibrating}"
            )
    if measuring < DECILES:
        raise CalibrationRefused(f"{rows} rows are too few to calibrate on a part of them and to measure on another")
