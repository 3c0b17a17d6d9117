"""What-if curves: the predictions for a row with other values of one feature."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from app.codecs.json.row import JsonCodec
from app.codecs.rules import MAX_ERRORS
from app.config.settings import Settings
from app.models.served import ServedModel
from app.predict.explain.curve import MOST_POINTS
from tests.kernels.forest.boosters import Split, model_text, tree_text
from tests.models.colors import COLORS, SIZES, trained_on
from tests.models.support import save_booster, save_text, serve, tiny_booster, tiny_rows
from tests.predict.test_not_finite import logged
from tests.routes.support import (
    CHURN_ROW,
    Client,
    Row,
    client_of,
    fields,
    put,
    served_by,
    services_of,
    settings_with,
)
from tests.support import problem, sample_value


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


async def curve(client: Client, row: Any, feature: str, query: str = "", **more: Any) -> dict[str, Any]:
    response = await client.post(f"/predict/curve{query}", json={"row": row, "feature": feature, **more})
    assert response.status_code == 200, response.text
    return response.json()


async def test_each_point_is_what_would_be_predicted(client: Client, example: Row) -> None:
    answer = await curve(client, example, "MedInc", points=7)
    (low, high), values = (
        next(
            feature.training_range
            for feature in served_by(client).artifact.features
            if feature.name == "MedInc" and feature.training_range
        ),
        answer["values"],
    )
    assert values == np.linspace(low, high, 7).tolist()
    for place, value in enumerate(values):
        alone = (await client.post("/predict", json=example | {"MedInc": value})).json()
        assert answer["predictions"][place] == alone["prediction"]
        interval = alone["confidence_interval"]
        bounds = answer["lower"][place], answer["upper"][place], answer["level"]
        assert bounds == (interval["lower"], interval["upper"], interval["level"])
    own = (await client.post("/predict", json=example)).json()
    assert answer["at"] == {"value": example["MedInc"], "prediction": own["prediction"]}
    assert (answer["feature"], answer["model_version"]) == ("MedInc", "1")


async def test_a_curve_has_fifty_points_and_the_level_that_is_asked_for(client: Client, example: Row) -> None:
    answer = await curve(client, example, "Latitude", "?interval=0.5")
    assert len(answer["values"]) == len(answer["predictions"]) == len(answer["lower"]) == 50
    assert answer["level"] == 0.5
    assert len((await curve(client, example, "Latitude", points=MOST_POINTS))["values"]) == MOST_POINTS


async def test_curves_are_neither_logged_nor_counted(settings: Settings, example: Row) -> None:
    async with client_of(settings) as client:
        value = partial(sample_value, services_of(client).metrics.registry)
        await curve(client, example, "MedInc")
        for kind in ("single", "batch", "bulk"):
            assert not value("predictions_total", {"model_version": "1", "prediction_type": kind})
        assert (await client.get("/drift")).json()["rows"] == 0
        asked = {"method": "POST", "endpoint": "/predict/curve", "status_code": "200"}
        assert value("api_requests_total", asked) == 1
        await client.post("/predict/explain", json=example)
        assert logged(client, settings) == [example]
        assert value("predictions_total", {"model_version": "1", "prediction_type": "single"}) == 1


async def test_whole_numbers_and_classes(churn_settings: Settings, churn: Any) -> None:
    async with client_of(churn_settings) as client:
        answer = await curve(client, CHURN_ROW, "tenure", points=500)
        values = answer["values"]
        assert all(isinstance(value, int) for value in values)
        assert values == sorted(set(values))
        rows = [CHURN_ROW | {"tenure": value} for value in values]
        batch = (await client.post("/predict/batch", json={"predictions": rows[:100]})).json()
        assert answer["predictions"][:100] == [item["prediction"] for item in batch["predictions"]]
        assert (answer["lower"], answer["upper"], answer["level"]) == (None, None, None)
        flags = await curve(client, CHURN_ROW, "contract")
        assert (flags["values"], flags["at"]["value"]) == ([False, True], True)
        missing = await curve(client, CHURN_ROW | {"monthly charge": None}, "monthly charge")
        assert missing["at"]["value"] is None


async def test_all_categories_are_points(client: Client, tmp_path: Path) -> None:
    put(client, serve(trained_on(tmp_path / "model").directory))
    row = {"color": "mauve", "income": 1.0, "size": 10, "flag": True}
    colors = await curve(client, row, "color")
    assert (colors["values"], colors["at"]["value"]) == (COLORS, None)
    sizes = await curve(client, row, "size", points=2)
    assert (sizes["values"], sizes["at"]["value"]) == (SIZES, 10)
    assert len(set(colors["predictions"])) > 1


async def test_of_very_many_categories_the_first_are_points(client: Client, tmp_path: Path) -> None:
    served = serve(save_booster(tiny_booster(), tmp_path / "model"))
    first, *others = served.artifact.features
    many = msgspec.structs.replace(first, kind="category", categories=tuple(range(MOST_POINTS + 100)))
    artifact = msgspec.structs.replace(served.artifact, features=(many, *others))
    put(client, msgspec.structs.replace(served, artifact=artifact, codec=JsonCodec(artifact.features)))
    answer = await curve(client, dict.fromkeys(served.feature_names, 0), first.name)
    assert answer["values"] == list(range(MOST_POINTS))


async def test_a_curve_goes_beyond_the_thresholds_where_no_range_is_known(client: Client, tmp_path: Path) -> None:
    put(client, serve(save_booster(tiny_booster(), tmp_path / "model")))
    row = dict.fromkeys(served_by(client).feature_names, 0.5)
    answer = await curve(client, row, "income", points=500)
    low, high = answer["values"][0], answer["values"][-1]
    for value, prediction in ((low - 1e6, answer["predictions"][0]), (high + 1e6, answer["predictions"][-1])):
        alone = (await client.post("/predict", json=row | {"income": value})).json()
        assert alone["prediction"] == prediction


async def test_the_profile_tells_a_range(client: Client, referring: ServedModel) -> None:
    features = tuple(msgspec.structs.replace(feature, training_range=None) for feature in referring.artifact.features)
    artifact = msgspec.structs.replace(referring.artifact, features=features)
    put(client, msgspec.structs.replace(referring, artifact=artifact))
    answer = await curve(client, dict.fromkeys(referring.feature_names, 0.5), "income", points=3)
    rows = tiny_rows()[:, 0]
    assert answer["values"] == [rows.min(), pytest.approx((rows.min() + rows.max()) / 2), rows.max()]


async def test_a_feature_of_which_nothing_is_known_has_no_curve(client: Client, tmp_path: Path) -> None:
    text = model_text([tree_text([Split(0, 0.0, 0)], [0], [0.5, 1.5])], 2)
    put(client, serve(save_text(text, tmp_path / "model")))
    row = {"Column_0": 1.0, "Column_1": 1.0}
    body = {"row": row, "feature": "Column_1"}
    response = await client.post("/predict/curve", json=body)
    assert response.status_code == 422
    assert fields(response)["feature"].startswith("has no values that are known")
    assert len(set((await curve(client, row, "Column_0"))["predictions"])) == 2


NAME = "must be the name of one of the model's features"
OBJECT = "must be an object of features by name"
POINTS = f"must be a whole number from 2 to {MOST_POINTS}"


async def test_bodies_that_are_not_valid_are_refused(client: Client, example: Row) -> None:
    whole: dict[str, Any] = {"row": example, "feature": "MedInc"}
    cases: list[tuple[Any, dict[str, str]]] = [
        ([], {"(body)": "must be an object with row and feature"}),
        ({}, {"row": "is missing", "feature": "is missing"}),
        (whole | {"feature": "Rooms"}, {"feature": NAME}),
        (whole | {"feature": ["MedInc"]}, {"feature": NAME}),
        (whole | {"points": 1}, {"points": POINTS}),
        (whole | {"points": MOST_POINTS + 1}, {"points": POINTS}),
        (whole | {"points": 2.5}, {"points": POINTS}),
        (whole | {"points": True}, {"points": POINTS}),
        (whole | {"points": None}, {"points": POINTS}),
        (whole | {"values": [1]}, {"values": "unknown field"}),
        (whole | {"feature": None}, {"feature": NAME}),
        (whole | {"points": "50"}, {"points": POINTS}),
        (whole | {"row": 5}, {"row": OBJECT}),
        (whole | {"row": None}, {"row": OBJECT}),
        (whole | {"row": [example]}, {"row": OBJECT}),
        ({"row": "MedInc", "feature": 5, "points": []}, {"row": OBJECT, "feature": NAME, "points": POINTS}),
        (whole | {"row": example | {"MedInc": "high"}}, {"MedInc": "must be a number, not text"}),
    ]
    for body, expected in cases:
        response = await client.post("/predict/curve", json=body)
        assert (response.status_code, fields(response)) == (422, expected)
    twice = msgspec.json.encode(whole)[:-1] + b', "feature": "AveRooms"}'
    response = await client.post("/predict/curve", content=twice, headers={"Content-Type": "application/json"})
    assert fields(response) == {"feature": "appears more than once"}
    many = await client.post("/predict/curve", json=dict.fromkeys(map(str, range(2 * MAX_ERRORS)), 1))
    assert len(problem(many)["errors"]) == MAX_ERRORS
    assert (await curve(client, example, "MedInc", points=3.0))["values"] == (
        await curve(client, example, "MedInc", points=3)
    )["values"]


async def test_other_faults_are_those_of_predictions(client: Client, example: Row, settings: Settings) -> None:
    body = {"row": example, "feature": "MedInc"}
    json = {"Content-Type": "application/json"}
    assert (await client.post("/predict/curve", content=b"{", headers=json)).status_code == 400
    lone = msgspec.json.encode(body)[:-1].replace(b"MedInc", b"MedInc", 1) + b', "\\ud800": 1}'
    assert (await client.post("/predict/curve", content=lone, headers=json)).status_code in (400, 422)
    assert (await client.post("/predict/curve", content=b"{}", headers={"Content-Type": "text/csv"})).status_code == 415
    assert fields(await client.post("/predict/curve?interval=0.123", json=body)).keys() == {"interval"}
    assert fields(await client.post("/predict/curve?explain=true", json=body)) == {"explain": "unknown query parameter"}
    assert (await client.get("/predict/curve")).status_code == 405
    async with client_of(settings_with(settings, api_key="k" * 20, max_json_bytes=1024)) as keyed:
        assert (await keyed.post("/predict/curve", json=body)).status_code == 401
        keys = {"X-API-Key": "k" * 20}
        assert (await keyed.post("/predict/curve", json=body, headers=keys)).status_code == 200
        long = await keyed.post("/predict/curve", json=body | {"x": "y" * 2000}, headers=keys)
        assert long.status_code == 413


async def test_a_curve_that_is_not_finite_is_an_error(client: Client, tmp_path: Path) -> None:
    text = model_text([tree_text([Split(0, 0.0, 0)], [0], [0.5, 800.0])], 1, objective="poisson")
    put(client, serve(save_text(text, tmp_path / "model")))
    response = await client.post("/predict/curve", json={"row": {"Column_0": -1.0}, "feature": "Column_0"})
    assert response.status_code == 500
    assert problem(response)["type"] == "urn:madrone:problem:prediction-not-finite"
    assert fields(response) == {"prediction": "is inf, not a finite number"}
