"""One row over HTTP: what is answered, and that it is the served model that answers."""

import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from app.config.settings import Settings
from app.models.served import ServedModel
from tests.models.support import ready
from tests.routes.support import (
    ANSWER_KEYS,
    ARROW,
    CHURN_ROW,
    JSON,
    Array,
    Client,
    Row,
    client_of,
    compute_with,
    fields,
    put,
    row_of,
    served_by,
    services_of,
    settings_with,
    stream,
    stream_of,
)
from tests.support import problem, sample_value


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


HOUSE = {"income": 0.25, "rooms": -0.5, "age": 2.0}


def body_for(path: str) -> tuple[bytes, dict[str, str]]:
    """One house, as a prediction route takes it."""
    bodies = {
        "/predict": (msgspec.json.encode(HOUSE), JSON),
        "/predict/batch": (msgspec.json.encode({"predictions": [HOUSE]}), JSON),
        "/predict/bulk": (stream_of(row_of(HOUSE), HOUSE), ARROW),
    }
    return bodies[path]


@pytest.mark.parametrize("path", ["/predict", "/predict/"])
async def test_the_answer_has_the_documented_keys(client: Client, example: Row, path: str) -> None:
    response = await client.post(path, json=example, follow_redirects=False)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert answer.keys() == ANSWER_KEYS
    assert answer["prediction"] == served_by(client).engine.predict(row_of(example))[0]
    assert (answer["model_version"], answer["model_stage"]) == ("1", "Production")
    assert (answer["confidence_interval"] is None) == (served_by(client).artifact.intervals is None)
    assert answer["request_id"] == response.headers["x-request-id"]
    assert answer["processing_time_ms"] > 0
    assert answer["warnings"] == []


async def test_a_value_unseen_in_training_gives_a_warning(client: Client, example: Row) -> None:
    answer = (await client.post("/predict", json=example | {"HouseAge": 60, "MedInc": 0.1})).json()
    assert answer["warnings"] == [
        "MedInc is outside the training range 0.4999 to 15.0001",
        "HouseAge is outside the training range 1 to 52",
    ]
    assert np.isfinite(answer["prediction"])


async def test_every_invalid_field_is_named(client: Client, example: Row) -> None:
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


@pytest.mark.parametrize(("query", "level"), [("", 0.9), ("?interval=0.5", 0.5), ("?interval=0.95", 0.95)])
async def test_the_interval_is_the_calibrated_one(
    client: Client, referring: ServedModel, query: str, level: float
) -> None:
    put(client, referring)
    answer = (await client.post(f"/predict{query}", json=HOUSE)).json()
    evaluation = referring.engine.evaluate(row_of(HOUSE))
    assert evaluation.difficulty is not None
    score = {0.5: 0.75, 0.9: 2.0, 0.95: 2.5}[level]
    prediction, half_width = evaluation.prediction[0], score * max(evaluation.difficulty[0], 0.125)
    assert answer["prediction"] == prediction
    assert answer["confidence_interval"] == {
        "lower": prediction - half_width,
        "upper": prediction + half_width,
        "level": level,
    }


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/bulk"])
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("interval=0.8", "must be one of the model's levels 0.5, 0.9, 0.95"),
        ("interval=wide", "must be a number, one of the model's levels 0.5, 0.9, 0.95"),
        ("interval=", "must be a number, one of the model's levels 0.5, 0.9, 0.95"),
        ("interval", "must be a number, one of the model's levels 0.5, 0.9, 0.95"),
        ("interval=0.5,0.9", "must be a number, one of the model's levels 0.5, 0.9, 0.95"),
        ("interval=0.5&interval=0.9", "must be given once; the model's levels are 0.5, 0.9, 0.95"),
    ],
)
async def test_an_unknown_interval_level_is_an_invalid_field(
    client: Client, referring: ServedModel, path: str, query: str, message: str
) -> None:
    put(client, referring)
    content, headers = body_for(path)
    response = await client.post(f"{path}?{query}", content=content, headers=headers)
    assert response.status_code == 422
    assert problem(response)["type"] == "urn:madrone:problem:invalid-input"
    assert fields(response) == {"interval": message}


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/bulk"])
async def test_a_model_without_intervals_answers_none(client: Client, referring: ServedModel, path: str) -> None:
    bare = msgspec.structs.replace(referring.artifact, difficulty=None, intervals=None)
    put(client, ready(bare, referring.identity, {}, "a test"))
    content, headers = body_for(path)
    response = await client.post(f"{path}?interval=0.9", content=content, headers=headers)
    assert response.status_code == 422
    assert fields(response) == {"interval": "cannot be asked for: the model has no intervals"}
    answer = await client.post(path, content=content, headers=headers)
    assert answer.status_code == 200
    if path == "/predict":
        assert answer.json()["confidence_interval"] is None
    if path == "/predict/batch":
        assert answer.json()["predictions"][0]["confidence_interval"] is None


async def test_a_row_unlike_all_stored_rows_gives_a_warning(client: Client, referring: ServedModel) -> None:
    put(client, referring)
    assert (await client.post("/predict", json=HOUSE)).json()["warnings"] == []
    far = HOUSE | {"income": 40.0}
    distance = referring.engine.evaluate(row_of(far)).distance
    assert distance is not None
    answer = (await client.post("/predict", json=far)).json()
    assert answer["warnings"] == [
        "income is outside the training range -5 to 5",
        f"outside_reference: the nearest row of the model's references is {distance[0]:.4g} away, "
        "and beyond 1.5 a row is unlike all of them",
    ]


