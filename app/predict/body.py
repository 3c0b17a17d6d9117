"""A request's body, read within limits."""

import asyncio
import time

from litestar.types import Receive

from app.errors import MalformedBody, TooLarge
from app.serving.admission import Admission, Reservation

FREE_MESSAGES = 1024
LEAST_MESSAGE_BYTES = 64
"""A message costs the event loop the same however little it brings: past the free ones, they must bring this much on
average."""

DRAIN_SECONDS = 5.0
"""That a client gets to send the rest of a refused body."""

DRAIN_INTERVAL_S = 0.002
"""Between two messages of refused bodies."""

Body = bytes | bytearray
Headers = dict[bytes, bytes]


async def read_body(
    headers: Headers, receive: Receive, limit: int, setting: str, reservation: Reservation | None = None
) -> Body:
    """Read it, and not a message more: where its length is known the message that says it has ended is not waited for.

    Args:
        headers: Of the request, names in lower case.
        receive: The connection's.
        limit: Bytes that it may have.
        setting: Name of the limit.
        reservation: Holds what has come so far.

    Raises:
        TooLarge: It has more bytes, or says that it will have.
        MalformedBody: It ended early, or comes in a storm of tiny pieces.
        Overloaded: The service holds too much already.
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
            raise MalformedBody("The body comes in too many small pieces.")
        if reservation is not None:
            reservation.reserve_bytes(len(body))
    if message["type"] != "http.request":
        raise MalformedBody("The body ended before it was complete.")
    return body


class Drain:
    """Reads the rest of bodies that were answered already: a client that still sends would miss the answer.

    While others stand in line, all of them together get a message every DRAIN_INTERVAL_S, so that a flood of what is
    refused does not take the processor from what was let in. Who sends more on such a connection waits for it; the
    answer has long been sent.

    Args:
        admission: Knows of the line.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._next_read = 0.0

    async def __call__(self, receive: Receive, limit: int) -> None:
        """Read the rest of one body.

        Args:
            receive: The connection's.
            limit: Bytes after which the connection is given up instead.

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
    """The Content-Length, where there is one."""
    length = headers.get(b"content-length")
    return int(length) if length is not None and length.isdigit() else None
