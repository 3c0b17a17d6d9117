"""`/invocations` as part of this service: errors of every origin, limits, what is counted and logged."""

import gzip
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pandas as pd
import pytest
from mlflow import exceptions
from mlflow.protos import databricks_pb2

from app import problems
from app.config.settings import Settings
from app.protocols.mlflow.predictions import answer_body
from tests.models.support import save_text, serve
from tests.predict.test_not_finite import BAD, GOOD
from tests.predict.test_not_finite import MODELS as NOT_FINITE
from tests.protocols.mlflow.models import save_doubles
from tests.routes.support import JSON, Client, Row, client_of, compute_with, put, served_by, services_of, settings_with
from tests.support import sample_value


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


URL, PREDICT = "/invocations", "/v1/models/california-housing-model:predict"


def records(*rows: Row) -> dict[str, Any]:
    return {"dataframe_records": list(rows)}


def error(response: Any, status: int) -> tuple[str, str]:
    """Code and message of an error, checked to have MLflow's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert {"error_code", "message"} <= content.keys() <= {"error_code", "message", "sqlstate", "error_class"}
    return content["error_code"], content["message"]


@pytest.mark.parametrize("code", sorted({*problems.MLFLOW_CODES.values(), "BAD_REQUEST", "INTERNAL_ERROR"}))
def test_codes_have_mlflows_classes(code: str) -> None:
    of_schema = {"error_class": "SCHEMA_ENFORCEMENT_FAILED"} if code == "INVALID_PARAMETER_VALUE" else {}
    theirs = exceptions.MlflowException("x", databricks_pb2.ErrorCode.Value(code), **of_schema)
    expected = json.loads(theirs.serialize_as_json())
    ours = problems.MlflowError(code, "x", *problems.MLFLOW_CLASSES.get(code, ()))
    assert msgspec.json.decode(msgspec.json.encode(ours)) == expected


async def test_ping_and_version(client: Client) -> None:
    response = await client.get("/ping")
    assert (response.status_code, response.content) == (200, b"\n")
    assert response.headers["content-type"] == "application/json"
    services_of(client).slot.current = None
    assert (await client.get("/ping")).status_code == 404


async def test_errors_outside_of_the_reader_have_mlflows_form(settings: Settings, example: Row) -> None:
    limited = settings_with(settings, api_key="sesame", rate_limit=4, max_json_bytes=1024)
    async with client_of(limited) as client:
        body, key = records(example), {"X-API-Key": "sesame"}
        assert error(await client.post(URL, json=body), 401)[0] == "UNAUTHENTICATED"
        assert (await client.post(URL, json=body, headers=key)).status_code == 200
        large = await client.post(URL, content=b" " * 2000, headers=key | {"content-type": "application/json"})
        assert error(large, 413) == ("BAD_REQUEST", "The body is larger than MAX_JSON_BYTES.")
        services_of(client).slot.current = None
        assert error(await client.post(URL, json=body, headers=key), 503)[0] == "TEMPORARILY_UNAVAILABLE"
        assert error(await client.post(URL, json=body, headers=key), 429)[0] == "RESOURCE_EXHAUSTED"
        assert error(await client.get(URL), 405)[0] == "BAD_REQUEST"


@pytest.mark.parametrize("path", [URL, PREDICT])
async def test_an_overloaded_service_refuses_early(client: Client, example: Row, path: str) -> None:
    gate = services_of(client).gate
    with patch.object(gate, "_limit", 1):
        ticket = gate.enter()
        response = await client.post(path, json=records(example))
        gate.leave(ticket)
    assert response.status_code == 503
    assert response.json().get("error_code") == ("TEMPORARILY_UNAVAILABLE" if path == URL else None)
    assert response.headers["retry-after"] == "1"


async def test_a_failure_inside_tells_nothing_of_it(client: Client, example: Row) -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("a secret")

    compute_with(client, fail)
    code, message = error(await client.post(URL, json=records(example)), 500)
    assert code == "INTERNAL_ERROR"
    assert "secret" not in message


async def test_requests_are_counted_and_logged_as_on_the_native_routes(own_client: Client, example: Row) -> None:
    services = services_of(own_client)
    with patch.object(services.prediction_log, "record") as record:
        for path, name in ((URL, "dataframe_records"), (PREDICT, "instances")):
            response = await own_client.post(
                path, json={name: [example, example]}, headers={"x-request-id": "of-a-test"}
            )
            assert response.status_code == 200
            assert response.headers["x-request-id"] == "of-a-test"
    assert [(call.args[0], call.args[1], call.args[4].shape) for call in record.mock_calls] == [
        ("of-a-test", "batch", (2, 8)), ("of-a-test", "batch", (2, 8)),
    ]  # fmt: skip
    text = (await own_client.get("/metrics")).text
    for template in (URL, "/v1/models/{model_name}:predict"):
        assert f'api_requests_total{{endpoint="{template}",method="POST",status_code="200"}} 1.0' in text


async def test_all_layouts_and_sizes_give_the_same_bits(client: Client, example: Row) -> None:
    rows = [example | {"HouseAge": 2.0 + index % 40} for index in range(3000)]
    native = (await client.post("/predict/bulk", json={"rows": rows})).json()["columns"]["prediction"]
    names = list(example)
    values = [[row[name] for name in names] for row in rows]
    bodies = (
        records(*rows),
        {"dataframe_split": {"columns": names, "data": values}},
        {"dataframe_split": {"columns": names[::-1], "data": [row[::-1] for row in values]}},
        {"instances": rows},
        {"inputs": {name: [row[name] for row in rows] for name in names}},
    )
    for body in bodies:
        answer = await client.post(URL, json=body)
        assert answer.json() == {"predictions": native}
        doubtful = json.dumps(body | {"x": float("nan")})  # NaN is for the second reading
        again = await client.post(URL, content=doubtful, headers=JSON)
        assert again.json() == {"predictions": native}


async def test_the_shadow_and_other_rows_of_the_batch_do_not_matter(client: Client, example: Row) -> None:
    one = (await client.post("/predict", json=example)).json()["prediction"]
    assert (await client.post(URL, json=records(example))).json() == {"predictions": [one]}


async def test_a_physical_range_of_the_plan_is_kept(client: Client, example: Row) -> None:
    code, message = error(await client.post(URL, json=records(example | {"Latitude": 1000.0})), 400)
    assert code == "BAD_REQUEST"
    assert "Latitude: must be in the range" in message
    assert "1000" not in message.replace("1000.", "")


@pytest.mark.parametrize("kind", NOT_FINITE)
async def test_predictions_that_are_not_finite_are_answered(own_client: Client, kind: str, tmp_path: Path) -> None:
    put(own_client, serve(save_text(NOT_FINITE[kind][0], tmp_path / "model")))
    answer = await own_client.post(URL, json=records(GOOD, BAD))
    assert answer.status_code == 200
    good, bad = json.loads(answer.content)["predictions"]
    assert np.isfinite(good).all()
    assert not np.isfinite(bad).all()
    counted = sample_value(
        services_of(own_client).metrics.registry,
        "predictions_not_finite_total",
        {"model_version": "1", "prediction_type": "batch"},
    )
    assert counted == 1


def test_large_answers_are_the_same_bytes_as_small_ones() -> None:
    numbers = np.random.default_rng(0).normal(size=(5000, 3))
    for values in (numbers[:, 0].tolist(), numbers.tolist()):
        assert json.loads(answer_body(values, finite=True)) == {"predictions": values}
    assert answer_body([float("nan"), float("-inf")], finite=False) == b'{"predictions": [NaN, -Infinity]}'


async def test_too_many_rows_are_refused(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, max_bulk_rows=2)) as client:
        lists = {"dataframe_split": {"columns": list(example), "data": [list(example.values())] * 3}}
        for body in (records(example, example, example), lists, {"inputs": {name: [1] * 3 for name in example}}):
            code, message = error(await client.post(URL, json=body), 413)
            assert code == "BAD_REQUEST"
            assert "MAX_BULK_ROWS" in message
        nan = json.dumps(lists | {"x": float("nan")})
        error(await client.post(URL, content=nan, headers=JSON), 413)


async def test_compressed_bodies_are_read(client: Client, example: Row) -> None:
    plain = json.dumps(records(example)).encode()
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert (await client.post(URL, content=gzip.compress(plain), headers=headers)).status_code == 200


async def test_errors_have_the_form_whatever_slashes_the_path_has(client: Client) -> None:
    for path in (URL, f"{URL}/", f"/{URL}", f"//{URL}//"):
        response = await client.post(f"http://localhost{path}", content=b"{}", headers=JSON)
        assert error(response, 400)[0] == "BAD_REQUEST", path


async def test_a_swap_brings_the_other_models_reader(client: Client, example: Row, tmp_path: Path) -> None:
    bundled = served_by(client)
    save_doubles(tmp_path / "model")
    put(client, serve(tmp_path / "model"))
    assert (await client.post(URL, json=records({"a": 1, "b": 2, "c": 3}))).status_code == 200
    assert error(await client.post(URL, json=records(example)), 400)[0] == "INVALID_PARAMETER_VALUE"
    put(client, bundled)
    assert (await client.post(URL, json=records(example))).status_code == 200


async def test_a_parquet_file_may_have_any_columns_beside(client: Client, example: Row) -> None:
    rows = pd.DataFrame([example] * 50).rename_axis("id")
    beside = rows.assign(text="long " * 1000, **{"a.b": 1.0, "MedInc.x": "y", "lists": [[1, 2]] * len(rows)})
    headers = {"content-type": "application/vnd.apache.parquet"}
    plain = await client.post(URL, content=rows.to_parquet(), headers=headers)
    assert len(plain.json()["predictions"]) == 50
    other = await client.post(URL, content=beside[beside.columns[::-1]].to_parquet(), headers=headers)
    assert other.json() == plain.json()


async def test_a_parquet_file_that_grows_is_refused(client: Client, example: Row) -> None:
    rows = pd.DataFrame([example] * 50).astype({"MedInc": object})
    rows["MedInc"] = "long " * 10_000
    headers = {"content-type": "application/vnd.apache.parquet"}
    assert (
        error(await client.post(URL, content=rows.to_parquet(), headers=headers), 400)[0] == "INVALID_PARAMETER_VALUE"
    )
