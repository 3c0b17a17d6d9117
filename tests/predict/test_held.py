"""What a request holds is counted by what it is unfolded to, and freed with it."""

import asyncio
import gzip
import io
import threading
import weakref
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from app.codecs.columns import parquet
from app.codecs.rules import check_rows
from app.errors import MalformedBody
from app.predict import exchange, handlers
from app.predict.body import SMALL_BODY_BYTES
from app.predict.exchange import Endpoint, Exchange
from app.serving.deadline import Deadlines
from app.serving.gate import Gate
from app.telemetry.stages import StageTimes
from tests.routes.support import (
    ARROW,
    Array,
    Client,
    Hanging,
    Row,
    compute_with,
    row_of,
    services_of,
    stream_of,
    varied,
)
from tests.support import come_true

PARQUET = {"Content-Type": parquet.MEDIA_TYPE}
ROWS = 20_000
EMPTY = {"held": 0, "queued": 0}
WITHIN_S = 20.0


def file_of(example: Row, *, small: bool) -> bytes:
    """A file of ROWS rows, which are all the same, or differ in few columns."""
    rows = np.repeat(row_of(example), ROWS, axis=0)
    if not small:
        rows[:, 0] = varied(example, ROWS)[:, 0]
    file = io.BytesIO()
    pq.write_table(pa.table({name: rows[:, column] for column, name in enumerate(example)}), file)
    assert (len(file.getvalue()) <= SMALL_BODY_BYTES) == small
    assert len(file.getvalue()) < rows.nbytes / 4
    return file.getvalue()


async def post(client: Client, content: bytes, headers: dict[str, str]) -> int:
    """Status of the answer; the app runs in the test's own loop, which the test's client would block."""
    transport = httpx.ASGITransport(app=client.app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as direct:
        return (await direct.post("/predict/bulk", content=content, headers=headers)).status_code


async def rows_while_computed(client: Client, content: bytes, headers: dict[str, str]) -> dict[str, int]:
    """Rows in flight while the answer to a request is computed."""
    with Hanging() as hanging:
        double = compute_with(client, hanging)
        answer = asyncio.create_task(post(client, content, headers))
        await come_true(lambda: double.batches or answer.done())
        rows = services_of(client).admission.rows()
    assert await answer == 200
    assert services_of(client).admission.rows() == EMPTY
    return rows


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
async def test_a_parquet_file_counts_as_its_rows(client: Client, example: Row, small: bool) -> None:
    content = file_of(example, small=small)
    assert await rows_while_computed(client, content, PARQUET) == {"held": ROWS, "queued": ROWS}


async def test_a_compressed_body_counts_as_its_rows(client: Client, example: Row) -> None:
    content = gzip.compress(stream_of(varied(example, ROWS), example))
    rows = await rows_while_computed(client, content, ARROW | {"Content-Encoding": "gzip"})
    assert ROWS <= rows["held"] == rows["queued"] < 1.01 * ROWS  # by its bytes, which are some more


async def test_a_compressed_body_is_queued_while_it_is_unfolded(
    client: Client, example: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gzip.compress(stream_of(varied(example, ROWS), example))
    free, unfold = threading.Event(), exchange.decompress

    def hang(*arguments: Any) -> bytearray:
        assert free.wait(WITHIN_S)
        return unfold(*arguments)

    monkeypatch.setattr(exchange, "decompress", hang)
    headers = ARROW | {"Content-Encoding": "gzip"}
    answer = asyncio.create_task(post(client, content, headers))
    estimate = -(-len(content) // (8 * len(example)))
    await come_true(lambda: services_of(client).admission.rows() == {"held": estimate, "queued": estimate})
    free.set()
    assert await answer == 200
    assert services_of(client).admission.rows() == EMPTY


async def test_a_small_file_of_many_rows_is_not_read_on_the_event_loop(
    client: Client, example: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def spy(rows: int, most: int) -> None:
        threads.append(threading.current_thread().name)
        check_rows(rows, most)

    monkeypatch.setattr(parquet, "check_rows", spy)
    response = await client.post("/predict/bulk", content=file_of(example, small=True), headers=PARQUET)
    assert response.status_code == 200
    assert [name.partition("_")[0] for name in threads] == ["executor"]


async def test_rows_are_freed_before_their_answer_is_sent(
    client: Client, example: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[weakref.ref[Any]] = []
    send = handlers.send_table

    def keep(served: Any, rows: Array, prediction: Array, request_id: str) -> None:
        answered.append(weakref.ref(rows))

    async def check(*arguments: Any) -> None:
        await come_true(lambda: answered[0]() is None)  # at once, or when the last thread has let go of them
        await send(*arguments)

    monkeypatch.setattr(services_of(client).shadow, "offer", keep)
    monkeypatch.setattr(handlers, "send_table", check)
    assert await post(client, stream_of(varied(example, 2000), example), ARROW) == 200
    assert len(answered) == 1


async def test_what_a_refused_request_held_is_freed_before_the_rest_of_its_body_is_read() -> None:
    class Rows:
        pass

    held: list[weakref.ref[Rows]] = []

    async def refuse(exchange: Exchange) -> None:
        rows = Rows()
        held.append(weakref.ref(rows))
        try:
            raise ValueError("the cause")
        except ValueError as error:
            raise MalformedBody("Not what it should be.") from error

    async def receive() -> Any:
        await asyncio.sleep(0)
        freed.append(held[0]() is None)
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    freed: list[bool] = []
    sent: list[Any] = []
    endpoint = Endpoint("/predict", refuse, Deadlines(WITHIN_S), Gate(10, 0.5), StageTimes(CollectorRegistry()))
    scope: Any = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
    await endpoint(scope, receive, send)
    assert sent[0]["status"] == 400
    assert freed == [True]
