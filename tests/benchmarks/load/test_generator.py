"""The load generator against a server of our own: what it counts, from when, and which answers it takes for right."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.answer import Answer, BadAnswer
from benchmarks.load.generator import Generator
from benchmarks.load.open_loop import latencies
from benchmarks.load.plan import Plan, load, read_record, running, write_record

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n%d"
Reply = Callable[[int], bytes | None]


def plain(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*parts: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


class Server:
    """Answers requests one after the other, on any number of connections, from threads."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._lock = threading.Lock()
        self.bodies: list[bytes] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while True:
                try:
                    head: list[bytes] = []
                    while (line := lines.readline()) != b"\r\n":
                        if not line:  # the other side has closed
                            return
                        head.append(line)
                    length = next(int(line.split(b":")[1]) for line in head if line.startswith(b"Content-Length"))
                    body = lines.read(length)
                    with self._lock:
                        number = len(self.bodies)
                        self.bodies.append(body)
                        reply = self._reply(number)
                    if reply is None:
                        return
                    connection.sendall(reply)
                    if b"connection: close" in reply.lower():
                        return
                except (OSError, StopIteration):
                    return


@contextmanager
def serving(reply: Reply) -> Iterator[Server]:
    server = Server(reply)
    try:
        yield server
    finally:
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()


def requests(count: int) -> list[bytes]:
    return [REQUEST % (10 + number) for number in range(count)]


def test_a_closed_loop_asks_again_as_soon_as_it_is_answered() -> None:
    with serving(lambda _: plain(b"yes")) as server:
        record = Generator(Plan(port=server.port, requests=requests(3), connections=2, seconds=0.5)).run()
        assert record.ok().all()
        assert len(record.due) == len(server.bodies) > 2
        assert server.connections == 2
        assert (record.due <= record.sent).all()
        assert (record.sent < record.answered).all()
        assert {*server.bodies} == {b"10", b"11", b"12"}


def test_a_closed_loop_ends_before_its_time_and_keeps_bodies() -> None:
    with serving(lambda number: plain(b"%d" % number)) as server:
        with running(Plan(port=server.port, requests=requests(1), connections=2, seconds=60, keep=20)) as load:
            while len(server.bodies) < 20:
                time.sleep(0.01)
            load.stop()
            record = load.record()
        assert record.seconds < 60
        assert record.ok().all()
        assert sorted(record.kept.tolist()) == sorted(b"%d" % number for number in range(len(server.bodies)))


def test_an_open_loop_sends_what_is_due_once_and_in_order() -> None:
    arrivals = [0.01 * number for number in range(20)]
    with serving(lambda _: plain(b"yes")) as server:
        record = Generator(Plan(port=server.port, requests=requests(20), arrivals=arrivals)).run()
        assert server.bodies == [b"%d" % (10 + number) for number in range(20)]
    assert record.ok().all()
    np.testing.assert_allclose(record.due - record.due[0], arrivals, atol=1e-6)
    assert (record.sent >= record.due).all()


def stalled(seconds: float, ends: list[float]) -> Reply:
    """Keep the first answer back for so long, and note when it went."""

    def reply(number: int) -> bytes:
        if number == 0:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.001)
            ends.append(time.monotonic())
        return plain(b"yes")

    return reply


def test_generators_begin_together_at_a_given_time() -> None:
    with serving(lambda _: plain(b"ok")) as server:
        begin = time.monotonic() + 0.2
        record = Generator(Plan(port=server.port, requests=requests(2), arrivals=[0.0, 0.01], begin=begin)).run()
        assert record.due.tolist() == [begin, begin + 0.01]
        assert (record.sent >= record.due).all()
        late = Generator(Plan(port=server.port, requests=requests(2), arrivals=[0.0, 0.01], begin=begin)).run()
        assert late.due[0] > begin + 0.01


def test_latency_includes_the_wait_to_be_sent_while_a_server_stalls() -> None:
    ends: list[float] = []
    with serving(stalled(0.05, ends)) as server:
        record = Generator(Plan(port=server.port, requests=requests(5), arrivals=[0.0, 0.01, 0.02, 0.03, 0.04])).run()
    assert record.ok().all()
    assert (record.due < ends[0]).all()
    assert (record.sent[1:] > ends[0]).all()
    assert (latencies(record) > 1e3 * (ends[0] - record.due)).all()


def test_what_finds_no_connection_in_time_is_given_up() -> None:
    with serving(stalled(0.1, [])) as server:
        plan = Plan(port=server.port, requests=requests(3), arrivals=[0.0, 0.01, 0.02], give_up=0.05)
        record = Generator(plan).run()
        assert len(server.bodies) == 1
    assert record.ok().tolist() == [True, False, False]
    assert np.isnan(record.sent).tolist() == [False, True, True]
    assert np.isinf(latencies(record)).tolist() == [False, True, True]


