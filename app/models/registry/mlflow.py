"""Look-ups in an MLflow Model Registry: the versions to serve, and their files.

Every call blocks on the network or a database, with no deadline that MLflow would keep. The service makes these calls
in a separate process (`app.models.process.client`), which can be killed.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from app.config.fields import STAGES
from app.config.settings import Settings
from app.models.identity import ModelIdentity
from app.models.registry.access import answering, configure_mlflow, mlflow_client, prepare_mlflow
from app.models.registry.download import download, final_place, run_metrics
from app.models.registry.http import check_source
from app.models.registry.selection import is_ready, nothing_to_serve, versions_by_rule
from app.models.registry.source import (
    Candidate,
    Fetched,
    LookUp,
    LookUpOutcome,
    ModelUnknown,
    NothingToServe,
    Offer,
    PinNotMoved,
    RegistryUnreachable,
    VersionUnknown,
)
from app.models.registry.version_number import is_version_number

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MAX_CANDIDATES = 20
"""Versions in one `Offer`, the preferred ones first."""

CARD_PATH = "card"
"""Folder of a run with the model card."""

DIGEST_TAG = "madrone.digest"
"""Tag of a version with the digest that its files must have."""

REFUSED = frozenset({"HTTP 400", "HTTP 401", "HTTP 403", "HTTP 405"})
"""Faults of a write that a registry answered, and would answer again."""

log = logging.getLogger(__name__)


class Registry:
    """Access to one registry, which is only read, but for MODEL_PIN_ALIAS.

    Args:
        settings: Settings with the registry, the model, and the aliases and stages to select versions by.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        configure_mlflow(settings)

    def prepare(self) -> None:
        """Import the libraries of look-ups."""
        prepare_mlflow(self._settings)

    def look(self) -> Offer:
        """Find the versions to serve: by the alias alone if one is set, otherwise by stage, the newest first.

        Raises:
            ModelUnknown: The registry has no such model.
            RegistryUnreachable: The registry did not answer.
        """
        settings, name = self._settings, self._settings.model_name
        with answering(self._unknown, settings):
            client = mlflow_client(settings)
            aliases = _aliases(client, name)
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
            found = [version for version in versions if alias and str(version.version) == aliases.get(alias)]
            ready = found and is_ready(found[0])
            return Candidate(self._identity(found[0], aliases), f"alias {alias}") if ready else None

        pinned = under(settings.model_pin_alias)
        return Offer(
            candidates=tuple(preferred.values())[:MAX_CANDIDATES],
            look_ups=tuple(look_ups),
            problem=None if candidates else nothing_to_serve(settings, look_ups, versions, aliases),
            alias_missing=None if settings.model_alias is None else look_ups[0].outcome == "empty",
            canary=under(settings.model_canary_alias),
            shadow=under(settings.model_shadow_alias),
            pin=UNSET if settings.model_pin_alias is None else aliases.get(settings.model_pin_alias),
            pinned=pinned and msgspec.structs.replace(pinned, rule=f"pinned to version {pinned.identity.version}"),
        )

    def version(self, number: str) -> Candidate:
        """Find one version by its number.

        Raises:
            VersionUnknown: The model has no such version, or its upload has not ended.
            ModelUnknown: The registry has no such model.
            RegistryUnreachable: The registry did not answer.
        """
        settings, name = self._settings, self._settings.model_name
        unknown = VersionUnknown(f"model {name!r} has no version {number[:40]!r}, or its upload has not ended")
        if not is_version_number(number):
            raise unknown
        with answering(self._unknown, settings):
            client = mlflow_client(settings)
            aliases = _aliases(client, name)
            versions = list(_all_versions(client, name))
        for version in versions:
            if str(version.version) == number and is_ready(version):
                return Candidate(self._identity(version, aliases), f"pinned to version {number}")
        raise unknown

    def move_pin(self, number: str | None) -> None:
        """Move MODEL_PIN_ALIAS to a version, or delete it with None, for all services that follow it.

        Raises:
            PinNotMoved: The registry refuses.
            VersionUnknown: The model has no such version.
            ModelUnknown: The registry has no such model.
            RegistryUnreachable: The registry did not answer, and may have moved the alias all the same.
        """
        settings, name, alias = self._settings, self._settings.model_name, self._settings.model_pin_alias
        if alias is None:
            return
        missing = VersionUnknown(f"model {name!r} has no version {number!r}") if number else self._unknown
        try:
            with answering(missing, settings):
                client = mlflow_client(settings, writes=True)
                if number is None:
                    client.delete_registered_model_alias(name, alias)
                else:
                    client.set_registered_model_alias(name, alias, number)
        except RegistryUnreachable as error:
            if (fault := str(error)) not in REFUSED:
                raise
            reason = f"the registry does not let this service move the alias {alias!r} ({fault})"
            raise PinNotMoved(reason, error.detail) from error

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
        settings = self._settings
        missing = f"the registry has no version {identity.version} of model {settings.model_name!r} any more"
        with answering(NothingToServe(missing), settings):
            # MLflow would look a `models:/name/version` URI up in the process's global registry, so resolve it here.
            client = mlflow_client(settings)
            version = client.get_model_version(identity.name, identity.version)
            uri = client.get_model_version_download_uri(identity.name, identity.version)
            # Resolved here, so that `check_source` sees the final place.
            uri, named_by = final_place(client, uri, settings)
            check_source(uri, named_by or settings.registry_uri, settings)
            directory = download(uri, destination, settings)
        metrics = run_metrics(client, identity.run_id)
        return Fetched(directory, metrics, dict(version.tags or {}).get(DIGEST_TAG))

    def card(self, identity: ModelIdentity, destination: Path) -> Path | None:
        """Download the model card that `madrone train` logs in the run of a version.

        Args:
            identity: The version.
            destination: Empty directory for the files.

        Returns:
            The directory of the card; None where the run has none, or the version has no run.

        Raises:
            NothingToServe: The run is gone.
            ModelRefused: As `fetch`.
            RegistryUnreachable: The download failed.
        """
        settings, run_id = self._settings, identity.run_id
        if run_id is None:
            return None
        with answering(NothingToServe(f"the run of version {identity.version} is gone"), settings):
            client = mlflow_client(settings)
            uri, named_by = final_place(client, f"runs:/{run_id}/{CARD_PATH}", settings)
            check_source(uri, named_by or settings.tracking_uri, settings)
            if not client.list_artifacts(run_id, CARD_PATH):
                return None
            return download(uri, destination, settings)

    @property
    def _unknown(self) -> ModelUnknown:
        return ModelUnknown(f"the registry knows no model {self._settings.model_name!r}")

    def _identity(self, version: "ModelVersion", aliases: dict[str, str]) -> ModelIdentity:
        number = str(version.version)
        return ModelIdentity(
            name=self._settings.model_name,
            version=number,
            stage=next((stage for stage in STAGES if stage == version.current_stage), None),
            aliases=tuple(sorted(alias for alias, target in aliases.items() if target == number)),
            run_id=version.run_id or None,
            created_at_ms=version.creation_timestamp,
        )


def _aliases(client: "MlflowClient", name: str) -> dict[str, str]:
    """Number of the version under each alias of a model."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(name).aliases
        return {alias: str(number) for alias, number in aliases.items()}
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        raise ModelUnknown(f"the registry takes no name of a model such as {name!r}") from error


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
