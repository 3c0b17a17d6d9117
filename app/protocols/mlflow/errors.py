"""Errors as MLflow's scoring server answers them: a code and a message, as JSON.

The codes and their statuses are those of `mlflow.exceptions`. MLflow's own messages may hold the caller's values and a
stack trace; these never do.
"""

from http import HTTPStatus

import msgspec

from app.errors import Failure

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
    """Body of an answer to a failed request."""

    error_code: str
    message: str
    sqlstate: str | None = None
    error_class: str | None = None


def error_body(failure: Failure) -> tuple[HTTPStatus, bytes]:
    """Status and body of the answer to a failed request. What 422 says elsewhere, MLflow says with 400."""
    status = HTTPStatus.BAD_REQUEST if failure.status == HTTPStatus.UNPROCESSABLE_ENTITY else failure.status
    by_status = "INTERNAL_ERROR" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "BAD_REQUEST"
    code = CODES.get(failure.kind, by_status)
    return status, msgspec.json.encode(MlflowError(code, failure.message(), *CLASSES.get(code, ())))
