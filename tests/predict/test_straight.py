"""The straight way of a row gives the answers of the general way, and hands on what is not common."""

import asyncio
import itertools
import json
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.config.settings import Settings
from app.main import create_app
from app.predict.straight import StraightWay
from app.telemetry.middleware import RequestTelemetry
from kernels.engine import Evaluation
from tests.predict.support import Ways, headers
from tests.routes.support import client_of, services_of

Row = dict[str, float]


@pytest.fixture
def row(example: Row) -> bytes:
    return json.dumps(example).encode()


NUMBERS = st.one_of(
    st.floats(), st.floats(-200, 200), st.integers(-(2**70), 2**70), st.none(), st.booleans(), st.text(max_size=3)
)


@st.composite
def bodies(draw: st.DrawFn, names: tuple[str, ...], usual: Row) -> bytes:
    """Bodies of one row, most of them valid, with a few values, names or bytes that are not."""
    given = dict(usual)
    for name in draw(st.lists(st.sampled_from(names), max_size=3)):
        given[name] = draw(NUMBERS)
    for name in draw(st.lists(st.sampled_from([*names, "", "other", 'a"b']), max_size=1)):
        if not given.pop(name, None):
            given[name] = 1.0
    pairs = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in given.items()]
    pairs += draw(st.lists(st.sampled_from(pairs), max_size=1)) if pairs and draw(st.booleans()) else []
    body = f"{{{','.join(draw(st.permutations(pairs)))}}}".encode()
    return body + draw(st.sampled_from([b"", b"", b"", b" ", b"\n", b"}", b"\xff"]))


@given(data=st.data(), pieces=st.lists(st.integers(0, 500), max_size=2), split=st.booleans())
@examples(max_examples=2 * examples.default.max_examples)
def test_both_ways_answer_alike(ways: Ways, example: Row, data: st.DataObject, pieces: list[int], split: bool) -> None:
    body = data.draw(bodies(tuple(example), example))
    cuts = pieces if split else []
    assert ways.ask(ways.straight, body, *cuts) == ways.ask(ways.general, body, *cuts)


LATENCY = 9
"""Place of the latency among the arguments of `record`, which is the only one that differs."""


def test_a_common_request_is_answered_straight(ways: Ways, row: bytes) -> None:
    with patch.object(RequestTelemetry, "__call__", side_effect=AssertionError("the general way was asked")):
        straight = ways.ask(ways.straight, row)
    assert straight.status == 200
    assert straight == ways.ask(ways.general, row)


def test_both_ways_count_and_log_alike(ways: Ways, row: bytes) -> None:
    ways.ask(ways.general, row)  # all counters are there
    (straight, (logged,)), (general, (expected,)) = (ways.recorded(app, row) for app in (ways.straight, ways.general))
    assert straight == general
    assert sum(straight.values()) == 4  # a request, a row, and the times of both
    latencies = logged.pop(LATENCY), expected.pop(LATENCY)
    assert all(0 < latency < 60_000 for latency in latencies)
    for one, other in zip(logged, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"query_string": b"interval=0.8"}, 200),
        ({"query_string": b"output=raw"}, 200),
        ({"method": "GET"}, 405),
        ({"path": "/predict/", "raw_path": b"/predict/"}, 200),
        ({"path": "/predict/batch", "raw_path": b"/predict/batch"}, 422),
        ({"content_type": b"application/json; charset=utf-8"}, 200),
        ({"content_type": b"text/plain"}, 415),
        ({"content_type": None}, 415),
        ({"content_length": None}, 200),
        ({"content_length": b"7"}, 200),
        ({"content_length": b"9" * 30}, 413),
        ({"transfer_encoding": b"chunked"}, 200),
        ({"content_encoding": b"gzip"}, 400),
        ({"host": None}, 400),
        ({"host": b"a b"}, 400),
    ],
)
def test_what_is_not_common_is_handed_on(ways: Ways, row: bytes, changes: dict[str, Any], status: int) -> None:
    of_scope = {name: changes[name] for name in changes.keys() & {"query_string", "method", "path", "raw_path"}}
    asked = of_scope | {"headers": headers(row, **{name: changes[name] for name in changes.keys() - of_scope})}
    with patch.object(RequestTelemetry, "__call__", autospec=True, side_effect=RequestTelemetry.__call__) as general:
        answer = ways.ask(ways.straight, row, **asked)
    assert general.call_count == 1
    assert answer.status == status
    assert answer == ways.ask(ways.general, row, **asked)


