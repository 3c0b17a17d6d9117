"""Reading of request bodies within limits."""

import asyncio

from litestar.types import Receive

from app.errors import MalformedBody, TooLarge
from app.serving.admission import Reservation

SMALL_BODY_BYTES = 32 * 1024
"""Largest body that is read and answered on the event loop, in a fraction of a millisecond; others go to threads. What
smaller ones hold is bounded by the number of requests in progress."""

FREE_MESSAGES = 1024
LEAST_MESSAGE_BYTES = 64
"""Least bytes of a message on average, after the first FREE_MESSAGES: a message costs the event loop the same, however
few bytes it has."""

DRAINED_BYTES = 16 * 1024 * 1024
"""Most bytes that are read of a body after its request was refused. If the body has more, the connection is closed."""

DRAIN_SECONDS = 5.0
"""Time a client has to send the rest of a refused body."""

Body = bytes | bytearray
Headers = dict[bytes, bytes]


async def read_body(
    headers: Headers, receive: Receive, limit: int, setting: str, reservation: Reservation | None = None
) -> Body:
    """Read a body, without waiting for an empty last message if its length is known.

    Args:
        headers: Headers of the request, names in lower case.
        receive: ASGI `receive` of the connection.
        limit: Most bytes of the body.
        setting: Name of that limit.
        reservation: Reservation for the bytes received so far, if they are more than SMALL_BODY_BYTES.

    Raises:
        TooLarge: The body has more bytes than the limit, or declares that it will have.
        MalformedBody: The body ended early, or arrives in too many tiny pieces.
        Overloaded: The service has no room for more bytes, reads too many large bodies, or would take too long; of a
            large body with a Content-Length, nothing was read then.
    """
    declared = declared_bytes(headers)
    if declared is not None and declared > limit:
        raise TooLarge(f"The body is larger than {setting}.")
    is_large = declared is not None and declared > SMALL_BODY_BYTES
    if is_large and reservation is not None:
        reservation.expect_bytes(declared or 0)
    message = await receive()
    first: bytes = message.get("body", b"")  # pyright: ignore[reportAssignmentType]
    if message["type"] == "http.request" and (len(first) == declared or not message.get("more_body")):
        if len(first) > limit:
            raise TooLarge(f"The body is larger than {setting}.")
        if reservation is not None and len(first) > SMALL_BODY_BYTES:
            reservation.reserve_bytes(len(first))
        return first
    body = bytearray(first)
    count = 1
    while message["type"] == "http.request" and message.get("more_body") and len(body) != declared:
        message = await receive()
        body += message.get("body", b"")  # pyright: ignore[reportArgumentType, reportOperatorIssue]
        count += 1
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {setting}.")
        if count > FREE_MESSAGES and len(body) < (count - FREE_MESSAGES) * LEAST_MESSAGE_BYTES:
            raise MalformedBody("The body arrives in too many small pieces.")
        if reservation is not None and len(body) > SMALL_BODY_BYTES:
            if not is_large:
                is_large = True
                reservation.expect_bytes(len(body))
            reservation.reserve_bytes(len(body))
    if message["type"] != "http.request":
        raise MalformedBody("The body ended before it was complete.")
    return body


async def drain(receive: Receive) -> None:
    """Read the rest of the body of a refused request, since a client that is still sending would miss the answer.

    Nobody waits for that: the answer was sent before.

    Args:
        receive: ASGI `receive` of the connection.

    Raises:
        TimeoutError: The client took too long.
    """
    seen = 0
    async with asyncio.timeout(DRAIN_SECONDS):
        while seen <= DRAINED_BYTES:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                return
            seen += len(message.get("body", b""))  # pyright: ignore[reportArgumentType]


def declared_bytes(headers: Headers) -> int | None:
    """The Content-Length, None where it is absent."""
    length = headers.get(b"content-length")
    return int(length) if length is not None and length.isdigit() else None
