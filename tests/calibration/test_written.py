"""The calibrated model's files: the original's, which MLflow loads as before, with the parts that Madrone reads."""

import warnings
from pathlib import Path
from unittest.mock import Mock

import lightgbm as lgb
import mlflow.lightgbm
import mlflow.pyfunc
import numpy as np
import pytest
import yaml

from app.calibration.written import put_directory
from app.config.settings import Settings
from app.main import create_app
from app.models.artifact import read_artifact
from tests.calibration.conftest import Calibrated, Model
from tests.calibration.made import TARGET, calibrated, frame, predicted
from tests.models.support import NAMES, mlflows_own_warnings_silenced, referring_parts, save_referring
from tests.support import Client, in_process, loaded

ROW = dict(zip(NAMES, (0.5, -0.25, 3.0), strict=True))


def by_mlflow(directory: Path, rows) -> np.ndarray:
    with mlflows_own_warnings_silenced():
        return np.asarray(mlflow.pyfunc.load_model(str(directory)).predict(rows[list(NAMES)]))


def test_mlflow_predicts_as_before_from_the_same_bytes(normalised: Calibrated) -> None:
    rows = frame(5, 20)
    np.testing.assert_array_equal(by_mlflow(normalised.directory, rows), predicted(normalised.original.booster, rows))
    for path in normalised.original.directory.rglob("*"):
        if path.is_file() and path.name != "MLmodel":
            name = path.relative_to(normalised.original.directory)
            assert (normalised.directory / name).read_bytes() == path.read_bytes()
    before, after = (
        yaml.safe_load((directory / "MLmodel").read_bytes())
        for directory in (normalised.original.directory, normalised.directory)
    )
    assert after["flavors"].keys() - before["flavors"].keys() == {"madrone"}
    assert {**after["flavors"], "madrone": None} == {**before["flavors"], "madrone": None}
    assert after["signature"] == before["signature"]


def test_a_directory_that_cannot_be_filled_holds_no_model(
    normalised: Calibrated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "made" / "out"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            put_directory(normalised.directory, target)
    assert list(target.iterdir()) == []
    put_directory(normalised.directory, target)
    assert read_artifact(target).digest == read_artifact(normalised.directory).digest
    assert sorted(path.name for path in target.iterdir()) == sorted(p.name for p in normalised.directory.iterdir())


async def test_the_service_answers_with_its_intervals(normalised: Calibrated, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, model_path=str(normalised.directory), database_url=f"sqlite:///{tmp_path / 'log.db'}"
    )
    artifact = read_artifact(normalised.directory)
    evaluation = artifact.engine().evaluate(np.array([list(ROW.values())]))
    assert artifact.intervals is not None
    assert evaluation.difficulty is not None
    half_width = artifact.intervals.half_width(evaluation.difficulty, 0.8)[0]
    async with Client(create_app(settings, **in_process(settings))) as client:
        await loaded(client)
        answer = (await client.post("/predict?interval=0.8", json=ROW)).json()
        assert answer["prediction"] == evaluation.prediction[0]
        interval = answer["confidence_interval"]
        assert interval["level"] == 0.8
        assert (interval["lower"], interval["upper"]) == pytest.approx(
            (answer["prediction"] - half_width, answer["prediction"] + half_width), rel=1e-12
        )
        default = (await client.post("/predict", json=ROW)).json()["confidence_interval"]
        assert default["level"] == 0.9
        info = (await client.get("/predict/model/info")).json()
        assert (info["interval_levels"], info["reliability"]) == ([0.8, 0.9, 0.95], None)


async def test_the_service_shows_the_figures_of_a_classifier(classifier: Model, tmp_path: Path) -> None:
    report = calibrated(classifier.directory, frame(2, kind="class"), tmp_path)
    settings = Settings(
        data_dir=tmp_path, model_path=str(tmp_path / "out"), database_url=f"sqlite:///{tmp_path / 'log.db'}"
    )
    async with Client(create_app(settings, **in_process(settings))) as client:
        await loaded(client)
        shown = (await client.get("/predict/model/info")).json()["reliability"]
    assert report.reliability is not None
    assert shown["brier"] == report.reliability.brier
    assert [one["goal"] for one in shown["thresholds"]] == ["f1", "balanced_accuracy"]


def test_a_profile_is_made_of_the_same_rows(normalised: Calibrated) -> None:
    profile = read_artifact(normalised.directory).profile
    assert profile is not None
    assert (profile.source, profile.rows, tuple(profile.numbers)) == ("profile", 3000, NAMES)
    assert not any("false alarms" in note for note in normalised.report.notes)


def test_a_bare_file_of_a_booster_becomes_a_model_that_mlflow_loads(regressor: Model, tmp_path: Path) -> None:
    rows = frame(2)
    path = tmp_path / "mine.txt"
    regressor.booster.save_model(path)
    report = calibrated(path, rows, tmp_path / "work", method="plain")
    assert report.model == str(path)
    np.testing.assert_array_equal(by_mlflow(tmp_path / "work" / "out", rows), predicted(regressor.booster, rows))


def test_a_classifier_of_scikit_learn_keeps_its_labels(tmp_path: Path) -> None:
    rows = frame(1, kind="class")
    features, labels = rows[list(NAMES)].to_numpy(), np.array(["no", "yes"])[rows[TARGET]]
    with mlflows_own_warnings_silenced():
        model = lgb.LGBMClassifier(n_estimators=5, n_jobs=1, verbosity=-1).fit(features, labels)
        mlflow.lightgbm.save_model(model, str(tmp_path / "model"), pip_requirements=[])
    names = {name: f"Column_{place}" for place, name in enumerate(NAMES)}
    fresh = frame(2, kind="class").rename(columns=names).assign(sold=lambda one: np.array(["no", "yes"])[one[TARGET]])
    report = calibrated(tmp_path / "model", fresh, tmp_path, target="sold")
    assert report.reliability is not None
    assert report.reliability.actual == fresh[TARGET].mean()
    assert report.reliability.thresholds[0].f1 > 0.8
    assert read_artifact(tmp_path / "out").labels == ("no", "yes")


def test_parts_of_its_own_are_replaced_and_its_profile_stays(tmp_path: Path) -> None:
    save_referring(tmp_path / "model")
    rows = frame(2)
    report = calibrated(tmp_path / "model", rows, tmp_path)
    assert [level.level for level in report.levels] == [0.5, 0.9, 0.95]
    assert report.notes[-1] == "The model has a profile for drift of its own, which stays."
    assert report.added == ("intervals",)
    before, after = read_artifact(tmp_path / "model"), read_artifact(tmp_path / "out")
    assert after.profile == before.profile
    assert after.intervals is not None
    assert after.intervals.calibration_rows == 300
    assert not (tmp_path / "out" / "intervals.json").exists()
    assert after.plan == referring_parts().plan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(by_mlflow(tmp_path / "out", rows[:5]), by_mlflow(tmp_path / "model", rows[:5]))


def test_a_calibrated_model_is_calibrated_again(normalised: Calibrated, tmp_path: Path) -> None:
    report = calibrated(normalised.directory, frame(6), tmp_path, levels=(0.7,), method="plain")
    after = read_artifact(tmp_path / "out")
    assert after.intervals is not None
    assert after.intervals.levels == (0.7,)
    assert report.notes[-2].startswith("The model also has intervals of 0.8, 0.9, 0.95. A service does")
    assert report.added == ("intervals",)
