"""Traces of requests: their spans, and how they are tied to the caller's, to log lines and to metrics."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from tritonclient.grpc import InferInput

from app.config.settings import Settings
from app.telemetry.logging import JsonFormatter
from app.telemetry.tracing import current
from app.telemetry.tracing.spans import SpanWriter
from app.telemetry.tracing.tracer import Tracer
from tests.protocols.open_inference.rpc_support import rpc_of
from tests.routes.support import Client, client_of, compute_with, services_of
from tests.support import come_true

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, PARENT_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331

Row = dict[str, float]


class Traced(NamedTuple):
    """An app whose traces stay in memory."""

    client: Client
    exporter: InMemorySpanExporter

    def traces(self) -> dict[str, list[ReadableSpan]]:
        """Spans of each trace, by the name of the first of them, which the others are children of."""
        tracer: Any = services_of(self.client).traces
        tracer.flush()
        found: dict[int, list[ReadableSpan]] = {}
        for span in self.exporter.get_finished_spans():
            found.setdefault(span.get_span_context().trace_id, []).append(span)
        self.exporter.clear()
        traces: dict[str, list[ReadableSpan]] = {}
        for spans in found.values():
            (root,) = [span for span in spans if span.kind is SpanKind.SERVER or span.parent is None]
            children = [span for span in spans if span is not root]
            traces[root.name] = [root, *sorted(children, key=lambda span: span.start_time or 0)]
        return traces


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Exporter of all apps that a test starts."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("app.assembly.SpanProcess", lambda: SpanWriter(exporter))
    return exporter


@pytest.fixture
async def traced(settings: Settings, exporter: InMemorySpanExporter) -> AsyncIterator[Traced]:
    async with client_of(msgspec.structs.replace(settings, traces=True)) as client:
        yield Traced(client, exporter)


async def test_requests_and_loads_are_spans_with_their_stages(traced: Traced, example: Row) -> None:
    loads = traced.traces()
    assert {"registry look", "model load"} == loads.keys()
    (load,) = loads["model load"]
    assert load.kind is SpanKind.INTERNAL
    assert load.attributes == {"madrone.model.name": "california-housing-model", "madrone.model.version": "1"}

    for path in ("/predict", "/predict/"):
        before = await traced.client.post(path, json=example, headers={"X-Request-ID": "mine"})
        assert before.status_code == 200
        root, *children = traced.traces()["POST /predict"]
        assert [child.name for child in children] == ["decode", "evaluate", "encode"]
        assert root.attributes == {
            "http.request.method": "POST", "http.route": "/predict", "http.response.status_code": 200,
            "madrone.model.name": "california-housing-model", "madrone.model.version": "1",
            "madrone.prediction.type": "single", "madrone.rows": 1, "madrone.request_id": "mine",
        }  # fmt: skip
        assert root.status.status_code is StatusCode.UNSET
        assert root.resource.attributes["service.name"] == "madrone"
        within = [time for child in children for time in (child.start_time, child.end_time)]
        times = [root.start_time, *within, root.end_time]
        assert times == sorted(times)  # type: ignore[type-var]
        assert all(child.parent == root.get_span_context() for child in children)

    await traced.client.post("/predict/batch", json={"predictions": [example] * 90})
    root, *children = traced.traces()["POST /predict/batch"]
    assert {"decode", "evaluate", "encode"} <= {child.name for child in children}
    assert root.attributes is not None
    assert (root.attributes["madrone.rows"], root.attributes["madrone.prediction.type"]) == (90, "batch")


async def test_a_trace_goes_on_from_the_caller_and_back_to_it(traced: Traced, example: Row) -> None:
    traced.traces()
    headers = {"traceparent": CALLER, "tracestate": "vendor=1"}
    answer = await traced.client.post("/predict", json=example, headers=headers)
    root, *_ = traced.traces()["POST /predict"]
    context = root.get_span_context()
    assert context.trace_id == TRACE_ID
    assert root.parent is not None
    assert (root.parent.span_id, root.parent.is_remote) == (PARENT_ID, True)
    assert context.trace_state.to_header() == "vendor=1"
    assert answer.headers["traceresponse"] == f"00-{TRACE_ID:032x}-{context.span_id:016x}-01"

    unsampled = await traced.client.post("/predict", json=example, headers={"traceparent": CALLER[:-1] + "0"})
    assert unsampled.status_code == 200
    assert "traceresponse" not in unsampled.headers
    assert traced.traces() == {}
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)  # the global one is left alone


@pytest.mark.parametrize(
    "given",
    [
        [("traceparent", "garbage")], [("traceparent", CALLER.replace("0af7", "ZZZZ"))], [("traceparent", "")],
        [("traceparent", f"00-{'0' * 32}-b7ad6b7169203331-01")], [("traceparent", CALLER), ("traceparent", CALLER)],
        [("traceparent", "ff" + CALLER[2:])], [("tracestate", "vendor=1")], [("traceparent", "\xff\x00")],
    ],
)  # fmt: skip
def test_a_malformed_caller_is_ignored(counted: Callable[[], Tracer], given: list[tuple[str, str]]) -> None:
    begun = counted().begin((name.encode(), value.encode("latin-1")) for name, value in given)
    assert begun is not None
    assert begun.recorded().parent_id is None
    assert int(begun.trace_id, 16) != TRACE_ID


async def test_errors_are_said_and_only_those_of_the_service_are_its_failures(traced: Traced, example: Row) -> None:
    traced.traces()
    await traced.client.post("/predict", json={"secret": "value"})
    await traced.client.get("/no/such/path?key=secret")
    refused, unknown = traced.traces().values()
    assert (refused[0].name, unknown[0].name) == ("POST /predict", "GET")
    kinds = [one[0].attributes and one[0].attributes["error.type"] for one in (refused, unknown)]
    assert kinds == ["invalid_input", "not_found"]
    assert [one[0].status.status_code for one in (refused, unknown)] == [StatusCode.UNSET] * 2
    assert "secret" not in "".join(span.to_json() for span in (*refused, *unknown))

    def fail(rows: object) -> Any:
        raise RuntimeError

    compute_with(traced.client, fail)
    await traced.client.post("/predict", json=example)
    (failed, *_) = traced.traces()["POST /predict"]
    assert failed.status.status_code is StatusCode.ERROR


async def test_log_lines_and_exemplars_name_the_trace(
    traced: Traced, example: Row, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = await traced.client.post("/predict", json=example, headers={"traceparent": CALLER})
        services_of(traced.client).request_log.flush()
    _, trace_id, span_id, _ = answer.headers["traceresponse"].split("-")
    lines = [json.loads(JsonFormatter().format(one)) for one in caplog.records if one.name == "madrone.request"]
    assert [(line["trace_id"], line["span_id"]) for line in lines] == [(trace_id, span_id)]
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    scrape = await traced.client.get("/metrics", headers=accept)
    assert scrape.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    (shown,) = [line for line in scrape.text.splitlines() if '/predict"' in line and " # {" in line]
    assert shown.startswith("api_request_duration_seconds_bucket{")
    assert f'# {{trace_id="{trace_id}"}} ' in shown
    assert " # {" not in (await traced.client.get("/metrics")).text


def test_application_log_lines_name_the_trace() -> None:
    record = logging.getLogger("app.some").makeRecord("app.some", logging.INFO, "", 1, "said", (), None)
    token = current.current_trace.set(current.Trace("a" * 32, "b" * 16, None, "", is_server=True))
    try:
        line = json.loads(JsonFormatter().format(record))
    finally:
        current.current_trace.reset(token)
    assert (line["trace_id"], line["span_id"]) == ("a" * 32, "b" * 16)
    assert "trace_id" not in json.loads(JsonFormatter().format(record))


async def test_calls_of_grpc_are_traced(settings: Settings, exporter: InMemorySpanExporter, example: Row) -> None:
    async with rpc_of(settings, traces=True) as rpc:
        traced = Traced(rpc.client, exporter)
        traced.traces()
        served = services_of(rpc.client).slot.require()
        inputs: list[InferInput] = []
        for name in served.feature_names:
            given = InferInput(name, [1, 1], "FP64")
            given.set_data_from_numpy(np.array([[example.get(name, 0.0)]]))
            inputs.append(given)
        await rpc.infer(inputs, headers={"traceparent": CALLER})
        found: dict[str, list[ReadableSpan]] = {}

        def ended() -> bool:
            found.update(traced.traces())
            return bool(found)

        await come_true(ended)
    root, *children = found["inference.GRPCInferenceService/ModelInfer"]
    assert root.get_span_context().trace_id == TRACE_ID
    assert root.attributes is not None
    assert root.attributes["rpc.method"] == "ModelInfer"
    assert root.attributes["madrone.rows"] == 1
    assert [child.name for child in children] == ["decode", "evaluate", "encode"]


def test_a_full_queue_drops_traces_and_counts_them(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.telemetry.tracing.tracer.QUEUE", 2)
    registry = CollectorRegistry()
    tracer = Tracer(SpanWriter(exporter), registry)
    for _ in range(5):
        assert tracer.timed("work", lambda: 7) == 7
    tracer.flush()
    assert len(exporter.get_finished_spans()) == 2
    outcomes = {one: registry.get_sample_value("traces_total", {"outcome": one}) for one in ("exported", "dropped")}
    assert outcomes == {"exported": 2, "dropped": 3}


def test_a_sampler_of_the_standard_variables_is_used(
    monkeypatch: pytest.MonkeyPatch, counted: Callable[[], Tracer]
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    tracer = counted()
    assert tracer.begin(()) is None
    assert tracer.begin([(b"traceparent", CALLER.encode())]) is not None


@pytest.fixture
def counted(exporter: InMemorySpanExporter) -> Callable[[], Tracer]:
    return lambda: Tracer(SpanWriter(exporter), CollectorRegistry())
