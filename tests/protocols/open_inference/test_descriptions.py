"""Health, descriptions, statistics and the index, while there is a model and while there is none."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from app.models.served import ServedModel
from tests.models.support import NAMES, serve
from tests.protocols.open_inference.support import INFER, MODEL, App, asked, body, classifier, error, sample, tensor
from tests.routes.support import EngineDouble, churn_booster, put, save_churn

BASE = f"/v2/models/{MODEL}"
OUTPUTS = ("prediction", "lower", "upper", "raw_score")


def with_version(served: ServedModel, version: str) -> ServedModel:
    return msgspec.structs.replace(served, identity=msgspec.structs.replace(served.identity, version=version))


def test_the_server_tells_its_name_and_extensions(app: App) -> None:
    assert app.get("/v2").json() == {
        "name": "madrone", "version": "1.0.0",
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
    }  # fmt: skip
    assert app.get("/v2/health/live").json() == {"live": True}


@pytest.mark.parametrize("path", [BASE, f"{BASE}/versions/1"])
def test_a_model_of_numbers_takes_one_tensor_whose_columns_are_named(app: App, path: str) -> None:
    assert app.get(path).json() == {
        "name": MODEL, "versions": ["1"], "platform": "lightgbm",
        "inputs": [
            {"name": "features", "datatype": "FP64", "shape": [-1, 3], "parameters": {"columns": list(NAMES)}},
        ],
        "outputs": [{"name": name, "datatype": "FP64", "shape": [-1, 1]} for name in OUTPUTS],
    }  # fmt: skip
    assert app.get(f"{path}/config").json() == {
        "name": MODEL, "platform": "lightgbm", "backend": "lightgbm", "max_batch_size": 1_000_000,
        "input": [{"name": "features", "data_type": "TYPE_FP64", "dims": [3], "optional": False}],
        "output": [{"name": name, "data_type": "TYPE_FP64", "dims": [1]} for name in OUTPUTS],
        "model_transaction_policy": {"decoupled": False},
    }  # fmt: skip


def test_a_model_of_other_kinds_takes_a_tensor_for_each_feature(app: App, tmp_path: Path) -> None:
    put(app.client, serve(save_churn(tmp_path / "churn", churn_booster())))
    assert app.get(BASE).json()["inputs"] == [
        {"name": "tenure", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "monthly charge", "datatype": "FP64", "shape": [-1, 1]},
        {"name": "contract", "datatype": "BOOL", "shape": [-1, 1]},
    ]
    config = app.get(f"{BASE}/config").json()
    assert [given["optional"] for given in config["input"]] == [False, True, False]
    _, labelled = classifier(["no", "yes"], tmp_path / "labelled")
    put(app.client, labelled)
    output = app.get(f"{BASE}/config").json()["output"][1]
    assert output == {"name": "label", "data_type": "TYPE_STRING", "dims": [1]}


def test_what_the_metadata_names_is_answered(app: App, tmp_path: Path, referring: ServedModel) -> None:
    models = [referring, serve(save_churn(tmp_path / "churn", churn_booster())), classifier([1, 2], tmp_path / "b")[1]]
    for served in models:
        put(app.client, served)
        metadata = app.get(BASE).json()
        kinds = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}
        inputs = [
            tensor(given["name"], np.ones((2, given["shape"][1]), kinds[given["datatype"]]))
            for given in metadata["inputs"]
        ]
        result = app.infer(inputs, asked(*[output["name"] for output in metadata["outputs"]]))
        for output in metadata["outputs"]:
            array = result.as_numpy(output["name"])
            assert array.shape == (2, output["shape"][1])
            assert array.dtype == kinds[output["datatype"]]


@pytest.mark.parametrize("part", ["", "/ready", "/config", "/stats", "/versions/1", "/versions/1/ready"])
def test_another_name_is_not_found(app: App, part: str) -> None:
    text = error(app.get(f"/v2/models/another{part}"), 404)
    assert text == f"There is no model of this name; the model served here is {MODEL}."


@pytest.mark.parametrize("part", ["", "/ready", "/config", "/stats"])
def test_another_version_is_not_found(app: App, part: str) -> None:
    text = error(app.get(f"{BASE}/versions/7{part}"), 404)
    assert text == "This version of the model is not in service. In service: 1."


def test_a_canary_is_described_beside_the_model_in_use(app: App, referring: ServedModel) -> None:
    app.slot.canary = with_version(referring, "2")
    for path in (BASE, f"{BASE}/versions/1", f"{BASE}/versions/2"):
        assert app.get(path).json()["versions"] == ["1", "2"]
    assert app.get(f"{BASE}/versions/2/ready").json() == {"name": MODEL, "ready": True}
    index = app.post("/v2/repository/index").json()
    assert [(entry["version"], entry["state"]) for entry in index] == [("1", "READY"), ("2", "READY")]
    assert [entry["version"] for entry in app.get(f"{BASE}/stats").json()["model_stats"]] == ["1", "2"]
    assert "In service: 1, 2." in error(app.get(f"{BASE}/versions/3"), 404)


def test_statistics_count_rows_and_requests_of_each_version(app: App, referring: ServedModel) -> None:
    app.slot.current = with_version(referring, "77")
    app.slot.canary = with_version(referring, "78")
    for count in (1, 20, 2000):
        app.infer([tensor("x", sample(count))], path=f"{BASE}/versions/77/infer")
    app.infer([tensor("x", sample(3))], path=f"{BASE}/versions/78/infer")
    error(app.post(json=body([1], [1, 3])))
    first, second = app.get("/v2/models/stats").json()["model_stats"]
    assert app.get(f"{BASE}/stats").json()["model_stats"] == [first, second]
    assert app.get(f"{BASE}/versions/77/stats").json()["model_stats"] == [first]
    assert (first["name"], first["version"], first["inference_count"], first["execution_count"]) == (
        MODEL, "77", 2021, 3,
    )  # fmt: skip
    assert (second["inference_count"], second["execution_count"]) == (3, 1)
    success = first["inference_stats"]["success"]
    assert success["count"] == 3
    assert 0 < success["ns"] < 60e9
    assert first["inference_stats"]["compute_infer"] == success
    assert first["inference_stats"]["queue"] == {"count": 0, "ns": 0}


def test_without_a_model_nothing_is_ready(app: App) -> None:
    app.slot.current = None
    for path, name in (("/v2/health/ready", {}), (f"{BASE}/ready", {"name": MODEL})):
        response = app.get(path)
        assert response.status_code == 503
        assert response.json() == name | {"ready": False, "error": "no model is loaded"}
    assert app.get("/v2/health/live").status_code == 200
    assert app.get("/v2/models/stats").json() == {"model_stats": []}
    for path in (BASE, f"{BASE}/config", f"{BASE}/stats", f"{BASE}/versions/1"):
        response = app.get(path)
        assert error(response, 503).startswith("No model is loaded yet.")
        assert response.headers["retry-after"] == "5"
    for path in (INFER, f"{BASE}/versions/1/infer"):
        assert error(app.post(path, json=body([1, 2, 3], [1, 3])), 503).startswith("No model is loaded yet.")
    reason = app.services.keeper.last_refresh.reason  # which is that of this app, and anybody may read
    unavailable = [{"name": MODEL, "version": "", "state": "UNAVAILABLE", "reason": reason}]
    assert app.post("/v2/repository/index").json() == unavailable
    assert app.post("/v2/repository/index", json={"ready": False}).json() == unavailable
    assert app.post("/v2/repository/index", json={"ready": True}).json() == []
    error(app.get("/v2/models/another/ready"), 404)


def test_a_model_that_fails_is_not_ready(app: App, referring: ServedModel) -> None:
    failing: Any = EngineDouble(referring.engine, lambda rows: np.full(len(rows), np.nan))
    app.slot.canary = msgspec.structs.replace(with_version(referring, "2"), engine=failing)
    assert app.get(f"{BASE}/versions/1/ready").json()["ready"]
    response = app.get(f"{BASE}/versions/2/ready")
    assert response.status_code == 503
    assert response.json() == {"name": MODEL, "ready": False, "error": "the model's prediction is not finite"}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (b"{", "The body is not valid JSON."),
        (b"[" * 100_000, "The body is not valid"),
        (b'{"ready": 1}', 'may hold "ready" as true or false, and nothing else'),
        (b'{"name": "a"}', 'may hold "ready" as true or false, and nothing else'),
        (b'{"ready": true, "ready": false}', "ready: appears more than once"),
    ],
)
def test_an_order_for_the_index_that_is_not_valid_is_refused(app: App, order: bytes, expected: str) -> None:
    assert expected in error(app.post("/v2/repository/index", content=order))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v2/systemsharedmemory/status", "Shared memory is not supported"),
        ("POST", "/v2/systemsharedmemory/region/a/register", "Shared memory is not supported"),
        ("POST", "/v2/cudasharedmemory/unregister", "Shared memory is not supported"),
        ("GET", "/v2/trace/setting", "Traces are not supported"),
        ("POST", f"{BASE}/trace/setting", "Traces are not supported"),
        ("GET", "/v2/logging", "by LOG_LEVEL at the start"),
        ("POST", "/v2/logging", "by LOG_LEVEL at the start"),
    ],
)
def test_what_is_not_supported_says_so(app: App, method: str, path: str, expected: str) -> None:
    assert expected in error(app.run(app.client.request(method, path)), 501)


def test_a_path_that_does_not_exist_has_the_protocols_error(app: App) -> None:
    assert error(app.get("/v2/nothing"), 404) == "This route does not exist."


def test_answers_match_the_document(app: App, tmp_path: Path, referring: ServedModel) -> None:
    _, labelled = classifier(["no", "yes"], tmp_path / "model")
    for served in (referring, labelled, None):
        app.slot.current = served
        document = app.get("/openapi.json").json()
        rows = body([1, 2, 3], [1, 3])
        answers = [
            app.get(path.format(model=MODEL, version="1")) for path in document["paths"] if path.startswith("/v2")
        ]
        answers += [
            app.post(INFER, json=rows),
            app.post(INFER, json=rows | {"outputs": [{"name": "raw_score"}, {"name": "prediction"}]}),
            app.post(INFER, json=rows | {"outputs": [{"name": "label"}]}),
            app.post(f"{BASE}/versions/1/infer", json=rows),
            app.post(INFER, json={}),
            app.post("/v2/repository/index"),
            app.get("/v2/models/another"),
        ]
        checked = 0
        for answer in answers:
            path = answer.request.url.path.replace(MODEL, "{model}").replace("another", "{model}")
            path = path.replace("versions/1", "versions/{version}")
            operation = document["paths"][path].get(answer.request.method.lower())
            if operation is None:
                assert answer.status_code == 405
                continue
            content = operation["responses"][str(answer.status_code)]["content"]["application/json"]
            schema = content["schema"] | {"components": document["components"]}
            errors = Draft202012Validator(schema).iter_errors(answer.json())
            assert [(answer.url, error.message) for error in errors] == []
            checked += 1
        assert checked == len(answers) - 5


def test_the_documents_example_is_answered(app: App, tmp_path: Path, referring: ServedModel) -> None:
    churn = serve(save_churn(tmp_path / "churn", churn_booster()))
    example = msgspec.structs.replace(churn.artifact, example={"tenure": 3, "monthly charge": 70.5, "contract": True})
    for served in (referring, msgspec.structs.replace(churn, artifact=example)):
        app.slot.current = served
        document = app.get("/openapi.json").json()
        given = document["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"]
        schema = given["schema"] | {"components": document["components"]}
        assert list(Draft202012Validator(schema).iter_errors(given["example"])) == []
        assert app.post(json=given["example"]).status_code == 200
