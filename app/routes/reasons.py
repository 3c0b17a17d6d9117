"""Status of the service, and the reasons for it: a code for machines, and a sentence for people."""

import time
from collections.abc import Iterable
from typing import Literal

import msgspec
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.container import Services
from app.models.loader import Stage
from app.models.refresh.outcome import Refresh
from app.models.registry.source import FALLBACK, REMAINING
from app.tasks import crashed
from app.workers.faults import faults_of

Status = Literal["healthy", "degraded", "unhealthy"]
STATUSES: tuple[Status, ...] = ("healthy", "degraded", "unhealthy")

SLOW_STAGE_S = 30.0
"""Time after which a stage of a load is reported as a problem. All stages of most models take a few seconds."""

REGISTRY_LOOKS = 3
LEAST_REGISTRY_AGE_S = 60.0
"""Planned looks that the registry may leave unanswered, and the least time that they make. A load delays looks."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why the service is not healthy.

    Attributes:
        code: Name of the reason, which stays the same between versions.
        status: Status that it gives the service.
        message: One sentence.
    """

    code: str
    message: str
    status: Status = "degraded"


class LoadHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Load of a model in progress.

    Attributes:
        version: Version that is being loaded.
        stage: Current stage of the load.
        seconds: Time since the stage began.
    """

    version: str
    stage: Stage
    seconds: float


def status_of(reasons: Iterable[Reason]) -> Status:
    """The worst status of all reasons; healthy without one."""
    given = {reason.status for reason in reasons}
    return "unhealthy" if "unhealthy" in given else "degraded" if "degraded" in given else "healthy"


def reasons_of(services: Services) -> list[Reason]:
    """All reasons why the service is not healthy, the worst first. Nothing is asked or waited for."""
    reasons = [Reason(code="task_crashed", message=message) for message in crashed(services.tasks)]
    if services.joint is not None:
        reasons += [Reason(code=fault.code, message=fault.text) for fault in faults_of(services.joint.team)]
    models = services.models.values()
    for one in models:
        reasons += _of_model(one)
    reasons += _dependency_reasons(services)
    if all(one.slot.current is None for one in models):
        none = Reason(code="model_missing", status="unhealthy", message="no model is loaded")
        reasons.insert(0, none)
    disabled = {status.disabled_reason for one in models if (status := one.slot.engine_status()) is not None}
    for reason in sorted(disabled - {None}):  # pyright: ignore[reportArgumentType]
        reasons.append(Reason(code="gpu_off", message=f"GPU backend is off: {reason}"))
    nvml = services.gpu.calls.read()
    if nvml.up is False:
        reasons.append(Reason(code="gpu_hanging", message=f"NVML has not answered for {nvml.unanswered_seconds:.0f} s"))
    return reasons


def _of_model(services: Services) -> list[Reason]:
    """Reasons that concern a model, which they name where there are several."""
    reasons = model_reasons(services)
    if len(services.models) == 1:
        return reasons
    if services.slot.current is None:
        reasons.insert(0, Reason(code="model_missing", message="no version is loaded"))
    return [msgspec.structs.replace(reason, message=f"model {services.name}: {reason.message}") for reason in reasons]


def model_reasons(services: Services) -> list[Reason]:
    """Reasons that concern a model in use, its canary and its shadow."""
    reasons = [*_refresh_reasons("model", services.keeper.last_refresh)]
    for role, refresh in tuple(services.refresher.rollout.items()):
        reasons += _refresh_reasons(role, refresh)
    served = services.slot.current
    if served is not None and served.resolved_by.startswith((FALLBACK, REMAINING)):
        message = (
            f"version {served.identity.version} is served from {served.resolved_by}, "
            f"not from stage {services.settings.model_stage}"
        )
        reasons.append(Reason(code="model_fallback", message=message))
    output = services.settings.model_output
    for model in (served, services.slot.canary):
        if model is not None and output not in model.outputs:
            message = (
                f"MODEL_OUTPUT is {output}, which version {model.identity.version} cannot give: it answers as with auto"
            )
            reasons.append(Reason(code="model_output", message=message))
    if (load := loading(services)) is not None and load.seconds > SLOW_STAGE_S:
        message = f"version {load.version} has been loading ({load.stage}) for {load.seconds:.0f} s"
        reasons.append(Reason(code="model_load_slow", message=message))
    if (error := services.store.status().last_error) is not None:
        reasons.append(Reason(code="model_not_kept", message=f"the model in use cannot be kept on disk: {error}"))
    return reasons


def loading(services: Services) -> LoadHealth | None:
    """The load in progress; None while there is none."""
    if (load := services.refresher.loading) is None:
        return None
    return LoadHealth(version=load.version, stage=load.stage, seconds=time.monotonic() - load.since)


class ServiceStatus(Collector):
    """Series of the status.

    Args:
        services: Collaborators of the application.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        """The family, for the registry."""
        status = STATUSES.index(status_of(reasons_of(self._services)))
        text = "0 healthy, 1 degraded (predictions are answered), 2 unhealthy (they are not)."
        yield GaugeMetricFamily("service_status", text, status)


def _refresh_reasons(role: str, refresh: Refresh | None) -> list[Reason]:
    """The reason in the outcome of a look, for the model in use (role `model`), the canary or the shadow."""
    if refresh is None or refresh.reason is None:
        return []
    named = "model refresh" if role == "model" else role
    message = f"{named}: {refresh.outcome}: {refresh.reason}"
    return [Reason(code=f"{role}_{refresh.outcome.removeprefix('model_')}", message=message)]


def _dependency_reasons(services: Services) -> list[Reason]:
    reasons: list[Reason] = []
    silence, longest = services.registry.silence(), REGISTRY_LOOKS * services.settings.model_cache_ttl
    if silence > max(longest, LEAST_REGISTRY_AGE_S) and all(
        one.refresher.loading is None for one in services.models.values()
    ):
        named = "the registry" if services.settings.place is None else "the place of MODEL_PATH"
        message = f"{named} has not answered for {silence:.0f} s"
        reasons.append(Reason(code="registry_old", message=message))
    written = services.log_database.read()
    if services.prediction_log.status.last_error is not None:
        reasons.append(Reason(code="prediction_log_failing", message="predictions cannot be logged"))
    elif written.up is False:
        message = f"rows have waited {written.unanswered_seconds:.0f} s for the database of the prediction log"
        reasons.append(Reason(code="prediction_log_hanging", message=message))
    return reasons
