"""The straight way of a row gives the answers of the general way, and hands on what is not common."""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.predict.straight import StraightWay
from app.settings import Settings
from app.telemetry.middleware import RequestTelemetry
from kernels.engine import Evaluation
from tests.routes.support import Client, client_of, services_of
from tests.support import free_port

Row = dict[str, float]
T = TypeVar("T")

ID = b"of-a-test"
VOLATILE = {"processing_time_ms"}


class Answer(NamedTuple):
    """What an application sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: dict[str, Any]


class Ways:
    """An app, and requests to it as a server would hand them over."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._context = client_of(settings)
        self.client: Client = self.run(self._context.__aenter__())
        straight = self.client.app.entrance
        assert isinstance(straight, StraightWay)
        self.straight, self.general = straight, straight.general

    def close(self) -> None:
        self.run(self._context.__aexit__(None, None, None))
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def ask(self, app: Any, body: bytes, *pieces: int, **changes: Any) -> Answer:
        """The answer of an application to a request whose body arrives in pieces that end at these places."""
        edges = [0, *sorted(piece % (len(body) + 1) for piece in pieces), len(body)]
        messages = [
            {"type": "http.request", "body": body[start:end], "more_body": end < len(body)}
            for start, end in pairwise(edges)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
            "http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}, "state": {},
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "headers": headers(body),
        } | changes  # fmt: skip
        self.run(app(scope, receive, send))
        start, *rest = sent
        content = json.loads(b"".join(part["body"] for part in rest))
        steady = [pair for pair in start["headers"] if pair[0] != b"content-length"]
        return Answer(start["status"], steady, {key: content[key] for key in content.keys() - VOLATILE})

    def recorded(self, app: Any, body: bytes) -> tuple[dict[str, float], list[Any]]:
        """What a request adds to the counters, and what it gives to the prediction log."""
        services, before = services_of(self.client), self._counts()
        with patch.object(services.prediction_log, "record") as record:
            self.ask(app, body)
        after = self._counts()
        return {name: after[name] - before.get(name, 0) for name in after}, [
            list(call.args) for call in record.mock_calls
        ]

    def _counts(self) -> dict[str, float]:
        families = text_string_to_metric_families(services_of(self.client).metrics.exposition().decode())
        samples = [sample for family in families for sample in family.samples]
        return {
            f"{sample.name} {sample.labels}": sample.value
            for sample in samples
            if sample.name.startswith(("api_", "predictions_", "prediction_duration", "errors_"))
            and sample.name.endswith(("_total", "_count"))
        }


def headers(body: bytes, **changes: bytes | None) -> list[tuple[bytes, bytes]]:
    """Headers of a common request; None leaves one out."""
    usual: dict[str, bytes | None] = {
        "host": b"127.0.0.1", "content-type": b"application/json", "content-length": b"%d" % len(body),
        "x-request-id": ID,
    }  # fmt: skip
    named = usual | {name.replace("_", "-"): value for name, value in changes.items()}
    return [(name.encode(), value) for name, value in named.items() if value is not None]


@pytest.fixture(scope="module")
def ways(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    directory = tmp_path_factory.mktemp("straight")
    ways = Ways(
        Settings(data_dir=registry_dir, database_url=f"sqlite:///{directory / 'log.db'}", prometheus_port=free_port())
    )
    yield ways
    ways.close()


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
@examples(max_examples=300)
def test_both_ways_answer_alike(ways: Ways, example: Row, data: st.DataObject, pieces: list[int], split: bool) -> None:
    body = data.draw(bodies(tuple(example), example))
    cuts = pieces if split else []
    assert ways.ask(ways.straight, body, *cuts) == ways.ask(ways.general, body, *cuts)


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


@pytest.mark.parametrize(
    "changes", [{"api_key": "k" * 20}, {"rate_limit": 9}, {"cors_origins": ("https://a.example",)}]
)
def test_an_app_that_checks_every_request_has_no_straight_way(settings: Settings, changes: dict[str, Any]) -> None:
    assert not isinstance(create_app(msgspec.structs.replace(settings, **changes)).entrance, StraightWay)


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
