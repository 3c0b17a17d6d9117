"""What a client may do to a service, and what it may not do to others: a real server, spoken to byte by byte."""

import resource
import socket
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from app.codecs.columns import arrow
from app.codecs.compression import ENCODINGS
from app.codecs.rules import MAX_ERRORS
from tests.routes.support import stream_of, varied
from tests.support import BY_PATH, HTTP, Server, eventually, server_environ
from tests.wire import WITHIN_S, Wire, chunks, head, metric, rows_in_flight

JSON_BYTES = 64 * 1024
BODY_BYTES = 32 * 1024 * 1024
ROWS = 200_000


@pytest.fixture(scope="module")
def server(registry_dir: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose limits are low."""
    directory = tmp_path_factory.mktemp("limits")
    limits = {
        "LOG_LEVEL": "WARNING",
        "IDLE_TIMEOUT": "1",
        "REQUEST_TIMEOUT": "2",
        "MAX_JSON_BYTES": str(JSON_BYTES),
        "MAX_BODY_BYTES": str(BODY_BYTES),
    }
    server = Server(server_environ(registry_dir, directory) | BY_PATH | limits, directory).wait_ready()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def patient(registry_dir: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that gives every request the time it takes."""
    directory = tmp_path_factory.mktemp("patient")
    environ = server_environ(registry_dir, directory) | {"REQUEST_TIMEOUT": "600"}
    server = Server(environ, directory).wait_ready()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def row(example: dict[str, float]) -> bytes:
    return msgspec.json.encode(example)


@pytest.fixture(scope="module")
def right(server: Server, row: bytes) -> float:
    """What the example is predicted to be while nothing else goes on."""
    return predicted(server, row)


def predicted(server: Server, row: bytes) -> float:
    headers = {"Content-Type": "application/json"}
    response = HTTP.post(f"{server.url}/predict", content=row, headers=headers, timeout=WITHIN_S)
    assert response.status_code == 200
    return response.json()["prediction"]


@pytest.fixture(autouse=True)
def others_are_answered(server: Server, row: bytes, right: float) -> Iterator[None]:
    """Whatever a test does to its own connection, the next request of another is answered as before."""
    yield
    assert predicted(server, row) == right
    eventually(lambda: rows_in_flight(server) == {"held": 0, "queued": 0}, WITHIN_S, server)


@pytest.mark.parametrize(
    "start", [b"", b"POST /predict HT", b"POST /predict HTTP/1.1\r\nHost: test\r\n", head(length=10)[:-2]]
)
def test_a_connection_that_sends_no_whole_head_is_closed(server: Server, start: bytes) -> None:
    with Wire(server) as wire:
        assert wire.send(start).rest() == b""


def test_a_head_that_comes_drop_by_drop_is_given_up(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(b"POST /predict HTTP/1.1\r\n")
        eventually(lambda: not wire.takes(b"X-Header: y\r\n"), WITHIN_S, server)


def test_a_connection_that_idles_is_closed(server: Server, row: bytes) -> None:
    with Wire(server) as wire:
        for _ in range(2):
            assert wire.send(head(length=len(row)), row).answer().status == 200
        assert wire.rest() == b""


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        # The server looks at the size between two reads, and one may bring as much again as the limit.
        (b"GET /health/live HTTP/1.1\r\nHost: test\r\nX-Large: " + b"x" * 1_000_000, 431),
        (b"GET /health/live HTTP/1.1\r\nHost: test" + b"".join(b"\r\nX-%d: y" % number for number in range(200)), 431),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: test", 414),
        (b"GET /health/live?" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: test", 414),
    ],
    ids=["large header", "many headers", "long path", "long query"],
)
def test_a_head_that_is_too_large_is_refused(server: Server, lines: bytes, status: int) -> None:
    with Wire(server) as wire:
        wire.takes(lines + b"\r\n\r\n")  # or not all of it: the answer comes as soon as it is too much
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/bulk"])
def test_408_for_a_body_that_does_not_come(server: Server, path: str) -> None:
    with Wire(server) as wire:
        answer = wire.send(head(path, 100), b"{").answer()
    assert (answer.status, answer.kind) == (408, "body-timeout")
    assert b"within 2 seconds" in answer.body


def test_408_for_a_body_that_comes_drop_by_drop(server: Server) -> None:
    def timeouts() -> float:
        return metric(server, "errors_total", error_type="body_timeout", endpoint="/predict")

    before = timeouts()
    with Wire(server) as wire:
        wire.send(head(length=10_000), b"{")
        eventually(lambda: wire.takes(b" ") and wire.comes(), WITHIN_S, server)
        assert wire.answer().status == 408
    eventually(lambda: timeouts() == before + 1, WITHIN_S, server)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.slow
def test_broken_compressed_bodies_leave_no_memory_behind(patient: Server, encoding: str) -> None:
    plain = b" " * 200_000
    whole = zlib.compress(plain) if encoding == "deflate" else pa.compress(plain, codec=encoding, asbytes=True)
    request = head(length=len(whole) - 4, content_encoding=encoding) + whole[:-4]
    resident = list[float]()
    with Wire(patient) as wire:
        for count in (100, 300):
            for _ in range(count):
                answer = wire.send(request).answer()
                assert (answer.status, answer.kind) == (400, "malformed-body")
            resident.append(metric(patient, "process_resident_memory_bytes"))
    assert resident[1] < 1.05 * resident[0]


def test_400_for_a_storm_of_tiny_chunks(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(head())
        answer = wire.send(*chunks(b" " * 5000, 1)).answer()
    assert (answer.status, answer.kind) == (400, "malformed-body")
    assert b"too many small pieces" in answer.body


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"fffffffffffffffff\r\n{}", b"\r\n\r\n"],
    ids=["no number", "a wrong number", "less than nothing", "more than there is", "nothing"],
)
def test_400_for_chunks_that_are_none(server: Server, body: bytes) -> None:
    with Wire(server) as wire:
        assert wire.send(head(), body).answer().status == 400


def test_a_body_with_two_lengths_is_refused_and_not_taken_for_two_requests(server: Server) -> None:
    with Wire(server) as wire:
        smuggled = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"
        answer = wire.send(head(length=5, Transfer_Encoding="chunked"), b"0\r\n\r\n", smuggled).answer()
        assert answer.status == 400
        assert wire.rest() == b""


@pytest.mark.parametrize(
    ("path", "media_type"), [("/predict", "application/json"), ("/predict/bulk", arrow.MEDIA_TYPE)]
)
def test_413_at_once_for_a_body_that_says_that_it_is_too_large(server: Server, path: str, media_type: str) -> None:
    with Wire(server) as wire:
        answer = wire.send(head(path, 10**12, media_type)).answer()
    assert (answer.status, answer.kind) == (413, "too-large")


def test_the_answer_is_there_for_who_sends_on_without_looking(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(head(length=10**12), *[b" " * JSON_BYTES] * 64)
        assert wire.answer().status == 413


def test_the_answer_is_there_for_who_sends_chunks_beyond_the_limit(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(head(), *chunks(b" " * 64 * JSON_BYTES, 1024 * 16))
        assert wire.answer().status == 413


def test_a_connection_goes_on_after_a_refused_body_that_arrived_whole(server: Server, row: bytes, right: float) -> None:
    with Wire(server) as wire:
        for _ in range(2):
            assert wire.send(head(length=JSON_BYTES + 1), b" " * (JSON_BYTES + 1)).answer().status == 413
            assert wire.send(head(), *chunks(b" " * 2 * JSON_BYTES, 4096)).answer().status == 413
        answer = wire.send(head(length=len(row)), row).answer()
    assert (answer.status, msgspec.json.decode(answer.body)["prediction"]) == (200, right)


def test_a_client_that_asks_first_sends_no_body_that_is_refused(server: Server, row: bytes, right: float) -> None:
    with Wire(server) as wire:
        assert wire.send(head(length=10**12, Expect="100-continue")).answer().status == 413
    with Wire(server) as wire:
        wire.send(head(length=len(row), Expect="100-continue"))
        eventually(wire.comes, WITHIN_S, server)  # 100, which `answer` passes over
        answer = wire.send(row).answer()
    assert (answer.status, msgspec.json.decode(answer.body)["prediction"]) == (200, right)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/bulk"])
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"predictions":['], ids=["arrays", "objects", "batches"])
def test_400_for_deep_nesting(server: Server, path: str, opening: bytes) -> None:
    body = opening * (JSON_BYTES // len(opening))
    with Wire(server) as wire:
        answer = wire.send(head(path, len(body)), body).answer()
    assert (answer.status, answer.kind) == (400, "malformed-body")


def test_the_answer_to_many_unknown_fields_is_short(server: Server, example: dict[str, float]) -> None:
    body = msgspec.json.encode(example | {f"field {number}": 0 for number in range(3000)})
    with Wire(server) as wire:
        answer = wire.send(head(length=len(body)), body).answer()
    assert answer.status == 422
    errors = msgspec.json.decode(answer.body)["errors"]
    assert 1 <= len(errors) <= MAX_ERRORS + 1


def test_the_answer_to_a_long_unknown_field_is_short(server: Server, example: dict[str, float]) -> None:
    body = msgspec.json.encode(example | {"x" * (JSON_BYTES // 2): 0})
    with Wire(server) as wire:
        answer = wire.send(head(length=len(body)), body).answer()
    assert answer.status == 422
    assert len(answer.body) < 2000


def test_a_hundred_slow_connections_keep_nobody_waiting(server: Server, row: bytes, right: float) -> None:
    starts = [b"", b"POST /predict HTTP/1.1\r\n", head(length=100) + b"{", head() + b"1\r\n{\r\n"]
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server)).send(starts[number % 4]) for number in range(100)]
        assert predicted(server, row) == right
        assert server.status("/health/live") == 200
        assert server.status("/health/ready") == 200
        bodies = [wire for number, wire in enumerate(wires) if number % 4 >= 2]
        assert {wire.answer().status for wire in bodies} == {408}  # none of which had been answered by then


@pytest.fixture(scope="module")
def bulk(example: dict[str, float]) -> bytes:
    return stream_of(varied(example, ROWS), example)


def ended_bulks(server: Server) -> Counter[str]:
    """How many bulk requests ended with which status."""
    labels = {"method": "POST", "endpoint": "/predict/bulk"}
    statuses = ("200", "400", "408", "499", "500", "503", "504")
    return Counter(
        {status: int(metric(server, "api_requests_total", **labels, status_code=status)) for status in statuses}
    )


@pytest.mark.parametrize("part", [0.5, 1.0], ids=["while it sends", "while it waits"])
@pytest.mark.parametrize("rudely", [False, True], ids=["by closing", "by reset"])
@pytest.mark.slow
def test_who_leaves_frees_the_rows_and_gets_nothing_computed(
    patient: Server, bulk: bytes, row: bytes, part: float, rudely: bool
) -> None:
    def computed() -> float:
        return metric(patient, "predictions_total", model_version="1", prediction_type="bulk")

    expected, ended, done = predicted(patient, row), ended_bulks(patient), computed()
    with Wire(patient) as wire:
        wire.send(head("/predict/bulk", len(bulk), arrow.MEDIA_TYPE), bulk[: int(part * len(bulk))])
        if part < 1:
            eventually(lambda: rows_in_flight(patient)["held"] > 0, WITHIN_S, patient)
        if rudely:
            wire.reset()
    eventually(lambda: ended_bulks(patient).total() > ended.total(), WITHIN_S, patient)
    (status,) = (ended_bulks(patient) - ended).elements()
    # Of a connection that is reset, the last bytes may be lost on the way.
    assert status == "400" if part < 1 else status == "499" or (rudely and status == "400")
    assert rows_in_flight(patient) == {"held": 0, "queued": 0}
    assert computed() == done
    assert predicted(patient, row) == expected


@pytest.mark.slow
def test_others_are_answered_rightly_beside_one_that_left(patient: Server, bulk: bytes, example: Any) -> None:
    few = varied(example, 100)
    content = stream_of(few, example)
    for _ in range(3):
        Wire(patient).send(head("/predict/bulk", len(bulk), arrow.MEDIA_TYPE), bulk).reset()
        with Wire(patient) as wire:
            answer = wire.send(head("/predict/bulk", len(content), arrow.MEDIA_TYPE), content).answer()
        assert answer.status == 200
        got = pa.ipc.open_stream(answer.body).read_all()["prediction"].to_numpy()
        rows = [dict(zip(example, values, strict=True)) for values in few.tolist()]
        response = HTTP.post(f"{patient.url}/predict/batch", json={"predictions": rows}, timeout=WITHIN_S)
        np.testing.assert_array_equal(got, [item["prediction"] for item in response.json()["predictions"]])
    eventually(lambda: rows_in_flight(patient) == {"held": 0, "queued": 0}, WITHIN_S, patient)


@pytest.mark.slow
def test_a_thousand_idle_connections_and_more_keep_nobody_out(patient: Server) -> None:
    count = 1100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"a process may have no more than {hard} open files here")
    with ExitStack() as idle:
        if soft != resource.RLIM_INFINITY and soft < needed:
            idle.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        for _ in range(count):
            connection = idle.enter_context(socket.create_connection(("127.0.0.1", patient.port), timeout=WITHIN_S))
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert HTTP.get(f"{patient.url}/health/live", timeout=WITHIN_S).status_code == 200
