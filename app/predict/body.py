"""Reading of request bodies within limits."""

import asyncio
import time

from litestar.types import Receive

from app.errors import MalformedBody, TooLarge
from app.serving.admission import Admission, Reservation

FREE_MESSAGES = 1024
LEAST_MESSAGE_BYTES = 64
"""Least bytes of a message on average, after the first FREE_MESSAGES: a message costs the event loop the same, however
few bytes it has."""

DRAINED_BYTES = 16 * 1024 * 1024
DRAINED_BYTES_OVERLOADED = 256 * 1024
"""Most bytes that are read of a body after its request was refused, in general and for lack of room. If the body has
more, the connection is closed."""

DRAIN_SECONDS = 5.0
"""Time a client has to send the rest of a refused body."""

DRAIN_INTERVAL_S = 0.002
"""Shortest time between two messages of refused bodies, while other requests are queued."""

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
        reservation: Reservation for the bytes received so far.

    Raises:
        TooLarge: The body has more bytes than the limit, or declares that it will have.
        MalformedBody: The body ended early, or arrives in too many tiny pieces.
        Overloaded: The service has no room for more bytes.
    """
    declared = declared_bytes(headers)
    if declared is not None and declared > limit:
        raise TooLarge(f"The body is larger than {setting}.")
    message = await receive()
    first: bytes = message.get("body", b"")  # pyright: ignore[reportAssignmentType]
    if message["type"] == "http.request" and (len(first) == declared or not message.get("more_body")):
        if len(first) > limit:
            raise TooLarge(f"The body is larger than {setting}.")
        if reservation is not None:
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
        if reservation is not None:
            reservation.reserve_bytes(len(body))
    if message["type"] != "http.request":
        raise MalformedBody("The body ended before it was complete.")
    return body


class Drain:
    """Reads the rest of bodies whose requests were refused, since a client that is still sending would miss the answer.

    While other requests are queued, one message of all such bodies is read every DRAIN_INTERVAL_S, so that a flood of
    refused requests does not take the processor from the accepted ones. Nobody waits for that: the answer was sent
    before.

    Args:
        admission: Admission, which has the queue.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._next_read = 0.0

    async def __call__(self, receive: Receive, limit: int) -> None:
        """Read the rest of one body.

        Args:
            receive: ASGI `receive` of the connection.
            limit: Bytes after which reading stops, which closes the connection.

        Raises:
            TimeoutError: The client took too long.
        """
        seen = 0
        async with asyncio.timeout(DRAIN_SECONDS) as patience:
            while seen <= limit:
                now = time.monotonic()
                if self._admission.queued:
                    self._next_read = max(now, self._next_read + DRAIN_INTERVAL_S)
                    patience.reschedule((patience.when() or 0.0) + self._next_read - now)
                    await asyncio.sleep(self._next_read - now)
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
                seen += len(message.get("body", b""))  # pyright: ignore[reportArgumentType]


def declared_bytes(headers: Headers) -> int | None:
    """The Content-Length, None where it is absent."""
    length = headers.get(b"content-length")
    return int(length) if length is not None and length.isdigit() else None
