"""Intervals of regressors: MAPIE's to the last digits, and the promised coverage on fresh rows."""

from pathlib import Path

import numpy as np
import pytest
from mapie.conformity_scores import AbsoluteConformityScore, ResidualNormalisedScore
from mapie.regression import SplitConformalRegressor
from sklearn.metrics import r2_score

from app.calibration.errors import CalibrationRefused
from app.calibration.intervals import constant_difficulty
from app.calibration.parts import random_parts
from app.models.artifact import read_artifact
from kernels.forest.forest import load_forest
from tests.calibration.conftest import Calibrated, Model
from tests.calibration.made import TARGET, calibrated, frame, predicted
from tests.models.support import NAMES
from tests.training.test_calibrate import Column

LEVELS = (0.8, 0.9, 0.95)


@pytest.mark.parametrize("method", ["normalised", "plain"])
def test_intervals_are_those_of_mapie(method: str, regressor: Model, tmp_path: Path) -> None:
    rows, fresh = frame(2), frame(3, 50)
    calibrated(regressor.directory, rows, tmp_path, method=method)
    artifact = read_artifact(tmp_path / "out")
    assert artifact.intervals is not None
    assert artifact.intervals.levels == LEVELS
    engine = artifact.engine()
    part = random_parts(len(rows), 3 if method == "normalised" else 2)[-2]
    held = engine.evaluate(rows[list(NAMES)].to_numpy()[part])
    new = engine.evaluate(fresh[list(NAMES)].to_numpy())
    assert held.difficulty is not None
    assert new.difficulty is not None
    score = AbsoluteConformityScore()
    if method == "normalised":
        least = Column(1, artifact.intervals.least_difficulty)
        score = ResidualNormalisedScore(residual_estimator=least, prefit=True)
    for level in LEVELS:
        oracle = SplitConformalRegressor(Column(0), confidence_level=level, conformity_score=score, prefit=True)
        oracle.conformalize(np.column_stack([held.prediction, held.difficulty]), rows[TARGET].to_numpy()[part])
        _, bounds = oracle.predict_interval(np.column_stack([new.prediction, new.difficulty]))
        half_width = artifact.intervals.half_width(new.difficulty, level)
        np.testing.assert_allclose(bounds[:, 0, 0], new.prediction - half_width, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(bounds[:, 1, 0], new.prediction + half_width, rtol=1e-9, atol=1e-9)


def test_fresh_rows_are_covered(normalised: Calibrated) -> None:
    artifact = read_artifact(normalised.directory)
    fresh = frame(4, 4000)
    found = artifact.engine().evaluate(fresh[list(NAMES)].to_numpy())
    assert artifact.intervals is not None
    assert found.difficulty is not None
    errors = np.abs(fresh[TARGET].to_numpy() - found.prediction)
    for level in LEVELS:
        # The chance of 1,000 calibration rows: a deviation of 1.3 % at the level 0.8.
        assert np.mean(errors <= artifact.intervals.half_width(found.difficulty, level)) == pytest.approx(
            level, abs=0.05
        )


def test_widths_follow_the_error_and_those_of_plain_are_one(
    regressor: Model, normalised: Calibrated, tmp_path: Path
) -> None:
    plain = calibrated(regressor.directory, frame(2), tmp_path, method="plain")
    for level in plain.levels:
        assert len(set(level.half_widths)) == 1
        assert level.rows == 450
    for level in normalised.report.levels:
        assert level.half_widths[2] > 1.5 * level.half_widths[0]
        assert level.rows == 1000
        assert level.coverage == pytest.approx(level.level, abs=0.05)
    assert min(level.worst_tenth for level in normalised.report.levels) > 0.5
    rows = frame(2, 3000)
    assert normalised.report.r2 == pytest.approx(r2_score(rows[TARGET], predicted(regressor.booster, rows)))


def test_a_constant_difficulty_is_one_whatever_the_row() -> None:
    forest = load_forest(constant_difficulty(("a", "b_c", "d")))
    assert forest.feature_names == ("a", "b_c", "d")
    rows = np.array([[np.nan] * 3, [1e300, -1e300, 0.0]])
    assert forest.predict(rows).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("count", "changes", "reason"),
    [
        (30, {"levels": (0.9, 0.95)}, "the level 0.95 needs 19 rows to calibrate on, and the file's 30 rows leave 10"),
        (15, {"levels": (0.5,), "method": "plain"}, "15 rows are too few to calibrate on a part of them"),
        (36, {"levels": (0.95,), "method": "plain"}, "the level 0.95 needs 19 rows"),
    ],
)
def test_too_few_rows_for_a_level_are_refused(
    count: int, changes: dict[str, object], reason: str, regressor: Model, tmp_path: Path
) -> None:
    with pytest.raises(CalibrationRefused, match=reason):
        calibrated(regressor.directory, frame(2, count), tmp_path, **changes)
    assert not (tmp_path / "out").exists()


def test_just_enough_rows_are_taken(regressor: Model, tmp_path: Path) -> None:
    report = calibrated(regressor.directory, frame(2, 38), tmp_path, levels=(0.95,), method="plain")
    assert [level.level for level in report.levels] == [0.95]
    assert report.calibration_rows == 19


def test_a_target_in_another_unit_is_told_and_so_is_a_constant_one(regressor: Model, tmp_path: Path) -> None:
    rows = frame(2, 200)
    other = rows.assign(**{TARGET: 1000 * rows[TARGET] + 5000})
    report = calibrated(regressor.directory, other, tmp_path, method="plain", output=None)
    assert report.r2 is not None
    assert report.r2 < 0
    assert report.notes[0].startswith(f"The predictions are farther from {TARGET} than its mean is (R² -")
    same = calibrated(regressor.directory, rows.assign(**{TARGET: 1.0}), tmp_path, method="plain", output=None)
    assert (same.r2, same.notes[0]) == (None, f"{TARGET} is the same in all rows.")


def test_exact_predictions_are_refused(regressor: Model, tmp_path: Path) -> None:
    rows = frame(2, 100)
    rows[TARGET] = predicted(regressor.booster, rows)
    with pytest.raises(CalibrationRefused, match="every prediction of the calibration rows is exact"):
        calibrated(regressor.directory, rows, tmp_path, method="plain")
