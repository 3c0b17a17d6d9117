"""Forms of errors by the protocol of their path."""

from collections.abc import Callable
from http import HTTPStatus

from app.errors import Failure
from app.protocols.mlflow.errors import error_body as mlflow_error
from app.protocols.open_inference.errors import error_body as inference_error

ErrorForm = Callable[[Failure], tuple[HTTPStatus, bytes]]
"""Gives the status and the JSON body of the answer to a failed request."""


def protocol_error(path: str) -> ErrorForm | None:
    """Form of the errors of a path; None where they are problem details."""
    first, _, _ = path.lstrip("/").partition("/")  # routes are found with more slashes, too
    if first in ("v1", "v2"):
        return inference_error
    return mlflow_error if first == "invocations" else None
