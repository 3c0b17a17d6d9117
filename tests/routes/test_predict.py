"""Predictions over HTTP: what is answered, what is refused and how, and that all of it is the served model's."""

import asyncio
import logging
from typing import Any

import httpx
import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from app.codecs import arrow
from app.main import create_app
from app.settings import Settings
from tests.routes.support import (
    CHURN_ROW,
    Array,
    Client,
    Hanging,
    client_of,
    compute_with,
    served_by,
    services_of,
)
from tests.support import problem

JSON = {"Content-Type": "application/json"}
ARROW = {"Content-Type": arrow.MEDIA_TYPE}
ANSWER_KEYS = {
    "prediction", "model_version", "model_stage", "confidence_interval", "request_id", "processing_time_ms", "warnings",
}  # fmt: skip
BATCH_KEYS = {
    "predictions", "total_predictions", "successful_predictions", "failed_predictions", "batch_id", "model_version",
    "model_stage", "request_id", "processing_time_ms",
}  # fmt: skip
Row = dict[str, float]


def settings_with(settings: Settings, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, **changes)


def row_of(example: Row) -> Array:
    return np.array([list(example.values())])


def varied(example: Row, count: int) -> Array:
    """float64[count, F]: rows around the example that the model tells apart."""
    return row_of(example) * np.random.default_rng(1).uniform(0.9, 1.1, (count, len(example)))


def stream(columns: dict[str, Any]) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def stream_of(rows: Array, names: Any) -> bytes:
    return stream({name: rows[:, index] for index, name in enumerate(names)})


def fields(response: httpx.Response) -> dict[str, str]:
    errors: Any = problem(response)["errors"]
    return {error["field"]: error["message"] for error in errors}


async def raw_post(settings: Settings, chunks: list[Any]) -> list[Any]:
    """What an app sends for a body that comes in these messages, and after them in none."""
    sent: list[Any] = []
    coming = iter(chunks)

    async def receive() -> Any:
        for message in coming:
            return message
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict", "raw_path": b"/predict", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")], "client": ("10.0.0.1", 1), "server": ("test", 80),
    }  # fmt: skip
    await create_app(settings)(scope, receive, send)
    return sent


class TestOneRow:
    @pytest.mark.parametrize("path", ["/predict", "/predict/"])
    async def test_the_answer_is_the_engines_under_the_documented_keys(
        self, client: Client, example: Row, path: str
    ) -> None:
        response = await client.post(path, json=example, follow_redirects=False)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        answer = response.json()
        assert answer.keys() == ANSWER_KEYS
        assert answer["prediction"] == served_by(client).engine.predict(row_of(example))[0]
        assert (answer["model_version"], answer["model_stage"]) == ("1", "Production")
        assert answer["confidence_interval"] is None
        assert answer["request_id"] == response.headers["x-request-id"]
        assert answer["processing_time_ms"] > 0
        assert answer["warnings"] == []

    async def test_a_value_that_training_never_saw_is_answered_with_a_warning(
        self, client: Client, example: Row
    ) -> None:
        answer = (await client.post("/predict", json=example | {"HouseAge": 60, "MedInc": 0.1})).json()
        assert answer["warnings"] == [
            "MedInc is outside the training range 0.4999 to 15.0001",
            "HouseAge is outside the training range 1 to 52",
        ]
        assert np.isfinite(answer["prediction"])

    async def test_every_bad_field_is_named(self, client: Client, example: Row) -> None:
        body = {name: value for name, value in example.items() if name != "MedInc"}
        body |= {"HouseAge": "old", "Latitude": 91, "Zip": 1}  # type: ignore[dict-item]
        response = await client.post("/predict", json=body)
        assert response.status_code == 422
        assert fields(response) == {
            "MedInc": "is missing",
            "HouseAge": "must be a number, not text",
            "Latitude": "must be in the range -90 to 90",
            "Zip": "unknown field",
        }

    @pytest.mark.parametrize("body", [b"", b"{", b'{"MedInc": 1} and more', b"\xff\xfe"])
    async def test_a_body_that_is_no_json_is_malformed(self, client: Client, body: bytes) -> None:
        response = await client.post("/predict", content=body, headers=JSON)
        assert response.status_code == 400
        assert problem(response)["type"] == "urn:madrone:problem:malformed-body"

    @pytest.mark.parametrize(
        "content_type", [None, "text/plain", "application/xml", "application/json; charset=latin-1", "*/*"]
    )
    async def test_another_content_type_is_not_read(self, client: Client, content_type: str | None) -> None:
        headers = {"Content-Type": content_type} if content_type else {}
        response = await client.post("/predict", content=b"{}", headers=headers)
        assert response.status_code == 415
        assert problem(response)["detail"] == "The body must come with Content-Type: application/json."

    @pytest.mark.parametrize(
        "content_type", ["application/json;charset=utf-8", 'Application/JSON; charset="UTF-8"', "application/json;"]
    )
    async def test_json_may_say_that_it_is_utf_8(self, client: Client, example: Row, content_type: str) -> None:
        body = msgspec.json.encode(example)
        response = await client.post("/predict", content=body, headers={"Content-Type": content_type})
        assert response.status_code == 200


