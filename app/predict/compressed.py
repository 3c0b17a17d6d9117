"""Compression of answers, where Accept-Encoding asks for it and it is worth the time."""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.codecs.compression import Compressor, compressor
from app.headers import Headers, headers_of

LEAST_BYTES = 4096
"""Smallest answer that is compressed. A smaller one fits into three packets as it is."""

AT_ONCE_BYTES = 128 * 1024
"""Largest part of an answer that is compressed on the event loop, for half a millisecond; larger ones go to a thread.

A scrape is smaller. Its text was made there in more time than that, and a thread would have to get the GIL first.
"""

PREFERRED = ("zstd", "gzip", "deflate")
"""Encodings of answers; among those that a client likes as well as each other, the first is the quickest."""

TEXTUAL = (
    b"application/json",
    b"application/openmetrics-text",
    b"application/problem+json",
    b"application/vnd.oai.openapi+json",
    b"application/x-ndjson",
)
"""Media types beside text/* that are compressed. Predictions in binary would get smaller by a twentieth only."""

EVENTS = b"text/event-stream"
"""Media type that is not compressed, since the compressor would hold each event back."""

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class CompressedAnswers:
    """ASGI application that compresses the answers of another one.

    Args:
        app: Answers the requests.
        in_thread: Runs work in a thread.
    """

    def __init__(self, app: ASGIApp, in_thread: InThread) -> None:
        self._app = app
        self._in_thread = in_thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        accepted = scope["type"] == "http" and headers_of(scope).get(b"accept-encoding")  # pyright: ignore[reportArgumentType]
        encoding = accepted and chosen_encoding(accepted)
        if encoding:
            send = _Answer(send, encoding, self._in_thread).send
        await self._app(scope, receive, send)


@lru_cache(maxsize=64)
def chosen_encoding(accepted: bytes) -> str | None:
    """Encoding of an answer, by the weights of Accept-Encoding (RFC 9110, section 12.5.3); None for no encoding.

    A header that refuses an answer without encoding gets one all the same if none of PREFERRED is accepted.
    """
    weights: dict[str, float] = {}
    for element in accepted.decode("latin-1").lower().split(","):
        name, _, parameter = element.partition(";")
        weights[name.strip().removeprefix("x-")] = _weight(parameter)
    others = weights.get("*", 0.0)
    best = max(PREFERRED, key=lambda name: weights.get(name, others))  # the first of the greatest
    weight = weights.get(best, others)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


def _weight(parameter: str) -> float:
    """Weight of a `;q=` parameter, 1 without one, 0 for one that is not valid."""
    name, _, value = parameter.partition("=")
    if not name.strip():
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0


class _Answer:
    """One answer: its start is held back until its first bytes tell whether they are many."""

    def __init__(self, send: Send, encoding: str, in_thread: InThread) -> None:
        self._send = send
        self._encoding = encoding
        self._in_thread = in_thread
        self._start: Any = None
        self._compressor: Compressor | None = None

    async def send(self, message: Message) -> None:
        """Send a message of the answer."""
        if message["type"] == "http.response.start" and _is_textual(dict(message["headers"])):
            self._start = message
        elif message["type"] == "http.response.body" and (self._start or self._compressor):
            await self._send_body(message)
        else:
            await self._send(message)

    async def _send_body(self, message: Any) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        start, self._start = self._start, None
        if start is not None and not more and len(body) < LEAST_BYTES:
            await self._send(start)
            await self._send(message)
            return
        if self._compressor is None:
            self._compressor = compressor(self._encoding)
        packed = await self._packed(self._compressor, body, more)
        if start is not None:
            start["headers"] = self._headers(start["headers"], None if more else len(packed))
            await self._send(start)
        if packed or not more:
            await self._send({"type": "http.response.body", "body": packed, "more_body": more})

    async def _packed(self, compressor: Compressor, body: bytes, more: bool) -> bytes:
        def pack() -> bytes:
            packed = compressor.compress(body)
            return packed if more else packed + compressor.flush()

        return pack() if len(body) <= AT_ONCE_BYTES else await self._in_thread(pack)

    def _headers(self, headers: list[tuple[bytes, bytes]], size: int | None) -> list[tuple[bytes, bytes]]:
        """Headers of a compressed answer; those of one that is sent part by part tell no size."""
        kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        kept += [(b"content-encoding", self._encoding.encode()), (b"vary", b"Accept-Encoding")]
        return kept if size is None else [*kept, (b"content-length", b"%d" % size)]


def _is_textual(headers: Headers) -> bool:
    names = {name.lower(): value for name, value in headers.items()}
    media_type = names.get(b"content-type", b"").partition(b";")[0].strip()
    if b"content-encoding" in names or media_type == EVENTS:
        return False
    return media_type in TEXTUAL or media_type.startswith(b"text/")
