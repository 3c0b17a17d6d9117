"""Look-ups in an MLflow Model Registry: the versions to serve, and their files.

Every call blocks on the network or a database, with no deadline that MLflow would keep. The service makes these calls
in a separate process (`app.models.registry.process`), which can be killed.
"""

import errno
import importlib
import logging
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app.models.directory import copy_model
from app.models.identity import ModelIdentity
from app.models.refusal import ModelRefused
from app.models.registry.database import is_database, keep_no_connections, read_only_uris
from app.models.registry.faults import fault_kind, without_credentials
from app.models.registry.http import check_source, is_http, limit_requests
from app.models.registry.selection import is_ready, nothing_to_serve, versions_by_rule
from app.models.registry.source import (
    Candidate,
    Fetched,
    LookUp,
    LookUpOutcome,
    ModelUnknown,
    NothingToServe,
    Offer,
    RegistryUnreachable,
    VersionUnknown,
)
from app.models.registry.version_number import is_version_number
from app.settings import STAGES, Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

HTTP_RETRIES = 1
"""Retries of one HTTP request to the registry. MLflow's default of 7 would outlast every deadline."""

LOGGED_MODEL_SCHEME = "models:/"
"""Start of MLflow 3's address of a model logged apart from its run; its id follows."""

MAX_CANDIDATES = 20
"""Versions in one `Offer`, the preferred ones first."""

DIGEST_TAG = "madrone.digest"
"""Tag of a version with the digest that its files must have."""

MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of this machine's disk. Any other OSError may come from the other end of a connection."""

log = logging.getLogger(__name__)


