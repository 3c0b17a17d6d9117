"""Export of traces by OTLP, to a collector that is there, and one that is not."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support import HTTP, Server, eventually


class Collector:
    """A server that takes what OTLP sends over HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.paths.append(self.path)
                outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def spans(self) -> dict[str, tuple[str, str, str]]:
        """Service, trace and parent of each span, by its name."""
        return {
            span.name: (attribute.value.string_value, span.trace_id.hex(), span.parent_span_id.hex())
            for request in self.requests
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_a_collector_gets_the_traces_and_the_service_ends_without_one(
    serve: Callable[..., Server], collector: Collector, example: dict[str, float]
) -> None:
    server = serve(
        TRACES="true", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SERVICE_NAME="houses", LOG_LEVEL="INFO"
    ).wait_ready()
    caller = f"00-{'ab' * 16}-{'cd' * 8}-01"
    assert HTTP.post(f"{server.url}/predict", json=example, headers={"traceparent": caller}).status_code == 200
    eventually(lambda: "POST /predict" in collector.spans(), 60)
    assert set(collector.paths) == {"/v1/traces"}
    spans = collector.spans()
    assert spans["POST /predict"] == ("houses", "ab" * 16, "cd" * 8)
    assert spans["decode"][1] == "ab" * 16
    assert "model load" in spans

    collector.close()  # now nobody listens there
    for _ in range(300):
        assert HTTP.post(f"{server.url}/predict", json=example).status_code == 200
    eventually(lambda: "traces cannot be exported" in server.log(), 60)
    begun = time.monotonic()
    assert server.terminate() == 0
    assert time.monotonic() - begun < 15
    lines = [json.loads(line) for line in server.log().splitlines()]
    told = [line for line in lines if line["message"] == "traces cannot be exported"]
    assert len(told) == 1
    exporting = [line for line in lines if line["logger"].startswith(("app.telemetry", "app.child", "opentelemetry"))]
    assert exporting == told


def test_traces_need_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.config import contradictions
    from app.config.settings import Settings, SettingsError

    monkeypatch.setattr(contradictions, "OTEL_MODULES", ("opentelemetry.sdk.trace", "opentelemetry.not_there"))
    with pytest.raises(SettingsError, match=r"TRACES: needs OpenTelemetry.*\[otel\]"):
        Settings.from_environ({"TRACES": "true"})
    assert not Settings.from_environ({"TRACES": "false"}).traces
