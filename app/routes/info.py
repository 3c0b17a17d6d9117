"""Description of the service, and its metrics."""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response, get

from app.config.settings import Settings
from app.container import InjectedServices
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


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Description of the service, of the first model in use, and the names of all models."""

    name: str
    version: str
    model_name: str
    model_version: str | None
    model_stage: str | None
    models: tuple[str, ...]
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
        protocols=protocols_of(settings),
        openapi="/openapi.json",
        max_batch_size=settings.max_batch_size,
        max_bulk_rows=settings.max_bulk_rows,
        max_body_bytes=settings.max_body_bytes,
        request_timeout=settings.request_timeout,
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
