"""Every usual way to log a LightGBM model with MLflow: what a real server answers, or why it does not."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import mlflow.lightgbm
import mlflow.sklearn
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from app.cli import main
from tests.models.support import copied_registry, mlflows_own_warnings_silenced
from tests.shelf import ALIAS
from tests.support import HTTP, ROOT
from tests.watch import Watched
from tests.ways.estimators import UNTRUSTED
from tests.ways.every import GROUPS
from tests.ways.way import REGISTERED, Logged, Way, table

ARROW = "application/vnd.apache.arrow.stream"
WAYS = {f"{way.log.__module__.rpartition('.')[2]}-{way.log.__name__}": way for ways in GROUPS.values() for way in ways}


SHORT = 8
"""`just test` tries each eighth way of an outcome, `just test-all` each."""


class Library:
    """A registry that gets a version for each way that is asked for, and the service that is asked for them.

    Attributes:
        server: The service.
        registry: URI of the registry.
    """

    def __init__(self, server: Watched, registry: str, directory: Path) -> None:
        self.server = server
        self.registry = registry
        self._directory = directory
        self._logged: dict[str, tuple[str, Logged] | str] = {}

    def logged(self, name: str) -> tuple[str, Logged]:
        """A way's version and what was logged."""
        found = self._found(name)
        assert not isinstance(found, str), found
        return found

    def unlogged(self, name: str) -> str:
        """What MLflow says of a way that it does not take."""
        found = self._found(name)
        assert isinstance(found, str), name
        return found

    def _found(self, name: str) -> tuple[str, Logged] | str:
        if name not in self._logged:
            self._logged[name] = log(WAYS[name], self._directory / name)
        return self._logged[name]


def latest() -> int:
    found = MlflowClient().search_model_versions(f"name='{REGISTERED}'", max_results=1)
    return int(found[0].version) if found else 0


