"""The straight way of a common request: one row of JSON, for a model that is quick to evaluate.

Most of what a request may ask for is asked for by few: a query, a compressed or chunked body, a canary's answer. The
general way in `handlers.py` looks after all of it, with objects and calls in between that cost as much as a model.
This way takes what needs none of it, and hands on everything else, faults too, before it has changed anything. An
answer has the same bytes on both ways.
"""

import time
from collections.abc import Awaitable
from typing import Any, NamedTuple

from app.auth import check_key
from app.codecs.rules import FloatArray
from app.config.fields import Output
from app.container import Services
from app.errors import BadRequest, BodyTimeout, DeadlineExceeded, Overloaded, Unauthorized
from app.headers import Headers, is_host
from app.models.served import ServedModel
from app.predict.answers import row_answer
from app.predict.logged import logged_one
from app.predict.query import Asked, requested
from app.predict.refusal import SINGLE_ROUTES, EarlyRefusal
from app.predict.routing import RouteTable
from app.prediction_log.durable import DurableLog
from app.prediction_log.log import PredictionLog
from app.serving.deadline import Deadlines
from app.telemetry.asgi_types import Message, Receive, Scope, Send
from app.telemetry.middleware import ABANDONED, STARTED, RequestTelemetry, identify

JSON = b"application/json"

SINGLE, NAMED = SINGLE_ROUTES


class _NotCommon(Exception):
    """The request is one for the general way."""


class _Snapshot(NamedTuple):
    """What requests to a model have in common, as long as it is in service.

    Attributes:
        served: The model.
        quick: Whether rows go the straight way.
        asked: What a request without a query gets beside the prediction.
    """

    served: ServedModel
    quick: bool
    asked: Asked


class _Route:
    """A route for one row of a model.

    Args:
        services: Collaborators that answer for the model.
        template: Path of the route, with its parameters in braces.

    Attributes:
        template: The same.
        slot: The models in service.
        drift: Takes the rows.
        output: MODEL_OUTPUT.
        snapshot: What requests have in common now; None before the first.
    """

    __slots__ = ("drift", "output", "slot", "snapshot", "template")

    def __init__(self, services: Services, template: str) -> None:
        self.template = template
        self.slot = services.slot
        self.drift = services.drift
        self.output: Output = services.settings.model_output
        self.snapshot: _Snapshot | None = None