@pytest.mark.parametrize("body", [b"", b"{", b'{"MedInc": 1} and more', b"\xff\xfe"])
async def test_a_body_that_is_not_json_is_malformed(client: Client, body: bytes) -> None:
    response = await client.post("/predict", content=body, headers=JSON)
    assert response.status_code == 400
    assert problem(response)["type"] == "urn:madrone:problem:malformed-body"


@pytest.mark.parametrize(
    "content_type",
    [
        None, "text/plain", "application/xml", "application/json; charset=latin-1", "*/*",
        "application/json; foo=bar; charset=latin-1", "application/json; charset = utf-16",
        "application/json; charset=utf-8; charset=utf-16", "application/jsonl",
    ],
)  # fmt: skip
async def test_another_content_type_is_415(client: Client, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post("/predict", content=b"{}", headers=headers)
    assert response.status_code == 415
    assert problem(response)["detail"] == "The body must come with Content-Type: application/json."


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json;charset=utf-8", 'Application/JSON; charset="UTF-8"', "application/json;",
        "application/json; foo=bar", 'application/json; foo="a;charset=b"; charset=utf-8',
    ],
)  # fmt: skip
async def test_json_accepts_the_charset_utf_8_and_other_parameters(
    client: Client, example: Row, content_type: str
) -> None:
    for path, body in (
        ("/predict", example), ("/predict/batch", {"predictions": [example]}), ("/predict/bulk", {"rows": [example]}),
    ):  # fmt: skip
        content = msgspec.json.encode(body)
        response = await client.post(path, content=content, headers={"Content-Type": content_type})
        assert response.status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/bulk"])
async def test_an_unknown_query_parameter_is_named(client: Client, referring: ServedModel, path: str) -> None:
    put(client, referring)
    content, headers = body_for(path)
    for query, named in (
        ("why=true", {"why"}), ("interval=0.9&why=", {"why"}), ("%69nterval=0.9&a%20b", {"a b"}),
        ("Interval=0.9&x=1&x=2", {"Interval", "x"}), ("=1", {""}),
    ):  # fmt: skip
        response = await client.post(f"{path}?{query}", content=content, headers=headers)
        assert response.status_code == 422
        assert fields(response) == dict.fromkeys(named, "unknown query parameter")
    many = "&".join(f"p{number}=" for number in range(1100))
    assert len(fields(await client.post(f"{path}?{many}", content=content, headers=headers))) == 1000
    for query in ("", "&", "%69nterval=0.9"):
        assert (await client.post(f"{path}?{query}", content=content, headers=headers)).status_code == 200


async def test_model_info_describes_the_model_in_use(client: Client, example: Row) -> None:
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


async def test_model_info_lists_levels_limit_and_stored_rows(
    client: Client, referring: ServedModel, churn_settings: Settings
) -> None:
    keys = ("interval_levels", "default_interval_level", "outside_distance", "reference_rows")
    put(client, referring)
    answer = (await client.get("/predict/model/info")).json()
    assert [answer[key] for key in keys] == [[0.5, 0.9, 0.95], 0.9, 1.5, 50]
    async with client_of(churn_settings) as other:
        answer = (await other.get("/predict/model/info")).json()
        assert [answer[key] for key in keys] == [[], None, None, 0]


async def test_a_model_of_several_classes_validates_and_answers_lists(
    churn_settings: Settings, churn: lgb.Booster, example: Row
) -> None:
    async with client_of(churn_settings) as client:
        answer = (await client.post("/predict", json=CHURN_ROW)).json()
        np.testing.assert_array_equal([answer["prediction"]], churn.predict([[3, 70.5, 1]]))
        assert len(answer["prediction"]) == 3

        refused = await client.post("/predict", json=example)
        assert refused.status_code == 422
        assert {"tenure", "contract", "MedInc"} <= fields(refused).keys()
        refused = await client.post("/predict", json={"tenure": 3.5, "contract": 2})
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
    own_client: Client, churn_settings: Settings, example: Row
) -> None:
    async with client_of(churn_settings) as other:
        assert (await own_client.post("/predict", json=example)).status_code == 200
        assert (await other.post("/predict", json=example)).status_code == 422
        assert (await other.post("/predict", json=CHURN_ROW)).status_code == 200
        assert (await other.post("/predict", json=CHURN_ROW)).status_code == 200
        counts = [
            sample_value(
                services_of(one).metrics.registry,
                "predictions_total",
                {"model_version": "1", "prediction_type": "single"},
            )
            for one in (own_client, other)
        ]
        assert counts == [1, 2]
        assert 'model_name="churn"' not in (await own_client.get("/metrics")).text
        assert "california-housing-model" not in (await other.get("/metrics")).text


async def test_a_request_is_answered_by_one_model_during_a_swap(client: Client, example: Row) -> None:
    served = served_by(client)

    def swap_first(rows: Array) -> Array:
        newer = msgspec.structs.replace(served.identity, version="2")
        services_of(client).slot.current = msgspec.structs.replace(served, identity=newer)
        return served.engine.predict(rows)

    compute_with(client, swap_first)
    assert (await client.post("/predict", json=example)).json()["model_version"] == "1"
    assert (await client.post("/predict", json=example)).json()["model_version"] == "2"


async def test_a_page_of_an_allowed_origin_may_read_answers(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, cors_origins=("https://a.example",))) as client:
        allowed = await client.post("/predict", json=example, headers={"Origin": "https://a.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        other = await client.post("/predict", json=example, headers={"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers
