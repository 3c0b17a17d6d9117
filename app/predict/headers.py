"""A request's headers by name, and what is wrong with them."""

import re
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any

from app.errors import BadRequest

HEADERS = "madrone_headers"
"""Key of the ASGI scope: the headers, once they were read."""

SINGLE = frozenset({b"host", b"authorization", b"x-api-key", b"content-type", b"content-length", b"transfer-encoding"})
"""Headers of which a second one makes a request mean two things: who looks at the first and who looks at the last would
not agree on it."""

HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")
"""The characters of a host and port (RFC 3986, section 3.2.2)."""

WITHOUT_HOST = ("1.0", "1")
"""HTTP/1.0, as the ASGI specification and as Granian call it: it knows no Host."""

Headers = dict[bytes, bytes]


def headers_of(scope: MutableMapping[str, Any]) -> Headers:
    """The headers of a request, read once: names in lower case, and values.

    Values of a name that is repeated are joined by commas (RFC 9110, section 5.3).

    Raises:
        BadRequest: One of SINGLE is repeated.
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
    """Refuse a request that does not say which host it is for (RFC 9112, section 3.2).

    Raises:
        BadRequest: There is no Host, or what it holds is none.
    """
    host = headers_of(scope).get(b"host", b"")
    if not _is_host(host) and (host or scope["http_version"] not in WITHOUT_HOST):
        raise BadRequest("A request must have one Host header, and in it a host.")


@lru_cache(maxsize=16)  # nearly all requests are for one
def _is_host(text: bytes) -> bool:
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
