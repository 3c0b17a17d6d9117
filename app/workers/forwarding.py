"""Requests that concern all workers, which the leader answers whichever worker they came to.

Reports are of what only the leader knows, and orders of an operator are the leader's to carry out. While the leader
does not answer, a report is of this worker alone, and an order gets 503.
"""

from typing import Any, cast

from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Receive, Scope, Send

from app.errors import ERROR_TYPE, REFUSAL, REQUEST_ID, ServiceError, Unled
from app.headers import headers_of
from app.predict.body import drain, read_body
from app.problems import send_error
from app.telemetry.logging import request_id
from app.workers.link import LinkLost
from app.workers.messages import Done, HttpAnswer, HttpRequest, Ping
from app.workers.team import ANSWER_S, Team

REPORTS = frozenset({"/health", "/health/detailed", "/health/model", "/health/gpu", "/drift", "/outcomes"})
REPORTS_OF_MODELS = ("/health/model/", "/drift/")
"""Paths of reports, and what those about one of several models begin with."""

ORDERS = ("/health/model/", "/hooks/", "/v2/repository/")
"""What the paths of orders begin with."""

LATER_S = 5.0
"""Time beyond REQUEST_TIMEOUT for the leader's answer to an order."""


class Forwarding:
    """ASGI application that has the leader answer what concerns all workers, and hands all else on.

    Args:
        app: Answers all other requests, and those of other workers if this one leads.
        team: The workers.
        limit: MAX_JSON_BYTES.
        timeout: REQUEST_TIMEOUT.
    """

    def __init__(self, app: ASGIApp, team: Team, limit: int, timeout: float) -> None:
        self._app = app
        self._team = team
        self._limit = limit
        self._timeout = timeout + LATER_S
        team.answer(HttpRequest, self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or self._team.leads:
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")
        if scope["method"] == "GET" and (path in REPORTS or path.startswith(REPORTS_OF_MODELS)):
            try:
                answer = await self._team.ask_leader(_request(scope, b""), HttpAnswer)
            except LinkLost:
                await self._app(scope, receive, send)
            else:
                await _send(scope, send, answer)
        elif scope["method"] == "POST" and scope["path"].startswith(ORDERS):
            await self._forward_order(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _forward_order(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(headers_of(scope), receive, self._limit, "MAX_JSON_BYTES")  # pyright: ignore[reportArgumentType]
            await self._team.ask_leader(Ping(), Done, ANSWER_S)  # a leader that hangs is not waited for
            answer = await self._team.ask_leader(_request(scope, bytes(body)), HttpAnswer, self._timeout)
        except LinkLost:
            await send_error(scope, send, Unled())
        except ServiceError as error:
            await send_error(scope, send, error)
            await drain(receive)
        else:
            await _send(scope, send, answer)

    async def _answer(self, request: HttpRequest) -> HttpAnswer | None:
        """Answer a request that came to another worker, if this one leads."""
        if not self._team.leads:
            return None
        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "server": None,
            "root_path": "",
            "method": request.method,
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query,
            "headers": request.headers,
            "client": request.client,
            "state": {},
            REQUEST_ID: request.request_id,
        }
        token = request_id.set(request.request_id)
        status, headers, body = 500, list[tuple[bytes, bytes]](), bytearray()

        async def receive() -> HTTPReceiveMessage:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.extend((bytes(name), bytes(value)) for name, value in message.get("headers", ()))
            else:
                body.extend(message.get("body", b""))

        try:
            await self._app(scope, receive, cast(Send, send))
        finally:
            request_id.reset(token)
        return HttpAnswer(
            status, headers, bytes(body), scope.get(ERROR_TYPE), scope.get(REFUSAL), scope.get("path_template")
        )


def _request(scope: HTTPScope, body: bytes) -> HttpRequest:
    client = scope["client"]
    return HttpRequest(
        scope["method"], scope["path"], scope["query_string"], [(name, value) for name, value in scope["headers"]],
        None if client is None else (client[0], int(client[1])), str(scope.get(REQUEST_ID, "")), body,
    )  # fmt: skip


async def _send(scope: HTTPScope, send: Send, answer: HttpAnswer) -> None:
    known: Any = scope
    known[ERROR_TYPE], known[REFUSAL] = answer.kind, answer.refusal
    if answer.template is not None:
        known["path_template"] = answer.template
    start: Any = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
