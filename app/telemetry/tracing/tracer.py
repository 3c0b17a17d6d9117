"""Begins the traces of requests, and has them exported in the background.

Whether a request is sampled is decided first, by the sampler that OTEL_TRACES_SAMPLER names; nothing else is done for
one that is not. For the others times are noted, and put into a bounded queue when the answer is sent. A slow or absent
collector fills the queue, and further traces are dropped and counted.
"""

import asyncio
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter

from app.telemetry.tracing.current import Attribute, RecordedSpan, Trace
from app.telemetry.tracing.process import SpanSink

QUEUE = 4096
"""Most traces in the queue."""

BATCH = 100
"""Traces in one export: 40 ms of work for the process that does it."""

FLUSH_S = 1.0
EXPORT_TIMEOUT_S = 60.0
"""Limit for an exporter that hangs; OTEL_EXPORTER_OTLP_TIMEOUT is its own, 10 s by default."""

END_S = 2.0
"""Time for the last traces when the service ends."""

NO_CALLER = Context()

ROOT = re.compile(r"(?:ParentBased\{root:)?(?:(AlwaysOn|AlwaysOff)Sampler|TraceIdRatioBased\{([0-9.e-]+)\})")
"""What the description of a sampler tells of requests whose callers have no trace."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Tracer:
    """Samples, queues and exports traces.

    Args:
        sink: Exports them.
        registry: Exports the number of traces.
    """

    def __init__(self, sink: SpanSink, registry: CollectorRegistry) -> None:
        self._sink = sink
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler
        self._bound = _bound_of(self._sampler.get_description())
        self._propagator = TraceContextTextMapPropagator()
        self._queue: list[RecordedSpan] = []
        self._exporting = threading.Lock()
        self._fault: str | None = None
        self._ending = False
        self._traces = Counter(
            "traces_total", "Sampled traces, by what became of them.", ("outcome",), registry=registry
        )
        for outcome in ("exported", "failed"):
            self._traces.labels(outcome)
        self._dropped = self._traces.labels("dropped")

    def begin(self, headers: Iterable[tuple[bytes, bytes]], *, is_server: bool = True) -> Trace | None:
        """Begin the span of a request; None where it is not sampled.

        Args:
            headers: Headers of the request. A traceparent that is malformed or repeated is ignored.
            is_server: Whether the span is a request.
        """
        given = [pair for pair in headers if pair[0] in (b"traceparent", b"tracestate")]
        context = self._caller(given) if given else NO_CALLER
        trace_id, parent_id, state = random.getrandbits(128) or 1, None, ""
        if context is not NO_CALLER and (caller := trace.get_current_span(context).get_span_context()).is_valid:
            trace_id, parent_id, state = caller.trace_id, f"{caller.span_id:016x}", caller.trace_state.to_header()
        if context is NO_CALLER and self._bound is not None:
            sampled = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound
        else:
            sampled = self._is_sampled(context, trace_id, is_server)
        if not sampled:
            return None
        if len(self._queue) >= QUEUE:  # what would not be exported is not recorded either
            self._dropped.inc()
            return None
        span_id = random.getrandbits(64) or 1
        return Trace(f"{trace_id:032x}", f"{span_id:016x}", parent_id, state, is_server=is_server)

    def _is_sampled(self, context: Context, trace_id: int, is_server: bool) -> bool:
        kind = SpanKind.SERVER if is_server else SpanKind.INTERNAL
        decision = self._sampler.should_sample(context, trace_id, "request", kind).decision
        return decision is Decision.RECORD_AND_SAMPLE

    def _caller(self, given: list[tuple[bytes, bytes]]) -> Context:
        if sum(name == b"traceparent" for name, _ in given) != 1:
            return NO_CALLER
        carrier: dict[str, str] = {}
        for name, value in given:  # a tracestate may come in several headers
            key = name.decode()
            carrier[key] = ",".join(filter(None, (carrier.get(key), value.decode("latin-1"))))
        return self._propagator.extract(carrier, Context())

    def end(self, trace: Trace) -> None:
        """End a span, and queue it."""
        self._queue.append(trace.recorded())

    def timed(self, name: str, work: Callable[[], T], attributes: dict[str, Attribute] | None = None) -> T:
        """Do work that belongs to no request, such as a load of a model, and record it."""
        trace = self.begin((), is_server=False)
        if trace is None:
            return work()
        trace.name = name
        trace.attributes = {} if attributes is None else attributes
        try:
            return work()
        except BaseException as error:
            trace.failed = True
            trace.attributes["error.type"] = type(error).__name__
            raise
        finally:
            self.end(trace)

    async def run(self) -> None:
        """Export for ever."""
        self._note(await asyncio.to_thread(self._sink.start))
        while True:
            await asyncio.sleep(FLUSH_S)
            if self._queue:
                await asyncio.to_thread(self.flush)

    def flush(self, seconds: float = EXPORT_TIMEOUT_S) -> None:
        """Export what is queued. Blocks on the collector.

        Args:
            seconds: Time limit.
        """
        ends = time.monotonic() + seconds
        if not self._exporting.acquire(timeout=seconds):
            return
        try:
            while self._queue and (left := ends - time.monotonic()) > 0:
                batch = self._queue[:BATCH]
                del self._queue[:BATCH]
                fault = self._sink.write(batch, left)
                self._traces.labels("exported" if fault is None else "failed").inc(len(batch))
                self._note(fault)
        finally:
            self._exporting.release()

    def close(self) -> None:
        """Try for a moment to export the rest, and end the exporter."""
        self._ending = True
        self.flush(END_S)
        self._sink.close()

    def _note(self, fault: str | None) -> None:
        """Keep the last fault, and log a new one."""
        if fault is not None and self._fault != fault and not self._ending:
            log.warning("traces cannot be exported", extra={"error": fault})
        self._fault = fault


def _bound_of(description: str) -> int | None:
    """Least trace id that is not sampled where the caller has no trace, by its lower 64 bits.

    A sampler that is asked takes as long as all else at the beginning of a trace. None for one that must be.
    """
    found = ROOT.match(description)
    if found is None:
        return None
    always, rate = found.groups()
    return TraceIdRatioBased.get_bound_for_rate(float(rate) if rate else float(always == "AlwaysOn"))
