"""Batches over HTTP: rows succeed or fail each for itself, and are computed together."""

from typing import Any

import numpy as np
import pytest

from app.config.settings import Settings
from app.models.served import ServedModel
from tests.routes.support import (
    ARROW,
    BATCH_KEYS,
    JSON,
    Client,
    Row,
    client_of,
    compute_with,
    fields,
    put,
    served_by,
    services_of,
    settings_with,
    stream_of,
    varied,
)
from tests.support import problem, sample_value


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


async def test_an_invalid_row_fails_alone_at_its_index(client: Client, example: Row) -> None:
    rows = [
        example,
        example | {"MedInc": "rich"},
        example | {"HouseAge": 60},
        7,
        {"Zip": 1} | example,
        example | {"MedInc": 8},
    ]
    response = await client.post("/predict/batch", json={"predictions": rows, "batch_id": "nightly"})
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == BATCH_KEYS
    items = answer["predictions"]
    assert [item["index"] for item in items] == list(range(6))
    assert [item["status"] for item in items] == [
        "predicted", "failed", "predicted", "failed", "failed", "predicted",
    ]  # fmt: skip
    assert [[error["field"] for error in item["errors"]] for item in items if item["status"] == "failed"] == [
        ["MedInc"],
        ["(body)"],
        ["Zip"],
    ]
    valid = [rows[0], rows[2], rows[5]]
    expected = served_by(client).engine.predict(np.array([list(row.values()) for row in valid]))  # type: ignore[union-attr]
    predicted = [item for item in items if item["status"] == "predicted"]
    assert [item["prediction"] for item in predicted] == expected.tolist()
    assert [len(item["warnings"]) for item in predicted] == [0, 1, 0]
    counts = [answer[f"{kind}_predictions"] for kind in ("total", "successful", "failed")]
    assert counts == [6, 3, 3]
    assert answer["batch_id"] == "nightly"
    assert answer["request_id"] == response.headers["x-request-id"]
    assert (answer["model_version"], answer["model_stage"]) == ("1", "Production")


async def test_a_batch_answers_like_its_single_rows(client: Client, example: Row) -> None:
    rows = [dict(zip(example, row, strict=True)) for row in varied(example, 5).tolist()]
    batch = (await client.post("/predict/batch", json={"predictions": rows})).json()
    alone = [(await client.post("/predict", json=row)).json()["prediction"] for row in rows]
    assert [item["prediction"] for item in batch["predictions"]] == alone
    assert len(set(alone)) > 1
    assert batch["batch_id"] is None


async def test_items_have_their_own_intervals_and_warnings(client: Client, referring: ServedModel) -> None:
    put(client, referring)
    rows: list[Any] = [{"income": income, "rooms": income, "age": 1.0} for income in (0.0, 1.0, 4.5, 60.0)]
    bodies = [rows[0], {"income": "rich"}, *rows[1:]]
    answer = (await client.post("/predict/batch?interval=0.5", json={"predictions": bodies})).json()
    items = [item for item in answer["predictions"] if item["status"] == "predicted"]
    alone = [(await client.post("/predict?interval=0.5", json=row)).json() for row in rows]
    for key in ("prediction", "confidence_interval", "warnings"):
        assert [item[key] for item in items] == [one[key] for one in alone]
    assert "confidence_interval" not in answer["predictions"][1]
    assert [item["confidence_interval"]["level"] for item in items] == [0.5] * 4
    widths = {item["confidence_interval"]["upper"] - item["confidence_interval"]["lower"] for item in items}
    assert len(widths) > 1
    outside = [sum(text.startswith("outside_reference: ") for text in item["warnings"]) for item in items]
    assert outside == [0, 0, 1, 1]
    default = (await client.post("/predict/batch", json={"predictions": rows})).json()["predictions"]
    assert {item["confidence_interval"]["level"] for item in default} == {0.9}


async def test_a_batch_is_one_call_of_the_engine(client: Client, example: Row) -> None:
    double = compute_with(client)
    rows = varied(example, 20)
    bodies = [dict(zip(example, row, strict=True)) for row in rows.tolist()]
    bodies.insert(3, {"bad": 1.0})
    response = await client.post("/predict/batch", json={"predictions": bodies})
    assert response.json()["successful_predictions"] == 20
    (batch,) = double.batches
    np.testing.assert_array_equal(batch, rows)


async def test_a_batch_of_invalid_rows_is_answered_with_an_error_per_row(own_client: Client) -> None:
    response = await own_client.post("/predict/batch", json={"predictions": [{}, {"MedInc": 1}]})
    assert response.status_code == 200
    answer = response.json()
    assert [item["status"] for item in answer["predictions"]] == ["failed", "failed"]
    assert (answer["successful_predictions"], answer["failed_predictions"]) == (0, 2)
    metrics = services_of(own_client).metrics.registry
    labels = {"model_version": "1", "prediction_type": "batch"}
    assert not sample_value(metrics, "predictions_total", labels)


async def test_an_expensive_engine_accepts_a_batch_without_valid_rows(client: Client, example: Row) -> None:
    compute_with(client)
    batch = await client.post("/predict/batch", json={"predictions": [{}]})
    assert batch.status_code == 200
    empty = stream_of(np.empty((0, len(example))), example)
    bulk = await client.post("/predict/bulk", content=empty, headers=ARROW)
    assert bulk.status_code == 200


async def test_max_batch_size_is_the_most_rows(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, max_batch_size=3)) as client:
        assert (await client.post("/predict/batch", json={"predictions": [example] * 3})).status_code == 200
        response = await client.post("/predict/batch", json={"predictions": [example] * 4})
        assert response.status_code == 422
        assert fields(response) == {"predictions": "must hold 1 to 3 rows, and holds 4"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"predictions": []}, {"predictions": "must hold 1 to 100 rows, and holds 0"}),
        ({}, {"predictions": "is missing"}),
        ([], {"(body)": "must be an object with predictions, a list of rows"}),
        (
            {"predictions": 3, "batch_id": 4, "rows": []},
            {
                "rows": "unknown field",
                "predictions": "must be a list",
                "batch_id": "must be text of at most 128 characters",
            },
        ),
    ],
    ids=["empty", "missing", "no object", "all at once"],
)
async def test_the_envelope_of_a_batch_is_validated(client: Client, body: Any, expected: dict[str, str]) -> None:
    response = await client.post("/predict/batch", json=body)
    assert response.status_code == 422
    assert fields(response) == expected


async def test_a_batch_that_is_not_json_is_malformed(client: Client) -> None:
    response = await client.post("/predict/batch", content=b'{"predictions": [', headers=JSON)
    assert response.status_code == 400
    problem(response)
