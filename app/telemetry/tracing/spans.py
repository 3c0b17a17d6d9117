"""Makes OpenTelemetry's spans of what was recorded, and exports them, in a process of its own.

    python -m app.telemetry.tracing.spans

To make and encode the spans of a request takes 0.3 ms with the GIL held, six times the time of its answer. The messages
(`child_process`) are MessagePack: an empty setup, then lists of `RecordedSpan`, each answered by a fault or None. When
the service ends, its end of the connection closes, and this process ends too.
"""

import logging
import os
import signal
import time

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState

from app import __version__
from app.child_process import parent
from app.telemetry.tracing.current import RecordedSpan

NICENESS = 10

REST = 4.0
"""Seconds of sleep for each second of work, so that the process takes at most a fifth of a core."""

SERVICE = "madrone"
"""`service.name`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has another."""

SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class SpanWriter:
    """Exports spans.

    Args:
        exporter: Where they go.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._ids = _GivenIds()
        self._ended = _Ended()
        # Of its own, since MLflow may set a global one. The spans were sampled when they were recorded.
        provider = TracerProvider(ALWAYS_ON, _resource(), shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer(SERVICE, __version__)

    def start(self) -> str | None:
        """Do nothing: it has started."""

    def write(self, spans: list[RecordedSpan], seconds: float) -> str | None:
        """Export spans; returns a fault if that failed."""
        for span in spans:
            self._make(span)
        ended, self._ended.spans = self._ended.spans, []
        try:
            done = self._exporter.export(ended) is SpanExportResult.SUCCESS
        except Exception as error:  # whatever an exporter raises, the next spans are tried
            return type(error).__name__
        return None if done else "the collector did not take them"

    def close(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def _make(self, recorded: RecordedSpan) -> None:
        self._ids.trace_id, self._ids.span_id = int(recorded.trace_id, 16), int(recorded.span_id, 16)
        span = self._tracer.start_span(
            recorded.name,
            _caller(recorded),
            SpanKind.SERVER if recorded.is_server else SpanKind.INTERNAL,
            recorded.attributes,
            start_time=recorded.start,
        )
        within = trace.set_span_in_context(span, Context())
        for name, start, end in recorded.children:
            self._tracer.start_span(name, within, start_time=start).end(end)
        if recorded.failed:
            span.set_status(trace.StatusCode.ERROR)
        span.end(recorded.end)


class _GivenIds(RandomIdGenerator):
    """Gives the next span the ids that it has in the log and at its caller."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id: int | None = None

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        given, self.span_id = self.span_id, None
        return super().generate_span_id() if given is None else given


class _Ended(SpanProcessor):
    """Collects spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _caller(recorded: RecordedSpan) -> Context:
    """The context of the span of the caller, if there is one."""
    if recorded.parent_id is None:
        return Context()
    state = TraceState.from_header([recorded.state]) if recorded.state else None
    caller = SpanContext(int(recorded.trace_id, 16), int(recorded.parent_id, 16), True, SAMPLED, state)
    return trace.set_span_in_context(NonRecordingSpan(caller), Context())


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
