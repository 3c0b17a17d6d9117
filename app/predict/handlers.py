"""Prediction handlers: one row, a batch whose rows fail one by one, a table by a table, and a what-if curve."""

import time
from functools import partial

from litestar.types import ASGIApp

from app.codecs.arrays import npy
from app.codecs.formats import accepted_format, content_format, is_json
from app.codecs.json import table as table_json
from app.errors import PredictionNotFinite, UnsupportedMediaType
from app.predict.answers import batch_answer, row_answer
from app.predict.bulk import Table, bulk_answer, send_table
from app.predict.exchange import Exchange, Handle
from app.predict.explain.curve import curve_answer, read_curve
from app.predict.logged import flushed
from app.predict.many_rows import NO_TURN, Reader
from app.predict.query import Asked, requested, requested_interval
from app.predict.scoring import Scoring, Scorings

JSON = b"application/json"


PATH = "/predict"
NAMED_PATH = "/predict/{model}"


def own_routes(scorings: Scorings) -> dict[str, ASGIApp]:
    """The prediction routes of the service's own protocol, an ASGI application by path, for POST.

    Those without a name are the first model's.

    Args:
        scorings: Policies of all models.
    """
    first = scorings.first
    models = {name: Predictions(scoring).handles for name, scoring in scorings.models.items()}
    routes: dict[str, ASGIApp] = {}
    for end, handle in models[first.settings.model_name].items():
        routes[PATH + end] = first.endpoint(PATH + end, handle)
        named = scorings.by_name("model", {name: handles[end] for name, handles in models.items()})
        routes[NAMED_PATH + end] = first.endpoint(NAMED_PATH + end, named)
    return routes


