"""Export of traces by OTLP, to a collector that is there, and one that is not."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.config import contradictions
from app.config.settings import Settings, SettingsError
from tests.routes.support import client_of
from tests.support import come_true


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
        """End it; a second time does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


async def test_a_collector_gets_the_traces_and_nobody_waits_for_one_that_is_away(
    settings: Settings, collector: Collector, example: dict[str, float], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "houses")
    headers = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    async with client_of(msgspec.structs.replace(settings, traces=True)) as client:
        assert (await client.post("/predict", json=example, headers=headers)).status_code == 200
        await come_true(lambda: "POST /predict" in collector.spans())
        assert set(collector.paths) == {"/v1/traces"}
        spans = collector.spans()
        assert spans["POST /predict"] == ("houses", "ab" * 16, "cd" * 8)
        assert spans["decode"][1] == "ab" * 16
        assert "model load" in spans

        collector.close()  # now nobody listens there
        for _ in range(300):
            assert (await client.post("/predict", json=example)).status_code == 200
        told = "traces cannot be exported"
        await come_true(lambda: told in caplog.text)
        started = time.monotonic()
    assert time.monotonic() - started < 15
    assert [record.getMessage() for record in caplog.records].count(told) == 1
    assert [one for one in caplog.records if one.name.startswith("opentelemetry")] == []


def test_traces_need_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contradictions, "OTEL_MODULES", ("opentelemetry.sdk.trace", "opentelemetry.not_there"))
    with pytest.raises(SettingsError, match=r"TRACES: needs OpenTelemetry.*\[otel\]"):
        Settings.from_environ({"TRACES": "true"})
    assert not Settings.from_environ({"TRACES": "false"}).traces


def test_a_limit_that_opentelemetry_cannot_read_stops_the_start_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "many")
    with pytest.raises(SettingsError, match=r"^TRACES: OTEL_SPAN_EVENT_COUNT_LIMIT must be .*got many$"):
        Settings.from_environ({"TRACES": "true"})
