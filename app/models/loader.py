"""Loads a version of the registry, or an entry of the store, into a model that has passed every check."""

import logging
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from app.address import LATEST
from app.config.settings import Settings
from app.models.artifact import Artifact, read_artifact
from app.models.checks import (
    check_interface,
    check_labels,
    check_metrics,
    check_predictions,
    check_scores,
    find_not_finite,
)
from app.models.disk.batch_costs import BatchCosts
from app.models.disk.store import ModelStore, StoredModel
from app.models.identity import ModelIdentity
from app.models.refusal import Check
from app.models.registry.source import STAGES, Candidate, ModelSource, NothingToServe, RegistryUnreachable
from app.models.served import ServedModel, serve_artifact
from app.models.slot import Role
from kernels.cache import kernels_version
from kernels.compiling import compiling_logged
from kernels.engine import Engine
from kernels.forest.forest import Forest

log = logging.getLogger(__name__)

Stage = Literal["fetch", "build", "check", "warm up", "keep"]

LOG_LINES: dict[Stage, str] = {
    "fetch": "fetching model",
    "build": "loading model",
    "check": "checking model",
    "warm up": "warming model up",
    "keep": "keeping model",
}
"""Log line at the start of each stage."""


class Loading(NamedTuple):
    """A load under way.

    Attributes:
        version: Version that is loaded.
        stage: Current stage.
        since: Start of the stage, by `time.monotonic`.
    """

    version: str
    stage: Stage
    since: float