class TestRefusals:
    """Each status that a prediction route can answer besides 200."""

    async def test_401_without_or_with_a_wrong_key(self, settings: Settings, example: Row) -> None:
        async with client_of(settings_with(settings, api_key="sesame")) as client:
            for headers in (
                {},
                {"X-API-Key": "wrong"},
                {"X-API-Key": ""},
                {"X-API-Key": "sesame2"},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Basic sesame"},
                {"X-API-Key": "wrong", "Authorization": "Bearer sesame"},
            ):
                for path in ("/predict", "/predict/batch", "/predict/bulk"):
                    response = await client.post(path, json=example, headers=headers)
                    assert response.status_code == 401
                    assert response.headers["www-authenticate"] == "Bearer"
                    assert problem(response)["type"] == "urn:madrone:problem:unauthorized"
                    assert "sesame" not in response.text

    @pytest.mark.parametrize(
        "headers",
        [{"X-API-Key": "sesame"}, {"Authorization": "Bearer sesame"}, {"Authorization": "bearer  sesame"}],
    )
    async def test_a_key_opens_in_either_header(
        self, settings: Settings, example: Row, headers: dict[str, str]
    ) -> None:
        async with client_of(settings_with(settings, api_key="sesame")) as client:
            assert (await client.post("/predict", json=example, headers=headers)).status_code == 200

    async def test_what_is_no_prediction_stays_open_while_a_key_is_set(self, settings: Settings) -> None:
        async with client_of(settings_with(settings, api_key="sesame")) as client:
            for path in (
                "/predict/model/info", "/health", "/health/detailed", "/health/model", "/health/system", "/health/gpu",
                "/health/live", "/health/ready", "/info", "/metrics", "/openapi.json",
            ):  # fmt: skip
                assert (await client.get(path)).status_code == 200, path

    async def test_413_for_a_body_beyond_max_body_bytes(self, settings: Settings, example: Row) -> None:
        async with client_of(settings_with(settings, max_body_bytes=1024)) as client:
            assert (await client.post("/predict", json=example)).status_code == 200
            response = await client.post("/predict", json=example | {"Zip": "x" * 1024})
            assert response.status_code == 413
            assert problem(response)["detail"] == "The body is larger than MAX_BODY_BYTES."

    async def test_413_for_a_body_that_grows_beyond_max_body_bytes_on_the_way(self, settings: Settings) -> None:
        chunks = [{"type": "http.request", "body": b" " * 512, "more_body": True}] * 5
        answer = await raw_post(settings_with(settings, max_body_bytes=1024), chunks)
        assert answer[0]["status"] == 413

    async def test_429_beyond_the_rate_limit(self, settings: Settings, example: Row) -> None:
        async with client_of(settings_with(settings, rate_limit=2)) as client:
            for _ in range(2):
                assert (await client.post("/predict", json=example)).status_code == 200
            response = await client.post("/predict", json=example)
            assert response.status_code == 429
            assert problem(response)["type"] == "urn:madrone:problem:too-many-requests"
            assert 0 <= int(response.headers["retry-after"]) <= 60
            assert (await client.get("/predict/model/info")).status_code == 200
            assert (await client.get("/health/ready")).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/predict"),
            ("POST", "/predict/batch"),
            ("GET", "/predict/model/info"),
        ],
    )
    async def test_503_while_no_model_is_loaded(self, settings: Settings, example: Row, method: str, path: str) -> None:
        async with client_of(settings_with(settings, model_name="nobody-trained-this")) as client:
            response = await client.request(method, path, json=example)
            assert response.status_code == 503
            assert response.headers["retry-after"] == "5"
            assert problem(response)["type"] == "urn:madrone:problem:model-unavailable"

    @pytest.mark.parametrize(
        ("path", "body"),
        [("/predict", "row"), ("/predict/batch", "batch"), ("/predict/bulk", "stream")],
    )
    async def test_504_when_computing_takes_longer_than_the_request_timeout(
        self, settings: Settings, example: Row, path: str, body: str
    ) -> None:
        bodies = {
            "row": (msgspec.json.encode(example), JSON),
            "batch": (msgspec.json.encode({"predictions": [example]}), JSON),
            "stream": (stream_of(row_of(example), example), ARROW),
        }
        content, headers = bodies[body]
        async with client_of(settings_with(settings, request_timeout=0.05)) as client:
            with Hanging() as hanging:
                compute_with(client, hanging)
                response = await client.post(path, content=content, headers=headers)
            assert response.status_code == 504
            assert problem(response)["detail"] == "The request was not answered within 0.05 seconds."

    async def test_504_when_the_body_never_ends(self, settings: Settings) -> None:
        start = [{"type": "http.request", "body": b'{"MedInc":', "more_body": True}]
        answer = await raw_post(settings_with(settings, request_timeout=0.05), start)
        assert answer[0]["status"] == 504

    async def test_500_says_nothing_of_the_cause_and_logs_it(
        self, client: Client, example: Row, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(rows: Array) -> Array:
            raise RuntimeError("secret of the house")

        compute_with(client, fail)
        response = await client.post("/predict", json=example)
        assert response.status_code == 500
        assert problem(response)["type"] == "urn:madrone:problem:internal"
        assert "secret" not in response.text
        assert "RuntimeError" not in response.text
        logged = [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]
        assert [str(record.exc_info[1]) for record in logged if record.exc_info] == ["secret of the house"]

    async def test_the_app_goes_on_after_a_failure(self, client: Client, example: Row) -> None:
        served = served_by(client)

        def fail(rows: Array) -> Array:
            raise RuntimeError

        compute_with(client, fail)
        assert (await client.post("/predict", json=example)).status_code == 500
        services_of(client).slot.current = served
        assert (await client.post("/predict", json=example)).status_code == 200

    @pytest.mark.parametrize("path", ["/nothing", "/predict/none", "/health/nothing", "/predict/model", "/docs/x"])
    async def test_404_for_a_route_that_is_not_there(self, client: Client, path: str) -> None:
        response = await client.get(path)
        assert response.status_code == 404
        assert problem(response)["detail"] == "There is no such route."

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/predict", "POST"),
            ("DELETE", "/predict/batch", "POST"),
            ("PUT", "/predict/bulk", "POST"),
            ("POST", "/health", "GET"),
            ("POST", "/predict/model/info", "GET"),
        ],
    )
    async def test_405_names_what_the_route_answers(self, client: Client, method: str, path: str, allowed: str) -> None:
        response = await client.request(method, path)
        assert response.status_code == 405
        assert allowed in response.headers["allow"].split(", ")
        assert problem(response)["type"] == "urn:madrone:problem:method-not-allowed"