class Predictions:
    """Answers the prediction routes of a model.

    Args:
        scoring: Policy of the model.

    Attributes:
        handles: Handle by the end of the route's path.
    """

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._settings = scoring.settings
        self._executor = scoring.executor
        self._admission = scoring.admission
        self._log = scoring.log
        self._many = scoring.many
        self.handles: dict[str, Handle] = {
            "": self._one, "/explain": partial(self._one, explain=True), "/batch": self._batch, "/bulk": self._bulk,
            "/curve": self._curve,
        }  # fmt: skip

    async def _one(self, exchange: Exchange, *, explain: bool = False) -> None:
        """One row: a short path of its own, since most of what many rows need costs more than predicting one.

        Args:
            exchange: The request.
            explain: Whether it is explained unless it says so itself.
        """
        started = time.perf_counter()
        served = self._scoring.choose(exchange)
        _check_json(exchange)
        settings = self._settings
        with self._admission.enter(len(served.feature_names)) as reservation:
            body = await exchange.body(settings.max_json_bytes, "MAX_JSON_BYTES", self._executor.in_thread, reservation)
            asked = requested(exchange.query, served, settings.model_output, table=False, explain=explain)
            needs = asked.needs
            begun = time.perf_counter()
            rows, unseen = served.codec.decode_row(body)
            exchange.stages.append(("decode", begun, time.perf_counter()))
            if not self._executor.is_cheap(served, 1, needs):
                reservation.weigh(*self._executor.weight(served, needs))
                reservation.reserve(1)
                reservation.join_queue()
            evaluation = await self._executor.predict(served, rows, "single", needs, exchange.stages)
        begun = time.perf_counter()
        try:
            answer = row_answer(
                exchange.request_id, served, rows, evaluation.single(), asked, started, unseen,
                None if needs.is_plain else evaluation,
            )  # fmt: skip
        except PredictionNotFinite as error:
            self._scoring.count_not_finite(served, "single", error.rows)
            raise
        exchange.stages.append(("encode", begun, time.perf_counter()))
        await flushed(self._log, exchange, "single", served, rows, evaluation)
        await exchange.answer(answer)
        self._scoring.after(exchange, served, "single", rows, evaluation)

    async def _batch(self, exchange: Exchange) -> None:
        """Rows as JSON, each of which succeeds or fails alone."""
        started = time.perf_counter()
        served = self._scoring.choose(exchange)
        _check_json(exchange)
        settings = self._settings
        asked = requested(exchange.query, served, settings.model_output, table=False)
        reader = Reader(
            lambda _: "batch", asked.needs, settings.max_json_bytes, "MAX_JSON_BYTES",
            lambda body: served.codec.decode_batch(body, settings.max_batch_size), self._many.turns,
            lambda batch, evaluation: batch_answer(exchange, served, batch, evaluation, asked, started),
            self._many.turns,
        )  # fmt: skip
        with self._admission.enter(len(served.artifact.features)) as reservation:
            answer = await self._many.predict(exchange, served, reader, reservation)
            self._scoring.count_not_finite(served, "batch", answer.not_finite)
            await flushed(self._log, exchange, "batch", served, answer.rows, answer.evaluation, answer.places)
            await exchange.answer(answer.body)
        self._scoring.after(exchange, served, "batch", answer.rows, answer.evaluation, answer.places)

    async def _bulk(self, exchange: Exchange) -> None:
        """A table in any format, answered by a table if all of its rows are valid."""
        served = self._scoring.choose(exchange)
        given = content_format(exchange.header(b"content-type"))
        wanted = accepted_format(exchange.header(b"accept"), given)
        features, settings, executor = served.artifact.features, self._settings, self._executor
        asked = requested(exchange.query, served, settings.model_output, table=True)
        if "label" in asked.additions and wanted.media_type == npy.MEDIA_TYPE:
            npy.check_labels(served.labels)
        is_json = given.media_type == table_json.MEDIA_TYPE
        limit, setting = settings.max_body_bytes, "MAX_BODY_BYTES"
        if is_json:
            limit, setting = settings.max_json_bytes, "MAX_JSON_BYTES"
        reader = Reader(
            lambda _: "bulk", asked.needs, limit, setting,
            lambda body: Table(given.decode(body, features, settings.max_bulk_rows)),
            self._many.turns if is_json else NO_TURN,
            partial(bulk_answer, served, wanted, asked),
            self._many.turns if wanted.media_type == table_json.MEDIA_TYPE else NO_TURN,
            given.is_packed,
        )  # fmt: skip
        with self._admission.enter(len(features)) as reservation:
            try:
                answer = await self._many.predict(exchange, served, reader, reservation)
            except PredictionNotFinite as error:
                self._scoring.count_not_finite(served, "bulk", error.rows)
                raise
            self._scoring.after(exchange, served, "bulk", answer.rows, answer.evaluation)
            body = answer.body
            del answer  # while the client reads, what the body is made from is held, but not the rows
            reservation.reserve_answer(body.held)
            await send_table(exchange, served.identity, wanted.media_type, body, executor.in_thread)

    async def _curve(self, exchange: Exchange) -> None:
        """What would be predicted for a row with other values of a feature; no prediction that is logged."""
        served = self._scoring.choose(exchange)
        _check_json(exchange)
        limit = self._settings.max_json_bytes
        with self._admission.enter(len(served.feature_names)) as reservation:
            body = await exchange.body(limit, "MAX_JSON_BYTES", self._executor.in_thread, reservation)
            asked = Asked(requested_interval(exchange.query, served), ())
            begun = time.perf_counter()
            curve = read_curve(body, served)
            exchange.stages.append(("decode", begun, time.perf_counter()))
            reservation.reserve(len(curve.rows))
            if not self._executor.is_cheap(served, len(curve.rows)):
                reservation.join_queue()
            evaluation = await self._executor.predict(served, curve.rows, None, stages=exchange.stages)
        begun = time.perf_counter()
        answer = curve_answer(exchange.request_id, served, curve, evaluation, asked)
        exchange.stages.append(("encode", begun, time.perf_counter()))
        await exchange.answer(answer)


def _check_json(exchange: Exchange) -> None:
    """Raise UnsupportedMediaType unless the body is JSON in UTF-8."""
    if exchange.headers.get(b"content-type") != JSON and not is_json(exchange.header(b"content-type")):
        raise UnsupportedMediaType("The body must come with Content-Type: application/json.")
