"""Prediction handlers: one row, a batch whose rows fail one by one, and bulk, which answers a table by a table."""

import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from litestar.types import ASGIApp

from app.auth import check_key
from app.codecs import npy, table_json
from app.codecs.formats import Format, accepted_format, content_format, is_json
from app.codecs.rules import Buffer, FloatArray
from app.container import Services
from app.errors import PredictionNotFinite, UnsupportedMediaType
from app.models.served import ServedModel
from app.predict.answers import batch_answer, row_answer, table_answer
from app.predict.body import Body, declared_bytes
from app.predict.exchange import SMALL_BODY_BYTES, Endpoint, Exchange, Handle
from app.predict.logged import flushed, logged
from app.predict.query import Addition, requested
from app.serving.admission import Reservation
from app.serving.deadline import Deadlines
from app.serving.executor import PredictionType
from kernels.engine import Evaluation

JSON = b"application/json"

WHOLE_ANSWER_BYTES = 256 * 1024
"""Largest bulk answer that is sent whole with a Content-Length; others are streamed in parts of about this size."""


class Rows(Protocol):
    """Rows of a body."""

    @property
    def rows(self) -> FloatArray:
        """float64[B, F], the rows that can be predicted."""
        ...

    @property
    def size(self) -> int:
        """Number of all rows, also those that are not valid."""
        ...


class Table(NamedTuple):
    """Rows of a bulk body, all of which are valid."""

    rows: FloatArray

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.rows)


R = TypeVar("R", bound=Rows)
A = TypeVar("A")
Run = Callable[[Callable[[], Any]], Awaitable[Any]]


class Reader(NamedTuple, Generic[R, A]):
    """How a request of many rows is read and answered: the difference between a batch and bulk.

    Attributes:
        kind: Kind of the request, for metrics and log.
        raw_score: Whether the request asks for raw scores.
        limit: Most bytes of the body.
        setting: Name of that limit.
        decode: Reads the body.
        decode_in: Runs `decode` for a large body.
        answer: Makes the answer, given the rows and their evaluation.
        answer_in: Runs `answer` for a large body.
    """

    kind: PredictionType
    raw_score: bool
    limit: int
    setting: str
    decode: Callable[[Body], R]
    decode_in: Run
    answer: Callable[[R, Evaluation], A]
    answer_in: Run


class BulkAnswer(NamedTuple):
    """The answer for a table, of which the first part is made.

    Attributes:
        rows: float64[B, F], the rows that were predicted.
        evaluation: Evaluation of these rows.
        part: First part of the body.
        ended: Whether that is all of it.
        pieces: Rest of the body.
    """

    rows: FloatArray
    evaluation: Evaluation
    part: bytes
    ended: bool
    pieces: Iterator[Buffer]


