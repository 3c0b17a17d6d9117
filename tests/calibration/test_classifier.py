"""Thresholds and reliability of binary classifiers: scikit-learn's figures, and what each threshold is chosen for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
)

from app.calibration.classifier import describe_binary, describe_several
from app.calibration.errors import CalibrationRefused
from app.calibration.parts import random_parts
from app.models.artifact import read_artifact
from app.models.predictions.reliability import Reliability
from app.models.refusal import ModelRefused
from tests.calibration.conftest import Model
from tests.calibration.made import TARGET, boosted, calibrated, frame, predicted, saved


def made(count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right, rounded so that many are equal, and classes."""
    random = np.random.default_rng(5)
    prediction = np.round(random.uniform(size=count) * 20) / 20
    return prediction, (random.uniform(size=count) < prediction).astype(float)


def test_figures_of_thresholds_are_those_of_scikit_learn() -> None:
    prediction, actual = made()
    found = describe_binary(prediction, actual, precisions=(0.9,), recalls=(0.95,))
    choosing, measuring = random_parts(len(actual), 2)
    assert found.threshold_rows == len(measuring)
    for one in found.thresholds:
        counted = prediction[measuring] >= one.threshold
        known = actual[measuring]
        assert one.precision == pytest.approx(precision_score(known, counted))
        assert one.recall == pytest.approx(recall_score(known, counted))
        assert one.f1 == pytest.approx(f1_score(known, counted))
        assert one.balanced_accuracy == pytest.approx(balanced_accuracy_score(known, counted))
        assert one.positive == pytest.approx(counted.mean())

    def best(figure) -> float:
        return max(figure(actual[choosing], prediction[choosing] >= value) for value in np.unique(prediction))

    def reached(figure, threshold: float) -> float:
        return figure(actual[choosing], prediction[choosing] >= threshold)

    f1, balanced, precise, complete = found.thresholds
    assert reached(f1_score, f1.threshold) == pytest.approx(best(f1_score))
    assert reached(balanced_accuracy_score, balanced.threshold) == pytest.approx(best(balanced_accuracy_score))
    assert (precise.goal, precise.asked, complete.goal, complete.asked) == ("precision", 0.9, "recall", 0.95)
    assert reached(precision_score, precise.threshold) >= 0.9
    lower = [value for value in np.unique(prediction) if value < precise.threshold]
    assert all(reached(precision_score, value) < 0.9 for value in lower)
    assert reached(recall_score, complete.threshold) >= 0.95
    assert reached(recall_score, min(np.unique(prediction[prediction > complete.threshold]))) < 0.95


def test_errors_and_bins_are_of_all_rows() -> None:
    prediction, actual = made()
    found = describe_binary(prediction, actual)
    assert found.rows == sum(part.rows for part in found.bins) == len(actual)
    assert found.log_loss == pytest.approx(log_loss(actual, prediction))
    assert found.brier == pytest.approx(brier_score_loss(actual, prediction))
    assert found.calibration_error < 0.05
    worse = describe_binary(prediction**3, actual)
    assert worse.calibration_error > 0.2
    last = found.bins[-1]
    inside = prediction >= 0.9
    assert (last.low, last.high, last.rows) == (0.9, 1.0, inside.sum())
    assert (last.predicted, last.actual) == pytest.approx((prediction[inside].mean(), actual[inside].mean()))


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    prediction, actual = np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], 50)
    found = describe_binary(prediction, actual)
    assert [part.rows for part in found.bins] == [50, *[0] * 8, 50]
    assert (found.calibration_error, found.brier) == (0.0, 0.0)
    assert found.thresholds[0].f1 == 1.0