class TestRequestId:
    @pytest.mark.parametrize("given", ["abc-123", "a" * 128, "01JD:trace/4+x=@_."])
    async def test_the_callers_is_taken(self, client: Client, example: Row, given: str) -> None:
        response = await client.post("/predict", json=example, headers={"X-Request-ID": given})
        assert response.headers.get_list("x-request-id") == [given]
        assert response.json()["request_id"] == given

    @pytest.mark.parametrize(
        "given",
        [b"has spaces", b"a" * 200, b"line\r\nSet-Cookie: a=b", b"line\nfeed", b"", b'<script>"', b"caf\xe9", b"a\n"],
    )
    async def test_one_that_cannot_be_repeated_safely_is_replaced(self, client: Client, given: bytes) -> None:
        response = await client.get("/health/live", headers=[(b"x-request-id", given)])
        identifier = response.headers["x-request-id"]
        assert identifier.isalnum()
        assert len(identifier) == 32
        assert "set-cookie" not in response.headers

    async def test_every_answer_has_one_of_its_own(self, client: Client, example: Row) -> None:
        paths = ("/predict/model/info", "/health", "/info", "/metrics", "/nothing", "/openapi.json")
        responses = [await client.get(path) for path in paths]
        responses += [await client.post("/predict", json={}), await client.post("/predict", json=example)]
        identifiers = [response.headers["x-request-id"] for response in responses]
        assert len(set(identifiers)) == len(responses)


