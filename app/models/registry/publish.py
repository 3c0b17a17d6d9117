"""Publishes a model directory to a registry: run, artifacts, model version, alias and stage."""

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app.config.settings import Settings
from app.models.artifact import read_artifact
from app.models.registry.database import check_schema
from app.models.registry.mlflow import CARD_PATH, DIGEST_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

EXPERIMENT = "madrone"
ARTIFACT_PATH = "model"
ALIAS = "champion"
STAGE = "Production"


def check_publishable(settings: Settings) -> None:
    """Check that publishing would not change the schema of the registry. An empty database gets its first schema.

    Raises:
        RegistrySchema: The registry is a database with the schema of another MLflow.
        Exception: The database cannot be opened; the exception is the driver's.
    """
    if not settings.embedded_registry:
        for uri in {settings.tracking_uri, settings.registry_uri}:
            check_schema(uri, may_be_empty=True)


def publish(
    settings: Settings,
    directory: Path,
    *,
    card: Path | None = None,
    name: str,
    params: dict[str, str],
    metrics: dict[str, float],
    tags: dict[str, str],
    alias: str | None = ALIAS,
    stage: str | None = STAGE,
    description: str | None = None,
    beside: str | None = None,
) -> str:
    """Log a model directory in a run and register it as the newest version.

    A tag of the version has the digest of its files. Versions that were in the stage move to Archived. The URIs are
    passed to every call, since a process may hold two apps with different registries, and MLflow's own setters are
    global.

    Args:
        settings: Settings that name the registry; a missing embedded registry is created.
        directory: Model directory with its MLmodel file.
        card: Directory of the model card, if there is one.
        name: Name of the registered model.
        params: Parameters of the run.
        metrics: Metrics of the run.
        tags: Tags of the run; those that begin with `madrone.` are tags of the version too.
        alias: Alias that the version gets, if any.
        stage: Stage that it gets, if any.
        description: Description of the version, if any.
        beside: Another run, whose experiment the run is to be in; where there is none, it is in `EXPERIMENT`.

    Returns:
        The version.

    Raises:
        RegistrySchema: The registry is a database with the schema of another MLflow.
        mlflow.exceptions.MlflowException: The registry refuses or does not answer.
        OSError: The registry's store does not take the files.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

    check_publishable(settings)
    # MLflow prints the address of the run to standard output, with user and password.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    client = MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.registry_uri)
    experiment = _experiment_of(client, beside) or client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        experiment_id = str(experiment.experiment_id)
    else:
        # A bare SQLite store would put artifacts under the current directory.
        location = (settings.data_dir.resolve() / "artifacts").as_uri() if settings.embedded_registry else None
        experiment_id = client.create_experiment(EXPERIMENT, artifact_location=location)
    run = client.create_run(experiment_id, run_name=name)
    run_id = str(run.info.run_id)
    timestamp = int(run.info.start_time)
    try:
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, timestamp, 0) for key, value in metrics.items()],
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        client.log_artifacts(run_id, str(directory), ARTIFACT_PATH)
        if card is not None and card.is_dir():
            client.log_artifacts(run_id, str(card), CARD_PATH)
    except Exception:
        with suppress(Exception):  # the first error is the one to tell
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = str(
        client.create_model_version(
            name,
            source=f"{run.info.artifact_uri}/{ARTIFACT_PATH}",
            run_id=run_id,
            tags={key: value for key, value in tags.items() if key.startswith("madrone.")},
            description=description,
        ).version
    )
    client.set_model_version_tag(name, version, DIGEST_TAG, read_artifact(directory).digest)
    if stage is not None:
        # Stages are deprecated, but in use. `catch_warnings` would not be thread-safe.
        warnings.filterwarnings("ignore", message=".*transition_model_version_stage.*", category=FutureWarning)
        client.transition_model_version_stage(name, version, stage, archive_existing_versions=True)
    if alias is not None:
        client.set_registered_model_alias(name, alias, version)
    return version


def _experiment_of(client: "MlflowClient", run_id: str | None) -> "Experiment | None":
    """The experiment that a run is in; None where one of both is gone."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return experiment if experiment.lifecycle_stage == "active" else None
