"""Health: for people (/health/...), for orchestrators (live, ready), and the admin's reload."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import numpy as np
from litestar import Controller, Response, get, post

from app.auth import KEY_SCHEME, require_admin_key
from app.models.keeper import Refresh
from app.services import InjectedServices, Services
from app.tasks import TaskStatus
from app.telemetry.gpu import GpuStatus
from app.telemetry.prediction_log import PredictionLogStatus
from app.telemetry.system import SystemReading
from kernels.engine import BackendStatus, EngineStatus

READY_TIMEOUT_S = 1.0

log = logging.getLogger(__name__)

Status = Literal["healthy", "degraded", "unhealthy"]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The short answer. `degraded` means that predictions are answered, but something needs a look."""

    status: Status
    version: str
    model_loaded: bool
    problems: list[str]
    timestamp: datetime


class ModelHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The model in use and what the keeper saw last."""

    status: Status
    name: str
    version: str | None
    stage: str | None
    aliases: tuple[str, ...]
    digest: str | None
    resolved_by: str | None
    loaded_at: datetime | None
    load_seconds: float | None
    engine: EngineStatus | None
    last_refresh: Refresh | None
    last_refusal: Refresh | None


class GpuHealth(GpuStatus, frozen=True, kw_only=True):
    """The GPUs, and what the model in use computes with.

    Attributes:
        backends: Those in use, the CPU among them; none while no model is loaded.
        disabled: The one that failed and is no longer used.
        disabled_reason: How it failed.
    """

    backends: dict[str, BackendStatus]
    disabled: str | None
    disabled_reason: str | None


class DetailedHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at once."""

    status: Status
    version: str
    problems: list[str]
    model: ModelHealth
    tasks: dict[str, TaskStatus]
    prediction_log: PredictionLogStatus
    system: SystemReading
    gpu: GpuHealth
    timestamp: datetime


class Probe(msgspec.Struct, frozen=True):
    """The answer to an orchestrator."""

    status: Literal["live", "ready", "not ready"]
    reason: str | None = None


class HealthController(Controller):
    """Health routes; open to all but for the reload."""

    path = "/health"
    tags = ("health",)

    @get("/", summary="Summarise health")
    async def health(self, services: InjectedServices) -> Response[Health]:
        """Whether predictions are answered, and what is wrong; 503 while no model is loaded."""
        status, problems = _status(services)
        return _answer(
            Health(
                status=status,
                version=services.settings.api_version,
                model_loaded=services.slot.current is not None,
                problems=problems,
                timestamp=datetime.now(UTC),
            ),
            ok=status != "unhealthy",
        )

    @get("/detailed", summary="Report health in full")
    async def detailed(self, services: InjectedServices) -> Response[DetailedHealth]:
        """Model, background tasks, system and GPU together; 503 while no model is loaded."""
        status, problems = _status(services)
        return _answer(
            DetailedHealth(
                status=status,
                version=services.settings.api_version,
                problems=problems,
                model=_model(services),
                tasks=services.supervisor.status,
                prediction_log=services.prediction_log.status,
                system=services.system.read(),
                gpu=_gpu(services),
                timestamp=datetime.now(UTC),
            ),
            ok=status != "unhealthy",
        )

    @get("/model", summary="Report the model's health")
    async def model(self, services: InjectedServices) -> Response[ModelHealth]:
        """The model in use, how it was chosen, and the last look into the registry; 503 while none is loaded."""
        return _answer(_model(services), ok=services.slot.current is not None)

    @get("/system", summary="Report the host")
    async def system(self, services: InjectedServices) -> SystemReading:
        """Processor, memory and disk of the host and of this process."""
        return services.system.read()

    @get("/gpu", summary="Report the GPUs")
    async def gpu(self, services: InjectedServices) -> GpuHealth:
        """The GPUs' newest readings, or why there are none, and what the model in use computes with.

        Having no GPU is no fault: the CPU answers.
        """
        return _gpu(services)

    @get("/live", summary="Probe liveness")
    async def live(self) -> Probe:
        """200 while the event loop turns."""
        return Probe("live")

    @get("/ready", summary="Probe readiness")
    async def ready(self, services: InjectedServices) -> Response[Probe]:
        """200 if a prediction, made now by the model in use, comes back; else 503."""
        served = services.slot.current
        if served is None:
            return _answer(Probe("not ready", "no model is loaded"), ok=False)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                output = await services.predictor.check(served)
        except TimeoutError:
            return _answer(Probe("not ready", f"no prediction within {READY_TIMEOUT_S:g} s"), ok=False)
        except Exception as error:
            log.exception("readiness probe failed")
            return _answer(Probe("not ready", f"the prediction failed: {type(error).__name__}"), ok=False)
        if not np.isfinite(output).all():
            return _answer(Probe("not ready", "the model's prediction is not finite"), ok=False)
        return _answer(Probe("ready"), ok=True)

    @post(
        "/model/reload",
        status_code=200,
        guards=[require_admin_key],
        security=[{KEY_SCHEME: []}],
        summary="Look for another model now",
    )
    async def reload(self, services: InjectedServices) -> Refresh:
        """Look into the registry and swap if it offers another model; says what came of it."""
        return await services.keeper.refresh(retry_refused=True)


def _answer(content: Any, *, ok: bool) -> Response[Any]:
    return Response(content, status_code=200 if ok else 503)


def _status(services: Services) -> tuple[Status, list[str]]:
    problems = [
        f"background task {name} crashed and waits to be restarted"
        for name, task in services.supervisor.status.items()
        if task.state == "waiting"
    ]
    refresh = services.keeper.last_refresh
    if refresh is not None and refresh.reason is not None:
        problems.append(f"model refresh: {refresh.outcome}: {refresh.reason}")
    if services.prediction_log.status.last_error is not None:
        problems.append("predictions cannot be logged")
    engine = services.slot.engine_status()
    if engine is None:
        return "unhealthy", ["no model is loaded", *problems]
    if engine.disabled_reason is not None:
        problems.append(f"GPU backend is off: {engine.disabled_reason}")
    return ("degraded" if problems else "healthy"), problems


def _gpu(services: Services) -> GpuHealth:
    gpu, engine = services.gpu.status, services.slot.engine_status()
    return GpuHealth(
        available=gpu.available,
        reason=gpu.reason,
        devices=gpu.devices,
        backends=engine.backends if engine else {},
        disabled=engine and engine.disabled,
        disabled_reason=engine and engine.disabled_reason,
    )


def _model(services: Services) -> ModelHealth:
    served, keeper = services.slot.current, services.keeper
    degraded = keeper.last_refresh is not None and keeper.last_refresh.reason is not None
    return ModelHealth(
        status="unhealthy" if served is None else "degraded" if degraded else "healthy",
        name=services.settings.model_name,
        version=served and served.identity.version,
        stage=served and served.identity.stage,
        aliases=served.identity.aliases if served else (),
        digest=served and served.artifact.digest,
        resolved_by=served and served.resolved_by,
        loaded_at=served and served.loaded_at,
        load_seconds=served and served.load_seconds,
        engine=served and served.engine.status(),
        last_refresh=keeper.last_refresh,
        last_refusal=keeper.last_refusal,
    )
