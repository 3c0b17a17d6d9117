"""Bulk scoring over HTTP: Arrow in, Arrow out."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.codecs.columns import arrow
from app.config.settings import Settings
from app.models.served import ServedModel
from tests.routes.support import (
    ARROW,
    Client,
    Row,
    client_of,
    fields,
    put,
    served_by,
    settings_with,
    stream,
    stream_of,
    varied,
)
from tests.support import problem


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


async def test_a_bulk_answer_has_the_predictions_of_the_engine(client: Client, example: Row) -> None:
    rows = varied(example, 1000)
    response = await client.post("/predict/bulk", content=stream_of(rows, example), headers=ARROW)
    assert response.status_code == 200
    assert response.headers["content-type"] == arrow.MEDIA_TYPE
    assert response.headers["x-model-version"] == "1"
    assert response.headers["x-model-stage"] == "Production"
    table = pa.ipc.open_stream(response.content).read_all()
    assert table.column_names == ["prediction"]
    np.testing.assert_array_equal(table["prediction"].to_numpy(), served_by(client).engine.predict(rows))


async def test_requested_bounds_are_two_more_columns(client: Client, referring: ServedModel) -> None:
    put(client, referring)
    rows = np.random.default_rng(2).normal(size=(500, 3))
    body = stream_of(rows, ("income", "rooms", "age"))
    without = pa.ipc.open_stream((await client.post("/predict/bulk", content=body, headers=ARROW)).content).read_all()
    assert without.column_names == ["prediction"]
    response = await client.post("/predict/bulk?interval=0.95", content=body, headers=ARROW)
    table = pa.ipc.open_stream(response.content).read_all()
    assert table.column_names == ["prediction", "lower", "upper"]
    evaluation = referring.engine.evaluate(rows)
    assert evaluation.difficulty is not None
    half_width = 2.5 * np.maximum(evaluation.difficulty, 0.125)
    np.testing.assert_array_equal(table["prediction"].to_numpy(), evaluation.prediction)
    np.testing.assert_array_equal(table["lower"].to_numpy(), evaluation.prediction - half_width)
    np.testing.assert_array_equal(table["upper"].to_numpy(), evaluation.prediction + half_width)


async def test_an_empty_table_has_empty_bounds(client: Client, referring: ServedModel) -> None:
    put(client, referring)
    body = stream_of(np.empty((0, 3)), ("income", "rooms", "age"))
    response = await client.post("/predict/bulk?interval=0.9", content=body, headers=ARROW)
    table = pa.ipc.open_stream(response.content).read_all()
    assert (table.num_rows, table.column_names) == (0, ["prediction", "lower", "upper"])


async def test_columns_are_matched_by_name_and_floats_have_any_width(client: Client, example: Row) -> None:
    rows = varied(example, 10).astype(np.float32)
    columns = {name: rows[:, index] for index, name in enumerate(example)}
    body = stream(dict(reversed(columns.items())))
    response = await client.post("/predict/bulk", content=body, headers=ARROW)
    table = pa.ipc.open_stream(response.content).read_all()
    expected = served_by(client).engine.predict(rows.astype(np.float64))
    np.testing.assert_array_equal(table["prediction"].to_numpy(), expected)


async def test_an_empty_table_is_answered_by_an_empty_table(client: Client, example: Row) -> None:
    response = await client.post(
        "/predict/bulk", content=stream_of(np.empty((0, len(example))), example), headers=ARROW
    )
    assert response.status_code == 200
    table = pa.ipc.open_stream(response.content).read_all()
    assert (table.num_rows, table.column_names) == (0, ["prediction"])


async def test_max_bulk_rows_is_the_most_rows(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, max_bulk_rows=10)) as client:
        taken = await client.post("/predict/bulk", content=stream_of(varied(example, 10), example), headers=ARROW)
        assert taken.status_code == 200
        response = await client.post("/predict/bulk", content=stream_of(varied(example, 11), example), headers=ARROW)
        assert response.status_code == 413
        assert problem(response)["detail"] == "The body holds more than the 10 rows of MAX_BULK_ROWS."


async def test_every_invalid_column_is_named(client: Client, example: Row) -> None:
    columns: dict[str, Any] = {name: [value] for name, value in example.items() if name != "MedInc"}
    columns |= {"HouseAge": ["old"], "Zip": [1]}
    response = await client.post("/predict/bulk", content=stream(columns), headers=ARROW)
    assert response.status_code == 422
    assert fields(response) == {
        "MedInc": "is missing",
        "HouseAge": "must be a number, not string",
        "Zip": "unknown field",
    }


@pytest.mark.parametrize("body", [b"", b"not arrow", b"\xff\xff\xff\xff\x10\x00\x00\x00"])
async def test_a_body_that_is_not_an_arrow_stream_is_malformed(client: Client, body: bytes) -> None:
    response = await client.post("/predict/bulk", content=body, headers=ARROW)
    assert response.status_code == 400
    assert problem(response)["type"] == "urn:madrone:problem:malformed-body"