class Predictions:
    """Answers the prediction routes.

    Args:
        services: Collaborators of the application.

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
        deadlines = Deadlines(settings.request_timeout)
        handles: dict[str, Handle] = {"/predict": self._one, "/predict/batch": self._batch, "/predict/bulk": self._bulk}
        self.routes: dict[str, ASGIApp] = {
            path: Endpoint(handle, deadlines, services.gate) for path, handle in handles.items()
        }

    async def _one(self, exchange: Exchange) -> None:
        """One row: a short path of its own, since most of what many rows need costs more than predicting one."""
        started = time.perf_counter()
        served = self._choose(exchange)
        _check_json(exchange)
        settings = self._settings
        body = await exchange.body(settings.max_json_bytes, "MAX_JSON_BYTES", self._executor.in_thread)
        level, additions = requested(exchange.query, served, settings.model_output, table=False)
        rows, unseen = served.codec.decode_row(body)
        raw_score = "raw_score" in additions
        if self._executor.is_cheap(served, 1):
            evaluation = await self._executor.predict(served, rows, "single", raw_score)
        else:
            with self._admission.enter(len(served.feature_names)) as reservation:
                reservation.reserve(1)
                reservation.join_queue()
                evaluation = await self._executor.predict(served, rows, "single", raw_score)
        try:
            answer = row_answer(
                exchange.request_id, served, rows, evaluation.single(), level, started, unseen, additions
            )
        except PredictionNotFinite as error:
            self._count_not_finite(served, "single", error.rows)
            raise
        await flushed(self._log, exchange.request_id, "single", served, rows, evaluation.prediction)
        await exchange.answer(answer)
        self._after(exchange, served, "single", rows, evaluation)

    async def _batch(self, exchange: Exchange) -> None:
        """Rows as JSON, each of which succeeds or fails alone."""
        started = time.perf_counter()
        served = self._choose(exchange)
        _check_json(exchange)
        settings, executor = self._settings, self._executor
        level, additions = requested(exchange.query, served, settings.model_output, table=False)
        reader = Reader(
            "batch", "raw_score" in additions, settings.max_json_bytes, "MAX_JSON_BYTES",
            lambda body: served.codec.decode_batch(body, settings.max_batch_size), executor.in_gil_thread,
            lambda batch, evaluation: batch_answer(exchange, served, batch, evaluation, level, started, additions),
            executor.in_gil_thread,
        )  # fmt: skip
        with self._admission.enter(len(served.artifact.features)) as reservation:
            answer = await self._predict(exchange, served, reader, reservation)
        self._count_not_finite(served, "batch", answer.not_finite)
        predictions = answer.evaluation.prediction
        await flushed(self._log, exchange.request_id, "batch", served, answer.rows, predictions)
        await exchange.answer(answer.body)
        self._after(exchange, served, "batch", answer.rows, answer.evaluation)

    async def _bulk(self, exchange: Exchange) -> None:
        """A table in any format, answered by a table if all of its rows are valid."""
        served = self._choose(exchange)
        given = content_format(exchange.header(b"content-type"))
        wanted = accepted_format(exchange.header(b"accept"), given)
        features, settings, executor = served.artifact.features, self._settings, self._executor
        level, additions = requested(exchange.query, served, settings.model_output, table=True)
        if "label" in additions and wanted.media_type == npy.MEDIA_TYPE:
            npy.check_labels(served.labels)
        is_json = given.media_type == table_json.MEDIA_TYPE
        limit, setting = settings.max_body_bytes, "MAX_BODY_BYTES"
        if is_json:
            limit, setting = settings.max_json_bytes, "MAX_JSON_BYTES"
        reader = Reader(
            "bulk", "raw_score" in additions, limit, setting,
            lambda body: Table(given.decode(body, features, settings.max_bulk_rows)),
            executor.in_gil_thread if is_json else executor.in_thread,
            partial(_bulk_answer, served, wanted, level, additions), executor.in_thread,
        )  # fmt: skip
        with self._admission.enter(len(features)) as reservation:
            try:
                answer = await self._predict(exchange, served, reader, reservation)
            except PredictionNotFinite as error:
                self._count_not_finite(served, "bulk", error.rows)
                raise
            await self._stream(exchange, served, wanted.media_type, answer)
        self._after(exchange, served, "bulk", answer.rows, answer.evaluation)

    async def _predict(
        self, exchange: Exchange, served: ServedModel, reader: Reader[R, A], reservation: Reservation
    ) -> A:
        """Read and predict many rows: the policy that batch and bulk share.

        A large request is refused before its body is read, if it would wait too long. A small body is read and answered
        on the event loop. A large one waits in the queue for a thread, and is given up when the caller leaves.
        """
        if (declared := declared_bytes(exchange.headers) or 0) > SMALL_BODY_BYTES:
            reservation.expect_bytes(declared)
        body = await exchange.body(reader.limit, reader.setting, self._executor.in_thread, reservation)
        if len(body) <= SMALL_BODY_BYTES:
            table = reader.decode(body)
            reservation.reserve(table.size)
            if not self._executor.is_cheap(served, len(table.rows)):
                reservation.join_queue()
            evaluation = await self._executor.predict(served, table.rows, reader.kind, reader.raw_score)
            return reader.answer(table, evaluation)
        reservation.join_queue()
        async with exchange.watched():
            table = await reader.decode_in(partial(reader.decode, body))
            del body  # all of it is in the rows now
            reservation.reserve(table.size)
            evaluation = await self._executor.predict(served, table.rows, reader.kind, reader.raw_score)
            return await reader.answer_in(partial(reader.answer, table, evaluation))

    async def _stream(self, exchange: Exchange, served: ServedModel, media_type: str, answer: BulkAnswer) -> None:
        """Send a table: whole, or as a stream of parts where it is large."""
        headers = (
            (b"x-model-version", served.identity.version.encode()),
            (b"x-model-stage", (served.identity.stage or "").encode()),
        )
        part, ended = answer.part, answer.ended
        if ended:
            await exchange.answer(part, media_type.encode(), headers=headers)
            return
        await exchange.begin(media_type.encode(), 200, headers)
        while not ended:
            await exchange.send(part, more=True)
            part, ended = await self._executor.in_thread(partial(_collect, answer.pieces))
        await exchange.send(part, more=False)

    def _choose(self, exchange: Exchange) -> ServedModel:
        """The model that answers this request. The request uses this snapshot only, and nothing else of any model."""
        if self._settings.api_key is not None:
            check_key(exchange.headers, self._settings.api_key)
        return self._canary.choose(exchange.raw_headers, exchange.request_id)

    def _count_not_finite(self, served: ServedModel, kind: PredictionType, rows: int) -> None:
        if rows:
            self._not_finite.add((served.identity.version, kind), rows)

    def _after(
        self, exchange: Exchange, served: ServedModel, kind: PredictionType, rows: FloatArray, evaluation: Evaluation
    ) -> None:
        """Pass answered rows to the shadow and, except those of bulk requests, to a log by best effort."""
        self._shadow.offer(served, rows, evaluation.prediction, exchange.request_id)
        if kind != "bulk" and self._log.enabled and not self._log.durable and len(rows):
            self._log.record(*logged(exchange.request_id, kind, served, rows, evaluation.prediction))


def _check_json(exchange: Exchange) -> None:
    """Raise UnsupportedMediaType unless the body is JSON in UTF-8."""
    if exchange.headers.get(b"content-type") != JSON and not is_json(exchange.header(b"content-type")):
        raise UnsupportedMediaType("The body must come with Content-Type: application/json.")


def _bulk_answer(
    served: ServedModel, wanted: Format, level: float | None, additions: tuple[Addition, ...],
    table: Table, evaluation: Evaluation,
) -> BulkAnswer:  # fmt: skip
    """Begin the answer for a table.

    Raises:
        PredictionNotFinite: The model has no finite answer to some of the rows.
    """
    result = table_answer(served, evaluation, level, additions)
    result.check_finite()
    pieces = iter(wanted.encode(result))
    return BulkAnswer(table.rows, evaluation, *_collect(pieces), pieces)


def _collect(pieces: Iterator[Buffer]) -> tuple[bytes, bool]:
    """Join the next pieces up to WHOLE_ANSWER_BYTES or a bit more; and whether they were the last."""
    parts: list[Buffer] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(memoryview(piece).cast("B"))
        if size >= WHOLE_ANSWER_BYTES:
            return b"".join(parts), False
    return b"".join(parts), True
