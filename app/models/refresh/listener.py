"""Metrics and log lines of the refresher: looks into the registry, refusals, and models put in service."""

import logging
from collections.abc import Sequence

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from app.models.disk.entry import StoredModel
from app.models.identity import ModelIdentity
from app.models.refresh.outcome import Refresh
from app.models.refusal import ModelRefused
from app.models.registry.source import LookUp, RegistryUnreachable
from app.models.served import ServedModel
from app.models.slot import Role

log = logging.getLogger(__name__)


class RefreshMetrics:
    """Series of the refreshers of all models.

    Args:
        registry: Exports them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.status = Gauge(
            "model_status", "1 while a model is loaded and answers, else 0.", ("model_name",), registry=registry
        )
        self.info = Gauge(
            "model_info",
            "1 for the model in use.",
            ("model_name", "model_version", "model_stage", "run_id", "digest"),
            registry=registry,
        )
        self.load_duration = Gauge(
            "model_load_duration_seconds",
            "Time from look-up to swap of the model in use.",
            ("model_name", "model_version"),
            registry=registry,
        )
        self.refreshes = Counter(
            "model_refreshes_total", "Looks into the registry, by what came of them.", ("model_name", "outcome"),
            registry=registry,
        )  # fmt: skip
        self.look_ups = Counter(
            "model_lookups_total", "Places that a model was looked for in, by what was found.",
            ("model_name", "rule", "outcome"), registry=registry,
        )  # fmt: skip
        self.refusals = Counter(
            "model_refusals_total", "Versions that were fetched and not taken, by the check that they failed.",
            ("model_name", "role", "check"), registry=registry,
        )  # fmt: skip
        self.swaps = Counter("model_swaps_total", "Models put in service.", ("model_name", "role"), registry=registry)
        self.rollout = Gauge(
            "model_rollout_info", "1 for the canary and the shadow in service.",
            ("model_name", "role", "model_version"), registry=registry,
        )  # fmt: skip


class RefreshListener:
    """Counts and logs what the refresher of a model does.

    Args:
        metrics: The series.
        model_name: The model's name.
        asking: Log line at the start of a look.
    """

    def __init__(self, metrics: RefreshMetrics, model_name: str, asking: str = "asking the registry") -> None:
        self._metrics = metrics
        self._name = model_name
        self._asking = asking
        self._shown: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        metrics.status.labels(model_name).set(0)

    def asking(self) -> None:
        """A look begins while no model is in service."""
        log.info(self._asking, extra=self._told())

    def looked_up(self, look_ups: Sequence[LookUp]) -> None:
        """A look was answered."""
        for look_up in look_ups:
            self._metrics.look_ups.labels(self._name, look_up.rule, look_up.outcome).inc()

    def refreshed(self, refresh: Refresh, look_ups: Sequence[LookUp]) -> None:
        """A look, or an order, ended."""
        self._metrics.refreshes.labels(self._name, refresh.outcome).inc()
        log.log(
            logging.INFO if refresh.serves else logging.WARNING,
            "model refresh",
            extra=self._told(
                outcome=refresh.outcome,
                model_version=refresh.version,
                reason=refresh.reason,
                detail=refresh.detail,
                look_ups=[msgspec.to_builtins(look_up) for look_up in look_ups],
            ),
        )

    def refused(self, role: Role, identity: ModelIdentity, error: ModelRefused) -> None:
        """A version failed a check."""
        self._metrics.refusals.labels(self._name, role, error.check).inc()
        log.warning("model refused", extra=self._told(role=role, model_version=identity.version, reason=str(error)))

    def replaced(self, role: Role, before: ServedModel | None, now: ServedModel | None) -> None:
        """A role of the slot changed: another model, or another description of the same model."""
        if role != "current":
            if before is not None:
                self._metrics.rollout.remove(self._name, role, before.identity.version)
            if now is not None:
                self._metrics.rollout.labels(self._name, role, now.identity.version).set(1)
        if now is None:
            if before is not None:
                log.info("model taken out of service", extra=self._told(role=role))
                if role == "current":
                    self._show(None)
            return
        if before is None or before.engine is not now.engine:
            self._metrics.swaps.labels(self._name, role).inc()
            seconds = round(now.load_seconds, 1)
            log.info(
                "model in service", extra=self._told(role=role, model_version=now.identity.version, seconds=seconds)
            )
        if role == "current":
            self._show(now)

    def pin_moved(self, version: str | None) -> None:
        """A look found that MODEL_PIN_ALIAS was moved to another version, or deleted."""
        log.info("pin moved in the registry", extra={"model_version": version})

    def not_loaded(self, version: str, error: BaseException) -> None:
        """Loading a version raised something that no check foresees."""
        log.error("model cannot be loaded", extra=self._told(model_version=version), exc_info=error)

    def not_restored(self, entry: StoredModel, error: Exception) -> None:
        """A stored model is passed over: a check refused it, or loading it raised something unforeseen."""
        log.warning(
            "stored model is not served",
            extra=self._told(model_version=entry.identity.version, reason=str(error)),
            exc_info=None if isinstance(error, ModelRefused | RegistryUnreachable) else error,
        )

    def not_kept(self, served: ServedModel, error: Exception) -> None:
        """A model in service could not be written to disk."""
        log.warning(
            "model cannot be stored on disk", extra=self._told(model_version=served.identity.version, reason=str(error))
        )

    def failed(self, error: Exception) -> None:
        """The registry could not be asked, through a fault of this machine."""
        log.error("registry cannot be asked", extra=self._told(), exc_info=error)

    def _told(self, **more: object) -> dict[str, object]:
        """Fields of a log line."""
        return {"model_name": self._name, **more}

    def _show(self, served: ServedModel | None) -> None:
        """Export a model as the one in service; none with None."""
        metrics = self._metrics
        if self._shown is not None:
            info, loaded = self._shown
            metrics.info.remove(*info)
            metrics.load_duration.remove(*loaded)
            self._shown = None
        metrics.status.labels(self._name).set(0 if served is None else 1)
        if served is None:
            return
        identity = served.identity
        info = self._name, identity.version, identity.stage or "", identity.run_id or "", served.artifact.digest
        loaded = self._name, identity.version
        metrics.info.labels(*info).set(1)
        metrics.load_duration.labels(*loaded).set(served.load_seconds)
        self._shown = info, loaded