@contextlib.contextmanager
def registry(registry_dir: Path, directory: Path) -> Iterator[str]:
    """An SQLite registry that MLflow's fluent functions write to."""
    uri = copied_registry(registry_dir, directory)
    with mlflows_own_warnings_silenced(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(directory)
        # The packages that a model needs are found by importing it in another process: 5 s for each model.
        patch.setattr("mlflow.models.infer_pip_requirements", lambda *_, fallback, **__: fallback)
        yield uri


def log(way: Way, directory: Path) -> tuple[str, Logged] | str:
    """Log a model; its version, or MLflow's reason where there is none."""
    directory.mkdir()
    before = latest()
    try:
        with mlflows_own_warnings_silenced():
            result = way.log(directory)
    except MlflowException as error:
        return str(error)
    finally:
        for flavor in (mlflow.lightgbm, mlflow.sklearn):
            flavor.autolog(disable=True, silent=True)
    return "" if latest() == before else (str(latest()), result)


@pytest.fixture(scope="module")
def library(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    directory = tmp_path_factory.mktemp("ways")
    with registry(registry_dir, directory) as uri:
        first = next(iter(WAYS))
        assert log(WAYS[first], directory / "first") != ""
        MlflowClient().set_registered_model_alias(REGISTERED, ALIAS, "1")
        environ = {"MODEL_CACHE_TTL": "3600", "MODEL_STORE_VERSIONS": "1"}
        with Watched(directory, uri, REGISTERED, **environ) as server:
            yield Library(server.wait_ready(), uri, directory)


def sent(asked: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them."""
    columns = {
        str(name): [None if pd.isna(value) else getattr(value, "item", lambda value=value: value)() for value in column]
        for name, column in asked.items()
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def arrow(asked: pd.DataFrame) -> bytes:
    table = pa.Table.from_pandas(asked.set_axis([str(name) for name in asked.columns], axis=1), preserve_index=False)
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def predicted(columns: dict[str, list[float]]) -> Any:
    """Predictions in the columns of a table's answer: one for each row, or one for each class."""
    values = np.column_stack([column for name, column in columns.items() if name.startswith("prediction")])
    return values[:, 0] if values.shape[1] == 1 else values


def answers(server: Watched, asked: pd.DataFrame) -> list[dict[str, Any]]:
    """Answers to the rows, which are the same as JSON one by one or many, and as Arrow."""
    rows = sent(asked)
    response = HTTP.post(f"{server.url}/predict/batch", json={"predictions": rows})
    assert response.status_code == 200, response.text
    items = response.json()["predictions"]
    assert [item["status"] for item in items] == ["predicted"] * len(rows), items[:3]
    one = HTTP.post(f"{server.url}/predict", json=rows[0])
    assert one.status_code == 200, one.text
    assert one.json()["prediction"] == items[0]["prediction"]
    table = HTTP.post(
        f"{server.url}/predict/bulk",
        content=arrow(asked),
        headers={"Content-Type": ARROW, "Accept": "application/json"},
    )
    assert table.status_code == 200, table.text
    np.testing.assert_array_equal(predicted(table.json()["columns"]), [item["prediction"] for item in items])
    return items


def check_answers(server: Watched, way: Way, told: Logged, version: str) -> None:
    """Hold the answers to `predict`, `predict_proba` and pyfunc, bit for bit."""
    model, asked = told.model, told.asked
    rows: Any = asked.to_numpy() if told.array else asked
    items, expected = answers(server, asked), model.predict(rows)
    predictions = np.asarray([item["prediction"] for item in items])
    info = HTTP.get(f"{server.url}/predict/model/info").json()
    assert info["output"] == way.output
    if hasattr(model, "predict_proba"):
        probabilities = np.asarray(model.predict_proba(rows))
        wanted = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
        np.testing.assert_array_equal(predictions, wanted)
        np.testing.assert_array_equal([item["probabilities"] for item in items], probabilities)
        assert [item["label"] for item in items] == expected.tolist()
        assert info["labels"] == model.classes_.tolist()
        answered: Any = np.asarray([item["label"] for item in items])
    else:
        np.testing.assert_array_equal(predictions, expected)
        assert all("label" not in item for item in items)
        answered = predictions
    if told.unseen is not None:
        assert "kind" in items[told.unseen]["warnings"][0]
    assert [bool(item["warnings"]) for item in items] == [row == told.unseen for row in range(len(items))]
    loaded = mlflow.pyfunc.load_model(f"models:/{REGISTERED}/{version}")
    if told.pyfunc:
        np.testing.assert_array_equal(np.asarray(loaded.predict(rows)), answered)
    elif told.pyfunc is False:
        with pytest.raises(MlflowException):
            loaded.predict(rows)


def swap(server: Watched, version: str) -> None:
    """Pin a version that must come into service."""
    response = server.reload(version=version)
    assert response.status_code == 200, response.text
    assert response.json()["outcome"] in ("swapped", "unchanged"), response.text
    assert server.model()["version"] == version


def refuse(server: Watched, version: str, reason: str) -> None:
    """Pin a version that must be refused, while the one before stays."""
    before = server.model()["version"]
    response = server.reload(version=version)
    assert response.json()["outcome"] == "refused", response.text
    assert reason in response.json()["reason"]
    assert server.model()["version"] == before


def convert(library: Library, version: str) -> Result:
    """Convert a version as its owner does, and register the result as a new version."""
    arguments = ["convert", f"models:/{REGISTERED}/{version}", "--register", REGISTERED, "--yes"]
    with mlflows_own_warnings_silenced():
        return CliRunner().invoke(
            main, arguments, env={"MLFLOW_TRACKING_URI": library.registry}, catch_exceptions=False
        )


def ways(outcome: str) -> pytest.MarkDecorator:
    names = [name for name, way in WAYS.items() if way.outcome == outcome]
    return pytest.mark.parametrize(
        "name",
        [pytest.param(name, marks=[pytest.mark.slow] if place % SHORT else []) for place, name in enumerate(names)],
    )


def test_the_table_of_ways_is_that_of_the_tests() -> None:
    page = (ROOT / "app" / "models" / "README.md").read_text(encoding="utf-8")
    assert page.split("<!-- ways -->\n")[1].split("\n<!-- /ways -->")[0] == table(GROUPS)


@ways("served")
def test_a_logged_model_is_served_to_the_last_bit(library: Library, name: str) -> None:
    version, told = library.logged(name)
    swap(library.server, version)
    check_answers(library.server, WAYS[name], told, version)


@ways("not logged")
def test_mlflow_does_not_store_it(library: Library, name: str) -> None:
    # An autologged model's reason is only in MLflow's log.
    assert WAYS[name].unlogged in (library.unlogged(name) or UNTRUSTED)


@ways("refused")
def test_a_model_is_refused_with_its_reason(library: Library, name: str) -> None:
    refuse(library.server, library.logged(name)[0], WAYS[name].refused)


@ways("converted")
def test_a_refused_model_is_served_once_it_is_converted(library: Library, name: str) -> None:
    version, told = library.logged(name)
    refuse(library.server, version, WAYS[name].refused)
    converted = convert(library, version)
    assert converted.exit_code == 0, converted.output
    made = str(latest())
    assert made != version
    swap(library.server, made)
    check_answers(library.server, WAYS[name], told, made)


@ways("refused")
def test_a_model_that_cannot_be_converted_says_why(library: Library, name: str) -> None:
    before = latest()
    converted = convert(library, library.logged(name)[0])
    assert converted.exit_code != 0
    assert WAYS[name].kept in " ".join(converted.output.split())
    assert latest() == before
