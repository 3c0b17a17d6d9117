"""The command `madrone convert`: what it says, what it writes and registers, and its exit status."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.feature_selection import RFE
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from app.cli import main
from app.config.settings import Settings
from app.models.artifact import read_artifact, read_content
from app.models.frame import engine_rows
from tests.models.convert.pipelines import PARAMETERS, fitted, table, target
from tests.models.support import mlflows_own_warnings_silenced
from tests.support import free_port

SHOWN = ("  model.pkl: a pickle that names builtins, collections, lightgbm", "  made with: ", "  scikit-learn: ")
NUMBERS = ["income", "debt", "rooms"]
CITIES = ["Bern", "Lima", "Oslo", "Rome"]


class Rounding(mlflow.pyfunc.PythonModel):
    """Somebody's own wrapper, which predicts something else."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self.model.predict(model_input).round(3)


class Passing(Rounding):
    """Somebody's own wrapper around a classifier, which answers its probability."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self.model.predict_proba(model_input)[:, 1]


class Clipping(Rounding):
    """A wrapper that changes some predictions: those below a limit."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return np.maximum(self.model.predict(model_input), 5.0)


class Filling(Rounding):
    """A wrapper that changes the predictions for rows with missing values."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self.model.predict(model_input.fillna(0.0))


class Deciding(Rounding):
    """A wrapper with a limit of its own between two classes."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return (self.model.predict_proba(model_input)[:, 1] > 0.3).astype(int)


class Coding(Rounding):
    """A wrapper that makes categories of texts."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self.model.predict(model_input.assign(city=pd.Categorical(model_input["city"], CITIES)))


@pytest.fixture
def convert(private_registry_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command with a registry of its own."""
    for name in Settings.__struct_fields__:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATA_DIR", str(private_registry_dir))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **options: Any) -> Result:
        with mlflows_own_warnings_silenced():
            return CliRunner().invoke(main, ["convert", *arguments], **options)

    return run


def save(thing: Any, directory: Path, rows: pd.DataFrame, *, example: bool = True) -> str:
    """Save as a user of MLflow does."""
    with mlflows_own_warnings_silenced():
        options = {"signature": infer_signature(rows, np.zeros(1)), "pip_requirements": []}
        options |= {"input_example": rows.head(5)} if example else {}
        if isinstance(thing, mlflow.pyfunc.PythonModel):
            mlflow.pyfunc.save_model(str(directory), python_model=thing, **options)
        else:
            mlflow.sklearn.save_model(thing, str(directory), serialization_format="cloudpickle", **options)
    return str(directory)


def test_a_pipeline_is_written_and_says_what_was_compared(convert: Callable[..., Result], tmp_path: Path) -> None:
    rows = table()[NUMBERS]
    pipeline = fitted(SimpleImputer(), StandardScaler(), rows=rows)
    rows.to_csv(tmp_path / "r[red].csv", index=False)
    done = convert(save(pipeline, tmp_path / "model", rows), "--output", "out", "--data", "r[red].csv", "--yes")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{tmp_path}/model will be loaded in this process, which runs the code in it:",
        "  flavors: python_function, sklearn",
        "  loader module: mlflow.sklearn",
        *[
            line
            for line in done.stdout.splitlines()
            if line.startswith(("  model.pkl: a pickle that names ", "  made "))
        ],
        *[line for line in done.stdout.splitlines() if line.startswith("  scikit-learn: ")],
        "Loaded: Pipeline, with LGBMRegressor at steps[2] 'lgbmregressor', after 2 steps",
        "Compared: the model's answers are the booster's predictions: equal to the last bit on 300 rows (r[red].csv)",
        "Compared: the pipeline's raw scores are equal to the last bit on 2000 rows made at the trees' thresholds",
        "Written to out",
    ]
    artifact = read_artifact(tmp_path / "out")
    assert [feature.name for feature in artifact.features] == NUMBERS
    np.testing.assert_array_equal(
        artifact.engine().predict(engine_rows(rows, artifact.features)), pipeline.predict(rows)
    )
    again = convert("out", "--output", "again", "--data", "r[red].csv", "--yes")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr == "the model has the flavor madrone, and can be served as it is\n"


