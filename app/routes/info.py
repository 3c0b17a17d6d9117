"""Description of the service, and its metrics."""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response, get

from app.config.settings import Settings
from app.container import InjectedServices, Services
from app.telemetry.exposition import OPENMETRICS, PLAIN, accepts_openmetrics

METRICS_TYPE = PLAIN.partition("; charset=")[0]
"""Content type without its charset, which Litestar adds to text."""


class Protocol(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A protocol that is answered.

    Attributes:
        name: Its name.
        path: First part of its routes' paths, or the route.
        port: Port of gRPC; null for HTTP.
    """

    name: str
    path: str
    port: int | None = None


class ModelInService(msgspec.Struct, frozen=True, kw_only=True):
    """What answers under the name of a model.

    Attributes:
        version: Version in service; null while no request is answered.
        canary_version: Version that answers `canary_percent` of the requests; null while there is none.
        shadow_version: Version that predicts beside it; null while there is none.
        pinned: Version that an operator has pinned.
    """

    name: str
    version: str | None
    stage: str | None
    aliases: tuple[str, ...]
    canary_version: str | None
    canary_percent: float
    shadow_version: str | None
    pinned: str | None


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Description of the service.

    Attributes:
        model_name: Name of the first model, as the next two are of it.
        models: Names of all models.
        in_service: What answers under each of them.
    """

    name: str
    version: str
    model_name: str
    model_version: str | None
    model_stage: str | None
    models: tuple[str, ...]
    in_service: tuple[ModelInService, ...]
    protocols: list[Protocol]
    openapi: str
    max_batch_size: int
    max_bulk_rows: int
    max_body_bytes: int
    request_timeout: float


@get("/info", tags=["info"], summary="Describe the service")
async def info(services: InjectedServices) -> ServiceInfo:
    """Version, model, protocols and limits."""
    settings, served = services.settings, services.slot.current
    return ServiceInfo(
        name="madrone",
        version=settings.api_version,
        model_name=settings.model_name,
        model_version=served and served.identity.version,
        model_stage=served and served.identity.stage,
        models=tuple(services.models),
        in_service=tuple(_in_service(one) for one in services.models.values()),
        protocols=protocols_of(settings),
        openapi="/openapi.json",
        max_batch_size=settings.max_batch_size,
        max_bulk_rows=settings.max_bulk_rows,
        max_body_bytes=settings.max_body_bytes,
        request_timeout=settings.request_timeout,
    )


def _in_service(services: Services) -> ModelInService:
    slot = services.slot
    current, canary, shadow = slot.current, slot.canary, slot.shadow
    return ModelInService(
        name=services.name,
        version=current and current.identity.version,
        stage=current and current.identity.stage,
        aliases=current.identity.aliases if current else (),
        canary_version=canary and canary.identity.version,
        canary_percent=services.settings.model_canary_percent if canary else 0.0,
        shadow_version=shadow and shadow.identity.version,
        pinned=slot.pinned,
    )


def protocols_of(settings: Settings) -> list[Protocol]:
    """The protocols that a service with these settings answers."""
    model = quote(settings.model_name, safe="")
    protocols = [
        Protocol(name="madrone", path="/predict"),
        Protocol(name="mlflow", path="/invocations"),
        Protocol(name="kserve-v1", path=f"/v1/models/{model}:predict"),
        Protocol(name="open-inference-v2", path=f"/v2/models/{model}/infer"),
    ]
    if settings.grpc_port is not None:
        path = "/inference.GRPCInferenceService/ModelInfer"
        protocols.append(Protocol(name="open-inference-v2-grpc", path=path, port=settings.grpc_port))
    return protocols


@get("/metrics", tags=["info"], summary="Export metrics", media_type=METRICS_TYPE)
async def metrics(services: InjectedServices, request: Request[Any, Any, Any]) -> Response[bytes]:
    """All metrics in the Prometheus text format, or in OpenMetrics if Accept names it."""
    openmetrics = accepts_openmetrics(request.headers.get("accept"))
    write = partial(services.metrics.exposition.text, openmetrics=openmetrics)
    text = write() if services.joint is None else await asyncio.to_thread(write)  # it waits for the other workers
    return Response(text, media_type=OPENMETRICS if openmetrics else METRICS_TYPE)
