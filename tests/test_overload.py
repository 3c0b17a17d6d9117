"""Under overload some requests are answered rightly and the rest refused at once, until the overload is over."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from app.codecs.columns import arrow
from app.config.settings import Settings
from app.serving.executor import THREADS
from tests.routes.support import (
    ARROW,
    JSON,
    Array,
    Client,
    EngineDouble,
    Hanging,
    Row,
    client_of,
    compute_with,
    raw_post,
    row_of,
    served_by,
    services_of,
    settings_with,
    stream_of,
    varied,
)
from tests.support import HTTP, Server, come_true, eventually, problem, server_environ
from tests.wire import WITHIN_S, Answer, Wire, head, rows_in_flight

MAX_ROWS = 20_000
ROWS = 8_000
CLIENTS = 8
ROUNDS = 5
EMPTY = {"held": 0, "queued": 0}


@pytest.fixture(scope="module")
def server(registry_dir: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that holds few rows at once."""
    directory = tmp_path_factory.mktemp("overload")
    environ = server_environ(registry_dir, directory) | {"MAX_ROWS_IN_FLIGHT": str(MAX_ROWS), "LOG_LEVEL": "WARNING"}
    server = Server(environ, directory).wait_ready()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def bulk(example: Row) -> bytes:
    return stream_of(varied(example, ROWS), example)


def ask(server: Server, content: bytes) -> httpx.Response:
    url = f"{server.url}/predict/bulk"
    return HTTP.post(url, content=content, headers=ARROW, timeout=2 * WITHIN_S)


def predictions(content: bytes) -> Array:
    return pa.ipc.open_stream(content).read_all()["prediction"].to_numpy()


@pytest.fixture(scope="module")
def right(server: Server, bulk: bytes) -> Array:
    """What is predicted while nothing else goes on."""
    response = ask(server, bulk)
    assert response.status_code == 200
    return predictions(response.content)


def check_overloaded(status: int, kind: str, headers: Any) -> None:
    assert (status, kind) == (503, "overloaded")
    assert int(headers["retry-after"]) >= 1


def others_are_answered(server: Server, example: Row) -> None:
    with httpx.Client(base_url=server.url, trust_env=False, verify=False, timeout=WITHIN_S) as client:
        assert client.post("/predict", json=example).status_code == 200
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert client.get(path).status_code == 200, path


@pytest.mark.slow
def test_many_bulks_at_once_are_answered_or_refused(server: Server, bulk: bytes, right: Array, example: Row) -> None:
    with ThreadPoolExecutor(CLIENTS) as threads:
        answers = [threads.submit(ask, server, bulk) for _ in range(CLIENTS * ROUNDS)]
        while not all(answer.done() for answer in answers):
            others_are_answered(server, example)
    responses = [answer.result() for answer in answers]
    assert {response.status_code for response in responses} <= {200, 503}
    answered = [predictions(response.content) for response in responses if response.status_code == 200]
    assert answered
    for got in answered:
        np.testing.assert_array_equal(got, right)
    for response in responses:
        if response.status_code == 503:
            kind = str(problem(response)["type"]).removeprefix("urn:madrone:problem:")
            check_overloaded(response.status_code, kind, response.headers)
    eventually(lambda: rows_in_flight(server) == EMPTY, WITHIN_S, server)
    np.testing.assert_array_equal(predictions(ask(server, bulk).content), right)


@pytest.mark.slow
def test_only_bulks_are_refused_at_the_limit_of_rows(server: Server, bulk: bytes, right: Array, example: Row) -> None:
    """Incomplete bodies reserve the rows, so that the service is full for as long as the test needs."""
    whole = head("/predict/bulk", len(bulk), arrow.MEDIA_TYPE)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server)).send(whole, bulk[:-1]) for _ in range(2)]
        eventually(lambda: rows_in_flight(server)["held"] >= 2 * ROWS, WITHIN_S, server)
        refused: Answer = stack.enter_context(Wire(server)).send(whole, bulk).answer()
        check_overloaded(refused.status, refused.kind, refused.headers)
        others_are_answered(server, example)
        for wire in wires:
            answer = wire.send(bulk[-1:]).answer()
            assert answer.status == 200
            np.testing.assert_array_equal(predictions(answer.body), right)
    eventually(lambda: rows_in_flight(server) == EMPTY, WITHIN_S, server)
    assert ask(server, bulk).status_code == 200


@pytest.mark.slow
def test_one_row_is_answered_while_a_bulk_holds_more_than_may_be_held(server: Server, example: Row) -> None:
    content = stream_of(varied(example, 2 * MAX_ROWS), example)  # which a request may that is the only one
    with Wire(server) as wire:
        wire.send(head("/predict/bulk", len(content), arrow.MEDIA_TYPE), content[:-1])
        eventually(lambda: rows_in_flight(server)["held"] >= 2 * MAX_ROWS, WITHIN_S, server)
        others_are_answered(server, example)
        assert wire.send(content[-1:]).answer().status == 200
    eventually(lambda: rows_in_flight(server) == EMPTY, WITHIN_S, server)


class Chunks:
    """Lets an engine's double compute chunk by chunk, ten rows in each, and the first ones not before it may."""

    def __init__(self, client: Client) -> None:
        self.free = threading.Event()
        self.double: EngineDouble = compute_with(client, self._answer)
        self.double.chunk = lambda rows, _, **__: min(rows, 10)  # type: ignore[method-assign]

    def _answer(self, rows: Array) -> Array:
        assert self.free.wait(WITHIN_S)
        return np.zeros(len(rows))

    @property
    def computed(self) -> int:
        """Rows that were begun with."""
        return sum(len(batch) for batch in self.double.batches)


async def settle(client: Client, chunks: Chunks) -> None:
    """Let the threads end what they had begun, and any that would begin with more begin with it."""
    chunks.free.set()
    executor, double = services_of(client).executor, chunks.double
    served = msgspec.structs.replace(served_by(client), engine=double)
    before = chunks.computed
    await executor.predict(served, np.zeros((1, 8)), "bulk")  # the executor's queue is first in, first out
    assert chunks.computed == before + 1


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_504_for_work_past_its_deadline_which_is_not_computed(
    settings: Settings, example: Row, large: bool
) -> None:
    rows = varied(example, 2000 if large else 200)  # beyond, and within, what is decoded on the event loop
    async with client_of(settings_with(settings, request_timeout=0.2)) as client:
        chunks = Chunks(client)
        response = await client.post("/predict/bulk", content=stream_of(rows, example), headers=ARROW)
        assert response.status_code == 504
        assert problem(response)["type"] == "urn:madrone:problem:timeout"
        begun = chunks.computed
        assert begun < len(rows)
        assert services_of(client).admission.rows() == EMPTY
        await settle(client, chunks)
        assert chunks.computed == begun + 1


async def test_504_for_requests_no_thread_began_and_no_work_for_them(settings: Settings, example: Row) -> None:
    whole: Any = {"type": "http.request", "body": msgspec.json.encode(example), "more_body": False}
    async with client_of(settings_with(settings, request_timeout=0.2)) as client:
        with Hanging() as hanging:
            double = compute_with(client, hanging)
            answers = await asyncio.gather(*(raw_post(client, [whole]) for _ in range(50)))
            await asyncio.sleep(0)
            begun = len(double.batches)
        assert {answer[0]["status"] for answer in answers} == {504}
        assert begun < 50
        assert services_of(client).admission.rows() == EMPTY
        for _ in range(5):  # the executor's queue is first in, first out
            assert (await raw_post(client, [whole]))[0]["status"] == 200
        assert len(double.batches) == begun + 5


