"""Predictions: one row, a small batch with partial success, and bulk by Arrow."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.exceptions import InternalServerException

from app.auth import KEY_SCHEME, require_api_key
from app.codecs import arrow
from app.codecs.json import FloatArray
from app.errors import PROBLEM_RESPONSES, REQUEST_ID, DeadlineExceeded, FieldError, MalformedBody, UnsupportedMediaType
from app.feature import Feature
from app.models.artifact import ServedModel
from app.services import InjectedServices, Services
from app.serving.predictor import PredictionType
from app.telemetry.prediction_log import LoggedPrediction

JSON = "application/json"
OPTIONS: dict[str, Any] = {
    "status_code": 200,
    "guards": [require_api_key],
    "security": [{KEY_SCHEME: []}],
    "responses": PROBLEM_RESPONSES,
}
"""What the prediction routes have in common."""


class ConfidenceInterval(msgspec.Struct, frozen=True):
    """Bounds that hold the true value with probability `level`."""

    lower: float
    upper: float
    level: float


class PredictionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one row."""

    prediction: float | list[float]
    model_version: str
    model_stage: str | None
    confidence_interval: ConfidenceInterval | None
    request_id: str
    processing_time_ms: float
    warnings: list[str]


class PredictedItem(msgspec.Struct, frozen=True, tag_field="status", tag="predicted"):
    """A row of a batch that was predicted."""

    index: int
    prediction: float | list[float]
    confidence_interval: ConfidenceInterval | None
    warnings: list[str]


class FailedItem(msgspec.Struct, frozen=True, tag_field="status", tag="failed"):
    """A row of a batch that was not valid."""

    index: int
    errors: tuple[FieldError, ...]


class BatchResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for a batch: an item for each row, in the request's order."""

    predictions: list[PredictedItem | FailedItem]
    total_predictions: int
    successful_predictions: int
    failed_predictions: int
    batch_id: str | None
    model_version: str
    model_stage: str | None
    request_id: str
    processing_time_ms: float


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the model in use."""

    name: str
    version: str
    stage: str | None
    aliases: tuple[str, ...]
    run_id: str | None
    digest: str
    resolved_by: str
    loaded_at: str
    objective: str
    trees: int
    model_features: int
    features: tuple[Feature, ...]
    metrics: dict[str, float]
    example: dict[str, Any] | None


class PredictController(Controller):
    """Prediction routes; they ask for API_KEY when it is set. Model information stays open."""

    path = "/predict"
    tags = ("predict",)

    @post("/", **OPTIONS, summary="Predict one row")
    async def predict_one(self, request: Request[Any, Any, Any], services: InjectedServices) -> PredictionResponse:
        """Predict one object of the model's features by name."""
        started = time.perf_counter()
        async with _deadline(services):
            body = await _read(request, JSON)
            served = services.slot.require()
            rows = served.codec.decode_row(body)
            output = await services.predictor.predict(served, rows, "single")
        prediction = output.tolist()[0]
        request_id = str(request.scope.get(REQUEST_ID))
        _log(services, served, rows, [prediction], "single", request_id)
        return PredictionResponse(
            prediction=prediction,
            model_version=served.identity.version,
            model_stage=served.identity.stage,
            confidence_interval=None,
            request_id=request_id,
            processing_time_ms=_milliseconds(started),
            warnings=served.training_warnings(rows)[0],
        )

    @post("/batch", **OPTIONS, summary="Predict a batch")
    async def predict_batch(self, request: Request[Any, Any, Any], services: InjectedServices) -> BatchResponse:
        """Predict up to MAX_BATCH_SIZE rows as one batch; a row that is not valid fails alone."""
        started = time.perf_counter()
        async with _deadline(services):
            body = await _read(request, JSON)
            served = services.slot.require()
            batch = served.codec.decode_batch(body, services.settings.max_batch_size)
            output = (await services.predictor.predict(served, batch.rows, "batch")).tolist()
        request_id = str(request.scope.get(REQUEST_ID))
        _log(services, served, batch.rows, output, "batch", request_id)
        items: list[PredictedItem | FailedItem] = [
            PredictedItem(position, prediction, None, warnings)
            for position, prediction, warnings in zip(
                batch.positions, output, served.training_warnings(batch.rows), strict=True
            )
        ]
        items += [FailedItem(position, errors) for position, errors in batch.errors.items()]
        items.sort(key=lambda item: item.index)
        return BatchResponse(
            predictions=items,
            total_predictions=batch.size,
            successful_predictions=len(batch.positions),
            failed_predictions=len(batch.errors),
            batch_id=batch.batch_id,
            model_version=served.identity.version,
            model_stage=served.identity.stage,
            request_id=request_id,
            processing_time_ms=_milliseconds(started),
        )

    @post("/bulk", **OPTIONS, media_type=arrow.MEDIA_TYPE, summary="Predict in bulk")
    async def predict_bulk(self, request: Request[Any, Any, Any], services: InjectedServices) -> Response[bytes]:
        """Predict up to MAX_BULK_ROWS rows of an Arrow IPC stream; answers a stream with the column `prediction`."""
        async with _deadline(services):
            body = await _read(request, arrow.MEDIA_TYPE)
            served = services.slot.require()
            decode = partial(arrow.decode, body, served.artifact.features, services.settings.max_bulk_rows)
            rows = await services.predictor.in_thread(decode)
            output = await services.predictor.predict(served, rows, "bulk")
            answer = await services.predictor.in_thread(partial(arrow.encode, output, served.identity.version))
        headers = {"X-Model-Version": served.identity.version, "X-Model-Stage": served.identity.stage or ""}
        return Response(answer, media_type=arrow.MEDIA_TYPE, headers=headers)

    @get("/model/info", summary="Describe the model")
    async def model_info(self, services: InjectedServices) -> ModelInfo:
        """Identity, features, metrics and an example of the model in use."""
        served = services.slot.require()
        artifact, identity = served.artifact, served.identity
        return ModelInfo(
            name=identity.name,
            version=identity.version,
            stage=identity.stage,
            aliases=identity.aliases,
            run_id=identity.run_id,
            digest=artifact.digest,
            resolved_by=served.resolved_by,
            loaded_at=served.loaded_at.isoformat(),
            objective=artifact.forest.objective,
            trees=artifact.forest.n_trees,
            model_features=artifact.forest.n_features,
            features=artifact.features,
            metrics=served.metrics,
            example=artifact.example,
        )


@asynccontextmanager
async def _deadline(services: Services) -> AsyncGenerator[None, None]:
    """Bound the reading of the body and the computing together by REQUEST_TIMEOUT."""
    seconds = services.settings.request_timeout
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"The request was not answered within {seconds:g} seconds.") from None


async def _read(request: Request[Any, Any, Any], media_type: str) -> bytes:
    """The body, if it comes as `media_type` (in UTF-8, where it is text)."""
    given, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if given.strip().lower() != media_type or charset not in ("", "utf-8"):
        raise UnsupportedMediaType(f"The body must come with Content-Type: {media_type}.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("The body must come without a Content-Encoding: compressed bodies are not read.")
    try:
        return await request.body()
    except InternalServerException:
        # What Litestar makes of a client that leaves, or breaks its chunks, before the body is whole.
        raise MalformedBody("The body ended before it was complete.") from None


def _log(
    services: Services, served: ServedModel, rows: FloatArray, predictions: list[Any], kind: PredictionType,
    request_id: str,
) -> None:  # fmt: skip
    if not services.prediction_log.enabled:
        return
    names = [feature.name for feature in served.artifact.features]
    for row, prediction in zip(rows.tolist(), predictions, strict=True):
        services.prediction_log.record(
            LoggedPrediction(
                request_id=request_id,
                prediction_type=kind,
                model_name=served.identity.name,
                model_version=served.identity.version,
                features=dict(zip(names, row, strict=True)),
                prediction=prediction,
            )
        )


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1e3, 3)
