"""What both clients have in common of httpx."""

import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from madrone.client.attempts import Attempt, Lost, Reply
from madrone.client.calls import Calls


def http_options(calls: Calls, verify: Any, transport: Callable[..., Any]) -> dict[str, Any]:
    """Arguments of a client of httpx, which has this kind of transport."""
    if isinstance(verify, str | Path):
        verify = ssl.create_default_context(cafile=verify)
    parts = urlsplit(calls.url)
    return {
        "base_url": calls.url,
        "headers": calls.headers,
        "follow_redirects": False,  # would take the key elsewhere
        "trust_env": not _is_here(cast(str, parts.hostname)),
        "transport": None if calls.socket is None else transport(uds=calls.socket),
        "verify": verify if parts.scheme == "https" else False,  # certificate authorities take 30 ms to read
    }


def outgoing(attempt: Attempt) -> dict[str, Any]:
    """Arguments of a request of httpx."""
    request = attempt.request
    headers = {"Accept": request.accept, **dict(request.headers)}
    if request.body:
        headers["Content-Type"] = request.media_type
    return {
        "method": request.method, "url": request.path, "content": request.body or None, "headers": headers,
        "timeout": attempt.seconds,
    }  # fmt: skip


class Body:
    """The body of an answer, piece by piece, up to a number of bytes.

    Args:
        attempt: What is answered.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._pieces: list[bytes] = []
        self._most = self._left = attempt.most_bytes

    def add(self, piece: bytes) -> Lost | None:
        """Take the next piece; if the body is too large, what becomes of the request."""
        self._left -= len(piece)
        self._pieces.append(piece)
        if self._left < 0:
            return Lost(f"more than {self._most} bytes, the client's max_answer_bytes", too_large=True)
        return None

    def reply(self, response: httpx.Response) -> Reply:
        """The answer, which has come whole."""
        pieces = self._pieces
        return Reply(response.status_code, response.headers, pieces[0] if len(pieces) == 1 else b"".join(pieces))


def lost(error: httpx.TransportError) -> Lost:
    """What becomes of a request that has no answer."""
    reason = str(error).rstrip(".") or "the connection broke"
    if reason.startswith("[Errno"):
        reason = reason.partition("] ")[2]
    return Lost(reason, in_time=not isinstance(error, httpx.TimeoutException))


def _is_here(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
