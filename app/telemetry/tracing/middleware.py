"""Traces of requests, in front of all other applications."""

from app.telemetry.asgi_types import ASGIApp, Message, Receive, Scope, Send
from app.telemetry.tracing.current import Traces, current_trace


class TracedRequests:
    """ASGI application that records the requests of another one, where they are sampled.

    An answer says in `traceresponse` which trace it belongs to, and which span a caller may take as its child (a draft
    of the W3C: Trace Context Level 3, section "traceresponse").

    Args:
        app: Answers the requests.
        traces: Begins and ends their traces.
    """

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        trace = self._traces.begin(scope["headers"]) if scope["type"] == "http" else None
        if trace is None:
            await self._app(scope, receive, send)
            return
        header = (b"traceresponse", f"00-{trace.trace_id}-{trace.span_id}-01".encode())

        async def send_with_trace(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        token = current_trace.set(trace)
        try:
            await self._app(scope, receive, send_with_trace)
        finally:
            current_trace.reset(token)
            self._traces.end(trace)