class StraightWay:
    """ASGI application that answers common requests for one row itself, and hands all others on.

    While the service is overloaded it refuses requests. Where each counts against a limit, that is all.

    Args:
        general: The general way of all requests, which records them.
        services: Collaborators of the application.
        routes: The prediction routes.
    """

    def __init__(self, general: RequestTelemetry, services: Services, routes: RouteTable) -> None:
        self.general = general
        self._refusal = EarlyRefusal(general, services, routes)
        self._routes = {f"{SINGLE}/{name}": _Route(one, NAMED) for name, one in services.models.items()}
        for path in [path for path in self._routes if (found := routes.find(path)) is None or found.template != NAMED]:
            del self._routes[path]  # a fixed route has the path
        self._routes[SINGLE] = _Route(services, SINGLE)
        self._executor = services.executor
        self._in_flight = services.metrics.in_flight
        log = services.prediction_log
        self._log = log if log.enabled and isinstance(log, PredictionLog) else None
        self._durable = log if isinstance(log, DurableLog) else None
        self._keys = services.settings.api_keys
        self._limited = services.settings.rate_limit > 0
        self._gate = services.gate
        self._deadlines = Deadlines(services.settings.request_timeout)
        self._most_bytes = services.settings.max_json_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        started = time.perf_counter()
        try:
            self._refusal.check(scope)
        except Overloaded as error:
            await self._refusal.refuse(scope, send, error, time.perf_counter() - started)
            return
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        model = None if route is None else self._model_of_now(route)
        headers = None if model is None else _common_headers(scope)
        if route is None or model is None or headers is None or not self._may_ask(headers):
            await self.general(scope, receive, send)
            return
        ticket = self._gate.enter()
        self._in_flight.count += 1
        try:
            handed_on = await self._answer(route, model, headers, scope, receive, send, started)
        finally:
            self._in_flight.count -= 1
            self._gate.leave(ticket)
        if handed_on is not None:
            await self._hand_on(scope, handed_on, receive, send, started)

    async def _answer(
        self, route: _Route, model: _Snapshot, headers: Headers, scope: Scope, receive: Receive, send: Send,
        started: float,
    ) -> Message | Exception | None:  # fmt: skip
        """Answer a request; if it is one for the general way, the first message that was received, or its fault."""
        try:
            with self._deadlines.start():
                message = await receive()
        except BodyTimeout as error:
            return error
        read = time.perf_counter()
        served = model.served
        request_id = identify(headers.get(b"x-request-id"))
        try:
            rows, unseen = self._decode(served, message, headers)
            self._gate.has_read(read - started)
            begun = time.perf_counter()
            evaluation = served.engine.evaluate_single(rows)
            taken = time.perf_counter() - begun
            answer = row_answer(request_id, served, rows, evaluation, model.asked, started, unseen)
            encoded = sending = time.perf_counter()
            if self._durable is not None:
                recorded = self._durable.record(*logged_one(request_id, headers, served, rows, evaluation, started))
                await self._flushed(recorded)
                sending = time.perf_counter()
        except DeadlineExceeded as error:  # the log may have the row already, and must not get it again
            return error
        except Exception:  # the general way meets it again, and knows the answer to it
            return message
        self._executor.count(served, "single", 1, taken)
        status, sent = ABANDONED, None
        try:
            await send(_start(answer, request_id))
            status = 200
            await send({"type": "http.response.body", "body": answer, "more_body": False})
            sent = time.perf_counter()
            route.drift.add_one(served.watched, rows, evaluation.prediction)
            if self._log is not None:
                self._log.record(*logged_one(request_id, headers, served, rows, evaluation, started))
        finally:
            client = scope["client"]
            ended = time.perf_counter()
            self.general.record(
                "POST", route.template, status, ended - started, client and client[0], request_id,
                times=(started, read, begun, begun + taken, encoded, sending, sent or ended),
            )  # fmt: skip
        return None

    def _model_of_now(self, route: _Route) -> _Snapshot | None:
        """The model that answers now; None if it does not answer on this way."""
        slot, model = route.slot, route.snapshot
        served = slot.current
        if served is None or slot.canary is not None or slot.shadow is not None or self._limited:
            return None
        if model is None or model.served is not served:
            asked = requested(b"", served, route.output, table=False)
            quick = self._executor.is_cheap(served, 1) and "raw_score" not in asked.additions
            model = route.snapshot = _Snapshot(served, quick, asked)
        return model if model.quick else None

    def _may_ask(self, headers: Headers) -> bool:
        """Whether a request has the key, or needs none."""
        if not self._keys:
            return True
        try:
            check_key(headers, self._keys)
        except (Unauthorized, BadRequest):
            return False
        return True

    def _decode(self, served: ServedModel, message: Message, headers: Headers) -> tuple[FloatArray, tuple[str, ...]]:
        """The row of a request, and warnings about it.

        Raises:
            _NotCommon: The message is not the whole body, or the body is not valid at first sight.
        """
        body = message.get("body", b"")
        whole = message["type"] == "http.request" and b"%d" % len(body) == headers[b"content-length"]
        row = served.codec.decode_valid_row(body) if whole and len(body) <= self._most_bytes else None
        if row is None:
            raise _NotCommon
        return row

    async def _flushed(self, recorded: Awaitable[None]) -> None:
        """Wait until a row is on the disk."""
        deadline = self._deadlines.start()
        deadline.reading = False
        with deadline:
            await recorded

    async def _hand_on(
        self, scope: Scope, first: Message | Exception, receive: Receive, send: Send, started: float
    ) -> None:
        """Have a request answered on the general way, of which the first message, or the lack of it, is known."""
        scope[STARTED] = started  # pyright: ignore[reportGeneralTypeIssues]
        told = False

        async def receive_again() -> Any:
            nonlocal told
            if told:
                return await receive()
            told = True
            if isinstance(first, Exception):
                raise first
            return first

        await self.general(scope, receive_again, send)


def _common_headers(scope: Scope) -> Headers | None:
    """The headers of a common request by name, None for another request."""
    if scope["method"] != "POST" or scope["query_string"]:
        return None
    given = scope["headers"]
    headers = dict(given)
    if (
        len(headers) != len(given)
        or headers.get(b"content-type") != JSON
        or b"content-length" not in headers
        or b"content-encoding" in headers
        or b"transfer-encoding" in headers
        or not is_host(headers.get(b"host", b""))
    ):
        return None
    return headers


def _start(answer: bytes, request_id: str) -> Any:
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", JSON), (b"content-length", b"%d" % len(answer)), (b"x-request-id", request_id.encode()),
        ],
    }  # fmt: skip
