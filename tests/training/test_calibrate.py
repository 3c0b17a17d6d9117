"""Fitted intervals: quantiles equal to MAPIE's, the promised coverage, and levels that need more rows."""

from itertools import pairwise
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.conformity_scores import ResidualNormalisedScore
from mapie.regression import SplitConformalRegressor
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from app.models.predictions.interval import Intervals, Quantile
from app.training.calibrate import (
    LEAST_SHARE,
    LEVELS,
    coverage,
    difficulty_parameters,
    fit_difficulty,
    fit_intervals,
)
from kernels.engine import Engine
from kernels.forest.forest import Forest

Array = NDArray[np.float64]


class Column(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted estimator that predicts a column of its input, but at least `least`."""

    is_fitted = True

    def __init__(self, column: int, least: float = -np.inf) -> None:
        self.column = column
        self.least = least

    def fit(self, X: Array, y: Array) -> "Column":
        return self

    def predict(self, X: Array) -> Array:
        return np.maximum(X[:, self.column], self.least)


def noisy(seed: int, count: int, least: float = 0.1) -> tuple[Array, Array, Array]:
    """Predictions, difficulties and targets whose error grows with the difficulty."""
    random = np.random.default_rng(seed)
    predictions, difficulty = random.normal(size=count), random.uniform(least, 2.0, count)
    return predictions, difficulty, predictions + difficulty * random.standard_t(4, count)


@pytest.mark.parametrize("least", [0.1, -0.2], ids=["positive", "below zero too"])
@pytest.mark.parametrize("count", [101, 137, 1000])
def test_intervals_are_those_of_mapie(count: int, least: float) -> None:
    # MAPIE bounds difficulties from below when it scores calibration rows but not when it predicts, and by its own
    # 1e-8: with the bound in the residual estimator both do what is done here. It also wants n above 1 / (1 - level)
    # where the rank asks for n + 1 at least.
    predictions, difficulty, target = noisy(1, count, least)
    intervals = fit_intervals(predictions, difficulty, target)
    assert intervals.levels == LEVELS
    calibration, new = np.column_stack([predictions, difficulty]), np.column_stack(noisy(2, 50, least)[:2])
    residual = Column(1, intervals.least_difficulty)
    for level in LEVELS:
        oracle = SplitConformalRegressor(
            Column(0),
            confidence_level=level,
            conformity_score=ResidualNormalisedScore(residual_estimator=residual, prefit=True),
            prefit=True,
        )
        _, bounds = oracle.conformalize(calibration, target).predict_interval(new)
        half_width = intervals.half_width(new[:, 1], level)
        np.testing.assert_allclose(bounds[:, 0, 0], new[:, 0] - half_width, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(bounds[:, 1, 0], new[:, 0] + half_width, rtol=1e-12, atol=1e-12)


def exact(count: int) -> tuple[Array, Array, Array]:
    """Difficulties of one and errors 1, 2, … count: the score of rank r is r."""
    return np.zeros(count), np.ones(count), np.arange(1.0, count + 1)[::-1].copy()


@pytest.mark.parametrize(
    ("count", "level", "rank"),
    [
        (9, 0.9, 9),
        (10, 0.9, 10),
        (19, 0.9, 18),
        (99, 0.9, 90),
        (99, 0.55, 55),
        (99, 0.99, 99),
        (1, 0.5, 1),
        (2, 0.5, 2),
    ],
)
def test_quantiles_are_the_scores_of_conformal_ranks(count: int, level: float, rank: int) -> None:
    intervals = fit_intervals(*exact(count), levels=(level,), default_level=level)
    assert intervals.quantiles == (Quantile(level, float(rank)),)
    assert intervals.calibration_rows == count


def test_a_level_that_needs_more_rows_is_left_out() -> None:
    assert fit_intervals(*exact(98)).levels == (0.5, 0.8, 0.9, 0.95)
    assert fit_intervals(*exact(99)).levels == LEVELS
    assert fit_intervals(*exact(9), levels=(0.95, 0.9, 0.5, 0.9)).levels == (0.5, 0.9)


def test_too_few_rows_for_the_default_level_are_refused() -> None:
    with pytest.raises(ValueError, match=r"8 calibration rows are too few for intervals of level 0\.9"):
        fit_intervals(*exact(8))
    with pytest.raises(ValueError, match="0 calibration rows are too few"):
        fit_intervals(np.empty(0), np.empty(0), np.empty(0))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"levels": (0.5, 0.8)}, "the default level 0.9 is not one of the levels"),
        ({"levels": ()}, "the default level 0.9 is not one of the levels"),
        ({"levels": (0.9, 1.0)}, "levels must be above 0 and below 1"),
        ({"levels": (0.0, 0.9)}, "levels must be above 0 and below 1"),
        ({"levels": (0.9, np.nan)}, "levels must be above 0 and below 1"),
    ],
)
def test_levels_that_make_no_sense_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_intervals(*exact(100), **options)


def test_arrays_that_do_not_fit_are_refused() -> None:
    predictions, difficulty, target = exact(20)
    with pytest.raises(ValueError, match="one length"):
        fit_intervals(predictions[1:], difficulty, target)
    with pytest.raises(ValueError, match="one length"):
        fit_intervals(predictions[:, None], difficulty[:, None], target[:, None])
    with pytest.raises(ValueError, match="finite"):
        fit_intervals(predictions, difficulty * np.nan, target)


def test_the_least_difficulty_is_a_low_quantile_of_what_was_seen() -> None:
    predictions, difficulty, target = noisy(3, 1000)
    assert fit_intervals(predictions, difficulty, target).least_difficulty == np.quantile(difficulty, 0.01)


def test_where_that_is_not_above_zero_it_is_a_share_of_the_error() -> None:
    predictions, difficulty, target = noisy(4, 1000, least=-0.2)
    expected = LEAST_SHARE * np.abs(target - predictions).mean()
    intervals = fit_intervals(predictions, difficulty, target)
    assert intervals.least_difficulty == pytest.approx(expected, rel=1e-12)
    assert coverage(intervals, *noisy(5, 4000, least=-0.2)).coverage > 0.88


def test_wholly_exact_predictions_have_no_intervals() -> None:
    target = np.zeros(100)
    target[:20] = 1.0
    intervals = fit_intervals(np.zeros(100), np.zeros(100), target)
    assert intervals.quantiles[0] == Quantile(0.5, 0.0)
    assert intervals.half_width(np.zeros(1), 0.9)[0] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="every prediction of the calibration rows is exact"):
        fit_intervals(target, np.ones(100), target)


@given(st.integers(0, 10_000), st.integers(9, 300))
def test_calibration_rows_are_covered_by_rank_and_level(seed: int, count: int) -> None:
    predictions, difficulty, target = noisy(seed, count, least=-0.1)
    intervals = fit_intervals(predictions, difficulty, target)
    error = np.abs(target - predictions)
    widths = [intervals.half_width(difficulty, level) for level in intervals.levels]
    for level, width in zip(intervals.levels, widths, strict=True):
        held = np.count_nonzero(error <= width * (1 + 1e-12))
        assert np.ceil(round((count + 1) * level, 9)) == held
    assert all((wide >= narrow).all() for narrow, wide in pairwise(widths))


def test_a_new_row_is_held_with_the_stated_probability() -> None:
    # Of 2,000 draws of 99 calibration rows and one new row each, Binomial(2000, 0.9) are held: 1800, deviation 13.4.
    held = 0
    for seed in range(2000):
        predictions, difficulty, target = noisy(seed, 100)
        calibration = predictions[:-1], difficulty[:-1], target[:-1]
        half_width = fit_intervals(*calibration).half_width(difficulty[-1:], 0.9)
        held += bool(abs(target[-1] - predictions[-1]) <= half_width[0])
    assert abs(held - 1800) < 4 * 13.4


def heteroscedastic(seed: int, count: int) -> tuple[NDArray[np.float32], Array]:
    """Rows whose noise has a deviation of 0.2 at x = 0 and of 2 at x = 1, and whose target is 3 x."""
    random = np.random.default_rng(seed)
    features = random.uniform(size=(count, 3)).astype(np.float32)
    spread = 0.2 + 1.8 * features[:, 0].astype(np.float64)
    return features, 3.0 * features[:, 0] + spread * random.normal(size=count)


@pytest.fixture(scope="module")
def difficulty_text() -> str:
    features, target = heteroscedastic(1, 4000)
    return fit_difficulty(features, np.abs(target - 3.0 * features[:, 0]), ("x", "y", "z"))


def test_coverage_holds_in_every_decile_of_heteroscedastic_rows(difficulty_text: str) -> None:
    forest = Forest.from_model_text(difficulty_text)
    calibration, target = heteroscedastic(2, 4000)
    predictions = 3.0 * calibration[:, 0].astype(np.float64)
    intervals = fit_intervals(predictions, forest.predict(calibration), target)
    unseen, truth = heteroscedastic(3, 8000)
    predicted, difficulty = 3.0 * unseen[:, 0].astype(np.float64), forest.predict(unseen)
    report = coverage(intervals, predicted, difficulty, truth)
    assert (report.level, report.rows) == (0.9, 8000)
    # Calibration and unseen rows each add to the deviation: sqrt(0.09 / 4000 + 0.09 / 8000) = 0.0058.
    assert abs(report.coverage - 0.9) < 4 * 0.0058
    # A decile of 800 unseen rows deviates by 0.0106; the rest is what the forest does not know.
    assert report.worst_decile > 0.9 - 0.05
    alike = np.ones(4000), np.ones(8000)
    fixed = coverage(fit_intervals(predictions, alike[0], target), predicted, alike[1], truth)
    assert abs(fixed.coverage - 0.9) < 4 * 0.0058
    assert fixed.worst_decile < 0.75
    assert report.mean_width < fixed.mean_width


def test_the_forest_finds_where_errors_are_large(difficulty_text: str) -> None:
    rows = np.full((2, 3), 0.5, np.float32)
    rows[:, 0] = 0.05, 0.95
    low, high = Forest.from_model_text(difficulty_text).predict(rows)
    # The mean absolute value of a normal is sqrt(2 / pi) of its deviation: 0.23 and 1.52 here.
    assert 0.1 < low < 0.4
    assert 1.2 < high < 1.8


def test_fitting_twice_gives_the_same_forest_and_weights_another(difficulty_text: str) -> None:
    features, target = heteroscedastic(1, 4000)
    residual = np.abs(target - 3.0 * features[:, 0])
    names = ("x", "y", "z")
    assert fit_difficulty(features, residual, names) == difficulty_text
    assert fit_difficulty(features, residual, names, weight=1.0 + (target > 2)) != difficulty_text


def test_the_forest_goes_with_a_booster_of_the_same_names() -> None:
    features, target = heteroscedastic(1, 300)
    names = ["income a year", "y", "z"]
    data = lgb.Dataset(features, target, feature_name=names, params=difficulty_parameters())
    booster = lgb.train(difficulty_parameters(), data, num_boost_round=2)
    difficulty = Forest.from_model_text(fit_difficulty(features, np.abs(target), names))
    evaluation = Engine(Forest.from_booster(booster), difficulty=difficulty).evaluate(features.astype(np.float64))
    assert evaluation.difficulty is not None
    assert np.isfinite(evaluation.difficulty).all()


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_a_residual_that_is_no_distance_is_refused(bad: float) -> None:
    features, target = heteroscedastic(1, 300)
    residual = np.abs(target)
    residual[7] = bad
    with pytest.raises(ValueError, match="absolute residuals must be finite and not negative"):
        fit_difficulty(features, residual, ("x", "y", "z"))


def test_coverage_is_counted_over_all_rows_and_in_each_decile() -> None:
    intervals = Intervals(
        quantiles=(Quantile(0.5, 1.0), Quantile(0.9, 2.0)), least_difficulty=0.5, calibration_rows=100
    )
    difficulty = np.arange(1.0, 21.0)
    predictions = -np.arange(20.0)
    target = predictions.copy()
    target[4] += 2 * difficulty[4]  # on the bound: held
    target[5] += 2 * difficulty[5] + 1e-9
    target[[18, 19]] -= 100.0
    report = coverage(intervals, predictions, difficulty, target)
    assert (report.level, report.rows, report.coverage) == (0.9, 20, 17 / 20)
    assert report.mean_width == 4 * 10.5
    assert report.by_difficulty == (1, 1, 0.5, 1, 1, 1, 1, 1, 1, 0)
    assert report.by_prediction == report.by_difficulty[::-1]
    assert report.worst_decile == 0
    assert coverage(intervals, predictions, difficulty, target, level=0.5).coverage == 16 / 20


def test_coverage_asks_for_ten_rows_and_a_level_that_there_is() -> None:
    intervals = fit_intervals(*exact(100))
    with pytest.raises(ValueError, match="9 rows are too few for deciles"):
        coverage(intervals, *exact(9))
    with pytest.raises(ValueError, match=r"level 0\.7 is not one of the intervals' levels"):
        coverage(intervals, *exact(10), level=0.7)
