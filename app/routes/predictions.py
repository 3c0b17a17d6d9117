"""Predictions: one row, a small batch with partial success, and bulk, where a table comes and a table goes."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

import msgspec
from litestar.types import ASGIApp

from app.auth import check_key
from app.codecs import json_table
from app.codecs.answer import Answer
from app.codecs.formats import accepted_format, content_format, is_json
from app.codecs.json import Batch, FloatArray
from app.codecs.table import Buffer
from app.errors import UnsupportedMediaType
from app.models.artifact import ServedModel
from app.models.interval import requested_level
from app.pacing import Pace
from app.routes.body import Body, Drain, declared_bytes
from app.routes.exchange import Endpoint, Exchange, Handle
from app.routes.schemas import BatchResponse, ConfidenceInterval, FailedItem, PredictedItem, PredictionResponse
from app.services import Services
from app.serving.admission import Claim
from app.serving.deadline import Deadlines
from app.serving.predictor import PredictionType
from kernels.engine import Evaluation

JSON = b"application/json"

SMALL_BODY_BYTES = 32 * 1024
"""Bodies up to this are read and written on the event loop, in a fraction of a millisecond; larger ones in threads."""

WHOLE_ANSWER_BYTES = 256 * 1024
"""Answers up to this go in one piece with a Content-Length, larger ones as a stream."""

ITEMS = 256
"""Of an answer, made before other threads get their turn."""

_encode = msgspec.json.Encoder().encode


class Predictions:
    """Answers the prediction routes.

    Args:
        services: Of the app.

    Attributes:
        routes: An ASGI application by path, for POST.
    """

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._settings = settings
        self._canary = services.canary
        self._shadow = services.shadow
        self._predictor = services.predictor
        self._admission = services.admission
        self._log = services.prediction_log
        deadlines, drain = Deadlines(settings.request_timeout), Drain(services.admission)
        handles: dict[str, Handle] = {"/predict": self._one, "/predict/batch": self._batch, "/predict/bulk": self._bulk}
        self.routes: dict[str, ASGIApp] = {path: Endpoint(handle, deadlines, drain) for path, handle in handles.items()}

    async def _one(self, exchange: Exchange) -> None:
        started = time.perf_counter()
        served = self._choose(exchange)
        body = await self._json_body(exchange)
        level = requested_level(served.artifact.intervals, exchange.query("interval"))
        rows = served.codec.decode_row(body)
        if self._predictor.is_cheap(served, 1):
            evaluation = await self._predictor.predict(served, rows, "single")
        else:
            with self._admission.enter(len(served.feature_names)) as claim:
                evaluation = await self._predict(served, rows, "single", claim)
        await exchange.answer(_row_answer(exchange, served, rows, evaluation, level, started))
        self._shadow.offer(served, rows, evaluation.prediction, exchange.request_id)
        self._record(exchange, served, rows, evaluation, "single")

    async def _batch(self, exchange: Exchange) -> None:
        started = time.perf_counter()
        served = self._choose(exchange)
        with self._admission.enter(len(served.artifact.features)) as claim:
            self._check_wait(exchange, claim)
            body = await self._json_body(exchange, claim)
            level = requested_level(served.artifact.intervals, exchange.query("interval"))
            decode = partial(served.codec.decode_batch, body, self._settings.max_batch_size)
            if len(body) <= SMALL_BODY_BYTES:
                batch = decode()
                evaluation = await self._predict(served, batch.rows, "batch", claim)
                answer = _encode(_batch_response(exchange, served, batch, evaluation, level, started))
            else:
                claim.line_up()
                async with exchange.watched():
                    batch = await self._predictor.in_turn(decode)
                    claim.hold(batch.size)
                    evaluation = await self._predictor.predict(served, batch.rows, "batch")
                    answer = await self._predictor.in_turn(
                        lambda: _encode(_batch_response(exchange, served, batch, evaluation, level, started))
                    )
        await exchange.answer(answer)
        self._shadow.offer(served, batch.rows, evaluation.prediction, exchange.request_id)
        self._record(exchange, served, batch.rows, evaluation, "batch")

    async def _bulk(self, exchange: Exchange) -> None:
        served = self._choose(exchange)
        given = content_format(exchange.header(b"content-type"))
        wanted = accepted_format(exchange.header(b"accept"), given)
        features, settings = served.artifact.features, self._settings
        is_json = given.media_type == json_table.MEDIA_TYPE
        limit, setting = settings.max_body_bytes, "MAX_BODY_BYTES"
        if is_json:
            limit, setting = settings.max_json_bytes, "MAX_JSON_BYTES"
        with self._admission.enter(len(features)) as claim:
            self._check_wait(exchange, claim)
            body = await exchange.body(limit, setting, self._predictor.in_thread, claim)
            asked = exchange.query("interval")
            level = None if asked is None else requested_level(served.artifact.intervals, asked)
            decode = partial(given.decode, body, features, settings.max_bulk_rows)
            small = len(body) <= SMALL_BODY_BYTES
            if small:
                rows = decode()
                evaluation = await self._predict(served, rows, "bulk", claim)
            else:
                claim.line_up()
                async with exchange.watched():
                    rows = await (self._predictor.in_turn if is_json else self._predictor.in_thread)(decode)
                    del body, decode  # the matrix holds all of it now
                    claim.hold(len(rows))
                    evaluation = await self._predictor.predict(served, rows, "bulk")
            answer = Answer(evaluation.prediction, _half_widths(served, evaluation, level), served.identity.version)
            await self._stream(exchange, wanted.encode(answer), wanted.media_type, served, small=small)
        self._shadow.offer(served, rows, evaluation.prediction, exchange.request_id)

    async def _stream(
        self, exchange: Exchange, pieces: Iterator[Buffer], media_type: str, served: ServedModel, *, small: bool
    ) -> None:
        """Answer with the pieces, as they are made if they are many."""
        headers = (
            (b"x-model-version", served.identity.version.encode()),
            (b"x-model-stage", (served.identity.stage or "").encode()),
        )
        collect = partial(_collect, pieces, WHOLE_ANSWER_BYTES)
        part, ended = collect() if small else await self._predictor.in_thread(collect)
        if ended:
            await exchange.answer(part, media_type.encode(), headers=headers)
            return
        await exchange.begin(media_type.encode(), 200, headers)
        while not ended:
            await exchange.send(part, more=True)
            part, ended = await self._predictor.in_thread(collect)
        await exchange.send(part, more=False)

    def _choose(self, exchange: Exchange) -> ServedModel:
        """The model that answers this request; it takes one snapshot, and uses nothing else of any model."""
        if self._settings.api_key is not None:
            check_key(exchange.headers, self._settings.api_key)
        return self._canary.choose(exchange.raw_headers, exchange.request_id)

    async def _json_body(self, exchange: Exchange, claim: Claim | None = None) -> Body:
        _check_json(exchange)
        return await exchange.body(self._settings.max_json_bytes, "MAX_JSON_BYTES", self._predictor.in_thread, claim)

    def _check_wait(self, exchange: Exchange, claim: Claim) -> None:
        """Refuse a large request at once where it would wait too long."""
        if (declared := declared_bytes(exchange.headers) or 0) > SMALL_BODY_BYTES:
            self._admission.check_wait(claim.rows_of(declared))

    async def _predict(
        self, served: ServedModel, rows: FloatArray, prediction_type: PredictionType, claim: Claim
    ) -> Evaluation:
        """Predict rows that came in a small body: on the event loop, or, where they are dear, in line."""
        claim.hold(len(rows))
        if not self._predictor.is_cheap(served, len(rows)):
            claim.line_up()
        return await self._predictor.predict(served, rows, prediction_type)

    def _record(
        self, exchange: Exchange, served: ServedModel, rows: FloatArray, evaluation: Evaluation, kind: PredictionType
    ) -> None:
        """Put what was answered into the prediction log."""
        if self._log.enabled and len(rows):
            model = served.identity.name, served.identity.version
            self._log.record(exchange.request_id, kind, model, served.feature_names, rows, evaluation.prediction)


def _check_json(exchange: Exchange) -> None:
    """Raise UnsupportedMediaType unless the body comes as JSON, in UTF-8."""
    if exchange.headers.get(b"content-type") != JSON and not is_json(exchange.header(b"content-type")):
        raise UnsupportedMediaType("The body must come with Content-Type: application/json.")


def _row_answer(
    exchange: Exchange, served: ServedModel, rows: FloatArray, evaluation: Evaluation, level: float | None,
    started: float,
) -> bytes:  # fmt: skip
    answer = PredictionResponse(
        prediction=evaluation.prediction[0].tolist(),
        model_version=served.identity.version,
        model_stage=served.identity.stage,
        confidence_interval=_interval(served, evaluation, level),
        request_id=exchange.request_id,
        processing_time_ms=_milliseconds(started),
        warnings=served.warnings_of_one(rows[0].tolist(), evaluation),
    )
    return _encode(answer)


def _batch_response(
    exchange: Exchange, served: ServedModel, batch: Batch, evaluation: Evaluation, level: float | None, started: float
) -> BatchResponse:
    predicted = map(
        PredictedItem,
        batch.positions,
        evaluation.prediction.tolist(),
        _intervals(served, evaluation, level),
        served.warnings(batch.rows, evaluation),
    )
    items: list[PredictedItem | FailedItem] = []
    pace = Pace()
    while part := list(islice(predicted, ITEMS)):
        items += part
        if len(part) == ITEMS:  # a large batch, and so in a thread
            pace()
    if batch.errors:
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
        request_id=exchange.request_id,
        processing_time_ms=_milliseconds(started),
    )


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


def _interval(served: ServedModel, evaluation: Evaluation, level: float | None) -> ConfidenceInterval | None:
    """The only row's interval: the same numbers as `_intervals`, without NumPy's cost for each operation."""
    intervals, difficulty = served.artifact.intervals, evaluation.difficulty
    if intervals is None or difficulty is None or level is None:
        return None
    half_width = intervals.half_width_of_one(difficulty.item(), level)
    prediction: float = evaluation.prediction.item()
    return ConfidenceInterval(prediction - half_width, prediction + half_width, level)


def _collect(pieces: Iterator[Buffer], least: int) -> tuple[bytes, bool]:
    """Pieces of an answer, joined until they have so many bytes; and whether they were the last."""
    parts: list[Buffer] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(memoryview(piece).cast("B"))
        if size >= least:
            return b"".join(parts), False
    return b"".join(parts), True


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1e3, 3)