def test_a_search_for_a_classifier_is_registered_with_its_origin(
    convert: Callable[..., Result], private_registry_dir: Path, tmp_path: Path
) -> None:
    rows = table()[["income", "level", "id"]]
    labels = np.where(rows.income > 1, "rich", "poor")
    columns = make_column_transformer((StandardScaler(), ["income"]), ("passthrough", ["level"]))
    pipeline = make_pipeline(columns, lgb.LGBMClassifier(**PARAMETERS))
    search = GridSearchCV(pipeline, {"lgbmclassifier__num_leaves": [3, 5]}, cv=2).fit(rows, labels)
    uri = Settings(data_dir=private_registry_dir).tracking_uri
    with mlflows_own_warnings_silenced():
        client = MlflowClient(uri, uri)
        experiment = client.create_experiment("mine", artifact_location=(tmp_path / "artifacts").as_uri())
        run = client.create_run(experiment)
        client.log_metric(run.info.run_id, "test_r2", 0.75)
        client.log_artifacts(run.info.run_id, save(search, tmp_path / "model", rows), "model")
        client.create_registered_model("mine")
        client.create_model_version("mine", f"{run.info.artifact_uri}/model", run.info.run_id)
        client.set_registered_model_alias("mine", "best", "1")
    done = convert("models:/mine@best", "--register", "served", "--alias", "champion", "--yes")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    assert "Columns that are not used, and that callers must not send: id" in done.stdout
    assert (
        "Compared: the model's answers are the booster's class labels: equal to the last bit on 5 rows" in done.stdout
    )
    assert "Note: more rows make a better proof: --data FILE" in done.stdout
    assert done.stdout.splitlines()[-1] == "Registered served version 1, alias champion"
    with mlflows_own_warnings_silenced():
        version = client.get_model_version_by_alias("served", "champion")
        assert version.tags["madrone.converted_from"] == "models:/mine/1"
        assert "models:/mine/1" in version.description
        assert version.current_stage == "None"
        directory = Path(mlflow.artifacts.download_artifacts(f"models:/served/{version.version}"))
    content = read_content(directory)
    assert [feature.name for feature in content.features] == ["income", "level"]
    assert (directory / "labels.json").read_text() == '["poor","rich"]'
    assert content.example is not None


def test_a_wrapper_that_passes_probabilities_is_converted(convert: Callable[..., Result], tmp_path: Path) -> None:
    rows = table()[["income", "level"]]
    model = fitted(rows=rows, model=lgb.LGBMClassifier(**PARAMETERS))
    done = convert(save(Passing(model), tmp_path / "model", rows), "--output", "out", "--yes")
    assert done.exit_code == 0, done.output
    assert "the booster's predictions: equal to the last bit" in done.stdout


def test_a_wrapper_that_changes_predictions_is_refused_with_their_distance(
    convert: Callable[..., Result], tmp_path: Path
) -> None:
    rows = table()[["income", "level"]]
    done = convert(save(Rounding(fitted(rows=rows)), tmp_path / "model", rows), "--output", "out", "--yes")
    assert done.exit_code == 1
    assert "does not predict what the original does: the largest difference from the booster's predictions is 0.0" in (
        done.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [Clipping, Filling, Deciding])
def test_a_wrapper_that_changes_predictions_for_other_rows_is_refused(
    kind: type[Rounding], convert: Callable[..., Result], tmp_path: Path
) -> None:
    rows = table()[["income", "debt"]]
    model = fitted(rows=rows, model=lgb.LGBMClassifier(**PARAMETERS) if kind is Deciding else None)[-1]
    shown = rows.assign(answer=model.predict(rows)).sort_values("answer").tail(20)[["income", "debt"]].dropna()
    np.testing.assert_array_equal(kind(model).predict(None, shown), model.predict(shown))
    done = convert(save(kind(model), tmp_path / "model", shown), "--output", "out", "--yes")
    assert done.exit_code == 1, done.output
    assert "on the rows given, but not on rows made at the trees' thresholds, some with missing values" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_wrapper_that_makes_categories_is_converted(convert: Callable[..., Result], tmp_path: Path) -> None:
    rows = table()[["income", "city"]]
    model = fitted(rows=rows.assign(city=pd.Categorical(rows["city"], CITIES)))[-1]
    done = convert(save(Coding(model), tmp_path / "model", rows), "--output", "out", "--yes")
    assert done.exit_code == 0, done.output
    assert "the model's answers are equal to the last bit on 2000 rows made at the trees' thresholds" in done.stdout
    artifact = read_artifact(tmp_path / "out")
    assert artifact.features[1].categories == tuple(CITIES)
    np.testing.assert_array_equal(
        artifact.engine().predict(engine_rows(rows, artifact.features)), Coding(model).predict(None, rows)
    )


def test_a_selection_around_a_model_is_refused_with_its_columns(convert: Callable[..., Result], tmp_path: Path) -> None:
    rows = table()[["income", "rooms", "level"]]
    selection = RFE(lgb.LGBMRegressor(**PARAMETERS), n_features_to_select=2).fit(rows, target(table()))
    done = convert(save(selection, tmp_path / "model", rows), "--output", "out", "--yes")
    assert done.exit_code == 1
    assert "the booster does not take the model's rows: The number of features in data (3)" in done.stderr


