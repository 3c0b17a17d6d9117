"""What both clients have in common of httpx."""

import ipaddress
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from madrone.client.attempts import Attempt, Lost, Reply
from madrone.client.calls import Calls


def http_options(calls: Calls, verify: Any) -> dict[str, Any]:
    """Arguments of a client of httpx."""
    parts = urlsplit(calls.url)
    return {
        "base_url": calls.url,
        "headers": calls.headers,
        "follow_redirects": False,  # would take the key elsewhere
        "trust_env": not _is_here(cast(str, parts.hostname)),
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


def reply_of(response: httpx.Response, pieces: Sequence[bytes]) -> Reply:
    """An answer that has come whole."""
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
