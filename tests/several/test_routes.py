"""Several models behind one address: each answers under its name, and the first without one."""

from functools import partial
from typing import Any

import msgspec
import pytest
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient
from tritonclient.utils import InferenceServerException

from tests.protocols.open_inference.rpc_support import tensor
from tests.routes.test_hooks import event, signed
from tests.several.conftest import ROW, Fleet
from tests.support import problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

KNOWN = "There is no model of this name; the models served here are prices, churn, risk."
ADMIN = {"X-API-Key": "admin"}


async def test_the_first_answers_without_a_name_and_each_by_its_own(fleet: Fleet) -> None:
    assert await fleet.predicted("/predict") == fleet.answers["prices"]
    for name in ("prices", "churn"):
        for path in (f"/predict/{name}", f"/predict/{name}/", f"/predict/{name}/explain", f"/predict/{name}?explain=1"):
            assert await fleet.predicted(path) == fleet.answers[name], path


async def test_all_protocols_reach_each_model(fleet: Fleet) -> None:
    post = fleet.client.post
    tensor = {"name": "features", "shape": [1, 3], "datatype": "FP64", "data": list(ROW.values())}
    for name in ("prices", "churn"):
        expected = fleet.answers[name]
        batch = await post(f"/predict/{name}/batch", json={"predictions": [ROW]})
        assert batch.json()["predictions"][0]["prediction"] == expected
        bulk = await post(f"/predict/{name}/bulk", json={"rows": [ROW]})
        assert bulk.json()["columns"]["prediction"] == [expected]
        curve = await post(f"/predict/{name}/curve", json={"row": ROW, "feature": "income", "points": 2})
        assert curve.status_code == 200
        scored = await post(f"/invocations/{name}", json={"dataframe_records": [ROW]})
        assert scored.json() == {"predictions": [expected]}
        kserve = await post(f"/v1/models/{name}:predict", json={"instances": [ROW]})
        assert kserve.json() == {"predictions": [expected]}
        inferred = (await post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})).json()
        assert (inferred["model_name"], inferred["outputs"][0]["data"]) == (name, [expected])
        assert (await fleet.client.get(f"/predict/{name}/model/info")).json()["name"] == name
        assert (await fleet.client.get(f"/v2/models/{name}")).json()["name"] == name


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("POST", f"/predict/flats{end}") for end in ("", "/", "/batch", "/bulk", "/explain", "/curve")],
        ("GET", "/predict/flats/model/info"), ("GET", "/health/model/flats"), ("GET", "/drift/flats"),
    ],
)  # fmt: skip
async def test_an_unknown_name_is_404_with_those_that_exist(method: str, path: str, fleet: Fleet) -> None:
    response = await fleet.client.request(method, path, json=ROW if method == "POST" else None)
    assert response.status_code == 404
    assert problem(response)["detail"] == KNOWN


async def test_grpc_reaches_each_model(fleet: Fleet) -> None:
    address = f"127.0.0.1:{fleet.settings.grpc_port}"
    given = tensor("features", [list(ROW.values())])
    client: Any = AsyncClient(address)
    async with client as triton:
        for name in ("prices", "churn"):
            answer = await triton.infer(name, [given])
            assert answer.as_numpy("prediction").ravel().tolist() == [fleet.answers[name]]
            assert (await triton.get_model_metadata(name)).name == name
        assert not await triton.is_model_ready("risk")
        with pytest.raises(InferenceServerException, match=KNOWN):
            await triton.infer("flats", [given])
        index = await triton.get_model_repository_index()
        assert {entry.name for entry in index.models} == {"prices", "churn", "risk"}