class Registry:
    """Read access to one registry.

    Args:
        settings: Settings with the registry, the model, and the aliases and stages to select versions by.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # MLflow reads these from the environment alone: the first two at each request, the others at import, so that
        # its log lines get our format. Values that the operator set stay.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(settings.model_lookup_timeout / 2))))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(HTTP_RETRIES))
        os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        keep_no_connections(settings)

    def prepare(self) -> None:
        """Import the libraries of look-ups. That takes seconds, which must not count against a registry's deadline."""
        importlib.import_module("mlflow")
        uris = self._settings.tracking_uri, self._settings.registry_uri
        if any(map(is_http, uris)):
            limit_requests()
        if any(map(is_database, uris)):
            importlib.import_module("mlflow.store.model_registry.sqlalchemy_store")

    def look(self) -> Offer:
        """Find the versions to serve: by the alias alone if one is set, otherwise by stage, the newest first.

        Raises:
            ModelUnknown: The registry has no such model.
            RegistryUnreachable: The registry did not answer.
        """
        settings, name = self._settings, self._settings.model_name
        with self._answering():
            client = self._client()
            aliases: dict[str, str] = dict(client.get_registered_model(name).aliases)
            versions = list(_all_versions(client, name))
        versions.sort(key=lambda version: int(version.version), reverse=True)
        candidates: list[Candidate] = []
        look_ups: list[LookUp] = []
        for rule, found in versions_by_rule(settings, versions, aliases):
            ready = [version for version in found if is_ready(version)]
            if not candidates:
                outcome: LookUpOutcome = "found" if ready else "not_ready" if found else "empty"
                look_ups.append(LookUp(rule, outcome, str(ready[0].version) if ready else None))
            candidates += [Candidate(self._identity(version, aliases), rule) for version in ready]
        preferred: dict[str, Candidate] = {}  # a version may match several rules, and the first one counts
        for candidate in candidates:
            preferred.setdefault(candidate.identity.version, candidate)

        def under(alias: str | None) -> Candidate | None:
            found = [version for version in versions if alias and str(version.version) == str(aliases.get(alias))]
            ready = found and is_ready(found[0])
            return Candidate(self._identity(found[0], aliases), f"alias {alias}") if ready else None

        return Offer(
            candidates=tuple(preferred.values())[:MAX_CANDIDATES],
            look_ups=tuple(look_ups),
            problem=None if candidates else nothing_to_serve(settings, look_ups, versions, aliases),
            alias_missing=None if settings.model_alias is None else look_ups[0].outcome == "empty",
            canary=under(settings.model_canary_alias),
            shadow=under(settings.model_shadow_alias),
        )

    def version(self, number: str) -> Candidate:
        """Find one version by its number.

        Raises:
            VersionUnknown: The model has no such version, or its upload has not ended.
            ModelUnknown: The registry has no such model.
            RegistryUnreachable: The registry did not answer.
        """
        name = self._settings.model_name
        unknown = VersionUnknown(f"model {name!r} has no version {number[:40]!r}, or its upload has not ended")
        if not is_version_number(number):
            raise unknown
        with self._answering():
            client = self._client()
            aliases: dict[str, str] = dict(client.get_registered_model(name).aliases)
            versions = list(_all_versions(client, name))
        for version in versions:
            if str(version.version) == number and is_ready(version):
                return Candidate(self._identity(version, aliases), f"pinned to version {number}")
        raise unknown

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """Download a version's model directory.

        Args:
            identity: The version.
            destination: Empty directory for the files. Without one, MLflow would return the live directory of a local
                store, which can change while it is read.

        Raises:
            NothingToServe: The version or its files are gone.
            ModelRefused: The place of the files is forbidden (see `check_source`) or needs a library that is not
                installed, or the directory holds something other than files.
            RegistryUnreachable: The download failed.
        """
        from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
        from mlflow.utils.file_utils import local_file_uri_to_path
        from mlflow.utils.uri import append_to_uri_path, is_local_uri

        with self._answering("the registry has no version {version} of model {name!r} any more", identity.version):
            # MLflow would look a `models:/name/version` URI up in the process's global registry, so resolve it here.
            client = self._client()
            version = client.get_model_version(identity.name, identity.version)
            uri = client.get_model_version_download_uri(identity.name, identity.version)
            named_by = self._settings.registry_uri
            if uri.startswith(LOGGED_MODEL_SCHEME):
                uri = client.get_logged_model(uri.removeprefix(LOGGED_MODEL_SCHEME)).artifact_location
                named_by = self._settings.tracking_uri
            elif RunsArtifactRepository.is_runs_uri(uri):
                # Resolved here, so that `check_source` sees the final place.
                run_id, path = RunsArtifactRepository.parse_runs_uri(uri)
                uri = append_to_uri_path(client.get_run(run_id).info.artifact_uri, *([path] if path else []))
                named_by = self._settings.tracking_uri
            check_source(uri, named_by, self._settings)
            if is_local_uri(uri):
                directory = destination / "model"
                copy_model(local_file_uri_to_path(uri), directory)
            else:
                directory = self._download(uri, destination)
        return Fetched(directory, self._metrics(identity.run_id), dict(version.tags or {}).get(DIGEST_TAG))

    def _download(self, uri: str, destination: Path) -> Path:
        import mlflow.artifacts
        from mlflow.exceptions import MlflowException

        tracking_uri, registry_uri = read_only_uris(self._settings)
        try:
            directory = mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(destination), tracking_uri=tracking_uri, registry_uri=registry_uri
            )
        except ImportError as error:
            raise ModelRefused("its files are in a store whose library is not installed here") from error
        except MlflowException as error:
            if str(error).startswith("Invalid path"):  # MLflow's message for a listing that leaves its directory
                raise ModelRefused("its store lists a file outside the model's directory") from error
            raise
        return Path(directory)

    def _metrics(self, run_id: str | None) -> dict[str, float] | None:
        """Metrics of a run: empty for a run that is gone, None if they cannot be read."""
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return {}
        try:
            return dict(self._client().get_run(run_id).data.metrics)
        except MlflowException as error:
            gone = error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
            return {} if gone else None
        except Exception:  # libraries of the stores raise exceptions of their own
            return None

    def _identity(self, version: "ModelVersion", aliases: dict[str, str]) -> ModelIdentity:
        number = str(version.version)
        return ModelIdentity(
            name=self._settings.model_name,
            version=number,
            stage=next((stage for stage in STAGES if stage == version.current_stage), None),
            aliases=tuple(sorted(alias for alias, target in aliases.items() if str(target) == number)),
            run_id=version.run_id or None,
            created_at_ms=version.creation_timestamp,
        )

    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        tracking_uri, registry_uri = read_only_uris(self._settings)
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)

    @contextmanager
    def _answering(
        self, missing: str = "the registry knows no model {name!r}", version: str | None = None
    ) -> Generator[None, None, None]:
        """Turn exceptions of MLflow and its libraries into ours: something is missing, or there is no answer."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except ModelRefused:
            raise
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                kind = ModelUnknown if version is None else NothingToServe
                raise kind(missing.format(name=self._settings.model_name, version=version)) from error
            raise RegistryUnreachable(fault_kind(error), without_credentials(str(error))) from error
        except RegistryUnreachable:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
                raise
            # Stores and artifact clients let exceptions of SQLAlchemy, botocore, requests and others through.
            detail = without_credentials(f"{type(error).__name__}: {error}")
            raise RegistryUnreachable(fault_kind(error), detail) from error


def _named(name: str) -> str:
    """Filter for the versions of a model. It may match other models too, since its grammar has no escaped quote."""
    if "'" not in name:
        return f"name='{name}'"
    if '"' not in name:
        return f'name="{name}"'
    return "name LIKE '" + re.sub(r"['\\]", "_", name) + "'"  # `_` is any one character


def _all_versions(client: "MlflowClient", name: str) -> "Iterator[ModelVersion]":
    token: str | None = None
    while True:
        page = client.search_model_versions(_named(name), page_token=token)
        for version in page:
            if version.name != name:
                continue
            if is_version_number(str(version.version)):
                yield version
            else:
                log.warning(
                    "registry has a version without a number", extra={"model_version": str(version.version)[:40]}
                )
        token = page.token
        if not token:
            return
