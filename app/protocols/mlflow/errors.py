"""Errors as MLflow's scoring server answers them: a code and a message, as JSON."""

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


class MlflowError(msgspec.Struct, frozen=True):
    """Body of an answer to a failed request."""

    error_code: str
    message: str


def error_body(failure: Failure) -> tuple[HTTPStatus, bytes]:
    """Status and body of the answer to a failed request. What 422 says elsewhere, MLflow says with 400."""
    status = HTTPStatus.BAD_REQUEST if failure.status == HTTPStatus.UNPROCESSABLE_ENTITY else failure.status
    by_status = "INTERNAL_ERROR" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "BAD_REQUEST"
    code = CODES.get(failure.kind, by_status)
    return status, msgspec.json.encode(MlflowError(code, failure.message()))