async def test_a_webhook_has_its_own_model_looked_for(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    for name in ("prices", "churn", "risk"):
        monkeypatch.setattr(fleet.of(name).keeper, "look_soon", partial(looked.append, name))
    for name, outcome in (("churn", "looking"), ("flats", "ignored")):
        body = event(name)
        headers = signed(body, secret="hook", delivery=name)
        answer = await fleet.client.post("/hooks/mlflow", content=body, headers=headers)
        assert answer.json() == {"outcome": outcome}
    assert looked == ["churn"]


@pytest.mark.parametrize(
    "path",
    ["/invocations/flats", "/v1/models/flats:predict", "/v2/models/flats/infer", "/v2/models/flats/versions/1/infer"],
)
async def test_an_unknown_name_is_404_in_the_form_of_each_protocol(path: str, fleet: Fleet) -> None:
    response = await fleet.client.post(path, json={})
    assert response.status_code == 404
    assert KNOWN in response.json().values()


async def test_a_model_without_a_version_is_503_and_costs_the_others_nothing(fleet: Fleet) -> None:
    response = await fleet.client.post("/predict/risk", json=ROW)
    assert response.status_code == 503
    assert problem(response)["detail"] == "No model is loaded yet. /health/model/risk says why."
    assert await fleet.predicted("/predict/churn") == fleet.answers["churn"]


async def test_other_methods_than_post_are_405(fleet: Fleet) -> None:
    for path in ("/predict/churn", "/predict/churn/batch", "/invocations/churn"):
        assert (await fleet.client.get(path)).status_code == 405, path


async def test_requests_are_recorded_by_route_and_predictions_by_model(fleet: Fleet) -> None:
    await fleet.predicted("/predict/churn")
    text = (await fleet.client.get("/metrics")).text
    assert 'endpoint="/predict/{model}"' in text
    assert 'endpoint="/predict/churn"' not in text
    assert 'predictions_total{model_name="churn",model_version="1",prediction_type="single"}' in text
    assert 'predictions_total{model_name="prices",model_version="1",prediction_type="single"}' in text
    assert 'model_status{model_name="risk"} 0.0' in text
    for family in ("model_stale", "compute_backend_usable", "drift_reference_info"):
        assert text.count(f"# TYPE {family} ") == 1


async def test_health_tells_of_each_model(fleet: Fleet) -> None:
    health = (await fleet.client.get("/health")).json()
    assert (health["status"], health["model_loaded"]) == ("degraded", False)
    assert health["problems"][0] == "model risk: no version is loaded"
    assert any(told.startswith("model risk: model refresh: model_unknown: ") for told in health["problems"])
    assert not any("churn" in told or "prices" in told for told in health["problems"])
    assert (await fleet.client.get("/health/ready")).status_code == 200
    assert (await fleet.client.get("/health/model")).json()["name"] == "prices"
    one = await fleet.client.get("/health/model/risk")
    assert (one.status_code, one.json()["name"], one.json()["status"]) == (503, "risk", "unhealthy")
    detailed = (await fleet.client.get("/health/detailed")).json()
    assert list(detailed["models"]) == ["prices", "churn", "risk"]
    assert {"model-keeper", "model-keeper churn", "drift risk"} <= detailed["tasks"].keys()
    for name, status in (("churn", 200), ("risk", 503)):
        assert (await fleet.client.get(f"/v2/models/{name}/ready")).status_code == status
        assert (await fleet.client.get(f"/v1/models/{name}")).status_code == status


async def test_info_tells_what_is_in_service_of_each(fleet: Fleet) -> None:
    info = (await fleet.client.get("/info")).json()
    assert (info["model_name"], info["model_version"], info["model_stage"]) == ("prices", "1", "Production")
    assert info["models"] == ["prices", "churn", "risk"]
    prices, churn, risk = info["in_service"]
    assert (prices["name"], prices["version"], prices["stage"], prices["aliases"]) == ("prices", "1", "Production", [])
    assert (churn["name"], churn["version"], churn["aliases"]) == ("churn", "1", ["champion"])
    assert (risk["name"], risk["version"], risk["stage"], risk["canary_version"]) == ("risk", None, None, None)
    slot = fleet.of("churn").slot
    slot.canary = msgspec.structs.replace(
        slot.require(), identity=msgspec.structs.replace(slot.require().identity, version="7")
    )
    try:
        _, churn, _ = (await fleet.client.get("/info")).json()["in_service"]
    finally:
        slot.canary = None
    assert (churn["canary_version"], churn["canary_percent"]) == ("7", 5)


async def test_the_console_is_about_the_model_that_it_names(fleet: Fleet) -> None:
    get = fleet.client.get
    digests = {name: fleet.of(name).slot.require().artifact.digest for name in ("prices", "churn")}
    for query, name in (("", "prices"), ("?model=prices", "prices"), ("?model=churn", "churn")):
        assert (await get(f"/console/model{query}")).json()["digest"] == digests[name]
        assert (await get(f"/console/card{query}")).json() is None
    assert (await get("/console/model?model=risk")).status_code == 503
    for path in ("/console/model", "/console/card", "/console/card/importance.png", "/console/live"):
        answer = await get(f"{path}?model=flats")
        assert (answer.status_code, problem(answer)["detail"]) == (404, KNOWN)


async def test_the_figures_of_the_console_are_those_of_its_model(fleet: Fleet) -> None:
    live = fleet.client.app.litestar.state["live"]
    await fleet.predicted("/predict/churn")
    prices, churn, risk = [
        msgspec.json.decode(await live.content(fleet.of(name))) for name in ("prices", "churn", "risk")
    ]
    assert [one["model_name"] for one in (prices, churn, risk)] == ["prices", "churn", "risk"]
    assert [one["model_version"] for one in (prices, churn, risk)] == ["1", "1", None]
    assert churn["digest"] == fleet.of("churn").slot.require().artifact.digest != prices["digest"]
    assert prices["requests"]["2xx"] == churn["requests"]["2xx"] >= 1
    assert prices["rows"] == churn["rows"] >= 1


async def test_the_document_has_their_names(fleet: Fleet) -> None:
    document = (await fleet.client.get("/openapi.json")).json()
    operation = document["paths"]["/predict/{model}"]["post"]
    assert operation["parameters"][0]["schema"]["enum"] == ["prices", "churn", "risk"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"type": "object"}


async def test_models_are_listed_loaded_and_unloaded(fleet: Fleet) -> None:
    post = fleet.client.post
    index = {entry["name"]: entry for entry in (await post("/v2/repository/index")).json()}
    assert {name: entry["state"] for name, entry in index.items()} == {
        "prices": "READY", "churn": "READY", "risk": "UNAVAILABLE",
    }  # fmt: skip
    assert index["risk"]["reason"] == "the registry knows no model 'risk'"
    assert (await post("/v2/repository/models/churn/unload")).status_code == 401
    assert (await post("/v2/repository/models/flats/unload", headers=ADMIN)).json() == {"error": KNOWN}
    assert (await post("/v2/repository/models/churn/unload", headers=ADMIN, json={"parameters": {}})).json() == {}
    refused = await post("/predict/churn", json=ROW)
    assert (refused.status_code, problem(refused)["detail"]) == (503, "The model is unloaded.")
    assert await fleet.predicted("/predict") == fleet.answers["prices"]
    assert (await fleet.client.get("/health/ready")).status_code == 200
    assert "model churn: model refresh: unloaded" in str((await fleet.client.get("/health")).json()["problems"])
    (entry,) = [entry for entry in (await post("/v2/repository/index")).json() if entry["name"] == "churn"]
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
    # Neither a look nor an order for a version brings it back.
    reloaded = await post("/health/model/churn/reload", headers=ADMIN)
    assert reloaded.json()["outcome"] == "unloaded"
    pinned = await post("/health/model/churn/reload", headers=ADMIN, json={"version": "1"})
    assert pinned.json()["outcome"] == "unloaded"
    assert (await post("/v2/repository/models/churn/load", headers=ADMIN)).status_code == 200
    assert await fleet.predicted("/predict/churn") == fleet.answers["churn"]
    failed = await post("/v2/repository/models/risk/load", headers=ADMIN)
    assert (failed.status_code, failed.json()) == (
        409, {"error": "The model cannot be loaded: the registry knows no model 'risk'."},
    )  # fmt: skip