def test_several_classes_have_reliability_and_no_thresholds() -> None:
    random = np.random.default_rng(6)
    prediction = random.dirichlet([1.0, 2.0, 3.0], 3000)
    actual = (random.uniform(size=(3000, 1)) > np.cumsum(prediction, axis=1)).sum(axis=1).astype(float)
    found = describe_several(prediction, actual)
    assert (found.event, found.rows, found.thresholds, found.threshold_rows) == ("most_probable_class", 3000, (), 0)
    assert found.actual == np.mean(prediction.argmax(axis=1) == actual)
    assert found.log_loss == pytest.approx(log_loss(actual, prediction))
    assert found.brier == pytest.approx(brier_score_loss(actual, prediction, labels=[0, 1, 2]))
    assert found.calibration_error < 0.05
    assert sum(part.rows for part in found.bins) == 3000
    assert [part.rows for part in found.bins[:3]] == [0, 0, 0]
    for bad, reason in ((actual + 0.5, "a whole number from 0 to 2"), (actual - 1, "a whole number from 0 to 2")):
        with pytest.raises(CalibrationRefused, match=reason):
            describe_several(prediction, bad)
    with pytest.raises(CalibrationRefused, match="39 rows are too few: at least 40 are needed"):
        describe_several(prediction[:39], actual[:39])


@pytest.mark.parametrize(
    ("actual", "options", "reason"),
    [
        (np.repeat([0.0, 2.0], 50), {}, "must be 0 or 1, or one of the model's labels"),
        (np.repeat([0.0, 1.0], [95, 5]), {}, "of a class, and at least 10 are needed"),
        (np.tile([0.0, 1.0], 50), {"precisions": (0.99,)}, r"no threshold reaches the precision 0\.99: the largest is"),
    ],
)
def test_rows_that_tell_nothing_are_refused(actual: np.ndarray, options: dict[str, object], reason: str) -> None:
    with pytest.raises(CalibrationRefused, match=reason):
        describe_binary(np.full(len(actual), 0.5), actual, **options)


def test_they_are_stored_beside_the_booster_and_change_no_prediction(classifier: Model, tmp_path: Path) -> None:
    rows = frame(2, kind="class")
    report = calibrated(classifier.directory, rows, tmp_path, recalls=(0.9,))
    artifact = read_artifact(tmp_path / "out")
    prediction = predicted(classifier.booster, rows)
    assert artifact.reliability == report.reliability
    assert report.reliability == describe_binary(prediction, rows[TARGET].to_numpy(float), recalls=(0.9,))
    assert artifact.intervals is None
    assert report.added == ("reliability", "profile")
    np.testing.assert_array_equal(artifact.engine().predict(rows.drop(columns=TARGET).to_numpy(float)), prediction)


def test_a_model_of_several_classes_is_calibrated(tmp_path: Path) -> None:
    def rows_of(seed: int) -> pd.DataFrame:
        rows = frame(seed)
        rows[TARGET] = np.digitize(rows[TARGET], [-1.0, 1.0]).astype(float)
        return rows

    booster = boosted(rows_of(1), objective="multiclass", num_class=3)
    report = calibrated(saved(booster, tmp_path / "model"), rows_of(2), tmp_path)
    artifact = read_artifact(tmp_path / "out")
    assert artifact.reliability == report.reliability
    assert report.reliability is not None
    assert 0.6 < report.reliability.actual < 1
    assert (report.added, report.r2, report.notes[0][:14]) == (("reliability", "profile"), None, "Chance alone m")
    with pytest.raises(CalibrationRefused, match="--recall is for binary classifiers, and the model has several"):
        calibrated(tmp_path / "model", rows_of(2), tmp_path / "again", recalls=(0.9,))
    of_one = calibrated(tmp_path / "model", rows_of(2).assign(price=1), tmp_path / "one")
    assert of_one.notes[0] == "price is the same in all rows."


def test_classes_in_the_wrong_order_are_told(classifier: Model, tmp_path: Path) -> None:
    rows = frame(2, kind="class")
    rows[TARGET] = 1 - rows[TARGET]
    report = calibrated(classifier.directory, rows, tmp_path, output=None)
    assert report.notes[0].startswith("The log loss is above 0.6")


def test_damaged_figures_are_refused() -> None:
    with pytest.raises(ModelRefused, match="the model's reliability cannot be read"):
        Reliability.from_json(b'{"rows": -1}')
