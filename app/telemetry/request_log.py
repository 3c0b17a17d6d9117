"""A line for each request, written some at a time.

A log line by way of `logging` takes as long as half a prediction, and a write to a pipe as long again. Here a line is
a struct in a list, and the list is encoded and handed to `logging` as one record, at most a tenth of a second later.
"""

import asyncio
import logging
from datetime import UTC, datetime

import msgspec

FLUSH_SECONDS = 0.1
FLUSH_LINES = 1000

log = logging.getLogger("madrone.request")

_encode_lines = msgspec.json.Encoder().encode_lines


class RequestLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is logged of a request: never its body."""

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


class RequestLog:
    """Collects the lines of one app, and writes them while its event loop turns."""

    def __init__(self) -> None:
        self._lines: list[RequestLine] = []
        self._timer: asyncio.TimerHandle | None = None

    def record(
        self, method: str, endpoint: str, status: int, seconds: float, client: str | None, request_id: str
    ) -> None:
        """Take a line, unless INFO is not logged."""
        if not log.isEnabledFor(logging.INFO):
            return
        self._lines.append(
            RequestLine(
                time=datetime.now(UTC),
                method=method,
                endpoint=endpoint,
                status=status,
                duration_ms=round(seconds * 1e3, 3),
                client=client,
                request_id=request_id,
            )
        )
        if len(self._lines) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            text = _encode_lines(lines).decode().removesuffix("\n")
            log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, text, (), None, extra={"is_json": True}))
