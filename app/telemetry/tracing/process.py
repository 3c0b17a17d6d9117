"""The process that exports spans, as the service sees it."""

from typing import Protocol

import msgspec

from app.child_process import ChildClosed, ChildGone, ChildNotStarted, ChildProcess
from app.telemetry.tracing.current import RecordedSpan

MODULE = "app.telemetry.tracing.spans"


class SpanSink(Protocol):
    """Exporter of spans, which blocks on the collector."""

    def start(self) -> str | None:
        """Start; returns the fault if that failed."""
        ...

    def write(self, spans: list[RecordedSpan], seconds: float) -> str | None:
        """Export spans within a time; returns the fault if it failed."""
        ...

    def close(self) -> None:
        """End, and with it any export under way."""
        ...


class SpanProcess:
    """A `SpanWriter` in a separate process, which is started again when it has ended."""

    def __init__(self) -> None:
        self._process = ChildProcess(MODULE, b"")

    def start(self) -> str | None:
        """Start the process; returns the fault if that failed. The next write tries it again."""
        try:
            self._process.start()
        except (ChildNotStarted, ChildClosed) as error:
            return type(error).__name__
        return None

    def write(self, spans: list[RecordedSpan], seconds: float) -> str | None:
        """See `SpanWriter.write`."""
        try:
            return msgspec.msgpack.decode(self._process.ask(msgspec.msgpack.encode(spans), seconds), type=str | None)
        except (TimeoutError, ChildGone, ChildNotStarted, ChildClosed) as error:
            return type(error).__name__

    def close(self) -> None:
        """End the process."""
        self._process.kill()