def test_nothing_is_loaded_without_consent(convert: Callable[..., Result], tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "loaded"),)

    directory = save(fitted(rows=table()[["income"]]), tmp_path / "model", table()[["income"]])
    (tmp_path / "model" / "model.pkl").write_bytes(pickle.dumps(Trap()))
    done = convert(directory, "--output", "out", input="y\n")
    assert done.exit_code == 2
    assert "model.pkl: a pickle that names posix" in done.stdout
    assert "Nobody can be asked here whether to load it: give --yes if you trust it." in done.stderr
    assert not (tmp_path / "loaded").exists()
    convert(directory, "--output", "out", "--yes")
    assert (tmp_path / "loaded").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("model",), 2, "Say where the converted model goes: --register NAME, --output DIR, or both."),
        (("model", "--output", "x", "--alias", "a"), 2, "--alias needs --register NAME."),
        (("model", "--output", "x", "--data", "absent.csv"), 2, "'absent.csv' does not exist"),
        (("absent", "--output", "x", "--yes"), 1, "absent is no directory with an MLmodel file, and no address in"),
        (("gs://a/b", "--output", "x", "--yes"), 1, "gs://a/b is in a store whose client is not installed: install"),
        (("model", "--output", "empty.csv"), 2, "Directory 'empty.csv' is a file"),
        (
            ("model", "--output", "/proc/x/y", "--yes", "--data", "rows.csv"),
            1,
            "a file cannot be read or written: No such",
        ),
        (("model", "--output", "full", "--yes"), 1, "full is not empty."),
        (("model", "--output", "short.csv/x", "--yes", "--data", "good.csv"), 1, "written: Not a directory: short"),
        (("model", "--register", "a/b"), 2, "--register takes a name without / and :"),
        (("model", "--register", " "), 2, "--register takes a name without / and :"),
        (("model", "--register", "a", "--alias", "b c"), 2, "--alias takes letters, digits, _ and -"),
        (("model", "--register", "a", "--alias", "V3"), 2, "--alias takes letters, digits, _ and -"),
        (("model", "--output", "x", "--yes"), 1, "give rows with --data FILE (CSV or Parquet)"),
        (("model", "--output", "x", "--yes", "--data", "short.csv"), 1, "short.csv lacks the columns 'level'"),
        (("model", "--output", "x", "--yes", "--data", "wrong.csv"), 1, "column 'level' of wrong.csv has a value"),
        (("model", "--output", "x", "--yes", "--data", "empty.csv"), 1, "empty.csv has no rows"),
    ],
)
def test_bad_usage_is_told_with_its_status(
    arguments: tuple[str, ...], status: int, text: str, convert: Callable[..., Result], tmp_path: Path
) -> None:
    rows = table()[["income", "level"]]
    save(fitted(rows=rows), tmp_path / "model", rows, example=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    (tmp_path / "short.csv").write_text("income\n1\n")
    (tmp_path / "good.csv").write_text("income,level\n1,2\n")
    (tmp_path / "wrong.csv").write_text("income,level\n1,high\n")
    (tmp_path / "empty.csv").write_text("income,level\n")
    rows.to_csv(tmp_path / "rows.csv")
    done = convert(*arguments)
    assert (done.exit_code, text in done.stderr) == (status, True), done.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("registry", "text"),
    [
        (None, r"the registry's SQLite file is not there: .*mlflow\.db \(MLFLOW_TRACKING_URI is not set\)"),
        ("sqlite:////absent.db", r"the registry's SQLite file is not there: /absent\.db"),
        (
            "http://user:secret@127.0.0.1:{port}",
            "models:/a/1 cannot be fetched: MlflowException: .*[Cc]onnection refused.*",
        ),
        (
            "postgresql+psycopg://user:secret@127.0.0.1:{port}/db",
            "the registry's database cannot be opened: connection refused",
        ),
    ],
)
def test_a_registry_that_is_not_there_is_told_in_one_line(
    registry: str | None, text: str, convert: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if registry is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.format(port=free_port()))
    done = convert("models:/a/1", "--output", "out", "--yes")
    assert done.exit_code == 1
    assert re.fullmatch(text, done.stderr.rstrip("\n")), done.output
    assert "secret" not in done.output


def test_categories_of_a_pipeline_are_served_by_their_values(convert: Callable[..., Result], tmp_path: Path) -> None:
    rows = table()[["city", "rooms"]]
    encoder = OneHotEncoder(handle_unknown="ignore")
    pipeline = fitted(make_column_transformer((encoder, ["city"]), ("passthrough", ["rooms"])), rows=rows)
    done = convert(save(pipeline, tmp_path / "model", rows), "--output", "out", "--yes")
    assert done.exit_code == 0, done.output
    artifact = read_artifact(tmp_path / "out")
    assert artifact.features[0].categories == ("Bern", "Lima", "Oslo", "Rome")
    strange = rows.assign(city="Paris")
    with mlflows_own_warnings_silenced():
        loaded = mlflow.pyfunc.load_model(str(tmp_path / "out"))
        for some in (rows, strange):
            np.testing.assert_array_equal(loaded.predict(some), pipeline.predict(some))
