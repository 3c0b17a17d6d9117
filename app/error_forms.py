"""Forms of errors by the protocol of their path: those of MLflow's scoring server, and of the Open Inference Protocol.

MLflow's codes and their statuses are those of `mlflow.exceptions`. Its own messages may hold the caller's values and a
stack trace; these never do. What 422 says elsewhere, both protocols say with 400.
"""

from collections.abc import Callable
from http import HTTPStatus

import msgspec

from app.errors import Failure

ErrorForm = Callable[[Failure], tuple[HTTPStatus, bytes]]
"""Gives the status and the JSON body of the answer to a failed request."""

CODES = {
    "invalid_input": "INVALID_PARAMETER_VALUE",
    "unauthorized": "UNAUTHENTICATED",
    "forbidden": "PERMISSION_DENIED",
    "not_found": "RESOURCE_DOES_NOT_EXIST",
    "too_many_requests": "RESOURCE_EXHAUSTED",
    "model_unavailable": "TEMPORARILY_UNAVAILABLE",
    "overloaded": "TEMPORARILY_UNAVAILABLE",
    "prediction_log_unavailable": "TEMPORARILY_UNAVAILABLE",
    "timeout": "DEADLINE_EXCEEDED",
}
"""Code by the kind of the error; another one has the code of its status."""

CLASSES = {
    "BAD_REQUEST": ("KAM00", "INVALID_PARAMETER_VALUE"),
    "INVALID_PARAMETER_VALUE": ("KAM01", "SCHEMA_ENFORCEMENT_FAILED"),
    "PERMISSION_DENIED": ("KAM00", "PERMISSION_DENIED"),
    "RESOURCE_DOES_NOT_EXIST": ("KAM00", "RESOURCE_NOT_FOUND"),
    "INTERNAL_ERROR": ("XXM00", "CLIENT_INTERNAL_ERROR"),
    "TEMPORARILY_UNAVAILABLE": ("XXM00", "CLIENT_INTERNAL_ERROR"),
}
"""SQLSTATE and class by code, where MLflow has them (`mlflow.error_classification`)."""


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
    code = CODES.get(failure.kind, by_status)
    return status, msgspec.json.encode(MlflowError(code, failure.message(), *CLASSES.get(code, ())))


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
