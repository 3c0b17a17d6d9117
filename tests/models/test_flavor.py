"""The bundled model through `mlflow.pyfunc`: the same predictions as in the service."""

from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from numpy.typing import NDArray

from app.config.settings import Settings
from app.models.artifact import Artifact, read_artifact
from app.models.flavor import ModelParts, save_model
from app.models.registry.embedded import BUNDLED
from tests.models.support import mlflows_own_warnings_silenced, numbers, tiny_booster


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return read_artifact(BUNDLED / "model")


@pytest.fixture(scope="module")
def rows(artifact: Artifact) -> NDArray[np.float64]:
    """float64[200, 8], each value from the range that training saw."""
    ranges = np.array([feature.training_range for feature in artifact.features])
    return np.random.default_rng(3).uniform(ranges[:, 0], ranges[:, 1], (200, len(ranges)))


def load(uri: str) -> mlflow.pyfunc.PyFuncModel:
    with mlflows_own_warnings_silenced():
        return mlflow.pyfunc.load_model(uri)


def predict(model: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame) -> NDArray[np.float64]:
    with mlflows_own_warnings_silenced():
        return np.asarray(model.predict(frame))


def frame_of(artifact: Artifact, rows: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[feature.name for feature in artifact.features])


def test_the_model_directory_predicts_as_the_engine(artifact: Artifact, rows: NDArray[np.float64]) -> None:
    predicted = predict(load(str(BUNDLED / "model")), frame_of(artifact, rows))
    np.testing.assert_allclose(predicted, artifact.engine().predict(rows), rtol=0, atol=1e-12)


def test_a_version_of_the_registry_predicts_as_the_engine(
    artifact: Artifact, rows: NDArray[np.float64], registry_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=registry_dir)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", settings.registry_uri)
    predicted = predict(load(f"models:/{settings.model_name}/1"), frame_of(artifact, rows))
    np.testing.assert_allclose(predicted, artifact.engine().predict(rows), rtol=0, atol=1e-12)


def test_columns_may_come_in_any_order(artifact: Artifact, rows: NDArray[np.float64]) -> None:
    model, frame = load(str(BUNDLED / "model")), frame_of(artifact, rows)
    shuffled = frame[list(reversed(frame.columns))]
    np.testing.assert_array_equal(predict(model, shuffled), predict(model, frame))


def test_a_missing_column_is_refused_by_name(artifact: Artifact, rows: NDArray[np.float64]) -> None:
    model, frame = load(str(BUNDLED / "model")), frame_of(artifact, rows)
    with pytest.raises(MlflowException, match="MedInc"):
        predict(model, frame.drop(columns="MedInc"))


def test_a_model_is_not_written_over_another(artifact: Artifact, tmp_path: Path) -> None:
    assert artifact.plan is not None
    (tmp_path / "kept").write_text("kept")
    parts = ModelParts(booster=tiny_booster().model_to_string(), plan=artifact.plan)
    with pytest.raises(FileExistsError, match="is not empty"):
        save_model(tmp_path, parts, numbers("MedInc"), {"MedInc": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_saved_model_names_the_loader_that_stored_models_name(artifact: Artifact, tmp_path: Path) -> None:
    assert artifact.plan is not None
    parts = ModelParts(booster=(BUNDLED / "model" / artifact.files["booster"]).read_text(), plan=artifact.plan)
    save_model(tmp_path / "saved", parts, numbers("MedInc"), {"MedInc": 1.0})
    for directory in (tmp_path / "saved", BUNDLED / "model"):
        flavors = Model.load(str(directory)).flavors
        assert flavors["python_function"]["loader_module"] == "app.models.pyfunc", directory
