"""Errors on the wire: the answer to a failed request, in the form of the protocol that its path belongs to.

The service's own routes answer with problem details (RFC 9457), which the OpenAPI document has as well. The codes of
MLflow's scoring server and their statuses are those of `mlflow.exceptions`. Its own messages may hold the caller's
values and a stack trace; these never do. What 422 says elsewhere, the other protocols say with 400.
"""

import logging
from collections.abc import Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec
from litestar.types import HTTPScope, Send

from app.errors import ERROR_TYPE, REFUSAL, REQUEST_ID, Failure, FieldError, ServiceError

PROBLEM_MEDIA_TYPE = "application/problem+json"

PROBLEM_STATUSES = (400, 401, 408, 413, 415, 422, 429, 500, 503, 504)
"""Statuses of the errors of a prediction route."""

ErrorForm = Callable[[Failure], tuple[HTTPStatus, bytes]]
"""Gives the status and the JSON body of the answer to a failed request."""

MLFLOW_CODES = {
    "invalid_input": "INVALID_PARAMETER_VALUE",
    "unauthorized": "UNAUTHENTICATED",
    "forbidden": "PERMISSION_DENIED",
    "not_found": "RESOURCE_DOES_NOT_EXIST",
    "not_explainable": "NOT_IMPLEMENTED",
    "too_many_requests": "RESOURCE_EXHAUSTED",
    "model_unavailable": "TEMPORARILY_UNAVAILABLE",
    "overloaded": "TEMPORARILY_UNAVAILABLE",
    "prediction_log_unavailable": "TEMPORARILY_UNAVAILABLE",
    "timeout": "DEADLINE_EXCEEDED",
}
"""Code by the kind of the error; another one has the code of its status."""

MLFLOW_CLASSES = {
    "BAD_REQUEST": ("KAM00", "INVALID_PARAMETER_VALUE"),
    "INVALID_PARAMETER_VALUE": ("KAM01", "SCHEMA_ENFORCEMENT_FAILED"),
    "PERMISSION_DENIED": ("KAM00", "PERMISSION_DENIED"),
    "RESOURCE_DOES_NOT_EXIST": ("KAM00", "RESOURCE_NOT_FOUND"),
    "INTERNAL_ERROR": ("XXM00", "CLIENT_INTERNAL_ERROR"),
    "TEMPORARILY_UNAVAILABLE": ("XXM00", "CLIENT_INTERNAL_ERROR"),
}
"""SQLSTATE and class by code, where MLflow has them (`mlflow.error_classification`)."""

log = logging.getLogger(__name__)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A problem details object (RFC 9457), extended by the id of the request and a list of invalid fields."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: tuple[FieldError, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """Answer to a failed request."""

    status: int
    headers: dict[str, str]
    media_type: str
    body: bytes


def failure_of(error: Exception, request_id: str) -> Failure:
    """What the caller of a request is told of an exception.

    The caller reads the texts of our own errors and of Litestar's client errors. For any other exception the caller
    reads a general sentence and the request id, under which the log has the traceback.
    """
    if isinstance(error, ServiceError):
        return Failure(
            status=HTTPStatus(error.status), kind=error.kind, detail=error.detail, errors=error.errors,
            request_id=request_id,
        )  # fmt: skip
    if isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        status = HTTPStatus(error.status_code)
        return Failure(
            status=status, kind=status.name.lower(), detail=_litestar_detail(status, error), request_id=request_id
        )
    log.error("request failed", exc_info=error)
    return Failure(
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        kind="internal",
        detail="The request failed inside the service. The log has the cause under this request id.",
        request_id=request_id,
    )


def answer_error(scope: MutableMapping[str, Any], error: Exception) -> Answer:
    """Turn any exception into an answer, as `failure_of` does; its kind and refusal go into the scope."""
    failure = failure_of(error, str(scope.get(REQUEST_ID, "")))
    scope[ERROR_TYPE], scope[REFUSAL] = failure.kind, getattr(error, "refusal", None)
    headers = _headers(error, failure.status)
    form = protocol_error(scope["path"])
    if form is None:
        return Answer(failure.status.value, headers, PROBLEM_MEDIA_TYPE, _problem(failure))
    status, body = form(failure)
    return Answer(status.value, headers, "application/json", body)


def _headers(error: Exception, status: HTTPStatus) -> dict[str, str]:
    """Headers that belong to an error."""
    headers: dict[str, str] = {}
    if isinstance(error, ServiceError):
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, HTTPException) and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        headers.update(error.headers or {})
        if "allow" in headers:
            headers["allow"] = allow_head(headers["allow"])
    return headers


def _problem(failure: Failure) -> bytes:
    return msgspec.json.encode(
        Problem(
            type=f"urn:madrone:problem:{failure.kind.replace('_', '-')}",
            title=failure.status.phrase,
            status=failure.status.value,
            detail=failure.detail,
            request_id=failure.request_id,
            errors=failure.errors,
        )
    )


async def send_error(
    scope: HTTPScope, send: Send, error: Exception, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer a failed request, with further headers."""
    answer = answer_error(scope, error)  # pyright: ignore[reportArgumentType]
    start: Any = {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            *((name.lower().encode(), value.encode()) for name, value in answer.headers.items()),
            *headers,
        ],
    }
    await send(start)
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body, "more_body": False})


