"""Downloads of a model's files from the place that a registry, a run or the operator names."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.config.contradictions import missing_client
from app.config.settings import Settings
from app.models.directory import copy_model
from app.models.refusal import ModelRefused
from app.models.registry.database import read_only_uris

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOGGED_MODEL_SCHEME = "models:/"
"""Start of MLflow 3's address of a model logged apart from its run; its id follows."""


def final_place(client: "MlflowClient", uri: str, settings: Settings) -> tuple[str, str | None]:
    """Place of the files of a logged model or of a run.

    Returns:
        URI of the place, and of the server that named it. Any other URI is returned as it is, with None.
    """
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
    from mlflow.utils.uri import append_to_uri_path

    if uri.startswith(LOGGED_MODEL_SCHEME):
        location = client.get_logged_model(uri.removeprefix(LOGGED_MODEL_SCHEME)).artifact_location
        return str(location), settings.tracking_uri
    if RunsArtifactRepository.is_runs_uri(uri):
        run_id, path = RunsArtifactRepository.parse_runs_uri(uri)
        root = str(client.get_run(run_id).info.artifact_uri)
        return append_to_uri_path(root, *([path] if path else [])), settings.tracking_uri
    return uri, None


def download(uri: str, destination: Path, settings: Settings) -> Path:
    """Download a model's files, or copy local ones.

    Args:
        uri: Final place of the files, which the caller has checked.
        destination: Empty directory for the files. Without one, MLflow would return the live directory of a local
            store, which can change while it is read.
        settings: Settings with the URIs of the servers.

    Returns:
        The model directory, or the file where the place is that of one.

    Raises:
        ModelRefused: The place needs a client that is not installed, or lists a file outside its directory, or holds
            something other than files.
        Exception: The download failed; the exception is the library's.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    if is_local_uri(uri):
        directory = destination / "model"
        copy_model(local_file_uri_to_path(uri), directory)
        return directory
    servers: tuple[str | None, str | None] = (None, None)
    if settings.place is None or settings.place.asks_mlflow:
        servers = read_only_uris(settings)
    try:
        path = download_artifacts(
            artifact_uri=uri, dst_path=str(destination), tracking_uri=servers[0], registry_uri=servers[1]
        )
    except ImportError as error:
        missing = missing_client(urlsplit(uri).scheme)
        raise ModelRefused(
            "its files are in a store whose library is not installed here" + (f": {missing}" if missing else "")
        ) from error
    except MlflowException as error:
        if str(error).startswith("Invalid path"):  # MLflow's message for a listing that leaves its directory
            raise ModelRefused("its store lists a file outside the model's directory") from error
        raise
    return Path(path)


def run_metrics(client: "MlflowClient", run_id: str | None) -> dict[str, float] | None:
    """Metrics of a run: empty for a run that is gone, None if they cannot be read."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return {}
    try:
        return dict(client.get_run(run_id).data.metrics)
    except MlflowException as error:
        gone = error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
        return {} if gone else None
    except Exception:  # libraries of the stores raise exceptions of their own
        return None
