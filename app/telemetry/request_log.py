"""A log line for each request, written in batches.

A line through `logging` takes as long as half a prediction, and a write to a pipe as long again. Here a line is a
struct in a list, which is encoded and passed to `logging` as one record, at most a tenth of a second later.
"""

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, UnsetType

from app.telemetry.tracing.current import Trace

FLUSH_SECONDS = 0.1
PIECE_LINES = 500
"""Lines encoded at once: less than a millisecond, during which the thread holds the GIL."""

MOST_LINES = 100_000

PROBES = (
    *("/health", "/metrics", "/ping", "/v2/health/"),
    *("/grpc.health.v1.Health/", "/inference.GRPCInferenceService/ServerLive"),
    "/inference.GRPCInferenceService/ServerReady",
)
"""What the endpoints of probes and scrapes begin with. They come every few seconds, so their lines have the level DEBUG
unless they failed."""

log = logging.getLogger("madrone.request")

_encode_lines = msgspec.json.Encoder().encode_lines


class RequestLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Log line of a request, never with its body."""

    time: datetime
    level: str = "INFO"
    logger: str = log.name
    message: str = "request"
    method: str
    endpoint: str
    status: int
    duration_ms: float
    client: str | None
    request_id: str
    trace_id: str | UnsetType = UNSET
    span_id: str | UnsetType = UNSET


class RequestLog:
    """Collects the lines of one app, and writes them in a thread.

    A busy disk can delay a write by a tenth of a second, which must not block the event loop.
    """

    def __init__(self) -> None:
        self._lines: list[RequestLine] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="request-log")
        self._writing: Future[None] | None = None

    def record(
        self, method: str, endpoint: str, status: int, seconds: float, client: str | None, request_id: str,
        trace: Trace | None = None,
    ) -> None:  # fmt: skip
        """Add a line, if its level is logged. If the reader of the log is blocked, the oldest lines are lost."""
        is_probe = status < 400 and endpoint.startswith(PROBES) and method != "POST"
        if not log.isEnabledFor(logging.DEBUG if is_probe else logging.INFO):
            return
        self._lines.append(
            RequestLine(
                time=datetime.now(UTC),
                level="DEBUG" if is_probe else "INFO",
                method=method,
                endpoint=endpoint,
                status=status,
                duration_ms=round(seconds * 1e3, 3),
                client=client,
                request_id=request_id,
                trace_id=UNSET if trace is None else trace.trace_id,
                span_id=UNSET if trace is None else trace.span_id,
            )
        )
        if len(self._lines) >= MOST_LINES:
            del self._lines[: MOST_LINES // 2]
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._start)

    def _start(self) -> None:
        """Start writing the collected lines, or wait for the last write to end."""
        self._timer = None
        if self._writing is None or self._writing.done():
            lines, self._lines = self._lines, []
            self._writing = self._writer.submit(_write, lines)
        elif self._lines:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._start)

    def flush(self) -> None:
        """Write the collected lines now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        self._writer.submit(_write, lines).result()

    def close(self) -> None:
        """Write the collected lines, and release the thread."""
        self.flush()
        self._writer.shutdown()


def _write(lines: list[RequestLine]) -> None:
    for start in range(0, len(lines), PIECE_LINES):
        text = _encode_lines(lines[start : start + PIECE_LINES]).decode().removesuffix("\n")
        log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, text, (), None, extra={"is_json": True}))
