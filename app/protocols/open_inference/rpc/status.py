"""Errors as gRPC has them: a status code and a text."""

from http import HTTPStatus
from urllib.parse import quote

import grpc

from app.errors import Failure

CODES = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    # What grpcio itself answers to a message that is too large; it may fit into another server's limits.
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Status code by HTTP status; the others are the caller's fault below 500, and the service's from there on."""

MOST_BYTES = 4096
"""Most bytes of a text as it is sent, in percent-encoding. Clients refuse an answer with 8 KiB of metadata or more."""


def code_of(failure: Failure) -> grpc.StatusCode:
    """Status code of a failed call."""
    by_default = grpc.StatusCode.INTERNAL
    if failure.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        by_default = grpc.StatusCode.INVALID_ARGUMENT
    return CODES.get(failure.status, by_default)


def text_of(failure: Failure) -> str:
    """Text of a failed call, shortened where it is too long to be sent. That of the service's own faults has the id."""
    text = failure.message()
    if failure.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        text = f"{text} Request id: {failure.request_id}."
    size = 0
    for place, character in enumerate(text):
        size += len(quote(character, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}", errors="replace"))
        if size > MOST_BYTES:
            return text[: place - 1] + "…"
    return text
