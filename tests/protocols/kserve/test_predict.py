"""KServe's data plane, version 1."""

from pathlib import Path
from typing import Any

import pytest

from app.config.settings import Settings
from tests.models.support import serve
from tests.protocols.mlflow.models import save_classifier, save_doubles, save_tensor, save_unsigned
from tests.routes.support import Client, Row, client_of, put, services_of, settings_with


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


NAME = "california-housing-model"
URL = f"/v1/models/{NAME}:predict"


def error(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error"}
    return response.json()["error"]


async def test_the_models_are_listed_with_their_state(client: Client) -> None:
    assert (await client.get("/v1/models")).json() == {"models": [NAME]}
    assert (await client.get(f"/v1/models/{NAME}")).json() == {"name": NAME, "ready": True}
    unknown = f"There is no model of this name; the model served here is {NAME}."
    assert error(await client.get("/v1/models/other"), 404) == unknown
    services_of(client).slot.current = None
    assert error(await client.get(f"/v1/models/{NAME}"), 503) == "No model is loaded yet. /health/model says why."
    assert (await client.get("/v1/models")).json() == {"models": [NAME]}


async def test_all_layouts_are_answered(client: Client, tmp_path: Path) -> None:
    save_doubles(tmp_path / "model")
    put(client, serve(tmp_path / "model"))
    rows = [{"a": 1.5, "b": -2, "c": 0.25}, {"a": -4, "b": 3, "c": 1}]
    lists = [[1.5, -2, 0.25], [-4, 3, 1]]
    frames = [{name: [value] for name, value in row.items()} for row in rows]
    nested = [{name: {"0": value} for name, value in row.items()} for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    expected = (await client.post("/invocations", json={"dataframe_records": rows})).json()
    assert len(set(expected["predictions"])) == 2
    for key in ("instances", "inputs"):
        for value in (rows, lists, frames, nested, columns, [columns]):
            answer = await client.post(URL, json={key: value})
            assert answer.status_code == 200, answer.text
            assert answer.json() == expected
    untyped = await client.post(URL, content=b'{"instances": [[1.5, -2, 0.25], [-4, 3, 1]]}')
    assert untyped.json() == expected


@pytest.mark.parametrize("save", [save_tensor, save_unsigned])
async def test_nested_lists_of_a_model_without_names(client: Client, save: Any, tmp_path: Path) -> None:
    save(tmp_path / "model")
    put(client, serve(tmp_path / "model"))
    answer = await client.post(URL, json={"instances": [[1.5, -2, 0.25]]})
    assert answer.json() == (await client.post("/invocations", json={"inputs": [[1.5, -2, 0.25]]})).json()


async def test_classifiers_answer_labels(client: Client, tmp_path: Path) -> None:
    save_classifier(tmp_path / "model")
    put(client, serve(tmp_path / "model"))
    answer = await client.post(URL, json={"instances": [[1, 2, 3]]})
    assert answer.json()["predictions"][0] in ("low", "middle", "hïgh")


async def test_errors_have_kserves_form(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, api_key="sesame", rate_limit=9, max_json_bytes=1024)) as client:
        key = {"X-API-Key": "sesame"}
        row = list(example.values())
        assert (await client.post(URL, json={"instances": [row]}, headers=key)).status_code == 200
        error(await client.post(URL, json={"instances": [row]}), 401)
        error(await client.post("/v1/models/other:predict", json={"instances": [row]}), 401)
        message = error(await client.post("/v1/models/other:predict", json={"instances": [row]}, headers=key), 404)
        assert message == f"There is no model of this name; the model served here is {NAME}."
        assert "MedInc: is missing" in error(await client.post(URL, json={"instances": [{"a": 1}]}, headers=key), 400)
        error(await client.post(URL, json={"instances": [row[:-1]]}, headers=key), 400)
        error(await client.post(URL, content=b" " * 2000, headers=key), 413)
        services_of(client).slot.current = None
        error(await client.post(URL, json={"instances": [row]}, headers=key), 503)
        error(await client.post(URL, content=b"{", headers=key), 503)
        error(await client.post(URL, content=b"{", headers=key), 429)


async def test_other_methods_are_refused_and_listed(client: Client) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        response = await client.request(method, URL)
        assert response.status_code == 405
        assert response.headers["allow"] == "OPTIONS, POST"
        if method != "HEAD":
            assert response.json() == {"error": "This route supports only OPTIONS, POST."}
    response = await client.request("OPTIONS", URL)
    assert (response.status_code, response.headers["allow"]) == (204, "OPTIONS, POST")
    assert (await client.get("/v1/models/some:thing")).status_code == 404


async def test_browsers_may_ask_before_a_request(settings: Settings) -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    async with client_of(settings_with(settings, cors_origins=("https://a.example",))) as client:
        response = await client.request("OPTIONS", URL, headers=headers)
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == "https://a.example"
