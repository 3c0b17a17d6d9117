"""The trace of the request that the current task is answering.

While tracing is off, or a request is not sampled, there is none. Nothing here needs the packages of OpenTelemetry.
"""

import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Protocol, TypeVar

import msgspec

T = TypeVar("T")
Attribute = str | int | float | bool

SHOWN_STAGES = ("decode", "queue", "evaluate", "explain", "encode")
"""Stages that are spans; what is before and after them is `read` and `send`."""


class RecordedSpan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A span with its children, as the process that exports it takes it.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: Span of the caller; None where there is none.
        state: The caller's tracestate.
        name: Name of the span.
        is_server: Whether the span is a request.
        start: Nanoseconds since 1970.
        end: Nanoseconds since 1970.
        attributes: Attributes by name.
        failed: Whether the fault was the service's.
        children: Names, starts and ends of spans within this one.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    state: str
    name: str
    is_server: bool
    start: int
    end: int
    attributes: dict[str, Attribute]
    failed: bool
    children: list[tuple[str, int, int]]


class Trace:
    """A span that is being recorded.

    Args:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: Span of the caller; None where there is none.
        state: The caller's tracestate.
        is_server: Whether the span is a request.

    Attributes:
        name: Name of the span.
        attributes: Attributes by name.
        failed: Whether the fault was the service's.
        stages: Stages of the request.
    """

    __slots__ = (
        "_is_server", "_offset", "_parent_id", "_started", "_state", "attributes", "failed", "name", "span_id",
        "stages", "trace_id",
    )  # fmt: skip

    def __init__(self, trace_id: str, span_id: str, parent_id: str | None, state: str, *, is_server: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.name = ""
        self.attributes: dict[str, Attribute] = {}
        self.failed = False
        self.stages: Iterable[tuple[str, float, float]] = ()
        self._parent_id = parent_id
        self._state = state
        self._is_server = is_server
        self._started = time.perf_counter()
        self._offset = time.time_ns() - int(self._started * 1e9)

    def set_stages(self, stages: Iterable[tuple[str, float, float]]) -> None:
        """Take the stages of the request as children."""
        self.stages = [stage for stage in stages if stage[0] in SHOWN_STAGES]

    def computed(self, name: str, version: str, prediction_type: str, rows: int) -> None:
        """Rows were predicted."""
        self.attributes |= {
            "madrone.model.name": name, "madrone.model.version": version, "madrone.prediction.type": prediction_type,
            "madrone.rows": rows,
        }  # fmt: skip

    def answered(self, method: str, endpoint: str | None, status: int, kind: str | None, request_id: str) -> None:
        """Describe the request, by the semantic conventions of OpenTelemetry for HTTP and RPC servers.

        Args:
            method: Method of HTTP, or GRPC.
            endpoint: Path of its route; None where it has none.
            status: Status of the answer.
            kind: Kind of error with which it ended.
            request_id: Id of the request.
        """
        attributes = self.attributes
        attributes["madrone.request_id"] = request_id
        if method == "GRPC":
            service, _, name = (endpoint or "").lstrip("/").rpartition("/")
            self.name = f"{service}/{name}" if endpoint else "_OTHER"
            attributes |= {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name or "_OTHER"}
        else:
            shown = "HTTP" if method == "OTHER" else method
            self.name = shown if endpoint is None else f"{shown} {endpoint}"
            attributes["http.request.method"] = "_OTHER" if method == "OTHER" else method
            attributes["http.response.status_code"] = status
            if endpoint is not None:
                attributes["http.route"] = endpoint
        if status >= 400:
            attributes["error.type"] = kind or str(status)
        self.failed = status >= 500

    def recorded(self) -> RecordedSpan:
        """The span, which ends now."""
        offset = self._offset
        children = [(name, int(start * 1e9) + offset, int(end * 1e9) + offset) for name, start, end in self.stages]
        return RecordedSpan(
            self.trace_id, self.span_id, self._parent_id, self._state, self.name, self._is_server,
            int(self._started * 1e9) + offset, int(time.perf_counter() * 1e9) + offset, self.attributes, self.failed,
            children,
        )  # fmt: skip


class Traces(Protocol):
    """Records and exports traces; see `tracer.Tracer`, which needs the extra otel."""

    def begin(self, headers: Iterable[tuple[bytes, bytes]], *, is_server: bool = True) -> Trace | None:
        """Begin the span of a request; None where it is not sampled."""
        ...

    def end(self, trace: Trace) -> None:
        """End a span, and have it exported."""
        ...

    def timed(self, name: str, work: Callable[[], T], attributes: dict[str, Attribute] | None = None) -> T:
        """Do work that belongs to no request, and record it."""
        ...

    async def run(self) -> None:
        """Export for ever."""
        ...

    def close(self) -> None:
        """Try for a moment to export the rest."""
        ...


current_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)
