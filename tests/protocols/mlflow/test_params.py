"""`params` of a scoring request that ask for contributions or leaves, in LightGBM's layout."""

import json
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from tests.models.support import NAMES, save_booster, save_text, serve, tiny_booster, tiny_rows
from tests.predict.explain.test_explain import HUGE, UNCOUNTED
from tests.routes.support import Client, Row, put, row_of, served_by

URL = "/invocations"
ROWS = 4


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


def body(params: Any, rows: Any = None) -> dict[str, Any]:
    data = tiny_rows()[:ROWS].tolist() if rows is None else rows
    return {"dataframe_split": {"columns": list(NAMES), "data": data}, "params": params}


async def predictions(client: Client, params: Any) -> Any:
    response = await client.post(URL, json=body(params))
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


@pytest.mark.parametrize("classes", [1, 3])
async def test_contributions_and_leaves_are_in_lightgbms_layout(client: Client, tmp_path: Path, classes: int) -> None:
    changes = {"objective": "multiclass", "num_class": 3} if classes == 3 else {}
    booster = tiny_booster(tiny_rows()[:, 2] % 3, **changes)
    put(client, serve(save_booster(booster, tmp_path / "model")))
    rows = tiny_rows()[:ROWS]
    contributions = np.asarray(booster.predict(rows, pred_contrib=True))
    assert contributions.shape == (ROWS, classes * (len(NAMES) + 1))
    leaves = np.asarray(booster.predict(rows, pred_leaf=True)).tolist()
    plain = booster.predict(rows).tolist()
    for params in ({"pred_contrib": True}, {"pred_contrib": True, "pred_leaf": True}, {"x": 1, "pred_contrib": True}):
        np.testing.assert_allclose(await predictions(client, params), contributions, atol=1e-9)
    assert await predictions(client, {"pred_leaf": True, "pred_contrib": False}) == leaves
    for params in ({}, {"pred_contrib": False}, {"x": True}, None, 5, ["pred_contrib"]):
        assert await predictions(client, params) == plain


async def test_contributions_of_a_plan_are_the_boosters(client: Client, example: Row) -> None:
    engine = served_by(client).engine
    body = {"dataframe_records": [example], "params": {"pred_contrib": True}}
    (found,) = (await client.post(URL, json=body)).json()["predictions"]
    explanation = engine.explain(row_of(example), "model")
    assert found == [*explanation.contributions[0, 0].tolist(), explanation.base.item()]


async def test_a_flag_that_is_none_is_refused(client: Client, tmp_path: Path) -> None:
    put(client, serve(save_booster(tiny_booster(), tmp_path / "model")))
    for name in ("pred_contrib", "pred_leaf"):
        response = await client.post(URL, json=body({name: "yes"}))
        answer = response.json()
        assert (response.status_code, answer["error_code"]) == (400, "BAD_REQUEST")
        assert answer["message"] == f"The body is not valid. params.{name}: must be true or false"


async def test_a_model_without_explanations_says_so(client: Client, tmp_path: Path) -> None:
    served = serve(save_text(UNCOUNTED, tmp_path / "model"))
    put(client, served)
    asked = {"dataframe_split": {"columns": ["Column_0"], "data": [[1.0]]}, "params": {"pred_contrib": True}}
    response = await client.post(URL, json=asked)
    assert response.status_code == 501
    assert response.json()["error_code"] == "NOT_IMPLEMENTED"
    assert str(served.engine.explainable) in response.json()["message"]


async def test_contributions_that_are_not_finite_are_as_python_writes_them(client: Client, tmp_path: Path) -> None:
    put(client, serve(save_text(HUGE, tmp_path / "model")))
    asked = {"inputs": [[1.0, 1.0]], "params": {"pred_contrib": True}}
    response = await client.post(URL, json=asked)
    assert response.status_code == 200, response.text
    (found,) = json.loads(response.text)["predictions"]
    expected = np.asarray(lgb.Booster(model_str=HUGE).predict(np.ones((1, 2)), pred_contrib=True))[0]
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
