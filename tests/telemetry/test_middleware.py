"""Id, metrics and log line of every request, around any application."""

import json
import logging
import time
import uuid
from datetime import datetime
from typing import Any

import pytest

from app.errors import BROKEN_OFF, ERROR_TYPE, REQUEST_ID
from app.telemetry.logging import JsonFormatter, request_id
from app.telemetry.metrics import Metrics
from app.telemetry.middleware import RequestTelemetry, new_id
from app.telemetry.request_log import RequestLog

ROUTES = frozenset({"/", "/predict"})


def scope_of(method: str = "GET", path: str = "/predict", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], "client": ("10.0.0.1", 5)} | more


def answering(status: int, **scope_entries: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope.update(scope_entries)
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"hello"})

    return app


async def drive(app: Any, scope: dict[str, Any], metrics: Metrics | None = None) -> list[Any]:
    """The messages that an application sends through the telemetry; what is to be logged is."""
    request_log = RequestLog()
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the telemetry reads no body")

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await RequestTelemetry(app, metrics or Metrics(), request_log, ROUTES)(scope, receive, send)  # type: ignore[arg-type]
    finally:
        request_log.flush()
    return sent


def requests(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["method"], sample.labels["endpoint"], sample.labels["status_code"]): sample.value
        for family in metrics.requests.collect()
        for sample in family.samples
    }


def errors(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["error_type"], sample.labels["endpoint"]): sample.value
        for family in metrics.errors.collect()
        for sample in family.samples
    }


async def test_an_answer_gets_the_id_and_keeps_its_own_headers() -> None:
    start, body = await drive(answering(200), scope_of(headers=[(b"x-request-id", b"mine")]))
    assert start["headers"] == [(b"x-own", b"1"), (b"x-request-id", b"mine")]
    assert body["body"] == b"hello"


async def test_the_id_is_known_inside_and_forgotten_after() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope[REQUEST_ID], request_id.get()])
        await answering(200)(scope, receive, send)

    await drive(app, scope_of(headers=[(b"x-request-id", b"mine")]))
    assert seen == ["mine", "mine"]
    assert request_id.get() is None


async def test_only_the_first_of_several_ids_is_looked_at() -> None:
    headers = [(b"x-request-id", b"not valid"), (b"x-request-id", b"valid")]
    start, _ = await drive(answering(200), scope_of(headers=headers))
    assert start["headers"][-1][1] not in (b"not valid", b"valid")


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (scope_of(), ("GET", "/predict", "200")),
        (scope_of(path="/predict/"), ("GET", "/predict", "200")),
        (scope_of(path="/"), ("GET", "/", "200")),
        (scope_of(path="//"), ("GET", "/", "200")),
        (scope_of(path="/Predict"), ("GET", "unmatched", "200")),
        (scope_of(path="/models/7", path_template="/models/{version}"), ("GET", "/models/{version}", "200")),
        (scope_of("BREW"), ("OTHER", "/predict", "200")),
        (scope_of("get"), ("OTHER", "/predict", "200")),
    ],
)
async def test_a_request_is_counted_under_labels_that_callers_cannot_invent(
    scope: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    metrics = Metrics()
    await drive(answering(200), dict(scope), metrics)
    assert requests(metrics) == {expected: 1}
    assert errors(metrics) == {}
    duration = {"method": expected[0], "endpoint": expected[1]}
    assert metrics.registry.get_sample_value("api_request_duration_seconds_count", duration) == 1


@pytest.mark.parametrize(
    ("status", "entries", "kind"),
    [
        (422, {ERROR_TYPE: "invalid_input"}, "invalid_input"),
        (503, {ERROR_TYPE: "model_unavailable"}, "model_unavailable"),
        (503, {}, "unavailable"),
        (418, {}, "other"),
    ],
)
async def test_an_error_is_counted_by_its_kind(status: int, entries: dict[str, str], kind: str) -> None:
    metrics = Metrics()
    await drive(answering(status, **entries), scope_of("POST"), metrics)
    assert errors(metrics) == {(kind, "/predict"): 1}


@pytest.mark.parametrize(("kind", "counted"), [(None, "disconnected"), ("answer_timeout", "answer_timeout")])
async def test_an_answer_that_broke_off_is_no_success(kind: str | None, counted: str) -> None:
    metrics = Metrics()
    await drive(answering(200, **{BROKEN_OFF: True, ERROR_TYPE: kind}), scope_of(), metrics)
    assert requests(metrics) == {("GET", "/predict", "499"): 1}
    assert errors(metrics) == {(counted, "/predict"): 1}


async def test_a_caller_that_leaves_before_the_answer_is_counted_as_such() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    metrics = Metrics()
    assert await drive(app, scope_of(), metrics) == []
    assert requests(metrics) == {("GET", "/predict", "499"): 1}
    assert errors(metrics) == {("disconnected", "/predict"): 1}


async def test_an_exception_passes_through_counted_and_leaves_no_id_behind() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("inside")

    metrics = Metrics()
    with pytest.raises(RuntimeError, match="inside"):
        await drive(app, scope_of(), metrics)
    assert sum(requests(metrics).values()) == 1
    assert request_id.get() is None


async def test_every_request_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "madrone.request"):
        await drive(answering(200), scope_of("POST", query_string=b"token=secret"))
    (record,) = caplog.records
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("duration_ms") >= 0
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert len(line.pop("request_id")) == 32
    assert line == {
        "level": "INFO", "logger": "madrone.request", "message": "request", "method": "POST", "endpoint": "/predict",
        "status": 200, "client": "10.0.0.1",
    }  # fmt: skip


async def test_a_caller_without_an_address_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "madrone.request"):
        await drive(answering(200), scope_of(client=None))
    assert json.loads(caplog.records[0].getMessage())["client"] is None


async def test_other_protocols_than_http_pass_untouched() -> None:
    metrics, seen = Metrics(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope))

    await drive(app, {"type": "lifespan"}, metrics)
    assert seen == [{"type": "lifespan"}]
    assert requests(metrics) == {}


def test_new_ids_are_uuids_of_version_7_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = time.time_ns()
    made: list[str] = []
    for number in range(1000):
        monkeypatch.setattr(time, "time_ns", lambda now=first + number * 1_000_000: now)
        made.append(new_id())
    ids = [uuid.UUID(text) for text in made]
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert [one.int >> 80 for one in ids] == [first // 1_000_000 + number for number in range(1000)]
    assert made == sorted(made) == [one.hex for one in ids]
    assert len({one.int & (1 << 62) - 1 for one in ids}) == 1000
