"""Routes of the protocol that Litestar answers: health, descriptions, statistics, and inference in its document."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Controller, Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath
from msgspec import UNSET, UnsetType

from app.auth import KEY_SCHEME
from app.container import InjectedServices, Services
from app.problems import InferenceError
from app.protocols.open_inference.descriptions import (
    ModelConfig,
    ModelMetadata,
    ServerMetadata,
    model_config,
    model_metadata,
    server_metadata,
)
from app.protocols.open_inference.messages import InferResponse
from app.protocols.open_inference.models import described_model, models_in_service
from app.protocols.open_inference.statistics import Statistics, statistics_of
from app.routes.readiness import model_readiness, readiness

Name = FromPath[str]
"""Type of a parameter in a path."""

MODEL, VERSION = "/models/{model:str}", "/models/{model:str}/versions/{version:str}"


class Live(msgspec.Struct, frozen=True):
    """Whether the server runs."""

    live: bool = True


class Ready(msgspec.Struct, frozen=True):
    """Whether requests are answered, and why not."""

    ready: bool
    error: str | UnsetType = UNSET


class ModelReady(msgspec.Struct, frozen=True):
    """Whether a model answers requests, and why not."""

    name: str
    ready: bool
    error: str | UnsetType = UNSET


def error_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """Error responses of a route, by status, for the OpenAPI document."""
    return {
        status: ResponseSpec(InferenceError, description=HTTPStatus(status).phrase, generate_examples=False)
        for status in statuses
    }


def _unready(body: type[msgspec.Struct]) -> dict[int, ResponseSpec]:
    return {503: ResponseSpec(body, description="Predictions are not answered", generate_examples=False)}


DESCRIPTION: dict[str, Any] = {"responses": error_responses(400, 404, 503)}
PROBE: dict[str, Any] = {"responses": error_responses(400, 404) | _unready(ModelReady)}
INFERENCE: dict[str, Any] = {
    "status_code": 200,
    "security": [{KEY_SCHEME: []}],
    "responses": error_responses(400, 401, 404, 408, 413, 415, 429, 500, 503, 504),
}


class OpenInferenceController(Controller):
    """Routes of the Open Inference Protocol, version 2. All but inference are public."""

    path = "/v2"
    tags = ("open inference",)

    @get("/", summary="Describe the server")
    async def server(self, services: InjectedServices) -> ServerMetadata:
        """Name, version and extensions of the server."""
        return server_metadata(services.settings)

    @get("/health/live", summary="Probe liveness")
    async def live(self) -> Live:
        """200 while the event loop runs."""
        return Live()

    @get("/health/ready", summary="Probe readiness", responses=_unready(Ready))
    async def ready(self, services: InjectedServices) -> Response[Ready]:
        """200 where /health/ready is, and 503 where that is."""
        probe = await readiness(services)
        ok = probe.status == "ready"
        return Response(Ready(ok, UNSET if ok else probe.reason or probe.status), status_code=200 if ok else 503)

    @get(MODEL, **DESCRIPTION, summary="Describe a model")
    async def model(self, services: InjectedServices, model: Name) -> ModelMetadata:
        """Tensors that the model takes and gives, and the versions that answer requests."""
        return model_metadata(described_model(model, None, services), services.of(model))

    @get(VERSION, **DESCRIPTION, summary="Describe a version of a model")
    async def model_version(self, services: InjectedServices, model: Name, version: Name) -> ModelMetadata:
        """The same of the version in use, or of the canary."""
        return model_metadata(described_model(model, version, services), services.of(model))

    @get(f"{MODEL}/ready", **PROBE, summary="Probe a model")
    async def model_ready(self, services: InjectedServices, model: Name) -> Response[ModelReady]:
        """Whether the model in use answers a test prediction now."""
        return await _readiness(services, model, None)

    @get(f"{VERSION}/ready", **PROBE, summary="Probe a version of a model")
    async def version_ready(self, services: InjectedServices, model: Name, version: Name) -> Response[ModelReady]:
        """The same of the version in use, or of the canary."""
        return await _readiness(services, model, version)

    @get(f"{MODEL}/config", **DESCRIPTION, summary="Show the configuration of a model")
    async def config(self, services: InjectedServices, model: Name) -> ModelConfig:
        """Tensors and most rows of a request, as Triton shows them."""
        return model_config(described_model(model, None, services), services.of(model))

    @get(f"{VERSION}/config", **DESCRIPTION, summary="Show the configuration of a version of a model")
    async def version_config(self, services: InjectedServices, model: Name, version: Name) -> ModelConfig:
        """The same of the version in use, or of the canary."""
        return model_config(described_model(model, version, services), services.of(model))

    @get("/models/stats", summary="Show statistics of all models")
    async def all_statistics(self, services: InjectedServices) -> Statistics:
        """Rows, requests and seconds of the versions that answer requests, since the start."""
        models = [served for one in services.models.values() for served in models_in_service(one.slot)]
        return statistics_of(models, services.metrics)

    @get(f"{MODEL}/stats", **DESCRIPTION, summary="Show statistics of a model")
    async def statistics(self, services: InjectedServices, model: Name) -> Statistics:
        """Rows, requests and seconds of the versions of a model that answer requests, since the start."""
        described_model(model, None, services)
        return statistics_of(models_in_service(services.of(model).slot), services.metrics)

    @get(f"{VERSION}/stats", **DESCRIPTION, summary="Show statistics of a version")
    async def version_statistics(self, services: InjectedServices, model: Name, version: Name) -> Statistics:
        """The same of one version."""
        return statistics_of([described_model(model, version, services)], services.metrics)

    @post(f"{MODEL}/infer", **INFERENCE, summary="Predict tensors")
    async def infer(self, model: Name) -> InferResponse:
        """Predict the rows of tensors: one of all features [rows, F], or one [rows] or [rows, 1] for each feature.

        Values are in the JSON, or follow it as bytes: then Inference-Header-Content-Length has the number of bytes of
        the JSON, and the parameter `binary_data_size` of each such tensor its own. The parameter `interval` asks for
        another level of the outputs `lower` and `upper` than the model's default.
        """
        raise NotImplementedError

    @post(f"{VERSION}/infer", **INFERENCE, summary="Predict tensors by a version")
    async def infer_version(self, model: Name, version: Name) -> InferResponse:
        """The same by the version in use, or by the canary."""
        raise NotImplementedError


async def _readiness(services: Services, model: str, version: str | None) -> Response[ModelReady]:
    services = services.of(model)
    loaded = services.slot.current is not None
    probe = await model_readiness(services, described_model(model, version, services) if loaded else None)
    ok = probe.status == "ready"
    answer = ModelReady(model, ok, UNSET if ok else probe.reason or probe.status)
    return Response(answer, status_code=200 if ok else 503)