@pytest.mark.parametrize("end", [b"", b"}"])
def test_the_wait_of_a_request_counts_once_and_whole_also_if_it_is_handed_on(
    ways: Ways, row: bytes, end: bytes
) -> None:
    """Or else a few rows that are not common would tell the gate that nobody waits."""
    gate, waits = services_of(ways.client).gate, list[float]()
    clock = itertools.chain([1000.0], itertools.repeat(1000.5))
    with (
        patch.object(gate, "has_read", side_effect=waits.append),
        patch("app.predict.straight.time.perf_counter", side_effect=clock.__next__),
    ):
        ways.ask(ways.straight, row + end)
    assert waits == [0.5]


def test_a_repeated_header_is_handed_on(ways: Ways, row: bytes) -> None:
    asked = [*headers(row), (b"content-type", b"application/json")]
    assert ways.ask(ways.straight, row, headers=asked).status == 400


def test_a_prediction_that_is_not_finite_is_handed_on(ways: Ways, row: bytes) -> None:
    served = services_of(ways.client).slot.require()
    infinite = Evaluation(np.array([np.inf]), np.array([1.0]))
    with (
        patch.object(type(served.engine), "evaluate_single", return_value=infinite.single()),
        patch.object(type(served.engine), "evaluate", return_value=infinite),
    ):
        straight, general = (ways.ask(app, row) for app in (ways.straight, ways.general))
    assert straight.status == 500
    assert straight == general


def test_an_engine_that_fails_is_answered_as_on_the_general_way(ways: Ways, row: bytes) -> None:
    engine = type(services_of(ways.client).slot.require().engine)
    with (
        patch.object(engine, "evaluate_single", side_effect=RuntimeError("secret")),
        patch.object(engine, "evaluate", side_effect=RuntimeError("secret")),
    ):
        straight, general = (ways.ask(app, row) for app in (ways.straight, ways.general))
    assert straight.status == 500
    assert straight == general


def test_a_canary_and_a_shadow_are_left_to_the_general_way(ways: Ways, row: bytes) -> None:
    slot = services_of(ways.client).slot
    for role in ("canary", "shadow"):
        with (
            patch.object(slot, role, slot.current),
            patch.object(RequestTelemetry, "__call__", autospec=True, side_effect=RequestTelemetry.__call__) as general,
        ):
            assert ways.ask(ways.straight, row).status == 200
        assert general.call_count == 1


KEY = "k" * 20


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({b"x-api-key": KEY.encode()}, 200),
        ({b"authorization": b"Bearer " + KEY.encode()}, 200),
        ({b"x-api-key": KEY.encode(), b"authorization": b"Bearer " + KEY.encode()}, 200),
        ({}, 401),
        ({b"x-api-key": b"another"}, 401),
        ({b"authorization": b"Basic " + KEY.encode()}, 401),
        ({b"x-api-key": KEY.encode(), b"authorization": b"Bearer another"}, 400),
    ],
)
def test_a_request_with_the_key_is_answered_straight(
    keyed: Ways, row: bytes, given: dict[bytes, bytes], status: int
) -> None:
    sent = [*headers(row), *given.items()]
    with patch.object(RequestTelemetry, "__call__", autospec=True, side_effect=RequestTelemetry.__call__) as general:
        answer = keyed.ask(keyed.straight, row, headers=sent)
    assert answer.status == status
    assert general.call_count == (status != 200)
    assert answer == keyed.ask(keyed.general, row, headers=sent)


@pytest.mark.parametrize("changes", [{"api_key": KEY}, {"rate_limit": 1}])
async def test_an_app_that_checks_every_request_refuses_straight(
    settings: Settings, row: bytes, changes: dict[str, Any]
) -> None:
    async with client_of(msgspec.structs.replace(settings, **changes)) as client:
        for _ in range(2):
            response = await client.post("/predict", content=row, headers={"content-type": "application/json"})
        assert response.status_code == (401 if "api_key" in changes else 429)
        gate = services_of(client).gate
        with patch.object(gate, "_limit", 1):
            ticket = gate.enter()
            refused = await client.post("/predict", content=row, headers={"content-type": "application/json"})
            gate.leave(ticket)
        assert refused.status_code == 503


def test_an_app_that_answers_other_web_origins_has_no_straight_way(settings: Settings) -> None:
    changed = msgspec.structs.replace(settings, cors_origins=("https://a.example",))
    assert not isinstance(create_app(changed).entrance, StraightWay)


async def test_a_body_that_does_not_come_is_answered_in_time(settings: Settings, row: bytes) -> None:
    async with client_of(msgspec.structs.replace(settings, request_timeout=0.05)) as client:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "http_version": "1.1",
                 "client": None, "headers": headers(row)}  # fmt: skip
        with patch("app.predict.body.DRAIN_SECONDS", 0.05):
            await client.app(scope, asyncio.Event().wait, send)
        assert sent[0]["status"] == 408