async def test_what_a_caller_that_left_has_asked_for_is_not_computed(client: Client, example: Row) -> None:
    chunks = Chunks(client)
    body = stream_of(varied(example, 2000), example)
    gone = asyncio.Event()
    coming: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if coming:
            return coming.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict/bulk", "raw_path": b"/predict/bulk", "query_string": b"", "root_path": "",
        "headers": [
            (b"host", b"test"), (b"content-type", arrow.MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body)),
        ],
        "client": ("10.0.0.1", 1), "server": ("test", 80),
    }  # fmt: skip

    async def leave() -> None:
        await come_true(lambda: chunks.computed)
        gone.set()

    await asyncio.gather(client.app(scope, receive, send), leave())
    begun = chunks.computed
    assert begun < 2000
    assert sent == []
    assert services_of(client).admission.rows() == EMPTY
    await settle(client, chunks)


async def test_once_a_chunk_has_failed_no_other_is_begun_with(client: Client, example: Row) -> None:
    rows = varied(example, 2000)
    chunks, others = Chunks(client), threading.Semaphore(0)

    def fail(batch: Array) -> Array:
        if (batch[0] == rows[0]).all():
            for _ in range(THREADS - 1):  # each other thread has begun with a chunk
                assert others.acquire(timeout=WITHIN_S)
            raise RuntimeError("the first chunk")
        others.release()
        assert chunks.free.wait(WITHIN_S)
        return np.zeros(len(batch))

    chunks.double._answer = fail
    response = await client.post("/predict/bulk", content=stream_of(rows, example), headers=ARROW)
    assert response.status_code == 500
    begun = chunks.computed
    assert begun <= 10 * THREADS
    await settle(client, chunks)
    assert chunks.computed == begun + 1


async def test_a_refusal_has_retry_after_and_does_not_await_the_body(client: Client) -> None:
    admission = services_of(client).admission
    with admission.enter(8) as waiting:
        waiting.reserve(1000)
        waiting.join_queue()
        admission._seconds_per_row = 0.0125
        # Nothing of this body ever comes.
        answer = await raw_post(client, [], "/predict/batch", content_length="40000")
    assert answer[0]["status"] == 503
    headers = dict(answer[0]["headers"])
    assert headers[b"retry-after"] == b"13"
    assert headers[b"connection"] == b"close"  # and so nothing is read in vain
    assert msgspec.json.decode(answer[1]["body"])["type"] == "urn:madrone:problem:overloaded"


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/bulk"])
async def test_requests_beyond_the_limit_are_refused_and_the_rest_answered(
    settings: Settings, example: Row, path: str
) -> None:
    content = {"/predict": example, "/predict/batch": {"predictions": [example]}, "/predict/bulk": {"rows": [example]}}
    async with client_of(msgspec.structs.replace(settings, max_requests_in_progress=2)) as client:
        gate = services_of(client).gate
        tickets = [gate.enter(), gate.enter()]
        refused = await client.post(path, json=content[path])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert problem(refused)["detail"] == (
            "The service has as many requests in progress as MAX_REQUESTS_IN_PROGRESS allows."
        )
        assert "connection" not in refused.headers  # the body is read already
        assert (await client.get("/health/ready")).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert "predictions_in_progress 2.0" in metrics
        assert f'errors_total{{endpoint="{path}",error_type="overloaded"}} 1.0' in metrics
        gate.leave(tickets.pop())
        assert (await client.post(path, json=content[path])).status_code == 200
        assert gate.in_progress == 1


async def test_small_requests_are_answered_however_long_the_queue(client: Client, example: Row) -> None:
    admission = services_of(client).admission
    with admission.enter(8) as waiting:
        waiting.reserve(1000)
        waiting.join_queue()
        admission._seconds_per_row = 10.0
        for path, content in (("/predict", example), ("/predict/batch", {"predictions": [example] * 5})):
            response = await client.post(path, content=msgspec.json.encode(content), headers=JSON)
            assert response.status_code == 200, path
        response = await client.post("/predict/bulk", content=stream_of(row_of(example), example), headers=ARROW)
        assert response.status_code == 200