class TestBatch:
    async def test_a_row_that_is_not_valid_fails_alone_and_in_its_place(self, client: Client, example: Row) -> None:
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

    async def test_a_batch_answers_as_its_rows_would_alone(self, client: Client, example: Row) -> None:
        rows = [dict(zip(example, row, strict=True)) for row in varied(example, 5).tolist()]
        batch = (await client.post("/predict/batch", json={"predictions": rows})).json()
        alone = [(await client.post("/predict", json=row)).json()["prediction"] for row in rows]
        assert [item["prediction"] for item in batch["predictions"]] == alone
        assert len(set(alone)) > 1
        assert batch["batch_id"] is None

    async def test_a_batch_is_one_call_of_the_engine(self, client: Client, example: Row) -> None:
        double = compute_with(client)
        rows = varied(example, 20)
        bodies = [dict(zip(example, row, strict=True)) for row in rows.tolist()]
        bodies.insert(3, {"bad": 1.0})
        response = await client.post("/predict/batch", json={"predictions": bodies})
        assert response.json()["successful_predictions"] == 20
        (batch,) = double.batches
        np.testing.assert_array_equal(batch, rows)

    async def test_a_batch_without_a_valid_row_is_answered_row_by_row(self, client: Client) -> None:
        response = await client.post("/predict/batch", json={"predictions": [{}, {"MedInc": 1}]})
        assert response.status_code == 200
        answer = response.json()
        assert [item["status"] for item in answer["predictions"]] == ["failed", "failed"]
        assert (answer["successful_predictions"], answer["failed_predictions"]) == (0, 2)
        metrics = services_of(client).metrics.registry
        labels = {"model_version": "1", "prediction_type": "batch"}
        assert not metrics.get_sample_value("predictions_total", labels)

    async def test_nothing_to_compute_is_no_fault_of_a_dear_engine(self, client: Client, example: Row) -> None:
        compute_with(client)
        batch = await client.post("/predict/batch", json={"predictions": [{}]})
        assert batch.status_code == 200
        empty = stream_of(np.empty((0, len(example))), example)
        bulk = await client.post("/predict/bulk", content=empty, headers=ARROW)
        assert bulk.status_code == 200

    async def test_max_batch_size_rows_are_taken_and_one_more_is_not(self, settings: Settings, example: Row) -> None:
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
            ([], {"(body)": "must be an object"}),
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
    async def test_what_is_around_the_rows_must_be_right(
        self, client: Client, body: Any, expected: dict[str, str]
    ) -> None:
        response = await client.post("/predict/batch", json=body)
        assert response.status_code == 422
        assert fields(response) == expected

    async def test_a_batch_that_is_no_json_is_malformed(self, client: Client) -> None:
        response = await client.post("/predict/batch", content=b'{"predictions": [', headers=JSON)
        assert response.status_code == 400
        problem(response)