class ModelLoader:
    """Fetches, builds, checks and warms up models. Blocks for seconds, so it belongs in a thread.

    Args:
        settings: Settings with the limits of metrics, and with the alias and stages of versions.
        source: The registry, and LightGBM for comparison.
        store: Last known good models on disk.
        batch_costs: Costs of batches that were measured before.

    Attributes:
        loading: Load under way; None while there is none.
        stores: Where the model of each role is stored. Those of canary and shadow are for other workers, if any.
    """

    def __init__(self, settings: Settings, source: ModelSource, store: ModelStore, batch_costs: BatchCosts) -> None:
        self.loading: Loading | None = None
        self.stores: dict[Role, ModelStore] = {"current": store}
        self._settings = settings
        self._source = source
        self._batch_costs = batch_costs

    @compiling_logged()
    def load(self, candidate: Candidate, current: ServedModel | None, *, keep: Role | None) -> ServedModel:
        """Make a version ready to serve.

        Args:
            candidate: The version.
            current: Model whose callers must be able to use the new one; None to skip that check.
            keep: Role to store the model on disk for, where there is a store for it.

        Raises:
            ModelRefused: The model failed a check.
            NothingToServe: The version is gone from the registry.
            RegistryUnreachable: The version could not be fetched.
            OSError: This machine cannot write the files.
        """
        started = time.perf_counter()
        # Readable by the owner only (0700), and not needed once everything is read into memory and stored.
        with tempfile.TemporaryDirectory(prefix="madrone-model-") as temporary, self._loading():
            self._enter("fetch", candidate)
            fetched = self._source.fetch(candidate.identity, Path(temporary))
            self._enter("build", candidate)
            artifact = self._by_settings(self._source.build(fetched.directory, fetched.digest).artifact())
            self._enter("check", candidate)
            if fetched.metrics is None and self._limited:
                raise RegistryUnreachable("the metrics of the model's run cannot be read, and limits are set for them")
            metrics = fetched.metrics or {}
            check_metrics(metrics, self._settings)
            if current is not None:
                check_interface(artifact, current)
            engine = artifact.engine()
            check_scores(artifact, engine, fetched.directory, self._source.raw_scores)
            served = self._serve(artifact, engine, candidate, metrics, started)
            checks = self._checks(artifact, digest=fetched.digest is not None, interface=current is not None)
            served = msgspec.structs.replace(served, checks=checks)
            if keep is not None and (store := self.stores.get(keep)) is not None:
                self._enter("keep", candidate)
                store.keep(fetched.directory, list(artifact.files.values()), self.entry(served))
        return served

    def keep(self, served: ServedModel, role: Role) -> None:
        """Fetch a model in service again, and store it on disk for its role.

        Raises:
            ModelRefused: The files are not those of the model in service.
            NothingToServe: The version is gone from the registry.
            RegistryUnreachable: The version could not be fetched.
            OSError: This machine cannot write the files.
        """
        with tempfile.TemporaryDirectory(prefix="madrone-model-") as temporary:
            directory = self._source.fetch(served.identity, Path(temporary)).directory
            self._source.build(directory, served.artifact.digest)
            self.stores[role].keep(directory, list(served.artifact.files.values()), self.entry(served))

    @compiling_logged()
    def restore(self, entry: StoredModel, role: Role = "current") -> ServedModel:
        """Make a stored model ready to serve.

        Its files have the hashes of files that passed every check, so the same kernels can read them in this process:
        that takes a second, while the model process takes several to start. If the kernels have changed since, the
        model process reads the files, as those of a new version, and the scores are compared with LightGBM's again.

        Raises:
            StoreCorrupt: The files have changed.
            ModelRefused: The model fails a check now.
            RegistryUnreachable: The model process does not answer.
        """
        started, store = time.perf_counter(), self.stores[role]
        candidate = Candidate(entry.identity, entry.resolved_by)
        known = entry.kernels == kernels_version()
        log.info("taking model from disk", extra={"model_version": entry.identity.version})
        with self._loading():
            self._enter("build", candidate)
            artifact = self._by_settings(store.load(entry, read_artifact if known else self._built))
            self._enter("check", candidate)
            check_metrics(entry.metrics, self._settings)
            engine = artifact.engine()
            if not known:
                check_scores(artifact, engine, store.model_directory(entry), self._source.raw_scores)
            served = self._serve(artifact, engine, candidate, entry.metrics, started)
            return msgspec.structs.replace(served, checks=self._checks(artifact, digest=True, interface=False))

    def describe(self, served: ServedModel) -> None:
        """Update the description of a stored model: stage, aliases and rule."""
        self.stores["current"].describe(self.entry(served))

    def entry(self, served: ServedModel) -> StoredModel:
        """Description of a model in service, as it is stored."""
        return StoredModel(
            identity=served.identity,
            resolved_by=served.resolved_by,
            metrics=served.metrics,
            selection=self.selection,
            kernels=kernels_version(),
            digest=served.artifact.digest,
        )

    @property
    def selection(self) -> str:
        """What the settings select a version by, as text, to compare with what a stored model was selected by."""
        settings = self._settings
        if settings.place is not None or settings.model_version is not None:
            return msgspec.json.encode((settings.model_path, "MODEL_PATH")).decode()
        if settings.model_alias is not None:
            return msgspec.json.encode((settings.model_alias,)).decode()
        return msgspec.json.encode(
            (settings.model_stage, settings.model_fallback_stage, settings.model_fallback_any)
        ).decode()

    def is_asked_for(self, identity: ModelIdentity) -> bool:
        """Whether the settings select a version, by its alias or stage at the last look."""
        settings = self._settings
        if settings.place is not None:
            return True
        if (number := settings.model_version) is not None:
            return number in (identity.version, LATEST)
        if settings.model_alias is not None:
            return settings.model_alias in identity.aliases
        stages = {settings.model_stage, settings.model_fallback_stage}
        return identity.stage in (stages.union(STAGES) if settings.model_fallback_any else stages)

    @property
    def _limited(self) -> bool:
        return self._settings.model_min_r2 is not None or self._settings.model_max_rmse is not None

    def _checks(self, artifact: Artifact, *, digest: bool, interface: bool) -> tuple[Check, ...]:
        """Checks that a model has passed, in their order.

        Args:
            artifact: The model. Scores are compared where kernels compute them: of a stored model, when it was stored.
            digest: Whether its digest was known before its files were read.
            interface: Whether it was compared with a model in service.
        """
        kernels = any(isinstance(forest, Forest) for forest in (artifact.forest, artifact.difficulty))
        passed: dict[Check, bool] = {
            **{"digest": digest, "artifact": True, "agreement": True, "metrics": self._limited},
            **{"interface": interface, "kernels": kernels, "prediction": True},
        }
        return tuple(check for check in passed if passed[check])

    def _built(self, directory: Path) -> Artifact:
        return self._source.build(directory, None).artifact()

    def _by_settings(self, artifact: Artifact) -> Artifact:
        """The model, whose category features treat an unseen value as MODEL_UNSEEN_CATEGORIES says."""
        unseen = self._settings.model_unseen_categories
        if not any(feature.kind == "category" and feature.unseen != unseen for feature in artifact.features):
            return artifact
        features = tuple(
            msgspec.structs.replace(feature, unseen=unseen) if feature.kind == "category" else feature
            for feature in artifact.features
        )
        return msgspec.structs.replace(artifact, features=features)

    @contextmanager
    def _loading(self) -> Generator[None, None, None]:
        try:
            yield
        finally:
            self.loading = None

    def _enter(self, stage: Stage, candidate: Candidate) -> None:
        """Begin a stage, for /health/model and the log."""
        version = candidate.identity.version
        self.loading = Loading(version, stage, time.monotonic())
        log.info(LOG_LINES[stage], extra={"model_version": version})

    def _serve(
        self, artifact: Artifact, engine: Engine, candidate: Candidate, metrics: dict[str, float], started: float
    ) -> ServedModel:
        self._enter("warm up", candidate)
        engine.warm_up(artifact.sample(), self._batch_costs.costs(artifact.digest))
        self._batch_costs.store(artifact.digest, engine.costs())
        check_predictions(artifact, engine)
        check_labels(artifact)
        served = serve_artifact(artifact, engine, candidate.identity, metrics, candidate.rule)
        if self._settings.model_output not in served.outputs:
            told = {"model_version": candidate.identity.version, "model_output": self._settings.model_output}
            log.warning("model cannot give MODEL_OUTPUT, and answers as with auto", extra=told)
        not_finite = find_not_finite(artifact)
        for found in not_finite:
            version = candidate.identity.version
            log.warning("model has no finite answer to some rows", extra={"model_version": version, "row": found})
        return msgspec.structs.replace(served, not_finite=not_finite, load_seconds=time.perf_counter() - started)


def loader_of(settings: Settings, source: ModelSource) -> ModelLoader:
    """The loader of a command, which loads a model as the service does."""
    store = ModelStore(
        settings.data_dir / "models", settings.source_uri, settings.model_name, settings.model_store_versions
    )
    return ModelLoader(settings, source, store, BatchCosts(settings.data_dir / "calibrations.json"))


def load_preferred(settings: Settings, source: ModelSource) -> ServedModel:
    """Fetch, build and check the model that the settings prefer. Nothing is kept.

    Args:
        settings: Settings that name the model.
        source: Its registry or place, which the caller closes.

    Raises:
        NothingToServe: There is no such model.
        ModelRefused: The model cannot be served.
        RegistryUnreachable: The registry does not answer.
        OSError: This machine cannot load the model.
    """
    offer = source.look()
    if not offer.candidates:
        raise NothingToServe(offer.problem)
    return loader_of(settings, source).load(offer.candidates[0], None, keep=None)
