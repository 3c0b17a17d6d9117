"""`madrone calibrate` as people use it: its report, what it registers, its messages and its exit status."""

import json
from collections.abc import Callable
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.config.settings import Settings
from app.models.artifact import read_artifact
from app.models.process.worker import ModelWorker
from tests.calibration.conftest import Calibrated, Model
from tests.calibration.made import TARGET, boosted, frame
from tests.models.support import MODEL, NAMES, PARAMETERS, Catalogue, mlflows_own_warnings_silenced, save_text

Calibrate = Callable[..., Result]


@pytest.fixture
def calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calibrate:
    """Runs the command in this process, in a folder with files of rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.models.process.client.quiet_worker", ModelWorker)  # which takes seconds to start
    frame(2, 3000).to_csv("rows.csv")  # with its index, as the next one
    frame(2, kind="class")[10:].to_parquet("classes.parquet")

    def run(*arguments: str, **environ: str) -> Result:
        with mlflows_own_warnings_silenced():
            return CliRunner().invoke(main, ["calibrate", *arguments], env={"DATA_DIR": "data"} | environ)

    return run


def test_a_regressor_gets_a_table_of_levels_with_their_measured_coverage(
    calibrate: Calibrate, regressor: Model, normalised: Calibrated
) -> None:
    done = calibrate(str(regressor.directory), "--data", "rows.csv", "--output", "out")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"{regressor.directory}: 3000 rows, target price, R² {normalised.report.r2:.4g}"
    assert "Intervals (normalised), calibrated on 1000 rows and measured on others:" in lines
    level = normalised.report.levels[1]
    widths = "  ".join(f"{width:10.4g}" for width in level.half_widths)
    assert f"     0.9  {widths}  {level.coverage:.3f}        {level.worst_tenth:.3f}    1000" in lines
    assert lines[-2:] == ["Added: intervals, profile. Predictions are the same to the last bit.", "Written to out"]
    assert read_artifact(Path("out")).intervals == read_artifact(normalised.directory).intervals


def test_the_report_of_a_classifier_is_a_table_and_json(calibrate: Calibrate, classifier: Model) -> None:
    arguments = (str(classifier.directory), "--data", "classes.parquet", "--recall", "0.9", "--precision", "0.8")
    shown, asked = calibrate(*arguments), calibrate(*arguments, "--json")
    assert (shown.exit_code, asked.exit_code) == (0, 0), shown.output
    report = json.loads(asked.stdout)
    goals = [(one["goal"], one["asked"]) for one in report["reliability"]["thresholds"]]
    assert goals == [("f1", None), ("balanced_accuracy", None), ("precision", 0.8), ("recall", 0.9)]
    for line in ("  f1 ", "  balanced accuracy ", "  precision 0.8 ", "  recall 0.9 ", "  0.9 to 1.0 ", "Nothing was"):
        assert line in shown.stdout
    assert (report["output"], report["registered_version"], report["rows"]) == (None, None, 890)
    assert not Path("out").exists()


def test_rows_of_the_training_are_told(calibrate: Calibrate, tmp_path: Path) -> None:
    save_text(boosted(frame(2, 3000), rounds=100).model_to_string(), tmp_path / "model")
    done = calibrate("model", "--data", "rows.csv")
    assert done.exit_code == 0, done.output
    assert "as well as the rows that they were fitted on (1.00 of 1). If the model was" in done.stdout


@pytest.mark.parametrize("embedded", [True, False])
def test_the_next_version_is_registered_beside_the_booster(
    embedded: bool, calibrate: Calibrate, regressor: Model, catalogue: Catalogue, houses: Settings, tmp_path: Path
) -> None:
    with mlflows_own_warnings_silenced():
        experiment = catalogue.client.create_experiment("mine", artifact_location=(tmp_path / "artifacts").as_uri())
        run = catalogue.client.create_run(experiment).info.run_id
        catalogue.client.create_model_version(MODEL, source=regressor.directory.as_uri(), run_id=run)
        catalogue.client.set_registered_model_alias(MODEL, "champion", "1")
    environ = {"DATA_DIR": str(houses.data_dir)}
    if not embedded:
        environ |= {"MLFLOW_TRACKING_URI": houses.tracking_uri, "DATA_DIR": "other"}
    done = calibrate(f"models:/{MODEL}@champion", "--data", "rows.csv", "--register", **environ)
    assert done.exit_code == 0, done.output
    assert ("MLFLOW_TRACKING_URI" in done.stderr) is not embedded
    assert done.stdout.splitlines()[0].startswith(f"models:/{MODEL}/1: 3000 rows")
    assert done.stdout.splitlines()[-1] == "Registered as version 2; no alias was moved"
    with mlflows_own_warnings_silenced():
        version = catalogue.client.get_model_version(MODEL, "2")
        assert catalogue.client.get_model_version_by_alias(MODEL, "champion").version in (1, "1")
        files = Path(catalogue.client.download_artifacts(version.run_id, "model", str(tmp_path)))
        assert catalogue.client.get_run(version.run_id).info.experiment_id == experiment
    assert version.current_stage == "None"
    tags = version.tags
    assert (tags["madrone.calibrated_from"], tags["madrone.calibration"]) == (
        f"models:/{MODEL}/1",
        "intervals, profile",
    )
    assert tags["madrone.calibration_rows"] == "3000"
    assert tags["madrone.digest"] == read_artifact(files).digest
    assert (files / "model.lgb").read_bytes() == (regressor.directory / "model.lgb").read_bytes()


def test_a_registry_that_refuses_is_told(
    calibrate: Calibrate, regressor: Model, catalogue: Catalogue, houses: Settings
) -> None:
    catalogue.add(regressor.directory)
    address = f"sqlite:///file:{houses.data_dir / 'mlflow.db'}?mode=ro&uri=true"
    done = calibrate(f"models:/{MODEL}/1", "--data", "rows.csv", "--register", MLFLOW_TRACKING_URI=address)
    assert (done.exit_code, "Traceback" in done.output) == (1, False)
    assert "The registry refuses the new version: " in done.stderr
    assert "readonly database" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--data", "none.csv"), 2, "does not exist"),
        (("--data", "rows.csv", "--levels", "0.9,1"), 2, "must be above 0 and below 1"),
        (("--data", "rows.csv", "--levels", "most"), 2, "must be numbers"),
        (("--data", "rows.csv", "--register"), 2, "--register is for a model of a registry"),
        (("--data", "odd.txt"), 2, "ends in none of .csv, .parquet"),
        (("--data", "rows.csv", "--target", "age"), 1, "cannot be calibrated: age is a feature of the model"),
        (("--data", "rows.csv", "--target", "cost"), 1, "rows.csv has no column cost, which is to be the target"),
        (("--data", "rows.csv", "--recall", "nan"), 2, "nan is no number"),
        (("--data", "renamed.csv"), 1, "the file has no column age, which is a feature of the model"),
        (("--data", "large.csv"), 1, "the target price is beyond 3.403e+38 in 1 of 60 rows"),
        (("--data", "two.csv"), 1, "must name one of the columns that are no features: price, id"),
        (("--data", "none-left.csv"), 1, "has no column beside the model's features"),
        (("--data", "few.csv", "--target", "price"), 1, "age is missing"),
        (("--data", "blank.csv"), 1, "price"),
        (("--data", "infinite.parquet"), 1, "price must be a finite number"),
        (("--data", "text.parquet"), 1, "price must be a number, not large_string"),
        (("--data", "broken.parquet"), 1, "It is not a valid Parquet file"),
        (("--data", "rows.csv", "--recall", "0.9"), 1, "--recall is for binary classifiers"),
        (("--data", "rows.csv", "--levels", "0.9999"), 1, "the level 0.9999 needs 9999 rows to calibrate on"),
        (("--data", "rows.csv", "--output", "full"), 1, "full is not empty"),
        (("--data", "rows.csv", "--output", "rows.csv/in"), 1, "could not be calibrated: rows.csv/in: Not a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_does_not_fit_is_told(
    arguments: tuple[str, ...], status: int, message: str, calibrate: Calibrate, regressor: Model
) -> None:
    rows = frame(2, 60)
    Path("odd.txt").touch()
    Path("broken.parquet").write_bytes(b"PAR1")
    rows.assign(id=1).to_csv("two.csv", index=False)
    rows.rename(columns={"age": "Age"}).to_csv("renamed.csv", index=False)
    rows.assign(price=rows[TARGET].where(rows.index != 3, 1e300)).to_csv("large.csv", index=False)
    rows.drop(columns=TARGET).to_csv("none-left.csv", index=False)
    rows.drop(columns="age").to_csv("few.csv", index=False)
    rows.assign(price=rows[TARGET].where(rows.index != 3)).to_csv("blank.csv", index=False)
    rows.assign(price=rows[TARGET].where(rows.index != 3, np.inf)).to_parquet("infinite.parquet")
    rows.assign(price="much").to_parquet("text.parquet")
    Path("full").mkdir()
    Path("full/file").touch()
    done = calibrate(str(regressor.directory), *arguments)
    assert done.exit_code == status, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_predictions_that_are_neither_values_nor_classes_are_refused(calibrate: Calibrate, tmp_path: Path) -> None:
    rows = frame(1, kind="class")
    options = {"objective": "lambdarank", "group": [len(rows)]}
    data = lgb.Dataset(rows[list(NAMES)].to_numpy(), rows[TARGET], group=options.pop("group"), feature_name=list(NAMES))
    ranking = lgb.train(PARAMETERS | options, data, num_boost_round=2).model_to_string()
    shares = boosted(frame(1, kind="class"), 2, objective="cross_entropy").model_to_string()
    for name, text, reason in (
        ("ranking", ranking, "it ranks"),
        ("shares", shares, "cross_entropy"),
    ):
        save_text(text, tmp_path / name)
        done = calibrate(name, "--data", "rows.csv")
        assert (done.exit_code, reason in done.stderr) == (1, True), done.output
    save_text(boosted(frame(1, kind="class"), 2, objective="binary").model_to_string(), tmp_path / "binary")
    done = calibrate("binary", "--data", "classes.parquet", "--method", "plain")
    assert (done.exit_code, "--method is for regressors" in done.stderr) == (1, True), done.output


def test_the_model_s_directory_is_no_place_for_the_output(calibrate: Calibrate, regressor: Model) -> None:
    Path("link").symlink_to(regressor.directory)
    for inside in (regressor.directory / "new", Path("link/new")):
        done = calibrate(str(regressor.directory), "--data", "rows.csv", "--output", str(inside))
        assert (done.exit_code, "is inside the model, which stays as it is" in done.stderr) == (1, True), done.output
    assert not (regressor.directory / "new").exists()


def test_a_registry_that_is_not_there_is_told(calibrate: Calibrate) -> None:
    done = calibrate("models:/houses/1", "--data", "rows.csv")
    assert (done.exit_code, done.stderr.strip()) == (
        1,
        "MLFLOW_TRACKING_URI is not set, and DATA_DIR has no embedded registry.",
    )