class TestBulk:
    async def test_a_stream_comes_back_with_the_engines_predictions(self, client: Client, example: Row) -> None:
        rows = varied(example, 1000)
        response = await client.post("/predict/bulk", content=stream_of(rows, example), headers=ARROW)
        assert response.status_code == 200
        assert response.headers["content-type"] == arrow.MEDIA_TYPE
        assert response.headers["x-model-version"] == "1"
        assert response.headers["x-model-stage"] == "Production"
        table = pa.ipc.open_stream(response.content).read_all()
        assert table.column_names == ["prediction"]
        np.testing.assert_array_equal(table["prediction"].to_numpy(), served_by(client).engine.predict(rows))

    async def test_columns_go_by_name_and_floats_of_any_width_are_taken(self, client: Client, example: Row) -> None:
        rows = varied(example, 10).astype(np.float32)
        columns = {name: rows[:, index] for index, name in enumerate(example)}
        body = stream(dict(reversed(columns.items())))
        response = await client.post("/predict/bulk", content=body, headers=ARROW)
        table = pa.ipc.open_stream(response.content).read_all()
        expected = served_by(client).engine.predict(rows.astype(np.float64))
        np.testing.assert_array_equal(table["prediction"].to_numpy(), expected)

    async def test_no_rows_in_are_no_rows_out(self, client: Client, example: Row) -> None:
        response = await client.post(
            "/predict/bulk", content=stream_of(np.empty((0, len(example))), example), headers=ARROW
        )
        assert response.status_code == 200
        table = pa.ipc.open_stream(response.content).read_all()
        assert (table.num_rows, table.column_names) == (0, ["prediction"])

    async def test_max_bulk_rows_are_taken_and_one_more_is_not(self, settings: Settings, example: Row) -> None:
        async with client_of(settings_with(settings, max_bulk_rows=10)) as client:
            taken = await client.post("/predict/bulk", content=stream_of(varied(example, 10), example), headers=ARROW)
            assert taken.status_code == 200
            response = await client.post(
                "/predict/bulk", content=stream_of(varied(example, 11), example), headers=ARROW
            )
            assert response.status_code == 413
            assert problem(response)["detail"] == "The body holds more than the 10 rows of MAX_BULK_ROWS."

    async def test_json_is_not_read(self, client: Client, example: Row) -> None:
        response = await client.post("/predict/bulk", json=example)
        assert response.status_code == 415
        assert problem(response)["detail"] == f"The body must come with Content-Type: {arrow.MEDIA_TYPE}."

    async def test_every_bad_column_is_named(self, client: Client, example: Row) -> None:
        columns: dict[str, Any] = {name: [value] for name, value in example.items() if name != "MedInc"}
        columns |= {"HouseAge": ["old"], "Zip": [1]}
        response = await client.post("/predict/bulk", content=stream(columns), headers=ARROW)
        assert response.status_code == 422
        assert fields(response) == {
            "MedInc": "is missing",
            "HouseAge": "must be a column of number type, not string",
            "Zip": "unknown column",
        }

    @pytest.mark.parametrize("body", [b"", b"not arrow", b"\xff\xff\xff\xff\x10\x00\x00\x00"])
    async def test_what_is_no_stream_is_malformed(self, client: Client, body: bytes) -> None:
        response = await client.post("/predict/bulk", content=body, headers=ARROW)
        assert response.status_code == 400
        assert problem(response)["type"] == "urn:madrone:problem:malformed-body"


