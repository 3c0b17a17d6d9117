"""Request headers by name, and their checks; headers added to answers."""

import re
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any

from litestar.types import Message, Send

from app.errors import BadRequest

HEADERS = "madrone_headers"
"""Key of the ASGI scope: the headers by name, after they were read once."""

SINGLE = frozenset({b"host", b"authorization", b"x-api-key", b"content-type", b"content-length", b"transfer-encoding"})
"""Headers that must not be repeated. Otherwise a proxy that reads the first one and a service that reads the last one
would understand the request differently."""

HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")
"""The characters of a host and port (RFC 3986, section 3.2.2)."""

WITHOUT_HOST = ("1.0", "1")
"""HTTP/1.0, as the ASGI specification and Granian spell it. It does not require a Host header."""

Headers = dict[bytes, bytes]


def adding_headers(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    """A `send` that adds headers to an answer."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return send_with_headers


def headers_of(scope: MutableMapping[str, Any]) -> Headers:
    """The headers of a request by name in lower case; they are read once per request.

    The values of a repeated header are joined by commas (RFC 9110, section 5.3).

    Raises:
        BadRequest: A header of SINGLE is repeated.
    """
    found: Headers | None = scope.get(HEADERS)
    if found is None:
        given: list[tuple[bytes, bytes]] = scope["headers"]
        found = dict(given)
        if len(found) != len(given):
            found = _joined(given)
        scope[HEADERS] = found
    return found


def check_host(scope: MutableMapping[str, Any]) -> None:
    """Refuse a request that does not name its host (RFC 9112, section 3.2).

    Raises:
        BadRequest: The Host header is absent or not valid.
    """
    host = headers_of(scope).get(b"host", b"")
    if not is_host(host) and (host or scope["http_version"] not in WITHOUT_HOST):
        raise BadRequest("The request must have one valid Host header.")


@lru_cache(maxsize=16)  # nearly all requests name the same host
def is_host(text: bytes) -> bool:
    """Whether this is a valid Host header."""
    return HOST.fullmatch(text) is not None


def _joined(given: Iterable[tuple[bytes, bytes]]) -> Headers:
    joined: Headers = {}
    for name, value in given:
        if name in joined:
            if name in SINGLE:
                raise BadRequest(f"The header {name.decode()} appears more than once.")
            value = joined[name] + b", " + value
        joined[name] = value
    return joined
