"""Clients that send or read slowly, or not at all: what the service holds for them, and for how long."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
from msgspec.json import decode, encode

from app.codecs.columns import arrow
from app.predict.body import SMALL_BODY_BYTES
from app.serving.admission import MOST_ARRIVING
from tests.routes.support import stream_of, varied
from tests.support import Server, eventually, server_environ
from tests.wire import WITHIN_S, Wire, head, metric, rows_in_flight

pytestmark = pytest.mark.slow

SECONDS = 2
ROWS = 150_000
"""Their answer as JSON has 8 MB, twice as much as a kernel holds of it."""

EMPTY = {"held": 0, "queued": 0}


@pytest.fixture(scope="module")
def server(registry_dir: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("slow-clients")
    environ = server_environ(registry_dir, directory) | {"LOG_LEVEL": "WARNING", "REQUEST_TIMEOUT": str(SECONDS)}
    server = Server(environ, directory).wait_ready()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def bulk(example: dict[str, float]) -> bytes:
    return stream_of(varied(example, ROWS), example)


class Reader(Wire):
    """A connection whose kernel holds little of what its client does not read."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self._socket.settimeout(WITHIN_S)
        self._socket.connect(("127.0.0.1", server.port))

    def ask(self, bulk: bytes) -> int:
        """Ask for a large answer, and wait for its status."""
        self.send(head("/predict/bulk?interval=0.9", len(bulk), arrow.MEDIA_TYPE, Accept="application/json"), bulk)
        return int(self._socket.recv(15, socket.MSG_PEEK).split()[1])

    def response(self) -> http.client.HTTPResponse:
        """The answer, of which nothing but the head is read."""
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        return response


def asking(server: Server, bulk: bytes) -> Reader:
    """A connection on which a large answer has begun; a machine that is busy may need some tries within the limit."""
    for _ in range(10):
        reader = Reader(server)
        if reader.ask(bulk) == 200:
            return reader
        reader.reset()
    pytest.fail(server.log())


def unread(server: Server) -> float:
    return metric(server, "errors_total", error_type="answer_timeout", endpoint="/predict/bulk")


def connections(server: Server) -> int:
    """Connections of the API that the service has not closed."""
    workers = psutil.Process(server.popen.pid).children(recursive=True)
    found = [connection for worker in workers for connection in worker.net_connections(kind="tcp")]
    return sum(one.laddr.port == server.port and one.status != psutil.CONN_LISTEN for one in found)


def test_an_answer_that_is_not_read_is_counted_until_its_connection_is_cut(server: Server, bulk: bytes) -> None:
    before, open_before = unread(server), connections(server)
    with asking(server, bulk) as reader:
        held = rows_in_flight(server)
        assert 0 < held["held"] < ROWS  # what the answer is made from, no rows any more
        assert held["queued"] == 0
        eventually(lambda: unread(server) == before + 1, WITHIN_S, server)
        assert rows_in_flight(server) == EMPTY
        eventually(lambda: connections(server) <= open_before, WITHIN_S, server)
        assert not reader.rest().endswith(b"\r\n0\r\n\r\n")  # nor can what came be taken for the whole
    assert f"The client read nothing of the answer for {SECONDS} seconds." in server.log()


def test_a_client_that_reads_slowly_gets_its_answer(server: Server, bulk: bytes) -> None:
    """It takes longer than the time limit, and its kernel's buffer is refilled more seldom than that."""
    before = unread(server)
    with asking(server, bulk) as reader:
        response = reader.response()
        received = bytearray()
        ends = time.monotonic() + 1.5 * SECONDS
        while time.monotonic() < ends:
            received += response.read(32 * 1024)
            time.sleep(0.1)  # the pace of the client
        received += response.read()
    assert len(decode(received)["columns"]["prediction"]) == ROWS
    assert unread(server) == before
    assert rows_in_flight(server) == EMPTY


def test_who_leaves_in_the_middle_of_an_answer_frees_what_it_is_made_from(server: Server, bulk: bytes) -> None:
    before = unread(server)
    with asking(server, bulk):
        assert rows_in_flight(server)["held"] > 0
    eventually(lambda: rows_in_flight(server) == EMPTY, WITHIN_S, server)
    assert unread(server) == before
    assert metric(server, "predictions_in_progress") == 0


def test_no_more_large_bodies_arrive_at_once_than_can_be_worked_on(server: Server, bulk: bytes) -> None:
    small = bulk[: SMALL_BODY_BYTES // 2]

    def is_refused() -> bool:
        """A body counts for half a second; a machine that is busy may need some tries within it."""
        with ExitStack() as stack:
            start = head("/predict/bulk", SMALL_BODY_BYTES + 1, arrow.MEDIA_TYPE)
            for _ in range(MOST_ARRIVING):
                stack.enter_context(Wire(server)).send(start)
            answer = stack.enter_context(Wire(server)).send(start, bytes(SMALL_BODY_BYTES + 1)).answer()
            if answer.status == 400:
                return False
            assert (answer.status, answer.kind, answer.headers["connection"]) == (503, "overloaded", "close")
            assert answer.headers["retry-after"] == "1"
            few = stack.enter_context(Wire(server)).send(head("/predict/bulk", len(small), arrow.MEDIA_TYPE), small)
            assert few.answer().status == 400  # small bodies are read: this one is a part of a stream
            return True

    eventually(is_refused, WITHIN_S, server)
    eventually(lambda: rows_in_flight(server) == EMPTY, WITHIN_S, server)
    assert metric(server, "predictions_in_progress") == 0


@pytest.mark.parametrize("path", ["/predict", "/predict/bulk"])
@pytest.mark.parametrize("line", [False, True], ids=["at the end of the body", "behind an empty line"])
def test_a_client_that_half_closes_is_sure_of_its_answer_behind_an_empty_line(
    server: Server, example: dict[str, float], path: str, line: bool
) -> None:
    """The HTTP server takes it for one that has left, unless its answer was there before.

    This is hyper without `half_close`, which Granian does not set. It looks for the end of a connection only after it
    has used up what came before; an empty line before the next head is allowed (RFC 9112, section 2.2).
    """
    body, media_type = encode(example), "application/json"
    if path == "/predict/bulk":
        body, media_type = stream_of(varied(example, 2000), example), arrow.MEDIA_TYPE
    with Wire(server) as wire:
        wire.send(head(path, len(body), media_type), body, b"\r\n" if line else b"").half_close()
        if line:
            assert wire.answer().status == 200
        wire.rest()
    eventually(lambda: metric(server, "predictions_in_progress") == 0, WITHIN_S, server)
    assert rows_in_flight(server) == EMPTY