class TestModels:
    async def test_model_info_describes_the_model_in_use(self, client: Client, example: Row) -> None:
        answer = (await client.get("/predict/model/info")).json()
        served = served_by(client)
        assert (answer["name"], answer["version"], answer["stage"]) == ("california-housing-model", "1", "Production")
        assert answer["aliases"] == ["champion"]
        assert answer["digest"] == served.artifact.digest
        assert [feature["name"] for feature in answer["features"]] == list(example)
        assert answer["features"][0]["physical_range"] == [0.0, 100.0]
        assert answer["example"] == example
        assert answer["metrics"] == served.metrics
        assert (answer["trees"], answer["objective"]) == (served.engine.forest.n_trees, "regression")

    async def test_another_model_is_another_validation_and_a_list_for_each_row_of_classes(
        self, churn_settings: Settings, churn: lgb.Booster, example: Row
    ) -> None:
        async with client_of(churn_settings) as client:
            answer = (await client.post("/predict", json=CHURN_ROW)).json()
            np.testing.assert_array_equal([answer["prediction"]], churn.predict([[3, 70.5, 1]]))
            assert len(answer["prediction"]) == 3

            refused = await client.post("/predict", json=example)
            assert refused.status_code == 422
            assert {"tenure", "contract", "MedInc"} <= fields(refused).keys()
            refused = await client.post("/predict", json={"tenure": 3.5, "contract": 1})
            assert fields(refused) == {
                "tenure": "must be a whole number, not a fraction",
                "contract": "must be true or false, not a number",
            }

            rows = [CHURN_ROW, {"tenure": 50, "contract": False}, {"tenure": 50}]
            batch = (await client.post("/predict/batch", json={"predictions": rows})).json()["predictions"]
            expected = churn.predict([[3, 70.5, 1], [50, np.nan, 0]])
            np.testing.assert_array_equal([item["prediction"] for item in batch[:2]], expected)
            assert batch[2]["status"] == "failed"

            body = stream({"tenure": [3, 50], "monthly charge": [70.5, None], "contract": [True, False]})
            bulk = await client.post("/predict/bulk", content=body, headers=ARROW)
            table = pa.ipc.open_stream(bulk.content).read_all()
            assert table.column_names == ["prediction_0", "prediction_1", "prediction_2"]
            np.testing.assert_array_equal(np.column_stack([column.to_numpy() for column in table.columns]), expected)

    async def test_two_apps_in_one_process_share_neither_model_nor_metrics(
        self, client: Client, churn_settings: Settings, example: Row
    ) -> None:
        async with client_of(churn_settings) as other:
            assert (await client.post("/predict", json=example)).status_code == 200
            assert (await other.post("/predict", json=example)).status_code == 422
            assert (await other.post("/predict", json=CHURN_ROW)).status_code == 200
            assert (await other.post("/predict", json=CHURN_ROW)).status_code == 200
            counts = [
                services_of(one).metrics.registry.get_sample_value(
                    "predictions_total", {"model_version": "1", "prediction_type": "single"}
                )
                for one in (client, other)
            ]
            assert counts == [1, 2]
            assert 'model_name="churn"' not in (await client.get("/metrics")).text
            assert "california-housing-model" not in (await other.get("/metrics")).text

    async def test_a_request_is_answered_by_one_model_even_if_it_is_swapped_meanwhile(
        self, client: Client, example: Row
    ) -> None:
        served = served_by(client)

        def swap_first(rows: Array) -> Array:
            newer = msgspec.structs.replace(served.identity, version="2")
            services_of(client).slot.current = msgspec.structs.replace(served, identity=newer)
            return served.engine.predict(rows)

        compute_with(client, swap_first)
        assert (await client.post("/predict", json=example)).json()["model_version"] == "1"
        assert (await client.post("/predict", json=example)).json()["model_version"] == "2"


async def test_a_browser_of_an_allowed_origin_may_call(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, cors_origins=("https://a.example",))) as client:
        allowed = await client.post("/predict", json=example, headers={"Origin": "https://a.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        other = await client.post("/predict", json=example, headers={"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers
