"""Explanations of predictions in JSON, compared with LightGBM's own contributions."""

import asyncio
import itertools
import threading
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.models.identity import ModelIdentity
from app.models.registry.embedded import BUNDLED
from kernels.forest.booster import BoosterForest
from tests.kernels.forest.boosters import Split, model_text, tree_text, without
from tests.models.colors import Trained, trained_on
from tests.models.support import save_booster, save_text, serve, tiny_booster, tiny_rows
from tests.routes.support import (
    Array,
    Client,
    Row,
    client_of,
    fields,
    put,
    served_by,
    services_of,
    settings_with,
    varied,
)
from tests.support import problem

TOLERANCE = 1e-9


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


@pytest.fixture(scope="module")
def bundled() -> lgb.Booster:
    return lgb.Booster(model_file=str(BUNDLED / "model" / "model.lgb"))


def contributions(booster: lgb.Booster, rows: Array) -> Array:
    """LightGBM's own: float64[B, K, F + 1]."""
    found = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))
    return found.reshape(len(rows), booster.num_model_per_iteration(), -1)


def by_name(explanation: dict[str, Any]) -> dict[str, Any]:
    return {item["feature"]: item["contribution"] for item in explanation["contributions"]}


def total(explanation: dict[str, Any]) -> Any:
    parts = [item["contribution"] for item in explanation["contributions"]]
    if "other" in explanation:
        parts.append(explanation["other"]["contribution"])
    return np.sum(parts, axis=0) + np.array(explanation["base_value"])


async def explained(client: Client, row: Any, query: str = "explain=true") -> dict[str, Any]:
    response = await client.post(f"/predict?{query}", json=row)
    assert response.status_code == 200, response.text
    return response.json()


async def test_contributions_of_the_models_features_are_lightgbms(
    client: Client, example: Row, bundled: lgb.Booster
) -> None:
    engine = served_by(client).engine
    for values in varied(example, 3):
        row = dict(zip(example, values.tolist(), strict=True))
        features = np.asarray(engine.transform(values[None]), np.float64)
        answer = await explained(client, row, "explain=true&space=model")
        explanation, expected = answer["explanation"], contributions(bundled, features)[0, 0]
        found = by_name(explanation)
        np.testing.assert_allclose([found[name] for name in bundled.feature_name()], expected[:-1], atol=TOLERANCE)
        assert explanation["base_value"] == pytest.approx(expected[-1], abs=TOLERANCE)
        assert explanation["units"] == "prediction"
        assert explanation["raw_score"] == answer["prediction"]
        assert {item["feature"]: item["value"] for item in explanation["contributions"]} == dict(
            zip(bundled.feature_name(), features[0].tolist(), strict=True)
        )
        assert total(explanation) == pytest.approx(answer["prediction"], abs=TOLERANCE)


async def test_contributions_are_by_the_features_of_the_request(client: Client, example: Row) -> None:
    plain = await explained(client, example, "")
    answer = await explained(client, example)
    explanation = answer.pop("explanation")
    for name in ("request_id", "processing_time_ms"):
        del answer[name], plain[name]
    assert answer == plain
    listed = {item["feature"]: item for item in explanation["contributions"]}
    place = listed.pop("place")
    assert (place["features"], place["value"]) == (
        ["Latitude", "Longitude"], [example["Latitude"], example["Longitude"]],
    )  # fmt: skip
    assert {name: item["value"] for name, item in listed.items()} == {
        name: value for name, value in example.items() if name not in place["features"]
    }
    assert all("features" not in item for item in listed.values())
    sizes = [abs(item["contribution"]) for item in explanation["contributions"]]
    assert sizes == sorted(sizes, reverse=True)
    assert "other" not in explanation
    assert total(explanation) == pytest.approx(plain["prediction"], abs=TOLERANCE)


async def test_the_route_for_explanations_explains_by_itself(client: Client, example: Row) -> None:
    explanation = (await explained(client, example))["explanation"]
    for url in ("/predict/explain", "/predict/explain/", "/predict/explain?interval=0.9"):
        assert (await client.post(url, json=example)).json()["explanation"] == explanation
    assert "explanation" not in (await client.post("/predict/explain?explain=false", json=example)).json()


async def test_the_features_beyond_the_top_are_summed_up(client: Client, example: Row) -> None:
    everything = (await explained(client, example))["explanation"]
    rest = everything["contributions"][2:]
    for query in ("explain=2", "explain=true&top=2", "top=2", "explain=5&top=2", "explain=false&top=2"):
        explanation = (await explained(client, example, query))["explanation"]
        assert explanation["contributions"] == everything["contributions"][:2]
        assert explanation["other"]["features"] == len(rest)
        assert explanation["other"]["contribution"] == pytest.approx(sum(item["contribution"] for item in rest))
        assert total(explanation) == pytest.approx(everything["raw_score"], abs=TOLERANCE)
    groups = len(everything["contributions"])
    assert "other" not in (await explained(client, example, f"explain={groups}"))["explanation"]


async def test_each_row_of_a_batch_is_explained_as_it_is_alone(client: Client, example: Row) -> None:
    rows = [dict(zip(example, values, strict=True)) for values in varied(example, 60).tolist()]
    rows[1] = example | {"MedInc": "high"}
    batch = (await client.post("/predict/batch?explain=3&leaves=true", json={"predictions": rows})).json()
    assert batch["failed_predictions"] == 1
    assert "explanation" not in batch["predictions"][1]
    for place in (0, 2, 59):
        alone = await explained(client, rows[place], "explain=3&leaves=true")
        item = batch["predictions"][place]
        assert item["leaves"] == alone["leaves"]
        assert item["explanation"]["contributions"] == [
            item | {"contribution": pytest.approx(item["contribution"], abs=TOLERANCE)}
            for item in alone["explanation"]["contributions"]
        ]


async def test_leaves_are_lightgbms(client: Client, example: Row, bundled: lgb.Booster) -> None:
    rows = varied(example, 2)
    features = np.asarray(served_by(client).engine.transform(rows), np.float64)
    expected = np.asarray(bundled.predict(features, pred_leaf=True, num_threads=1)).tolist()
    objects = [dict(zip(example, values, strict=True)) for values in rows.tolist()]
    batch = (await client.post("/predict/batch?leaves=true", json={"predictions": objects})).json()
    assert [item["leaves"] for item in batch["predictions"]] == expected
    assert [(await explained(client, row, "leaves=true"))["leaves"] for row in objects] == expected
    assert "leaves" not in await explained(client, objects[0], "leaves=false")


async def test_each_class_has_contributions(client: Client, tmp_path: Path) -> None:
    booster = tiny_booster(tiny_rows()[:, 2] % 3, objective="multiclass", num_class=3)
    put(client, serve(save_booster(booster, tmp_path / "model")))
    rows = tiny_rows()[:4]
    for values, expected, raw in zip(
        rows, contributions(booster, rows), booster.predict(rows, raw_score=True), strict=True
    ):
        row = dict(zip(booster.feature_name(), values.tolist(), strict=True))
        explanation = (await explained(client, row, "explain=true"))["explanation"]
        found = by_name(explanation)
        np.testing.assert_allclose([found[name] for name in row], expected[:, :-1].T, atol=TOLERANCE)
        np.testing.assert_allclose(explanation["base_value"], expected[:, -1], atol=TOLERANCE)
        np.testing.assert_allclose(explanation["raw_score"], raw, atol=TOLERANCE)
        np.testing.assert_allclose(total(explanation), raw, atol=TOLERANCE)
        assert explanation["units"] == "raw score"
        sizes = [max(map(abs, item["contribution"])) for item in explanation["contributions"]]
        assert sizes == sorted(sizes, reverse=True)
        first = (await explained(client, row, "explain=1"))["explanation"]
        assert len(first["other"]["contribution"]) == 3
        np.testing.assert_allclose(total(first), raw, atol=TOLERANCE)


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_on(tmp_path_factory.mktemp("colors") / "model")


async def test_values_are_those_of_the_request(client: Client, colors: Trained) -> None:
    put(client, serve(colors.directory))
    row = {"color": "blue", "income": None, "size": 10, "flag": True}
    explanation = (await explained(client, row))["explanation"]
    assert {item["feature"]: item["value"] for item in explanation["contributions"]} == row
    assert total(explanation) == pytest.approx(explanation["raw_score"], abs=TOLERANCE)
    unknown = (await explained(client, row | {"color": "mauve"}))["explanation"]
    assert {item["feature"]: item["value"] for item in unknown["contributions"]} == row | {"color": None}


async def test_a_model_that_only_lightgbm_evaluates_is_explained_by_it(client: Client, tmp_path: Path) -> None:
    booster = tiny_booster()
    text = booster.model_to_string().replace("\nend of parameters", "[pred_early_stop: 1]\n\nend of parameters")
    served = serve(save_text(text, tmp_path / "model"))
    assert isinstance(served.artifact.forest, BoosterForest)
    put(client, served)
    row = dict(zip(served.feature_names, tiny_rows()[0].tolist(), strict=True))
    explanation = (await explained(client, row))["explanation"]
    found, expected = by_name(explanation), contributions(booster, tiny_rows()[:1])[0, 0]
    np.testing.assert_allclose([found[name] for name in row], expected[:-1], atol=TOLERANCE)
    assert total(explanation) == pytest.approx(explanation["raw_score"], abs=TOLERANCE)
    assert explanation["units"] == "raw score"


UNCOUNTED = without(model_text([tree_text([Split(0, 0.0, 0)], [0], [0.5, 1.5])], 1), "leaf_count=", "internal_count=")
"""A model whose text does not tell how many rows came to each node."""


async def test_a_model_that_cannot_be_explained_says_so(client: Client, tmp_path: Path) -> None:
    uncounted = serve(save_text(UNCOUNTED, tmp_path / "uncounted"))
    linear = serve(save_booster(tiny_booster(linear_tree=True), tmp_path / "linear"))
    for served in (uncounted, linear):
        put(client, served)
        row = dict.fromkeys(served.feature_names, 1.0)
        for url, body in (
            ("/predict?explain=true", row), ("/predict/explain", row), ("/predict?top=1", row),
            ("/predict/batch?explain=true", {"predictions": [row]}), ("/predict/bulk?explain=true", {"rows": [row]}),
        ):  # fmt: skip
            response = await client.post(url, json=body)
            answer = problem(response)
            assert (response.status_code, answer["type"]) == (501, "urn:madrone:problem:not-explainable")
            assert answer["detail"] == f"The predictions of the model cannot be explained: {served.engine.explainable}."
        assert (await client.post("/predict?explain=false&leaves=true", json=row)).status_code == 200


NUMBER = "a whole number from 1 to MOST"
ROW, TABLE = ("/predict", "/predict/explain", "/predict/batch"), ("/predict/bulk",)
FAULTS: list[tuple[tuple[str, ...], str, dict[str, str]]] = [
    (ROW, "explain=yes", {"explain": f"must be true, false, or {NUMBER}"}),
    (ROW, "explain=", {"explain": f"must be true, false, or {NUMBER}"}),
    (ROW, "explain=0", {"explain": f"must be true, false, or {NUMBER}"}),
    (ROW, "explain=1000", {"explain": f"must be true, false, or {NUMBER}"}),
    (ROW, "explain=1&explain=2", {"explain": f"must be given once, and be true, false, or {NUMBER}"}),
    (ROW, "explain=true&top=0", {"top": f"must be {NUMBER}"}),
    (ROW, "top=-1", {"top": f"must be {NUMBER}"}),
    (ROW, "top=%2B1", {"top": f"must be {NUMBER}"}),
    (ROW, "top=1.5", {"top": f"must be {NUMBER}"}),
    (TABLE, "explain=2", {"explain": "must be true or false"}),
    (TABLE, "explain=true&top=2", {"top": "unknown query parameter"}),
    (ROW + TABLE, "explain=true&space=log", {"space": "must be raw or model"}),
    (ROW + TABLE, "leaves=1", {"leaves": "must be true or false"}),
    (ROW + TABLE, "leaves=x&interval=7", {"leaves": "must be true or false", "interval": "INTERVAL"}),
    (ROW + TABLE, "explain=x&tops=1", {"tops": "unknown query parameter"}),
]  # fmt: skip


async def test_queries_that_are_not_valid_are_refused(client: Client, example: Row) -> None:
    most = str(served_by(client).artifact.forest.n_features)
    bodies = {"/predict/batch": {"predictions": [example]}, "/predict/bulk": {"rows": [example]}}
    for urls, query, expected in FAULTS:
        for url in urls:
            response = await client.post(f"{url}?{query}", json=bodies.get(url, example))
            assert response.status_code == 422, (url, query)
            found = fields(response)
            if "interval" in found:
                found["interval"] = "INTERVAL"
            assert found == {name: text.replace("MOST", most) for name, text in expected.items()}


def huge(feature: int, size: float) -> str:
    """A tree whose few rows above zero have a leaf of this size."""
    return tree_text([Split(feature, 0.0, 0)], [0], [0.0, size], [10**6, 1])


HUGE = model_text([huge(0, 1.7e308), huge(1, -1.7e308)] * 2, 2)
"""A model that gives 0 to a row above zero, where each feature adds twice the size of the greatest float64."""


async def test_contributions_that_are_not_finite_are_an_error(client: Client, tmp_path: Path) -> None:
    put(client, serve(save_text(HUGE, tmp_path / "model")))
    good, bad = {"Column_0": -1.0, "Column_1": -1.0}, {"Column_0": 1.0, "Column_1": 1.0}
    expected = {
        "contribution:Column_0": "is inf, not a finite number", "contribution:Column_1": "is -inf, not a finite number",
    }  # fmt: skip
    for url in ("/predict?explain=true", "/predict/explain?top=1"):
        response = await client.post(url, json=bad)
        assert (response.status_code, fields(response)) == (500, expected)
    batch = (await client.post("/predict/batch?explain=true", json={"predictions": [bad, good]})).json()
    assert [item["status"] for item in batch["predictions"]] == ["failed", "predicted"]
    assert {error["field"]: error["message"] for error in batch["predictions"][0]["errors"]} == expected
    table = await client.post("/predict/bulk?explain=true", json={"rows": [good, bad]})
    assert (table.status_code, fields(table).keys()) == (500, expected.keys())
    assert (await client.post("/predict", json=bad)).json()["prediction"] == 0


async def test_an_explanation_is_of_the_model_that_answers(client: Client, tmp_path: Path) -> None:
    boosters = {version: tiny_booster(tiny_rows()[:, 0] * scale) for version, scale in (("1", 1.0), ("2", 100.0))}
    models = {
        version: msgspec.structs.replace(
            serve(save_booster(booster, tmp_path / version)), identity=ModelIdentity(name="houses", version=version)
        )
        for version, booster in boosters.items()
    }
    rows = tiny_rows()[:40]
    put(client, models["1"])
    ended = threading.Event()

    def swap() -> None:
        for version in itertools.cycle("21"):
            put(client, models[version])
            if ended.wait(0.0005):
                return

    objects = [dict(zip(models["1"].feature_names, values, strict=True)) for values in rows.tolist()]
    thread = threading.Thread(target=swap)
    thread.start()
    answers = [await explained(client, row) for row in objects]
    ended.set()
    thread.join()
    assert {answer["model_version"] for answer in answers} == {"1", "2"}
    for answer, row, values in zip(answers, objects, rows, strict=True):
        expected = contributions(boosters[answer["model_version"]], values[None])[0, 0]
        found = by_name(answer["explanation"])
        np.testing.assert_allclose([found[name] for name in row], expected[:-1], atol=1e-7)
        assert total(answer["explanation"]) == pytest.approx(answer["prediction"], abs=1e-7)


async def test_a_canary_explains_what_it_predicts(settings: Settings, tmp_path: Path) -> None:
    served = serve(save_booster(tiny_booster(), tmp_path / "model"))
    canary = msgspec.structs.replace(served, identity=ModelIdentity(name="houses", version="2"))
    async with client_of(settings_with(settings, model_canary_percent=100.0)) as client:
        services_of(client).slot.canary = canary
        answer = await explained(client, dict(zip(served.feature_names, tiny_rows()[0].tolist(), strict=True)))
    assert answer["model_version"] == "2"
    assert total(answer["explanation"]) == pytest.approx(answer["prediction"], abs=TOLERANCE)


async def test_explanations_in_threads_add_up(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, max_batch_size=1000)) as client:
        objects = [dict(zip(example, values, strict=True)) for values in varied(example, 400).tolist()]
        batches = [{"predictions": objects[start : start + 100]} for start in range(0, 400, 100)]
        requests = [client.post("/predict/batch?explain=true", json=batch) for batch in batches]
        for response in await asyncio.gather(*requests):
            for item in response.json()["predictions"]:
                assert total(item["explanation"]) == pytest.approx(item["prediction"], abs=TOLERANCE)
        assert services_of(client).admission.rows() == {"held": 0, "queued": 0}
