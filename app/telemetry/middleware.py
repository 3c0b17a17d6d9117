"""Id, metrics and log line of every request, whatever its answer.

It wraps the whole application, so that a 404 and a 405 are counted and logged like any other answer.
"""

import random
import re
import time

from app.errors import BROKEN_OFF, ERROR_TYPE, REFUSAL, REQUEST_ID
from app.telemetry.asgi_types import ASGIApp, Message, Receive, Scope, Send
from app.telemetry.logging import request_id
from app.telemetry.metrics import Metrics
from app.telemetry.request_log import RequestLog
from app.telemetry.stages import Times
from app.telemetry.tracing.current import Traces, current_trace

STARTED = "madrone_started"
"""Key of the ASGI scope: when a request began, where it did before it came here."""

ABANDONED = 499
"""nginx's status for a client that left before it had the whole answer."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""Methods with a label of their own. The rest share one, since a caller can invent any number of methods."""

UNMATCHED = "unmatched"
"""Endpoint label of all requests that match no route, for the same reason."""

WATCHERS = frozenset({"/metrics", "/console/live"})
"""Paths of those who watch, and are not in flight: a scrape would always see itself, and a page stays for hours."""

UNNAMED_ERRORS = {ABANDONED: "disconnected", 503: "unavailable"}
"""Error types of statuses that are answered without an exception, such as an unhealthy health page."""

FIXED_BITS = 7 << 76 | 0b10 << 62
"""Version and variant bits of a UUID of version 7, below its 48 bits of milliseconds."""

RANDOM_BITS = ((1 << 80) - 1) & ~(0b1111 << 76 | 0b11 << 62)

VALID_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestTelemetry:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        metrics: Metrics that count and time requests.
        request_log: Log with a line for each request.
        routes: Paths of all routes, so that a 405 is counted under its route.
        traces: Traces of requests; None while there are none.

    Attributes:
        traces: The same, for calls of gRPC. `tracing.middleware` records those of HTTP, on the straight way as well.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, request_log: RequestLog, routes: frozenset[str],
        traces: Traces | None = None,
    ) -> None:  # fmt: skip
        self.traces = traces
        self._app = app
        self._metrics = metrics
        self._log = request_log
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request through the application, and record it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started: float = scope.get(STARTED) or time.perf_counter()
        identifier = identify(next((value for name, value in scope["headers"] if name == b"x-request-id"), None))
        scope[REQUEST_ID] = identifier
        token = request_id.set(identifier)
        header = (b"x-request-id", identifier.encode())
        status = ABANDONED

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        counted = scope["path"] not in WATCHERS
        self._metrics.in_flight.count += counted
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            if scope.get(BROKEN_OFF):
                status = ABANDONED
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            client = scope["client"]
            seconds = time.perf_counter() - started
            self._metrics.in_flight.count -= counted
            kind, refusal = scope.get(ERROR_TYPE), scope.get(REFUSAL)
            self.record(method, self._endpoint(scope), status, seconds, client and client[0], identifier, kind, refusal)
            request_id.reset(token)

    def record(
        self, method: str, endpoint: str, status: int, seconds: float, client: str | None, identifier: str,
        kind: str | None = None, refusal: str | None = None, times: Times | None = None,
    ) -> None:  # fmt: skip
        """Count a request, and write its line.

        Args:
            method: One of METHODS, or OTHER.
            endpoint: Path of its route.
            status: Status of the answer.
            seconds: Time that it took.
            client: Address of the client.
            identifier: Id of the request.
            kind: Kind of error with which it ended.
            refusal: Reason, if it was refused.
            times: Its times, if it went the straight way; the general way counts its stages itself.
        """
        self._metrics.requests.add((method, endpoint, str(status)))
        self._metrics.request_duration.observe((method, endpoint), seconds)
        if (trace := current_trace.get()) is not None:
            trace.answered(method, None if endpoint == UNMATCHED else endpoint, status, kind, identifier)
            self._metrics.request_duration.show((method, endpoint), seconds, trace.trace_id)
        if times is not None:
            self._metrics.stages.add_times(times)
        if status >= 400:
            self._metrics.errors.labels(kind or UNNAMED_ERRORS.get(status, "other"), endpoint).inc()
            if refusal is not None:
                self._metrics.refusals.add((refusal,))
        self._log.record(method, endpoint, status, seconds, client, identifier, trace)

    def _endpoint(self, scope: Scope) -> str:
        if template := scope.get("path_template"):
            return template
        path = scope["path"].rstrip("/") or "/"
        return path if path in self._routes else UNMATCHED


def identify(given: bytes | None) -> str:
    """The caller's X-Request-ID if it is safe in headers and logs, otherwise a new id."""
    if given is not None and VALID_ID.fullmatch(text := given.decode("latin-1")):
        return text
    return new_id()


def new_id() -> str:
    """A UUID of version 7 (RFC 9562), without dashes. Such ids sort by time.

    So the index of the prediction log grows at its end. With random ids the database would write a page for each row.
    """
    return f"{time.time_ns() // 1_000_000 << 80 | random.getrandbits(80) & RANDOM_BITS | FIXED_BITS:032x}"
