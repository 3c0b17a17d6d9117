"""A row to which the model has no finite answer gets an error, by every route and in every format."""

from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from app.codecs.formats import FORMATS
from app.config.settings import Settings
from app.models.identity import ModelIdentity
from app.models.served import ServedModel
from app.prediction_log.tables import PREDICTIONS
from kernels.engine import Evaluation
from tests.kernels.forest.boosters import Split, model_text, tree_text
from tests.models.support import save_text, serve
from tests.routes.support import (
    ARROW,
    Client,
    client_of,
    compute_with,
    fields,
    put,
    register,
    services_of,
    settings_with,
    stream,
)
from tests.support import problem, sample_value

NAME = "Column_0"
GOOD, BAD = {NAME: -1.0}, {NAME: 1.0}
KIND = "urn:madrone:problem:prediction-not-finite"


def stump(left: float, right: float) -> str:
    """A tree whose rows go left up to zero."""
    return tree_text([Split(0, 0.0, 0)], [0], [left, right])


MODELS = {
    "poisson": (model_text([stump(0.5, 800.0)], 1, objective="poisson"), {"prediction": "is inf"}),
    "custom": (model_text([stump(0.5, -np.inf)], 1, objective=""), {"prediction": "is -inf"}),
    # The softmax of an infinite score is inf / inf.
    "multiclass": (
        model_text([stump(0.5, np.inf), stump(0.5, 0.5)], 1, 2, "multiclass num_class:2"),
        {"prediction_0": "is nan", "prediction_1": "is nan"},
    ),
    "custom of two": (
        model_text([stump(0.5, 0.5), stump(0.5, np.inf)], 1, 2, objective=""),
        {"prediction_1": "is inf"},
    ),
}
"""Texts of one feature whose rows above zero have no finite prediction, and what of it is none."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    directory = tmp_path_factory.mktemp("models")
    return {kind: serve(save_text(text, directory / kind)) for kind, (text, _) in MODELS.items()}


def sample(client: Client, name: str, **labels: str) -> float:
    return sample_value(services_of(client).metrics.registry, name, labels) or 0.0


def refused(response: Any, request: str) -> dict[str, str]:
    """What is not finite, as the answer to a request of one row, or to a table, names it."""
    assert response.status_code == 500, response.text
    answer = problem(response)
    assert answer["type"] == KIND
    assert answer["detail"] == f"The model has no finite answer to {request}."
    assert "null" not in response.text
    return fields(response)


async def test_a_row_without_a_finite_prediction_is_a_counted_error(
    client: Client, models: dict[str, ServedModel], settings: Settings
) -> None:
    for kind, (_, faults) in MODELS.items():
        put(client, models[kind])
        expected = {name: f"{text}, not a finite number" for name, text in faults.items()}
        assert refused(await client.post("/predict", json=BAD), "this row") == expected
    assert sample(client, "errors_total", error_type="prediction_not_finite", endpoint="/predict") == len(MODELS)
    assert sample(client, "predictions_not_finite_total", model_version="1", prediction_type="single") == len(MODELS)
    assert (await client.post("/predict", json=GOOD)).status_code == 200
    assert logged(client, settings) == [GOOD]


def logged(client: Client, settings: Settings) -> list[dict[str, float]]:
    """Features of the rows in the prediction log."""
    services_of(client).prediction_log.flush()
    engine = sa.create_engine(settings.prediction_database_url)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(PREDICTIONS.c.features).order_by(PREDICTIONS.c.id)).scalars().all()
    engine.dispose()
    return list(rows)


@pytest.mark.parametrize("repeated", [1, 1000], ids=["small", "large"])
async def test_only_rows_without_a_finite_prediction_fail_in_a_batch(
    models: dict[str, ServedModel], settings: Settings, repeated: int
) -> None:
    async with client_of(settings_with(settings, max_batch_size=4 * repeated)) as client:
        await check_batches(client, models, settings, repeated)


async def check_batches(client: Client, models: dict[str, ServedModel], settings: Settings, repeated: int) -> None:
    rows = [BAD, GOOD, {NAME: "text"}, GOOD] * repeated
    for kind, (_, faults) in MODELS.items():
        put(client, models[kind])
        response = await client.post("/predict/batch", json={"predictions": rows})
        assert response.status_code == 200
        answer = response.json()
        assert [item["index"] for item in answer["predictions"]] == list(range(len(rows)))
        bad, good, invalid, last = answer["predictions"][-4:]
        assert [item["status"] for item in (bad, good, invalid, last)] == ["failed", "predicted", "failed", "predicted"]
        expected = [{"field": name, "message": f"{text}, not a finite number"} for name, text in faults.items()]
        assert bad["errors"] == expected
        assert good["prediction"] == last["prediction"] is not None
        counts = [answer[f"{kind}_predictions"] for kind in ("total", "successful", "failed")]
        assert counts == [4 * repeated, 2 * repeated, 2 * repeated]
    failed = sample(client, "predictions_not_finite_total", model_version="1", prediction_type="batch")
    assert failed == len(MODELS) * repeated
    assert logged(client, settings) == [GOOD] * 2 * repeated * len(MODELS)


@pytest.mark.parametrize("rows", [100, 70_000], ids=["small", "large"])
async def test_a_table_with_a_row_that_is_not_finite_is_refused(
    client: Client, models: dict[str, ServedModel], rows: int
) -> None:
    values = np.full(rows, -1.0)
    values[[rows // 2, -1]] = 1.0
    where = f"in row {rows // 2}, the first of 2 such rows"
    for (kind, (_, faults)), media_type in product(MODELS.items(), FORMATS):
        put(client, models[kind])
        headers = ARROW | {"Accept": media_type}
        response = await client.post("/predict/bulk", content=stream({NAME: values}), headers=headers)
        expected = {name: f"{text}, not a finite number {where}" for name, text in faults.items()}
        assert refused(response, f"row {rows // 2}") == expected
    failed = sample(client, "predictions_not_finite_total", model_version="1", prediction_type="bulk")
    assert failed == 2 * len(MODELS) * len(FORMATS)
    answered = await client.post("/predict/bulk", content=stream({NAME: -np.ones(rows)}), headers=ARROW)
    assert answered.status_code == 200


async def test_a_shadow_gets_no_rows_that_are_not_finite(models: dict[str, ServedModel], settings: Settings) -> None:
    shadow = msgspec.structs.replace(models["poisson"], identity=ModelIdentity(name="houses", version="2"))
    async with client_of(settings_with(settings, model_shadow_percent=100)) as client:
        slot = services_of(client).slot
        slot.current, slot.shadow = models["poisson"], shadow
        await client.post("/predict", json=BAD)
        await client.post("/predict/bulk", content=stream({NAME: np.array([1.0, -1.0])}), headers=ARROW)
        await client.post("/predict/batch", json={"predictions": [BAD, GOOD, BAD]})
        while services_of(client).shadow.queued:
            await services_of(client).shadow.score()
        outcomes = {each: sample(client, "model_shadow_rows_total", outcome=each) for each in ("scored", "failed")}
        assert outcomes == {"scored": 1, "failed": 0}


INTERVALS: list[tuple[float, float, dict[str, str]]] = [
    (0.0, np.inf, {"lower": "is -inf", "upper": "is inf"}),
    (0.0, np.nan, {"lower": "is nan", "upper": "is nan"}),
    (-1.7e308, 1e307, {"lower": "is -inf"}),
    (1.7e308, 1e307, {"upper": "is inf"}),
    (np.nan, 1.0, {"prediction": "is nan"}),
    (np.inf, np.inf, {"prediction": "is inf"}),
]
"""Predictions and difficulties, and what is not finite of the interval of level 0.9."""


async def test_an_interval_that_is_not_finite_is_an_error(client: Client, referring: ServedModel) -> None:
    row = dict.fromkeys(referring.feature_names, 0.5)
    table = stream({name: np.array([value]) for name, value in row.items()})
    for prediction, difficulty, faults in INTERVALS:
        evaluation = Evaluation(np.array([prediction]), np.array([difficulty]), None)
        put(client, referring)
        compute_with(client, lambda rows, evaluation=evaluation: evaluation)
        expected = {name: f"{text}, not a finite number" for name, text in faults.items()}
        assert refused(await client.post("/predict", json=row), "this row") == expected
        batch = (await client.post("/predict/batch", json={"predictions": [row]})).json()
        errors = [{"field": name, "message": text} for name, text in expected.items()]
        assert batch["predictions"] == [{"status": "failed", "index": 0, "errors": errors}]
        bounded = await client.post("/predict/bulk?interval=0.9", content=table, headers=ARROW)
        assert refused(bounded, "row 0").keys() == faults.keys()
        without = await client.post("/predict/bulk", content=table, headers=ARROW)
        assert without.status_code == (200 if np.isfinite(prediction) else 500)


async def test_health_shows_a_row_that_is_not_finite(
    settings: Settings, private_registry_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = settings_with(settings, data_dir=private_registry_dir, model_name="claims")
    tree = tree_text([Split(0, 1000.5, 0)], [0], [0.5, 800.0])
    register(own, save_text(model_text([tree], 1, objective="poisson"), tmp_path / "claims"))
    async with client_of(own) as client:
        health = await client.get("/health/model")
        assert (health.status_code, health.json()["status"]) == (200, "healthy")
        (found,) = health.json()["not_finite"]
        assert (found["prediction"], found["features"]) == ("inf", {NAME: 1001.0})
        assert refused(await client.post("/predict", json=found["features"]), "this row") == {
            "prediction": "is inf, not a finite number"
        }
    assert [record.__dict__["model_version"] for record in caplog.records if "finite" in record.message] == ["1"]


async def test_the_largest_numbers_are_finite(client: Client, referring: ServedModel) -> None:
    put(client, referring)
    row = dict.fromkeys(referring.feature_names, 0.5)
    compute_with(client, lambda rows: Evaluation(np.full(len(rows), 1.7e308), np.full(len(rows), 1e306), None))
    answer = (await client.post("/predict", json=row)).json()
    assert answer["prediction"] == 1.7e308
    assert answer["confidence_interval"]["upper"] == 1.7e308 + 2e306
