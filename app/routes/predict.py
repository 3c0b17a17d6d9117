"""Predictions: one row, a small batch with partial success, and bulk by Arrow."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.exceptions import InternalServerException
from litestar.params import QueryParameter

from app.auth import KEY_SCHEME, require_api_key
from app.codecs import arrow
from app.codecs.json import FloatArray
from app.errors import PROBLEM_RESPONSES, REQUEST_ID, DeadlineExceeded, FieldError, MalformedBody, UnsupportedMediaType
from app.feature import Feature
from app.models.artifact import ServedModel
from app.models.interval import requested_level
from app.services import InjectedServices, Services
from app.serving.predictor import PredictionType
from app.telemetry.prediction_log import LoggedPrediction
from kernels.engine import Evaluation

JSON = "application/json"
OPTIONS: dict[str, Any] = {
    "status_code": 200,
    "guards": [require_api_key],
    "security": [{KEY_SCHEME: []}],
    "responses": PROBLEM_RESPONSES,
}
"""What the prediction routes have in common."""

AskedInterval = Annotated[
    list[str] | None,
    QueryParameter(
        description="Level of the intervals: one of the model's `interval_levels` (see /predict/model/info).",
        schema_extra={"type": "number", "one_of": None},
    ),
]
"""Taken as text and as often as it is given, so that what is wrong with it is answered like a wrong feature is."""


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
    interval_levels: tuple[float, ...]
    default_interval_level: float | None
    outside_distance: float | None
    reference_rows: int


class PredictController(Controller):
    """Prediction routes; they ask for API_KEY when it is set. Model information stays open."""

    path = "/predict"
    tags = ("predict",)

    @post("/", **OPTIONS, summary="Predict one row")
    async def predict_one(
        self, request: Request[Any, Any, Any], services: InjectedServices, interval: AskedInterval = None
    ) -> PredictionResponse:
        """Predict one object of the model's features by name."""
        started = time.perf_counter()
        async with _deadline(services):
            body = await _read(request, JSON)
            served = _choose(services, request)
            level = requested_level(served.artifact.intervals, interval)
            rows = served.codec.decode_row(body)
            evaluation = await services.predictor.predict(served, rows, "single")
        prediction = evaluation.prediction.tolist()[0]
        request_id = _id(request)
        services.shadow.offer(served, rows, evaluation.prediction, request_id)
        _log(services, served, rows, [prediction], "single", request_id)
        return PredictionResponse(
            prediction=prediction,
            model_version=served.identity.version,
            model_stage=served.identity.stage,
            confidence_interval=_intervals(served, evaluation, level)[0],
            request_id=request_id,
            processing_time_ms=_milliseconds(started),
            warnings=served.warnings(rows, evaluation)[0],
        )

    @post("/batch", **OPTIONS, summary="Predict a batch")
    async def predict_batch(
        self, request: Request[Any, Any, Any], services: InjectedServices, interval: AskedInterval = None
    ) -> BatchResponse:
        """Predict up to MAX_BATCH_SIZE rows as one batch; a row that is not valid fails alone."""
        started = time.perf_counter()
        async with _deadline(services):
            body = await _read(request, JSON)
            served = _choose(services, request)
            level = requested_level(served.artifact.intervals, interval)
            batch = served.codec.decode_batch(body, services.settings.max_batch_size)
            evaluation = await services.predictor.predict(served, batch.rows, "batch")
        output = evaluation.prediction.tolist()
        request_id = _id(request)
        services.shadow.offer(served, batch.rows, evaluation.prediction, request_id)
        _log(services, served, batch.rows, output, "batch", request_id)
        items: list[PredictedItem | FailedItem] = [
            PredictedItem(*item)
            for item in zip(
                batch.positions,
                output,
                _intervals(served, evaluation, level),
                served.warnings(batch.rows, evaluation),
                strict=True,
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
    async def predict_bulk(
        self, request: Request[Any, Any, Any], services: InjectedServices, interval: AskedInterval = None
    ) -> Response[bytes]:
        """Predict up to MAX_BULK_ROWS rows of an Arrow IPC stream.

        Answers a stream with the column `prediction`, and, where an interval is asked for, `lower` and `upper`.
        """
        async with _deadline(services):
            body = await _read(request, arrow.MEDIA_TYPE)
            served = _choose(services, request)
            level = None if interval is None else requested_level(served.artifact.intervals, interval)
            decode = partial(arrow.decode, body, served.artifact.features, services.settings.max_bulk_rows)
            rows = await services.predictor.in_thread(decode)
            evaluation = await services.predictor.predict(served, rows, "bulk")
            half_widths = _half_widths(served, evaluation, level)
            encode = partial(arrow.encode, evaluation.prediction, served.identity.version, half_widths)
            answer = await services.predictor.in_thread(encode)
        services.shadow.offer(served, rows, evaluation.prediction, _id(request))
        headers = {"X-Model-Version": served.identity.version, "X-Model-Stage": served.identity.stage or ""}
        return Response(answer, media_type=arrow.MEDIA_TYPE, headers=headers)

    @get("/model/info", summary="Describe the model")
    async def model_info(self, services: InjectedServices) -> ModelInfo:
        """Identity, features, metrics and an example of the model in use."""
        served = services.slot.require()
        artifact, identity, intervals = served.artifact, served.identity, served.artifact.intervals
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
            interval_levels=intervals.levels if intervals else (),
            default_interval_level=intervals and intervals.default_level,
            outside_distance=served.engine.outside_distance,
            reference_rows=0 if artifact.table is None else len(artifact.table),
        )


def _id(request: Request[Any, Any, Any]) -> str:
    return str(request.scope.get(REQUEST_ID))


def _choose(services: Services, request: Request[Any, Any, Any]) -> ServedModel:
    """The model that answers this request; it takes one snapshot, and uses nothing else of any model."""
    return services.canary.choose(request.scope["headers"], _id(request))


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


def _half_widths(served: ServedModel, evaluation: Evaluation, level: float | None) -> FloatArray | None:
    """float64[B], in the target's unit; None where the model has no intervals, or none were asked for."""
    intervals, difficulty = served.artifact.intervals, evaluation.difficulty
    if intervals is None or difficulty is None or level is None:
        return None
    return intervals.half_width(difficulty, level)


def _intervals(served: ServedModel, evaluation: Evaluation, level: float | None) -> list[ConfidenceInterval | None]:
    """An interval for each row, or None for each."""
    half_widths = _half_widths(served, evaluation, level)
    if half_widths is None or level is None:
        return [None] * len(evaluation.prediction)
    bounds = (evaluation.prediction - half_widths).tolist(), (evaluation.prediction + half_widths).tolist()
    return [ConfidenceInterval(lower, upper, level) for lower, upper in zip(*bounds, strict=True)]


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