def test_a_missing_answer_is_awaited_until_patience_is_over() -> None:
    ended = threading.Event()

    def reply(number: int) -> bytes | None:
        ended.wait(10)
        return None

    with serving(reply) as server:
        for arrivals in ([0.0, 0.01], None):
            plan = Plan(port=server.port, requests=requests(1), arrivals=arrivals, seconds=0.05, patience=0.1)
            record = Generator(plan).run()
            assert not record.ok().any()
            assert np.isnan(record.answered).all()
        ended.set()


@pytest.mark.parametrize("more", ["", "Connection: close\r\n"])
def test_another_status_is_no_right_answer_and_the_next_is_asked_for(more: str) -> None:
    answers = [plain(b"no", "503 Service Unavailable", more), plain(b"yes"), plain(b"", "204 No Content")]
    with serving(lambda number: answers[number]) as server:
        record = Generator(Plan(port=server.port, requests=requests(3), arrivals=[0.0, 0.01, 0.02])).run()
    assert record.status.tolist() == [503, 200, 204]
    assert record.ok().tolist() == [False, True, False]
    assert server.connections == (2 if more else 1)


def test_another_body_is_not_right_even_with_status_200() -> None:
    answers = [plain(b"10!"), plain(b"10!"), chunked(b"1", b"0 and more")]
    with serving(lambda number: answers[number]) as server:
        plan = Plan(port=server.port, requests=requests(3), starts=[b"10", b"11", b"10"], arrivals=[0.0, 0.0, 0.0])
        record = Generator(plan).run()
    assert record.status.tolist() == [200, 200, 200]
    assert record.ok().tolist() == [True, False, True]


def test_a_connection_that_breaks_costs_its_request_and_no_other() -> None:
    cut = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\ncut"
    answers = [plain(b"yes"), None, cut, plain(b"yes")]
    with serving(lambda number: answers[number]) as server:
        record = Generator(Plan(port=server.port, requests=requests(4), arrivals=[0.0, 0.0, 0.0, 0.0])).run()
        assert server.connections == 3
    assert record.ok().tolist() == [True, False, False, True]


def test_a_fresh_connection_is_made_for_each_request() -> None:
    with serving(lambda _: plain(b"yes")) as server:
        record = Generator(Plan(port=server.port, requests=requests(4), arrivals=[0.0] * 4, fresh=True)).run()
        assert server.connections == 4
    assert record.ok().all()


def test_a_body_of_megabytes_is_sent_and_read_whole() -> None:
    size = 5_000_000
    body = bytes(size)
    request = f"POST / HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode() + body
    with serving(lambda _: plain(body + b"end")) as server:
        record = Generator(Plan(port=server.port, requests=[request], arrivals=[0.0, 0.0])).run()
        assert [len(found) for found in server.bodies] == [size, size]
    assert record.ok().all()


def test_a_generator_in_a_process_of_its_own_records_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(lambda _: plain(b"yes")) as server:
        record = load(Plan(port=server.port, requests=requests(2), starts=[b"yes", b"no"], arrivals=[0.0, 0.01, 0.02]))
    assert record.ok().tolist() == [True, False, True]
    assert record.cpu_share > 0
    path = tmp_path_factory.mktemp("record") / "record.npz"
    write_record(path, record)
    for found, written in zip(read_record(path), record, strict=True):
        np.testing.assert_array_equal(found, written)


@given(
    parts=st.lists(st.binary(min_size=1, max_size=30), max_size=4),
    cuts=st.lists(st.integers(min_value=1, max_value=200), max_size=12),
    in_chunks=st.booleans(),
)
def test_an_answer_is_complete_with_its_last_byte_however_it_arrives(
    parts: list[bytes], cuts: list[int], in_chunks: bool
) -> None:
    whole = chunked(*parts) if in_chunks else plain(b"".join(parts))
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    answer = Answer(start_bytes=20)
    complete = [answer.feed(whole[start:end]) for start, end in pairwise(edges)]
    assert complete == [False] * (len(complete) - 1) + [True]
    assert answer.status == 200
    assert answer.start == b"".join(parts)[:20]


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 2xx\r\nContent-Length: 1\r\n\r\n", b"SSH-2.0\r\n\r\n"]
)
def test_an_answer_whose_end_cannot_be_told_is_an_error(head: bytes) -> None:
    with pytest.raises(BadAnswer):
        Answer(0).feed(head)
