"""The client when its service is overloaded, away, slow, or no service at all: what it repeats, and what it raises."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from madrone.client import (
    AsyncClient,
    BadAnswer,
    Client,
    KeyRefused,
    MadroneError,
    Overloaded,
    Refused,
    ServiceFailed,
    TimedOut,
    Unavailable,
)
from madrone.client.attempts import Attempt, Lost, Pause, Policy, Reply, Request, exchange
from tests.client.misbehaving import PREDICTION, Fault, Misbehaving, answer, half, no_http, problem, reset
from tests.support import free_port

ROW = {"x": 1.0}
KEY = "sesame-street"
NOW = "Retry-After: 0"

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def service() -> Iterator[Misbehaving]:
    with Misbehaving() as service:
        yield service


@pytest.fixture(params=["threads", "asyncio"])
def call(request: pytest.FixtureRequest, service: Misbehaving) -> Call:
    """Calls the service, whose next answers are the faults, by both clients."""

    def blocking(faults: list[Fault], **options: Any) -> Any:
        service.faults, service.requests = list(faults), []
        with Client(service.url, KEY, **options) as client:
            return client.predict(ROW).prediction

    async def awaiting(faults: list[Fault], **options: Any) -> Any:
        service.faults, service.requests = list(faults), []
        async with AsyncClient(service.url, KEY, **options) as client:
            return (await client.predict(ROW)).prediction

    if request.param == "threads":
        return blocking
    return lambda *faults, **options: asyncio.run(awaiting(*faults, **options))


@pytest.mark.parametrize(
    "faults",
    [
        [problem(503, "overloaded", NOW)] * 4, [problem(503, "model-unavailable", NOW)], [answer(429)],
        [problem(429, "too-many-requests", NOW)], [reset], [half], [no_http, reset],
    ],
    ids=["overload", "no model", "429", "rate limit", "reset", "half an answer", "no HTTP"],
)  # fmt: skip
def test_what_may_pass_is_repeated(call: Call, service: Misbehaving, faults: list[Fault]) -> None:
    assert call(faults) == 2.5
    assert len(service.requests) == len(faults) + 1
    assert all(f"X-API-Key: {KEY}".lower().encode() in head.lower() for head in service.requests)


@pytest.mark.parametrize(
    ("fault", "error", "kind"),
    [
        (problem(422, "invalid-input"), Refused, "invalid-input"),
        (problem(401, "unauthorized"), KeyRefused, "unauthorized"),
        (problem(404, "not-found", NOW), Refused, "not-found"),
        (problem(500, "prediction-not-finite"), ServiceFailed, "prediction-not-finite"),
        (problem(501, "not-explainable"), ServiceFailed, "not-explainable"),
        (problem(504, "timeout"), TimedOut, "timeout"),
        (problem(503, "overloaded"), Overloaded, "overloaded"),  # without Retry-After
        (answer(502, b"<html>", "text/html"), Unavailable, ""),
        (answer(404, b"<html>", "text/html"), Refused, ""),
        (answer(500, b"{", "application/problem+json"), BadAnswer, ""),
        (answer(302, b"", "text/html", "Location: http://127.0.0.1:9/"), BadAnswer, ""),
        (answer(200, b"<html>", "text/html"), BadAnswer, ""),
        (answer(200, PREDICTION, "text/plain"), BadAnswer, ""),
        (answer(200, b'{"prediction":'), BadAnswer, ""),
        (answer(200, b'{"prediction":"high"}'), BadAnswer, ""),
        (answer(200, b"\xff"), BadAnswer, ""),
        (answer(200, b'{"prediction":1,"new":' + b"[" * 100_000), BadAnswer, ""),
    ],
)
def test_what_will_not_pass_is_not_repeated(
    call: Call, service: Misbehaving, fault: Fault, error: type[MadroneError], kind: str
) -> None:
    with pytest.raises(MadroneError) as caught:
        call([fault])
    assert (type(caught.value), caught.value.kind, len(service.requests)) == (error, kind, 1)
    assert str(caught.value).startswith("/predict answered ")
    assert KEY not in f"{caught.value} {caught.value!r} {caught.value.__cause__}"


@pytest.mark.parametrize("slow", ["silent", "drip"])
def test_a_slow_answer_is_given_up_in_time(call: Call, service: Misbehaving, slow: str) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"No answer from http://127\.0\.0\.1:\d+ within 0\.2 s\."):
        call([getattr(service, slow)], timeout=0.2)
    assert time.monotonic() - began < 5
    assert len(service.requests) == 1


def test_a_forked_process_has_connections_of_its_own(service: Misbehaving) -> None:
    def keeping(connection: socket.socket) -> None:
        """Answer, and then the next request on the same connection, which the process that opened it makes."""
        for number in (b"1.5", b"2.5"):
            body = PREDICTION.replace(b"2.5", number)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            connection.recv(65_536)

    service.faults = [keeping, answer(200, PREDICTION.replace(b"2.5", b"3.5"))]
    with Client(service.url, retries=0) as client:
        assert client.predict(ROW).prediction == 1.5
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if client.predict(ROW).prediction == 3.5 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.predict(ROW).prediction == 2.5


def test_an_answer_that_is_too_large_is_not_read_to_its_end(call: Call, service: Misbehaving) -> None:
    assert call([], max_answer_bytes=len(PREDICTION)) == 2.5
    with pytest.raises(BadAnswer, match=r"/predict answered with more than 100 bytes, the client's max_answer_bytes\."):
        call([service.endless], max_answer_bytes=100)
    assert len(service.requests) == 1


def test_nobody_there_is_unavailable_and_not_ready() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, retries=1) as client:
        assert client.ready() is False
        with pytest.raises(Unavailable, match=f"No answer from {url}: Connection refused"):
            client.predict(ROW)


def steps(outcomes: list[Reply | Lost], **policy: Any) -> tuple[list[float], Reply | MadroneError]:
    """The pauses of a request whose attempts end so, by a clock that only pauses move, and how it ends."""
    now, pauses = [0.0], []
    run = exchange(
        Request("POST", "/predict"),
        Policy(
            "http://s",
            **({"timeout": 10.0, "retries": 4, "most_bytes": 9} | policy),
            clock=lambda: now[0],
            jitter=lambda: 1.0,
        ),
    )
    left = iter(outcomes)
    try:
        step = next(run)
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                now[0] += step.seconds
                step = run.send(None)
            else:
                assert isinstance(step, Attempt)
                assert step.seconds == pytest.approx(policy.get("timeout", 10.0) - now[0])
                step = run.send(next(left))
    except StopIteration as end:
        return pauses, end.value
    except MadroneError as error:
        return pauses, error


def refused(retry_after: str) -> Reply:
    return Reply(503, {"retry-after": retry_after}, b"")


GOOD = Reply(200, {}, b"")


def test_waits_grow_and_end_with_the_number_of_repetitions() -> None:
    pauses, end = steps([Lost("gone")] * 5)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert isinstance(end, Unavailable)
    assert steps([Lost("gone")], retries=0)[0] == []
    assert max(steps([Lost("gone")] * 10, retries=9, timeout=60.0)[0]) == 5.0


def test_retry_after_is_the_least_wait() -> None:
    assert steps([refused("2"), GOOD]) == (pytest.approx([2.5]), GOOD)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)
    (pause,), end = steps([refused(soon), GOOD])
    assert 3 < pause <= 5
    assert end == GOOD
    assert steps([refused("Mon, 01 Jan 2001 00:00:00 GMT"), GOOD]) == ([0.0], GOOD)
    assert steps([refused("soon"), GOOD])[0] == pytest.approx([0.1])


@pytest.mark.parametrize("retry_after", ["9", "86400", "9" * 400])
def test_what_cannot_be_repeated_in_time_is_raised_at_once(retry_after: str) -> None:
    pauses, end = steps([refused(retry_after)])
    assert pauses == []
    assert isinstance(end, Unavailable)
    assert end.retry_after == float(retry_after)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "localhost:8000"}, "must begin with http"), ({"url": "ftp://x"}, "must begin with http"),
        ({"url": "http://"}, "name a host"), ({"url": "http://x", "key": "a\nb"}, "visible ASCII"),
        ({"url": "http://x", "key": ""}, "visible ASCII"), ({"url": "http://x", "timeout": 0}, "timeout"),
        ({"url": "http://x", "retries": -1}, "retries"),
        ({"url": "http://x", "max_answer_bytes": 0}, "max_answer_bytes"),
        ({"url": "http://x:port"}, "must begin with http"), ({"url": "http://x:99999"}, "must begin with http"),
        ({"url": "http://[::1"}, "must begin with http"), ({"url": "http://x/\n"}, "must begin with http"),
        ({"url": " http://x"}, "must begin with http"),
        ({"url": "http://x", "timeout": float("inf")}, "timeout"),
        ({"url": "http://x", "timeout": float("nan")}, "timeout"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_used_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Client(**arguments)


def test_neither_key_nor_password_is_shown() -> None:
    with Client("http://user:pass-word@127.0.0.1:9/madrone/?q=1", KEY, retries=0) as client:
        assert repr(client) == "Client('http://127.0.0.1:9/madrone')"
        with pytest.raises(Unavailable) as caught:
            client.predict(ROW)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("call_it", "error", "message"),
    [
        (lambda client: client.predict([1.0]), TypeError, "A row must be a mapping"),
        (lambda client: client.predict({"x": float("inf")}), ValueError, "x is infinite"),
        (lambda client: client.predict({"x": object()}), TypeError, "type object cannot be sent"),
        (lambda client: client.predict_batch([{}, {"x": float("-inf")}]), ValueError, "x of row 1 is infinite"),
        (lambda client: client.predict_table([[1.0]]), TypeError, "must be a pandas or polars DataFrame"),
        (lambda client: client.predict_table({"x": [1.0], "y": []}), ValueError, "cannot be sent"),
        (lambda client: client.predict(ROW, intervall=0.9), TypeError, "intervall"),
        (lambda client: client.predict(ROW, timeout=0), ValueError, "timeout must be greater than 0"),
        (lambda client: client.predict(ROW, timeout=float("nan")), ValueError, "timeout must be greater than 0"),
    ],
)
def test_what_cannot_be_sent_is_said_before_anything_is(
    service: Misbehaving, call_it: Callable[[Client], Any], error: type[Exception], message: str
) -> None:
    service.requests = []
    with Client(service.url) as client, pytest.raises(error, match=message):
        call_it(client)
    assert service.requests == []


@pytest.mark.parametrize("path", ["", "/", "/madrone", "/madrone//", "/madrone/?q=1", "/madrone#part"])
def test_a_service_may_be_below_a_path(service: Misbehaving, path: str) -> None:
    service.faults, service.requests = [], []
    with Client(service.url + path) as client:
        assert client.predict(ROW).prediction == 2.5
    below = "/madrone" if "madrone" in path else ""
    assert service.requests[0].startswith(f"POST {below}/predict HTTP".encode())


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_that_no_service_has_are_a_bad_answer(service: Misbehaving, limit: int) -> None:
    body = f'{{"max_batch_size":{limit},"max_bulk_rows":1,"max_body_bytes":1}}'.encode()
    service.faults = [answer(200, body)]
    with Client(service.url) as client, pytest.raises(BadAnswer):
        client.predict_batch([ROW])


def test_repetitions_end_also_if_their_number_is_no_integer() -> None:
    assert len(steps([Lost("gone")] * 5, retries=1.5)[0]) == 2
