"""Errors as the Open Inference Protocol has them: one text, as JSON."""

from http import HTTPStatus

import msgspec

from app.errors import Failure


class InferenceError(msgspec.Struct, frozen=True):
    """Body of an answer to a failed request."""

    error: str


def error_body(failure: Failure) -> tuple[HTTPStatus, bytes]:
    """Status and body of the answer to a failed request. An argument that is not valid is 400, and not 422."""
    status = HTTPStatus.BAD_REQUEST if failure.status == HTTPStatus.UNPROCESSABLE_ENTITY else failure.status
    return status, msgspec.json.encode(InferenceError(failure.message()))
