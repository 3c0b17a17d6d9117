"""Health routes: reports for people, probes for orchestrators (live, ready), and the reload for the admin."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from app.auth import KEY_SCHEME, has_admin_key, require_admin_key
from app.codecs.json.duplicates import has_repeated
from app.codecs.rules import REPEATED
from app.container import InjectedServices, Services
from app.errors import FieldError, InvalidInput, MalformedBody, NotFound
from app.models.refresh.outcome import Refresh
from app.prediction_log.status import PredictionLogStatus
from app.problems import problem_responses
from app.routes.model_health import ModelHealth, model_health
from app.routes.readiness import Probe, readiness
from app.routes.reasons import Reason, Status, reasons_of, status_of
from app.tasks import TaskStatus
from app.telemetry.dependencies import Dependency, DependencyReading
from app.telemetry.gpu import GpuStatus
from app.telemetry.system import SystemReading
from kernels.dispatch import BackendStatus


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of the health. `degraded` means that predictions are answered, but something needs attention."""

    status: Status
    version: str
    model_loaded: bool
    problems: list[str]
    timestamp: datetime


class GpuHealth(GpuStatus, frozen=True, kw_only=True):
    """The GPUs, and the backends of the model in use.

    Attributes:
        backends: Backends in use, including the CPU; empty while no model is loaded.
        disabled: Backend that failed and is no longer used.
        disabled_reason: Reason of its failure.
        age_seconds: Time since NVML was last read; None before.
    """

    backends: dict[str, BackendStatus]
    disabled: str | None
    disabled_reason: str | None
    age_seconds: float | None


class DetailedHealth(msgspec.Struct, frozen=True, kw_only=True):
    """All health reports together, as background tasks and earlier calls know them: nothing is asked for the answer.

    Attributes:
        reasons: Why the status is not `healthy`.
        model: The first model.
        models: All models by name.
        dependencies: The registry, and the database of the prediction log, by name.
    """

    status: Status
    version: str
    reasons: list[Reason]
    dependencies: dict[str, DependencyReading]
    model: ModelHealth
    models: dict[str, ModelHealth]
    tasks: dict[str, TaskStatus]
    prediction_log: PredictionLogStatus
    system: SystemReading
    gpu: GpuHealth
    timestamp: datetime


class Pending(msgspec.Struct, frozen=True):
    """Answer to a reload that takes longer than REQUEST_TIMEOUT."""

    outcome: Literal["pending"] = "pending"


class ReloadOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a reload: the version to pin, or null to unpin."""

    version: Annotated[str, msgspec.Meta(min_length=1, max_length=40)] | None


def _unhealthy(body: type[msgspec.Struct]) -> dict[int, ResponseSpec]:
    """The 503 response of a route, for the OpenAPI document."""
    return {503: ResponseSpec(body, description="Predictions are not answered", generate_examples=False)}


UNKNOWN = problem_responses(404)

RELOAD_RESPONSES = problem_responses(400, 401, 403, 404, 413, 422, 500) | {
    202: ResponseSpec(Pending, description="The reload continues", generate_examples=False)
}


class HealthController(Controller):
    """Health routes; all but the reload are public."""

    path = "/health"
    tags = ("health",)

    @get("/", summary="Summarise health", responses=_unhealthy(Health))
    async def health(self, services: InjectedServices) -> Response[Health]:
        """Whether predictions are answered, and a list of problems; 503 while no model is loaded."""
        reasons = reasons_of(services)
        status = status_of(reasons)
        return _answer(
            Health(
                status=status,
                version=services.settings.api_version,
                model_loaded=all(one.slot.current is not None for one in services.models.values()),
                problems=[reason.message for reason in reasons],
                timestamp=datetime.now(UTC),
            ),
            ok=status != "unhealthy",
        )

    @get("/detailed", summary="Report health in full", responses=_unhealthy(DetailedHealth))
    async def detailed(self, services: InjectedServices, request: Request[Any, Any, Any]) -> Response[DetailedHealth]:
        """Model, background tasks, system and GPU together; 503 while no model is loaded.

        Error texts of the registry are included only for a request with ADMIN_API_KEY.
        """
        reasons, in_detail = reasons_of(services), has_admin_key(request)
        status = status_of(reasons)
        return _answer(
            DetailedHealth(
                status=status,
                version=services.settings.api_version,
                reasons=reasons,
                dependencies=_dependencies(services, in_detail=in_detail),
                model=model_health(services, in_detail=in_detail),
                models={name: model_health(one, in_detail=in_detail) for name, one in services.models.items()},
                tasks=services.tasks.status,
                prediction_log=services.prediction_log.status,
                system=services.system.read(),
                gpu=_gpu(services),
                timestamp=datetime.now(UTC),
            ),
            ok=status != "unhealthy",
        )

    @get("/model", summary="Report the model's health", responses=_unhealthy(ModelHealth))
    async def model(self, services: InjectedServices, request: Request[Any, Any, Any]) -> Response[ModelHealth]:
        """The model in use, how it was chosen, and the last look into the registry; 503 while no model is loaded.

        Of several models it is the first. Error texts of the registry are included only for a request with
        ADMIN_API_KEY.
        """
        return _model(services, request)

    @get("/model/{model:str}", summary="Report a model's health", responses=_unhealthy(ModelHealth) | UNKNOWN)
    async def named_model(
        self, services: InjectedServices, request: Request[Any, Any, Any], model: FromPath[str]
    ) -> Response[ModelHealth]:
        """The same of the model of a name."""
        return _model(services.of(model), request)

    @get("/system", summary="Report the host")
    async def system(self, services: InjectedServices) -> SystemReading:
        """Processor, memory and disk of the host and of this process."""
        return services.system.read()

    @get("/gpu", summary="Report the GPUs")
    async def gpu(self, services: InjectedServices) -> GpuHealth:
        """The newest readings of the GPUs, or the reason why there are none, and the backends of the model in use.

        A machine without a GPU is healthy, since the CPU answers.
        """
        return _gpu(services)

    @get("/live", summary="Probe liveness")
    async def live(self) -> Probe:
        """200 while the event loop runs."""
        return Probe("live")

    @get("/ready", summary="Probe readiness", responses=_unhealthy(Probe))
    async def ready(self, services: InjectedServices) -> Response[Probe]:
        """200 if the models in use answer a test prediction now; 503 if not, and once the service is shutting down."""
        probe = await readiness(services)
        return _answer(probe, ok=probe.status == "ready")

    @post(
        "/model/reload",
        status_code=200,
        guards=[require_admin_key],
        security=[{KEY_SCHEME: []}],
        responses=RELOAD_RESPONSES,
        summary="Look for another model now",
    )
    async def reload(self, services: InjectedServices, request: Request[Any, Any, Any]) -> Response[Refresh]:
        """Look into the registry, load another model if it offers one, and report the outcome.

        A body `{"version": "3"}` pins a version, `{"version": null}` unpins it. A reload that takes longer than
        REQUEST_TIMEOUT is answered with 202 and continues; /health/model then reports its outcome.
        """
        return await _reload(services, request)

    @post(
        "/model/{model:str}/reload",
        status_code=200,
        guards=[require_admin_key],
        security=[{KEY_SCHEME: []}],
        responses=RELOAD_RESPONSES,
        summary="Look for another version of a model now",
    )
    async def named_reload(
        self, services: InjectedServices, request: Request[Any, Any, Any], model: FromPath[str]
    ) -> Response[Refresh]:
        """The same for the model of a name."""
        return await _reload(services.of(model), request)


def _model(services: Services, request: Request[Any, Any, Any]) -> Response[ModelHealth]:
    health = model_health(services, in_detail=has_admin_key(request))
    return _answer(health, ok=services.slot.current is not None)


async def _reload(services: Services, request: Request[Any, Any, Any]) -> Response[Refresh]:
    order = _order(await request.body())
    try:
        async with asyncio.timeout(services.settings.request_timeout):
            refresh = await services.keeper.reload(order)
    except TimeoutError:
        pending: Response[Any] = Response(Pending(), status_code=202)
        return pending
    if refresh.outcome == "version_unknown":
        raise NotFound(f"The version cannot be pinned: {refresh.reason}.")
    return Response(refresh, status_code=200)


def _order(body: bytes) -> str | msgspec.UnsetType | None:
    """The version in the body of a reload; unset if the body is empty."""
    if not body.strip():
        return msgspec.UNSET
    try:
        version = msgspec.json.decode(body, type=ReloadOrder).version
        if has_repeated(body):
            raise InvalidInput("The body is not valid.", (FieldError("version", REPEATED),))
        return version
    except msgspec.ValidationError:
        error = FieldError("version", 'must be the only field, and a version as text, such as "3", or null')
        raise InvalidInput("The body is not valid.", (error,)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedBody("The body is not valid JSON.") from None


def _answer(content: Any, *, ok: bool) -> Response[Any]:
    return Response(content, status_code=200 if ok else 503)


def _dependencies(services: Services, *, in_detail: bool) -> dict[str, DependencyReading]:
    known: list[Dependency] = [services.registry]
    if services.prediction_log.enabled:
        known.append(services.log_database)
    readings = {dependency.name: dependency.read() for dependency in known}
    if in_detail:
        return readings
    return {name: msgspec.structs.replace(reading, detail=None) for name, reading in readings.items()}


def _gpu(services: Services) -> GpuHealth:
    gpu, engine = services.gpu.status, services.slot.engine_status()
    return GpuHealth(
        available=gpu.available,
        reason=gpu.reason,
        devices=gpu.devices,
        backends=engine.backends if engine else {},
        disabled=engine and engine.disabled,
        disabled_reason=engine and engine.disabled_reason,
        age_seconds=services.gpu.calls.read().age_seconds,
    )
