"""A request that is refused by its head gets the answer that it would get further inside, and is recorded alike."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

import pytest

from app.telemetry.middleware import RequestTelemetry
from tests.predict.support import Ways, headers
from tests.routes.support import services_of

State = Callable[[Ways], AbstractContextManager[None]]

LARGE = b"x" * 40_000
ONE, BATCH, BULK = "/predict", "/predict/batch", "/predict/bulk"


@contextmanager
def full_gate(ways: Ways) -> Iterator[None]:
    gate = services_of(ways.client).gate
    with patch.object(gate, "_limit", 1):
        ticket = gate.enter()
        yield
        gate.leave(ticket)


@contextmanager
def long_queue(ways: Ways) -> Iterator[None]:
    admission = services_of(ways.client).admission
    ticket = admission.enqueue(10_000_000)
    with patch.object(admission, "_seconds_per_row", 1e-5):
        yield
    admission.dequeue(ticket, done=False)


@pytest.mark.parametrize(
    ("state", "path", "body", "sentence"),
    [
        (full_gate, ONE, b"{}", "The service has as many requests in progress as MAX_REQUESTS_IN_PROGRESS allows."),
        (full_gate, BATCH, LARGE, "The service has as many requests in progress as MAX_REQUESTS_IN_PROGRESS allows."),
        (long_queue, BATCH, LARGE, "The service is overloaded. Try again later."),
        (long_queue, BULK, LARGE, "The service is overloaded. Try again later."),
    ],
)
def test_both_ways_refuse_with_the_same_answer(ways: Ways, state: State, path: str, body: bytes, sentence: str) -> None:
    asked = {"path": path, "raw_path": path.encode(), "headers": headers(body)}
    with state(ways):
        general = ways.ask(ways.general, body, **asked)
        with patch.object(RequestTelemetry, "__call__", side_effect=AssertionError("the general way was asked")):
            early = ways.ask(ways.straight, body, **asked)
        counted = [ways.recorded(app, body, **asked)[0] for app in (ways.straight, ways.general)]
    assert (early.status, early.content["detail"]) == (503, sentence)
    assert early == general
    assert counted[0] == counted[1]
    assert sum(counted[0].values()) == 3  # a request, its time, and an error


def test_only_the_head_of_a_request_is_looked_at(ways: Ways) -> None:
    with long_queue(ways):
        early = ways.ask(ways.straight, b"", path=BATCH, raw_path=BATCH.encode(), headers=headers(LARGE))
    assert early.status == 503
    assert (b"connection", b"close") in early.headers


def test_of_a_repeated_id_the_first_is_answered_with(ways: Ways) -> None:
    asked = {"path": BATCH, "raw_path": BATCH.encode(), "headers": [*headers(LARGE), (b"x-request-id", b"second")]}
    with long_queue(ways):
        early, general = (ways.ask(app, LARGE, **asked) for app in (ways.straight, ways.general))
    assert early == general


def test_what_is_small_or_no_prediction_passes(ways: Ways, example: dict[str, float]) -> None:
    one, few = json.dumps(example).encode(), json.dumps({"predictions": [example]}).encode()
    with long_queue(ways):
        assert ways.ask(ways.straight, one).status == 200
        assert ways.ask(ways.straight, few, path=BATCH, raw_path=BATCH.encode()).status == 200
    with full_gate(ways):
        asked = {"path": "/health/live", "raw_path": b"/health/live", "method": "GET"}
        assert ways.ask(ways.straight, b"", **asked).status == 200
