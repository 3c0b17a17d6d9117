"""A request's body, read within limits."""

from litestar.types import Receive

from app.errors import MalformedBody, TooLarge
from app.serving.admission import Claim

FREE_MESSAGES = 1024
LEAST_MESSAGE_BYTES = 64
"""A message costs the event loop the same however little it brings: past the free ones, they must bring this much on
average."""

Body = bytes | bytearray
Headers = dict[bytes, bytes]


async def read_body(headers: Headers, receive: Receive, limit: int, setting: str, claim: Claim | None = None) -> Body:
    """Read it, and not a message more: where its length is known the message that says it has ended is not waited for.

    Args:
        headers: Of the request, names in lower case.
        receive: The connection's.
        limit: Bytes that it may have.
        setting: Name of the limit.
        claim: Holds what has come so far.

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
        if claim is not None:
            claim.hold_bytes(len(first))
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
        if claim is not None:
            claim.hold_bytes(len(body))
    if message["type"] != "http.request":
        raise MalformedBody("The body ended before it was complete.")
    return body


async def drain(receive: Receive, limit: int) -> None:
    """Read the rest of a body that was answered already: a client that still sends would miss the answer.

    Args:
        receive: The connection's.
        limit: Bytes after which the connection is given up instead.
    """
    seen = 0
    while seen <= limit:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return
        seen += len(message.get("body", b""))  # pyright: ignore[reportArgumentType]


def declared_bytes(headers: Headers) -> int | None:
    """The Content-Length, where there is one."""
    length = headers.get(b"content-length")
    return int(length) if length is not None and length.isdigit() else None