def to_answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Litestar's exception handler: see `answer_error`."""
    answer = answer_error(request.scope, error)  # pyright: ignore[reportArgumentType]
    return Response(answer.body, status_code=answer.status, media_type=answer.media_type, headers=answer.headers)


def allow_head(allowed: str) -> str:
    """The sorted value of an Allow header, with HEAD if it has GET: every route that answers GET answers HEAD."""
    methods = {*allowed.split(", ")}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _litestar_detail(status: HTTPStatus, error: HTTPException) -> str:
    match status:
        case HTTPStatus.NOT_FOUND:
            return "This route does not exist."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"This route supports only {allow_head((error.headers or {}).get('allow', 'other methods'))}."
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "The body is larger than MAX_JSON_BYTES."
        case _:
            return error.detail


def problem_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """Error responses of a route, by status, for the OpenAPI document."""
    return {
        status: ResponseSpec(
            Problem, description=HTTPStatus(status).phrase, media_type=PROBLEM_MEDIA_TYPE, generate_examples=False
        )
        for status in sorted(statuses)
    }


class MlflowError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of the answer of MLflow's scoring server to a failed request."""

    error_code: str
    message: str
    sqlstate: str | None = None
    error_class: str | None = None


def mlflow_error(failure: Failure) -> tuple[HTTPStatus, bytes]:
    """Status and body of an error as MLflow's scoring server has it."""
    status = _without_422(failure)
    by_status = "INTERNAL_ERROR" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "BAD_REQUEST"
    code = MLFLOW_CODES.get(failure.kind, by_status)
    return status, msgspec.json.encode(MlflowError(code, failure.message(), *MLFLOW_CLASSES.get(code, ())))


class InferenceError(msgspec.Struct, frozen=True):
    """Body of the answer to a failed request in the Open Inference Protocol, and in KServe's version 1."""

    error: str


def inference_error(failure: Failure) -> tuple[HTTPStatus, bytes]:
    """Status and body of an error as the Open Inference Protocol has it."""
    return _without_422(failure), msgspec.json.encode(InferenceError(failure.message()))


def protocol_error(path: str) -> ErrorForm | None:
    """Form of the errors of a path; None where they are problem details."""
    first, _, _ = path.lstrip("/").partition("/")  # routes are found with more slashes, too
    if first in ("v1", "v2"):
        return inference_error
    return mlflow_error if first == "invocations" else None


def _without_422(failure: Failure) -> HTTPStatus:
    return HTTPStatus.BAD_REQUEST if failure.status == HTTPStatus.UNPROCESSABLE_ENTITY else failure.status
