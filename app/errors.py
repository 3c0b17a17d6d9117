"""The errors that a caller can meet, and their shape on the wire: RFC 9457 problem details.

Layers below HTTP raise the plain exceptions defined here; `to_problem` is the one place that gives each its status.
"""

import logging
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec

PROBLEM_MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "madrone_request_id"
ERROR_TYPE = "madrone_error_type"
"""Keys of the ASGI scope: the id that a request is known by, and the kind of error it ended in."""

PROBLEM_STATUSES = (400, 401, 408, 413, 415, 422, 429, 500, 503, 504)
"""What a prediction route can answer besides 200."""

log = logging.getLogger(__name__)


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field of a request body."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A problem details object (RFC 9457), with the request's id and, for bad fields, a list of them."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: tuple[FieldError, ...] = ()


class ServiceError(Exception):
    """An error whose text is meant for the caller.

    Attributes:
        status: HTTP status that it is answered with.
        kind: Short name, used in `type` and as the metrics label `error_type`.
        retry_after: Seconds after which a new attempt makes sense, if it ever does.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "internal"
    retry_after: int | None = None

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class BadRequest(ServiceError):
    """The request contradicts itself, or lacks what HTTP asks of it."""

    status = HTTPStatus.BAD_REQUEST
    kind = "bad_request"


class MalformedBody(ServiceError):
    """The body cannot be read as the format that its content type names."""

    status = HTTPStatus.BAD_REQUEST
    kind = "malformed_body"


class InvalidInput(ServiceError):
    """The body was read, but fields of it are not what the model takes."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "invalid_input"


class TooLarge(ServiceError):
    """The body holds more rows or bytes than the limit allows."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = "too_large"


class UnsupportedMediaType(ServiceError):
    """The route does not read the content type."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    kind = "unsupported_media_type"


class NotAcceptable(ServiceError):
    """The route does not answer in any format that Accept asks for."""

    status = HTTPStatus.NOT_ACCEPTABLE
    kind = "not_acceptable"


class Unauthorized(ServiceError):
    """No valid key came with the request."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "unauthorized"


class Forbidden(ServiceError):
    """The route is closed by configuration."""

    status = HTTPStatus.FORBIDDEN
    kind = "forbidden"


class ModelUnavailable(ServiceError):
    """No model is loaded, so nothing can be predicted yet."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "model_unavailable"
    retry_after = 5


class PredictionNotFinite(ServiceError):
    """The model has no finite prediction for a row, or no finite interval: the fault is the model's, not the caller's.

    Args:
        detail: For the caller.
        errors: What is not finite, by the names that bulk answers give to their columns.
        rows: How many rows it is.
    """

    kind = "prediction_not_finite"

    def __init__(self, detail: str, errors: tuple[FieldError, ...], rows: int) -> None:
        super().__init__(detail, errors)
        self.rows = rows


class NotFound(ServiceError):
    """What the request names does not exist."""

    status = HTTPStatus.NOT_FOUND
    kind = "not_found"


class Overloaded(ServiceError):
    """The service has as much to do as it can hold, or as can be done in a sensible time.

    Args:
        detail: For the caller.
        retry_after: Seconds after which there is hope.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "overloaded"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class BodyTimeout(ServiceError):
    """The body did not come within REQUEST_TIMEOUT."""

    status = HTTPStatus.REQUEST_TIMEOUT
    kind = "body_timeout"


class Disconnected(Exception):
    """The caller has gone: there is nobody to answer."""


class DeadlineExceeded(ServiceError):
    """The request was not answered within REQUEST_TIMEOUT."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    kind = "timeout"


class Answer(msgspec.Struct, frozen=True):
    """An error on the wire: a status, headers, and a problem details object as JSON."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer_problem(scope: MutableMapping[str, Any], error: Exception) -> Answer:
    """Put any exception as problem details, and note its kind in the scope.

    The texts of our own errors and of Litestar's client errors reach the caller. Of anything else the caller sees a
    general sentence and the request id, under which the log holds the traceback.
    """
    errors: tuple[FieldError, ...] = ()
    headers: dict[str, str] = {}
    if isinstance(error, ServiceError):
        status, kind, detail, errors = HTTPStatus(error.status), error.kind, error.detail, error.errors
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        status = HTTPStatus(error.status_code)
        kind = status.name.lower()
        detail = _litestar_detail(status, error)
        headers.update(error.headers or {})
        if "allow" in headers:
            headers["allow"] = allow_head(headers["allow"])
        if status == HTTPStatus.TOO_MANY_REQUESTS and (reset := headers.get("RateLimit-Reset")):
            headers["Retry-After"] = reset
    else:
        status, kind = HTTPStatus.INTERNAL_SERVER_ERROR, "internal"
        detail = "The request failed inside the service. The log has the cause under this request id."
        log.error("request failed", exc_info=error)
    scope[ERROR_TYPE] = kind
    problem = Problem(
        type=f"urn:madrone:problem:{kind.replace('_', '-')}",
        title=status.phrase,
        status=status.value,
        detail=detail,
        request_id=str(scope.get(REQUEST_ID, "")),
        errors=errors,
    )
    return Answer(status.value, headers, msgspec.json.encode(problem))


def to_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Litestar's exception handler: see `answer_problem`."""
    answer = answer_problem(request.scope, error)  # pyright: ignore[reportArgumentType]
    return Response(answer.body, status_code=answer.status, media_type=PROBLEM_MEDIA_TYPE, headers=answer.headers)


def allow_head(allowed: str) -> str:
    """The value of an Allow header in order, with HEAD where GET is in it: whatever answers GET answers HEAD."""
    methods = {*allowed.split(", ")}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _litestar_detail(status: HTTPStatus, error: HTTPException) -> str:
    match status:
        case HTTPStatus.NOT_FOUND:
            return "There is no such route."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"The route answers {allow_head((error.headers or {}).get('allow', 'other methods'))} only."
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "The body is larger than MAX_JSON_BYTES."
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "The client made more requests in this minute than RATE_LIMIT allows."
        case _:
            return error.detail


def problem_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """Errors of a route by their statuses, for the OpenAPI document."""
    return {
        status: ResponseSpec(
            Problem, description=HTTPStatus(status).phrase, media_type=PROBLEM_MEDIA_TYPE, generate_examples=False
        )
        for status in sorted(statuses)
    }
