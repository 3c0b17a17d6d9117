"""Publishing a model directory and loading it again, locally and over HTTP."""

import re
import uuid
from pathlib import Path

import mlflow
import mlflow.lightgbm
import msgspec
import numpy as np
import pytest
from mlflow import MlflowClient

from app.config.settings import Settings
from app.models.artifact import read_artifact
from app.models.registry.mlflow import DIGEST_TAG, Registry
from app.models.registry.publish import publish
from app.models.served import ServedModel
from tests.models.support import (
    NAMES,
    Catalogue,
    SavedModel,
    copied_registry,
    mlflows_own_warnings_silenced,
    numbers,
    ready,
)


@pytest.fixture(scope="module")
def embedded(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an embedded registry of this module's own."""
    directory = tmp_path_factory.mktemp("embedded")
    copied_registry(registry_dir, directory)
    return Settings(data_dir=directory)


@pytest.fixture(params=["embedded", "server"])
def settings(request: pytest.FixtureRequest, embedded: Settings) -> Settings:
    """Settings of an embedded registry or of a real server, with a model name of the test's own."""
    server = request.getfixturevalue("mlflow_server") if request.param == "server" else None
    name = f"houses-{uuid.uuid4().hex[:8]}"
    return msgspec.structs.replace(embedded, mlflow_tracking_uri=server, model_name=name)


def published(settings: Settings, model: Path, **changes: dict[str, str]) -> str:
    texts: dict[str, dict[str, str]] = {"params": {"depth": "3"}, "tags": {"command": "test"}} | changes
    settings.data_dir.mkdir(exist_ok=True)
    with mlflows_own_warnings_silenced():
        return publish(
            settings,
            model,
            name=settings.model_name,
            params=texts["params"],
            metrics={"test_rmse": 0.25, "trees": 3.0},
            tags=texts["tags"],
        )


def served(settings: Settings, scratch: Path) -> ServedModel:
    """The model that the registry offers, looked up and downloaded as the service does it."""
    registry = Registry(settings)
    resolution = registry.look().candidates[0]
    scratch.mkdir()
    fetched = registry.fetch(resolution.identity, scratch)
    artifact = read_artifact(fetched.directory)
    assert fetched.digest in (None, artifact.digest)
    return ready(artifact, resolution.identity, fetched.metrics or {}, resolution.rule)


def client_of(settings: Settings) -> MlflowClient:
    return MlflowClient(settings.tracking_uri, settings.registry_uri)


def test_the_version_of_a_published_model_has_the_digest_of_its_files(settings: Settings, saved: SavedModel) -> None:
    version = Catalogue(settings).client.get_model_version(settings.model_name, published(settings, saved.directory))
    assert version.tags == {DIGEST_TAG: read_artifact(saved.directory).digest}


def test_a_published_model_is_champion_in_production_with_its_run(
    settings: Settings, saved: SavedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published(settings, saved.directory) == "1"
    assert capsys.readouterr().out == ""  # a command's report may be JSON, and MLflow would print the user's password
    client = client_of(settings)
    version = client.get_model_version_by_alias(settings.model_name, "champion")
    assert (str(version.version), version.current_stage) == ("1", "Production")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"depth": "3"}
    assert run.data.metrics == {"test_rmse": 0.25, "trees": 3.0}
    assert run.data.tags["command"] == "test"


def test_the_next_model_archives_the_first_and_takes_its_alias(settings: Settings, saved: SavedModel) -> None:
    published(settings, saved.directory)
    assert published(settings, saved.directory, params={"depth": "4"}) == "2"
    client = client_of(settings)
    stages = {
        str(version.version): version.current_stage
        for version in client.search_model_versions(f"name='{settings.model_name}'")
    }
    assert stages == {"1": "Archived", "2": "Production"}
    assert {
        alias: str(version) for alias, version in client.get_registered_model(settings.model_name).aliases.items()
    } == {"champion": "2"}
    assert Registry(settings).look().candidates[0].identity.version == "2"


def test_a_published_model_predicts_as_the_original(settings: Settings, saved: SavedModel, tmp_path: Path) -> None:
    published(settings, saved.directory)
    model = served(settings, tmp_path / "fetched")
    assert model.artifact.digest == read_artifact(saved.directory).digest
    assert model.identity.aliases == ("champion",)
    assert model.metrics == {"test_rmse": 0.25, "trees": 3.0}
    np.testing.assert_array_equal(model.engine.predict(saved.rows), saved.booster.predict(saved.rows))


def test_the_run_of_a_model_whose_files_cannot_be_stored_has_failed(
    embedded: Settings, saved: SavedModel, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    client = client_of(embedded)
    with mlflows_own_warnings_silenced():
        experiment = client.create_experiment("full", artifact_location=(tmp_path / "file" / "artifacts").as_uri())
        beside = client.create_run(experiment).info.run_id
        with pytest.raises(OSError, match="Not a directory"):
            publish(embedded, saved.directory, name="stored", params={}, metrics={}, tags={}, beside=beside)
        run, _ = client.search_runs([experiment])
    assert run.info.status == "FAILED"
    assert client.search_model_versions("name='stored'") == []


def test_publishing_leaves_nothing_in_the_current_directory(
    embedded: Settings, saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    published(msgspec.structs.replace(embedded, model_name="elsewhere"), saved.directory)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_mlflow_itself_logged_and_registered_is_served(
    mlflow_server: str, saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", mlflow_server)
    name = f"houses-{uuid.uuid4().hex[:8]}"
    with mlflows_own_warnings_silenced(), mlflow.start_run():
        mlflow.log_metric("test_rmse", 0.5)
        mlflow.lightgbm.log_model(
            saved.booster, name="model", signature=numbers(*NAMES), registered_model_name=name, pip_requirements=[]
        )
    settings = Settings(mlflow_tracking_uri=mlflow_server, model_name=name, data_dir=tmp_path, model_fallback_any=True)
    (version,) = client_of(settings).search_model_versions(f"name='{name}'")
    assert re.match(r"models:/m-\w+$", version.source)
    model = served(settings, tmp_path / "fetched")
    assert model.resolved_by == "remaining stage None"
    assert model.metrics == {"test_rmse": 0.5}
    np.testing.assert_array_equal(model.engine.predict(saved.rows), saved.booster.predict(saved.rows))
