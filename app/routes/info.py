"""Description of the service, and its metrics."""

import msgspec
from litestar import Response, get

from app.container import InjectedServices
from app.telemetry.metrics import CONTENT_TYPE

METRICS_TYPE = CONTENT_TYPE.partition("; charset=")[0]
"""Content type without its charset, which Litestar adds to text."""


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Description of the service and the model in use."""

    name: str
    version: str
    model_name: str
    model_version: str | None
    model_stage: str | None
    max_batch_size: int
    max_bulk_rows: int
    max_body_bytes: int
    request_timeout: float


@get("/info", tags=["info"], summary="Describe the service")
async def info(services: InjectedServices) -> ServiceInfo:
    """Version, model and limits."""
    settings, served = services.settings, services.slot.current
    return ServiceInfo(
        name="madrone",
        version=settings.api_version,
        model_name=settings.model_name,
        model_version=served and served.identity.version,
        model_stage=served and served.identity.stage,
        max_batch_size=settings.max_batch_size,
        max_bulk_rows=settings.max_bulk_rows,
        max_body_bytes=settings.max_body_bytes,
        request_timeout=settings.request_timeout,
    )


@get("/metrics", tags=["info"], summary="Export metrics", media_type=METRICS_TYPE)
async def metrics(services: InjectedServices) -> Response[bytes]:
    """All metrics in the Prometheus text format."""
    return Response(services.metrics.exposition(), media_type=METRICS_TYPE)
