"""Predictions: one row, a small batch with partial success, and bulk, where a table comes and a table goes."""

import time
from collections.abc import Iterator
from functools import partial

from litestar.types import ASGIApp

from app.auth import check_key
from app.codecs import table_json
from app.codecs.formats import Format, accepted_format, content_format, is_json
from app.codecs.result import Result
from app.codecs.rules import Buffer, FloatArray
from app.container import Services
from app.errors import PredictionNotFinite, UnsupportedMediaType
from app.models.interval import requested_level
from app.models.served import ServedModel
from app.predict.answers import batch_answer, row_answer, table_answer
from app.predict.body import Body, Drain, declared_bytes
from app.predict.exchange import Endpoint, Exchange, Handle
from app.serving.admission import Reservation
from app.serving.deadline import Deadlines
from app.serving.executor import PredictionType
from kernels.engine import Evaluation

JSON = b"application/json"

SMALL_BODY_BYTES = 32 * 1024
"""Bodies up to this are read and written on the event loop, in a fraction of a millisecond; larger ones in threads."""

WHOLE_ANSWER_BYTES = 256 * 1024
"""Answers up to this go in one piece with a Content-Length, larger ones as a stream."""


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
        self._executor = services.executor
        self._admission = services.admission
        self._log = services.prediction_log
        self._not_finite = services.metrics.predictions_not_finite
        deadlines, drain = Deadlines(settings.request_timeout), Drain(services.admission)
        handles: dict[str, Handle] = {"/predict": self._one, "/predict/batch": self._batch, "/predict/bulk": self._bulk}
        self.routes: dict[str, ASGIApp] = {path: Endpoint(handle, deadlines, drain) for path, handle in handles.items()}

    async def _one(self, exchange: Exchange) -> None:
        started = time.perf_counter()
        served = self._choose(exchange)
        body = await self._json_body(exchange)
        level = requested_level(served.artifact.intervals, exchange.query("interval"))
        rows = served.codec.decode_row(body)
        if self._executor.is_cheap(served, 1):
            evaluation = await self._executor.predict(served, rows, "single")
        else:
            with self._admission.enter(len(served.feature_names)) as reservation:
                evaluation = await self._predict(served, rows, "single", reservation)
        try:
            answer = row_answer(exchange, served, rows, evaluation, level, started)
        except PredictionNotFinite as error:
            self._count_not_finite(served, "single", error.rows)
            raise
        await exchange.answer(answer)
        self._shadow.offer(served, rows, evaluation.prediction, exchange.request_id)
        self._record(exchange, served, rows, evaluation, "single")

    async def _batch(self, exchange: Exchange) -> None:
        started = time.perf_counter()
        served = self._choose(exchange)
        with self._admission.enter(len(served.artifact.features)) as reservation:
            self._check_wait(exchange, reservation)
            body = await self._json_body(exchange, reservation)
            level = requested_level(served.artifact.intervals, exchange.query("interval"))
            decode = partial(served.codec.decode_batch, body, self._settings.max_batch_size)
            if len(body) <= SMALL_BODY_BYTES:
                batch = decode()
                evaluation = await self._predict(served, batch.rows, "batch", reservation)
                answer = batch_answer(exchange, served, batch, evaluation, level, started)
            else:
                reservation.join_queue()
                async with exchange.watched():
                    batch = await self._executor.in_gil_thread(decode)
                    reservation.reserve(batch.size)
                    evaluation = await self._executor.predict(served, batch.rows, "batch")
                    answer = await self._executor.in_gil_thread(
                        partial(batch_answer, exchange, served, batch, evaluation, level, started)
                    )
        rows, evaluation = answer.batch.rows, answer.evaluation
        self._count_not_finite(served, "batch", len(batch.rows) - len(rows))
        await exchange.answer(answer.body)
        self._shadow.offer(served, rows, evaluation.prediction, exchange.request_id)
        self._record(exchange, served, rows, evaluation, "batch")

    async def _bulk(self, exchange: Exchange) -> None:
        served = self._choose(exchange)
        given = content_format(exchange.header(b"content-type"))
        wanted = accepted_format(exchange.header(b"accept"), given)
        features, settings = served.artifact.features, self._settings
        is_json = given.media_type == table_json.MEDIA_TYPE
        limit, setting = settings.max_body_bytes, "MAX_BODY_BYTES"
        if is_json:
            limit, setting = settings.max_json_bytes, "MAX_JSON_BYTES"
        with self._admission.enter(len(features)) as reservation:
            self._check_wait(exchange, reservation)
            body = await exchange.body(limit, setting, self._executor.in_thread, reservation)
            asked = exchange.query("interval")
            level = None if asked is None else requested_level(served.artifact.intervals, asked)
            decode = partial(given.decode, body, features, settings.max_bulk_rows)
            small = len(body) <= SMALL_BODY_BYTES
            if small:
                rows = decode()
                evaluation = await self._predict(served, rows, "bulk", reservation)
            else:
                reservation.join_queue()
                async with exchange.watched():
                    rows = await (self._executor.in_gil_thread if is_json else self._executor.in_thread)(decode)
                    del body, decode  # the matrix holds all of it now
                    reservation.reserve(len(rows))
                    evaluation = await self._executor.predict(served, rows, "bulk")
            answer = table_answer(served, evaluation, level)
            try:
                await self._stream(exchange, _finite_pieces(wanted, answer), wanted.media_type, served, small=small)
            except PredictionNotFinite as error:
                self._count_not_finite(served, "bulk", error.rows)
                raise
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
        part, ended = collect() if small else await self._executor.in_thread(collect)
        if ended:
            await exchange.answer(part, media_type.encode(), headers=headers)
            return
        await exchange.begin(media_type.encode(), 200, headers)
        while not ended:
            await exchange.send(part, more=True)
            part, ended = await self._executor.in_thread(collect)
        await exchange.send(part, more=False)

    def _choose(self, exchange: Exchange) -> ServedModel:
        """The model that answers this request; it takes one snapshot, and uses nothing else of any model."""
        if self._settings.api_key is not None:
            check_key(exchange.headers, self._settings.api_key)
        return self._canary.choose(exchange.raw_headers, exchange.request_id)

    async def _json_body(self, exchange: Exchange, reservation: Reservation | None = None) -> Body:
        _check_json(exchange)
        return await exchange.body(
            self._settings.max_json_bytes, "MAX_JSON_BYTES", self._executor.in_thread, reservation
        )

    def _check_wait(self, exchange: Exchange, reservation: Reservation) -> None:
        """Refuse a large request at once where it would wait too long."""
        if (declared := declared_bytes(exchange.headers) or 0) > SMALL_BODY_BYTES:
            self._admission.check_wait(reservation.rows_of(declared))

    async def _predict(
        self, served: ServedModel, rows: FloatArray, prediction_type: PredictionType, reservation: Reservation
    ) -> Evaluation:
        """Predict rows that came in a small body: on the event loop, or, where they are dear, in line."""
        reservation.reserve(len(rows))
        if not self._executor.is_cheap(served, len(rows)):
            reservation.join_queue()
        return await self._executor.predict(served, rows, prediction_type)

    def _count_not_finite(self, served: ServedModel, kind: PredictionType, rows: int) -> None:
        if rows:
            self._not_finite.add((served.identity.version, kind), rows)

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


def _finite_pieces(wanted: Format, result: Result) -> Iterator[Buffer]:
    """An encoded answer; nothing of it comes before all of it is known to be finite."""
    result.check_finite()
    yield from wanted.encode(result)


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
