"""Makes OpenTelemetry's spans of what was recorded, and exports them, in a process of its own.

    python -m app.telemetry.tracing.spans

To make and encode the spans of a request takes 0.15 ms with the GIL held, three times the time of its answer. The
messages (`child_process`) are MessagePack: an empty setup, then lists of `RecordedSpan`, each answered by a fault or
None. When the service ends, its end of the connection closes, and this process ends too.
"""

import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from app import __version__
from app.child_process import parent
from app.telemetry.tracing.current import RecordedSpan

NICENESS = 10

REST = 4.0
"""Seconds of sleep for each second of work, so that the process takes at most a fifth of a core."""

SERVICE = "madrone"
"""`service.name`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has another."""

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
UNSET = Status()


class SpanWriter:
    """Exports spans.

    The spans are put together here, not by OpenTelemetry's tracer: that takes five times as long, for what is known
    already (ids, times, the sampler's decision).

    Args:
        exporter: Where they go.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._resource = _resource()
        self._scope = InstrumentationScope(SERVICE, __version__)

    def start(self) -> str | None:
        """Do nothing: it has started."""

    def write(self, spans: list[RecordedSpan], seconds: float) -> str | None:
        """Export spans; returns a fault if that failed."""
        made = [span for recorded in spans for span in self._made(recorded)]
        try:
            done = self._exporter.export(made) is SpanExportResult.SUCCESS
        except Exception as error:  # whatever an exporter raises, the next spans are tried
            return type(error).__name__
        return None if done else "the collector did not take them"

    def close(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def _made(self, recorded: RecordedSpan) -> Iterator[ReadableSpan]:
        """A span, and those within it."""
        trace_id = int(recorded.trace_id, 16)
        state = TraceState.from_header([recorded.state]) if recorded.state else None
        context = SpanContext(trace_id, int(recorded.span_id, 16), False, SAMPLED, state)
        caller = recorded.parent_id and SpanContext(trace_id, int(recorded.parent_id, 16), True, SAMPLED, state)
        for name, start, end in recorded.children:
            own = SpanContext(trace_id, random.getrandbits(64) or 1, False, SAMPLED, state)
            yield self._span(name, own, context, start_time=start, end_time=end)
        yield self._span(
            recorded.name, context, caller or None, attributes=recorded.attributes,
            kind=SpanKind.SERVER if recorded.is_server else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR) if recorded.failed else UNSET,
            start_time=recorded.start, end_time=recorded.end,
        )  # fmt: skip

    def _span(self, name: str, context: SpanContext, parent: SpanContext | None, **more: Any) -> ReadableSpan:
        return ReadableSpan(name, context, parent, self._resource, instrumentation_scope=self._scope, **more)


def _resource() -> Resource:
    resource = Resource.create({"service.version": __version__})
    named = not str(resource.attributes["service.name"]).startswith("unknown_service")
    return resource if named else resource.merge(Resource({"service.name": SERVICE}))


def main() -> None:
    """Export what is asked until the parent has gone."""
    connection = parent()
    os.nice(NICENESS)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may reach all processes before the service's last spans do
    logging.disable(logging.CRITICAL)  # the service logs a fault once, and the exporter each time
    spans = msgspec.msgpack.Decoder(list[RecordedSpan])
    try:
        connection.recv_bytes()
        writer = SpanWriter(OTLPSpanExporter())
        connection.send_bytes(b"")
        while True:
            content = connection.recv_bytes()
            started = time.process_time()
            fault = writer.write(spans.decode(content), 0.0)
            connection.send_bytes(msgspec.msgpack.encode(fault))
            time.sleep(REST * (time.process_time() - started))
    except (EOFError, OSError):  # the service has ended
        return


if __name__ == "__main__":
    main()
