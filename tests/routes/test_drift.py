"""`/drift` and its metrics: the rows of every route, models without a profile, the canary, and a service without it."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.config.settings import Settings
from app.drift.store import ProfileStore
from tests.models.support import save_booster, serve, tiny_booster
from tests.routes.support import (
    ARROW,
    Client,
    Row,
    churn_booster,
    client_of,
    put,
    register,
    row_of,
    save_churn,
    served_by,
    services_of,
    settings_with,
    stream_of,
    varied,
)  # fmt: skip
from tests.support import come_true, problem

NAME = "california-housing-model"


async def drift_of(client: Client) -> dict[str, Any]:
    response = await client.get("/drift")
    assert response.status_code == 200
    return response.json()


async def series(client: Client, name: str) -> dict[tuple[str, ...], float]:
    text = (await client.get("/metrics")).text
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def test_rows_of_every_route_are_counted(client: Client, example: Row) -> None:
    names = list(example)
    many = varied(example, 600)
    await client.post("/predict", json=example)
    await client.post("/predict/", json=example)
    await client.post("/predict/batch", json={"predictions": [example, {}, example]})
    await client.post("/invocations", json={"dataframe_records": [example] * 3})
    path = "/v2/models/california-housing-model/infer"
    inputs = [{"name": "x", "shape": [2, len(names)], "datatype": "FP64", "data": [*example.values()] * 2}]
    assert (await client.post(path, json={"inputs": inputs})).status_code == 200
    path = "/v1/models/california-housing-model:predict"
    await client.post(path, json={"instances": [list(example.values())]})
    assert (await drift_of(client))["rows"] == 1 + 1 + 2 + 3 + 2 + 1
    assert (await client.post("/predict/bulk", content=stream_of(many, names), headers=ARROW)).status_code == 200
    drift = await drift_of(client)
    assert drift["rows"] == 610
    assert drift["reference"] == {"source": "training", "rows": 13209, "prediction_rows": 7431}
    assert (drift["state"], drift["window_seconds"], drift["canary"]) == ("major", 3600, None)
    features = drift["features"]
    assert {feature["name"] for feature in features} == set(names)
    assert [feature["psi"] for feature in features] == sorted((each["psi"] for each in features), reverse=True)
    assert len(drift["prediction"]) == 1
    await client.post("/predict", json={})
    assert (await series(client, "feature_rows_total")) == {(NAME, "1"): 610}
    bins = await series(client, "feature_bin_total")
    for name in names:
        assert sum(bins[key] for key in bins if key[1] == name) == 610
    shares = await series(client, "feature_bin_reference_share")
    assert shares.keys() == bins.keys()
    assert sum(shares.values()) == pytest.approx(len(names))
    assert (await series(client, "drift_psi"))["MedInc", NAME, "1"] == pytest.approx(
        next(feature["psi"] for feature in features if feature["name"] == "MedInc")
    )
    assert set((await series(client, "drift_level")).values()) <= {0, 1, 2}
    assert (await series(client, "drift_reference_info")) == {(NAME, "1", "training"): 1}


async def test_without_a_profile_the_first_rows_are_the_reference(
    private_registry_dir: Path, settings: Settings, tmp_path: Path
) -> None:
    settings = settings_with(settings, data_dir=private_registry_dir, model_name="churn", drift_baseline_rows=20)
    register(settings, save_churn(tmp_path / "churn", churn_booster()))
    row = {"tenure": 3, "monthly charge": 70.5, "contract": True}
    batch = {"predictions": [row | {"tenure": tenure, "monthly charge": None} for tenure in range(30)]}
    async with client_of(settings) as client:
        assert (await drift_of(client))["state"] == "no reference"
        assert (await series(client, "drift_reference_info")) == {("churn", "1", "none"): 1}
        assert "feature_bin" not in (await client.get("/metrics")).text
        await client.post("/predict/batch", json=batch)
        await services_of(client).drift.tick()
        drift = await drift_of(client)
        assert drift["state"] == "not enough rows"
        assert (drift["reference"]["source"], drift["reference"]["rows"]) == ("served", 20)
        await client.post("/predict/batch", json=batch)
        drift = await drift_of(client)
        assert (drift["rows"], len(drift["prediction"])) == (30, 3)
        charge = next(each for each in drift["features"] if each["name"] == "monthly charge")
        assert (charge["missing"], charge["missing_reference"], charge["psi"]) == (1, 1, None)
    digest = ProfileStore(settings.profiles).path
    async with client_of(settings) as client:
        assert digest(served_by(client).artifact.digest).exists()
        await come_true(lambda: services_of(client).drift.trackers()[0].counts is not None)
        assert (await drift_of(client))["reference"]["source"] == "served"


async def test_series_of_a_replaced_model_disappear(client: Client, example: Row, tmp_path: Path) -> None:
    await client.post("/predict", json=example)
    canary = msgspec.structs.replace(served_by(client))
    other = serve(save_booster(tiny_booster(), tmp_path / "other"))
    other = msgspec.structs.replace(other, watched=msgspec.structs.replace(other.watched, version="7"))
    services_of(client).slot.canary = canary
    put(client, other)
    drift = await drift_of(client)
    assert (drift["model_version"], drift["canary"]["model_version"], drift["canary"]["rows"]) == ("7", "1", 1)
    services_of(client).slot.canary = None
    await services_of(client).drift.tick()
    text = (await client.get("/metrics")).text
    assert 'drift_reference_info{model_name="houses",model_version="7",source="none"}' in text
    assert 'feature_rows_total{model_name="california-housing-model",model_version="1"}' not in text


async def test_without_a_model_there_is_no_report(settings: Settings) -> None:
    async with client_of(settings_with(settings, model_name="unknown")) as client:
        assert problem(await client.get("/drift"))["status"] == 503
        assert (await client.get("/metrics")).status_code == 200


async def test_it_can_be_switched_off(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, drift=False)) as client:
        await client.post("/predict", json=example)
        await client.post("/predict/bulk", content=stream_of(row_of(example), list(example)), headers=ARROW)
        assert (await client.get("/drift")).status_code == 404
        assert "drift_" not in (await client.get("/metrics")).text
        assert "drift" not in services_of(client).tasks.status
        assert np.isfinite((await client.post("/predict", json=example)).json()["prediction"])


async def test_the_error_of_the_model_is_told_to_those_who_have_the_key(settings: Settings) -> None:
    async with client_of(settings_with(settings, api_key="key")) as client:
        assert (await client.get("/drift")).json()["performance"] is None
        headers = {"X-API-Key": "key"}
        told = (await client.get("/drift", headers=headers)).json()["performance"]
        assert told == (await client.get("/outcomes", headers=headers)).json()["versions"]
