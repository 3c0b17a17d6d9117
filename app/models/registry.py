"""Look-ups in an MLflow Model Registry: which version to serve, and its files.

Every call blocks on the network or a database and belongs in a thread. MLflow is imported inside the functions, since
its import takes over a second that the event loop would otherwise wait for.
"""

import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from app.models.artifact import ModelIdentity
from app.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

HTTP_TIMEOUT_S = 10
HTTP_RETRIES = 1
"""For one registry call. MLflow's own are 120 s and 7, which would hold a refresh for a quarter of an hour."""

LOGGED_MODEL_SCHEME = "models:/"
"""With an id after it, MLflow 3's address of a model that was logged apart from its run."""

STAGES = ("Staging", "Production", "None")
"""Stages that are looked in after the configured ones, in this order."""


class RegistryUnreachable(Exception):
    """The registry did not answer, or answered with an error of its own."""


class NothingToServe(Exception):
    """The registry answered, and has no version of the model that could be served."""


class Resolution(msgspec.Struct, frozen=True):
    """The version to serve, and the rule that chose it."""

    identity: ModelIdentity
    rule: str


class Registry:
    """Read access to one registry.

    Args:
        settings: Name the registry, the model, and the alias and stages to look in.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # MLflow reads these from the environment alone: the first two at each request, the last when it is imported,
        # so that its log lines come in our format. What the operator set stays.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(HTTP_TIMEOUT_S))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(HTTP_RETRIES))
        os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")

    def resolve(self) -> Resolution:
        """Choose a version: by the alias if one is set, else by stage, the newest version of a stage first.

        Raises:
            NothingToServe: The model is unknown, or has no version under the alias or in any stage.
            RegistryUnreachable: The registry did not answer.
        """
        settings, name = self._settings, self._settings.model_name
        with _answering(name):
            client = self._client()
            aliases: dict[str, str] = dict(client.get_registered_model(name).aliases)
            quote = '"' if "'" in name else "'"  # the filter's grammar has no escape
            versions = [v for v in client.search_model_versions(f"name={quote}{name}{quote}") if _ready(v)]
        versions.sort(key=lambda version: int(version.version), reverse=True)
        chosen = next(self._candidates(versions, aliases), None)
        if chosen is None:
            tried = f"alias {settings.model_alias}, " if settings.model_alias else ""
            raise NothingToServe(f"model {name!r} has no version that is ready under {tried}any stage but Archived")
        rule, version = chosen
        number = str(version.version)
        identity = ModelIdentity(
            name=name,
            version=number,
            stage=version.current_stage,
            aliases=tuple(sorted(alias for alias, target in aliases.items() if str(target) == number)),
            run_id=version.run_id or None,
            created_at_ms=version.creation_timestamp,
        )
        return Resolution(identity, rule)

    def _candidates(
        self, versions: "list[ModelVersion]", aliases: dict[str, str]
    ) -> "Iterator[tuple[str, ModelVersion]]":
        settings = self._settings
        if settings.model_alias:
            target = aliases.get(settings.model_alias)
            for version in versions:
                if target is not None and str(version.version) == str(target):
                    yield f"alias {settings.model_alias}", version
        labels = {settings.model_fallback_stage: "fallback stage", settings.model_stage: "stage"}
        for stage in dict.fromkeys((settings.model_stage, settings.model_fallback_stage, *STAGES)):
            for version in versions:
                if version.current_stage == stage:
                    yield f"{labels.get(stage, 'remaining stage')} {stage}", version

    def fetch(self, identity: ModelIdentity, destination: Path) -> Path:
        """Download a version's model directory.

        Args:
            identity: The pinned version.
            destination: An empty directory. MLflow hands out the live directory of a local store where none is
                named, and that could change under the reader.

        Returns:
            The directory that holds the MLmodel file.

        Raises:
            NothingToServe: The version or its files are gone.
            RegistryUnreachable: The download failed.
        """
        import mlflow.artifacts

        with _answering(identity.name):
            # A `models:/name/version` URI would be looked up in the process's global registry, so it is resolved here.
            client = self._client()
            uri = client.get_model_version_download_uri(identity.name, identity.version)
            if uri.startswith(LOGGED_MODEL_SCHEME):
                uri = client.get_logged_model(uri.removeprefix(LOGGED_MODEL_SCHEME)).artifact_location
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=uri,
                    dst_path=str(destination),
                    tracking_uri=self._settings.tracking_uri,
                    registry_uri=self._settings.registry_uri,
                )
            )

    def run_metrics(self, run_id: str | None) -> dict[str, float]:
        """The training run's metrics; none where the run is gone, which is no reason not to serve its model."""
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return {}
        try:
            return dict(self._client().get_run(run_id).data.metrics)
        except (MlflowException, OSError):
            return {}

    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self._settings.tracking_uri, registry_uri=self._settings.registry_uri)


@contextmanager
def _answering(name: str) -> Generator[None, None, None]:
    """Turn whatever MLflow raises into what it means: the model is unknown, or the registry does not answer."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NothingToServe(f"the registry knows no model {name!r}") from error
        raise RegistryUnreachable(_without_credentials(str(error))) from error
    except Exception as error:
        # Stores and artifact clients raise what their libraries raise: SQLAlchemy, botocore, requests, OSError.
        raise RegistryUnreachable(_without_credentials(f"{type(error).__name__}: {error}")) from error


def _without_credentials(text: str) -> str:
    """First line of a message, with user and password cut out of any URI in it."""
    return re.sub(r"//[^/\s]+@", "//", text.splitlines()[0] if text else "")[:300]


def _ready(version: "ModelVersion") -> bool:
    return str(version.status) in ("READY", "None", "")
