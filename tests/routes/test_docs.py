"""The OpenAPI document and its pages: of the served model, whole, and without anything from outside."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.codecs.json.row import JsonCodec
from app.config.settings import Settings
from app.feature import Category, Feature
from app.models.served import ServedModel
from tests.kernels.forest.boosters import Split, model_text, tree_text
from tests.models.support import ready, save_text, serve
from tests.routes.support import Client, client_of, served_by, services_of
from tests.support import Server, problem


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


PAGES = ("/docs", "/redoc")
MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
INFER = {f"{MODEL}/infer", f"{VERSION}/infer"}
NAMED = {*(f"/predict/{{model}}{end}" for end in ("", "/batch", "/bulk", "/explain", "/curve")), "/invocations/{model}"}
REPOSITORY = {f"/v2/repository/models/{{model}}/{order}" for order in ("load", "unload")}
OPEN_INFERENCE = {
    ("get", "/v2"), ("get", "/v2/health/live"), ("get", "/v2/health/ready"), ("get", "/v2/models/stats"),
    *[("get", path + part) for path in (MODEL, VERSION) for part in ("", "/ready", "/config", "/stats")],
    *[("post", path) for path in INFER], ("post", "/v2/repository/index"),
    *[("post", path) for path in REPOSITORY],
}  # fmt: skip


@pytest.fixture
def debug(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, api_debug=True)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


def faults(document: Any, usual: Any) -> list[Any]:
    """What is invalid in a document, where it differs from the usual one, which is known to be valid.

    The validator takes a second for a whole document.
    """
    known = usual["components"]["schemas"]
    schemas = {
        name: {} if schema == known.get(name) else schema for name, schema in document["components"]["schemas"].items()
    }
    paths = {path: item for path, item in document["paths"].items() if item != usual["paths"].get(path)}
    changed = document | {"paths": paths, "components": document["components"] | {"schemas": schemas}}
    return list(OpenAPIV31SpecValidator(changed).iter_errors())


class Page(HTMLParser):
    """What a page loads, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        self.loads += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)


async def test_the_document_describes_every_public_route(client: Client) -> None:
    response = await client.get("/openapi.json")
    assert response.status_code == 200
    document = response.json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Madrone"
    operations = {(method, path) for path, item in document["paths"].items() for method in item}
    assert operations == {
        ("post", "/predict"), ("post", "/predict/batch"), ("post", "/predict/bulk"), ("get", "/predict/model/info"),
        ("post", "/predict/explain"), ("post", "/predict/curve"),
        *[("post", path) for path in NAMED], ("get", "/predict/{model}/model/info"),
        ("get", "/health"), ("get", "/health/detailed"), ("get", "/health/model"), ("get", "/health/system"),
        ("get", "/health/gpu"), ("get", "/health/live"), ("get", "/health/ready"), ("post", "/health/model/reload"),
        ("get", "/health/model/{model}"), ("post", "/health/model/{model}/reload"), ("get", "/drift/{model}"),
        ("get", "/info"), ("get", "/drift"), ("get", "/metrics"), ("post", "/invocations"), ("get", "/ping"),
        ("get", "/version"),
        ("get", "/v1/models"), ("get", "/v1/models/{model_name}"), ("post", "/v1/models/{model_name}:predict"),
        ("post", "/outcomes"), ("get", "/outcomes"), ("get", "/predictions"), *OPEN_INFERENCE,
    }  # fmt: skip


async def test_every_reference_of_the_document_resolves(client: Client) -> None:
    document = (await client.get("/openapi.json")).json()
    found = set(references(document))
    assert "#/components/schemas/Features" in found
    for reference in found:
        assert isinstance(resolve(document, reference), dict)


async def test_operations_have_distinct_ids_and_documented_answers(client: Client) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all("200" in operation["responses"] and operation["summary"] for operation in operations)
    own = {"/predict/bulk": {"406", "501"}, "/predict/curve": set()}
    for path in ("/predict", "/predict/explain", "/predict/batch", "/predict/bulk", "/predict/curve"):
        operation = document["paths"][path]["post"]
        assert operation["responses"].keys() == {
            "200", "400", "401", "408", "413", "415", "422", "429", "500", "503", "504",
        } | own.get(path, {"501"})  # fmt: skip
        assert "security" not in operation
        assert operation["requestBody"]["required"]
    reload = document["paths"]["/health/model/reload"]["post"]
    assert reload["responses"].keys() == {"200", "202", "400", "401", "403", "404", "413", "422", "500"}
    assert reload["security"] == [{"api_key": []}]
    assert "required" not in reload["requestBody"]
    assert "api_key" in document["components"]["securitySchemes"]


async def test_the_document_requires_a_key_if_one_is_set(client: Client, settings: Settings) -> None:
    usual = (await client.get("/openapi.json")).json()
    async with client_of(msgspec.structs.replace(settings, api_key="sesame")) as keyed:
        document = (await keyed.get("/openapi.json")).json()
        asking = {
            path for path, item in document["paths"].items() for operation in item.values() if "security" in operation
        }
        assert asking == {
            "/predict", "/predict/batch", "/predict/bulk", "/predict/explain", "/predict/curve",
            "/health/model/reload", "/health/model/{model}/reload", *NAMED, *REPOSITORY,
            "/invocations", "/outcomes", "/predictions",
            "/v1/models/{model_name}:predict", *INFER,
        }  # fmt: skip
        assert faults(document, usual) == []


async def test_the_document_is_valid_openapi_3_1_with_and_without_a_model(
    client: Client, referring: ServedModel
) -> None:
    usual = (await client.get("/openapi.json")).json()
    assert list(OpenAPIV31SpecValidator(usual).iter_errors()) == []
    checked: list[Any] = []
    for model in (served_by(client), referring, None):
        services_of(client).slot.current = model
        document = (await client.get("/openapi.json")).json()
        assert faults(document, usual) == []
        for name, schema in document["components"]["schemas"].items():
            if schema in checked:
                continue
            checked.append(schema)
            assert list(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)) == [], name


async def test_answers_match_the_document(client: Client, example: dict[str, float]) -> None:
    document = (await client.get("/openapi.json")).json()
    bad = example | {"MedInc": "much"}
    bulk = ("/predict/bulk", {"rows": [example]})
    answers = [await client.get(path) for path, item in document["paths"].items() if "get" in item]
    answers += [await client.post(path, json=body) for path, body in (
        ("/predict", example), ("/predict", bad), ("/predict/batch", {"predictions": [example, bad]}), bulk,
        ("/health/model/reload", None), ("/invocations", {"dataframe_records": [example]}), ("/invocations", bad),
    )]  # fmt: skip
    checked = 0
    for answer in answers:
        operation = document["paths"][answer.request.url.path][answer.request.method.lower()]
        content = operation["responses"][str(answer.status_code)]["content"]
        media_type = answer.headers["content-type"]
        assert media_type.removesuffix("; charset=utf-8") in content
        if media_type.endswith("json") and "schema" in content[media_type]:
            schema = content[media_type]["schema"] | {"components": document["components"]}
            errors = Draft202012Validator(schema).iter_errors(answer.json())
            assert [(list(error.absolute_path), error.message) for error in errors] == []
            checked += 1
    assert checked == len(answers) - 3  # metrics, and MLflow's /ping and /version
    load = document["components"]["schemas"]["SystemReading"]["properties"]["load_average"]
    assert load == {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}


@pytest.mark.parametrize("labels", [("no", "yes"), (0, 1), (False, True), None], ids=repr)
async def test_answers_with_each_output_match_the_document(
    client: Client, labels: tuple[Category, ...] | None, tmp_path: Path
) -> None:
    tree = tree_text([Split(0, 0.0, 0)], [0], [0.5, -0.5])
    artifact = serve(save_text(model_text([tree], 1, objective="binary sigmoid:1"), tmp_path / "model")).artifact
    artifact = msgspec.structs.replace(artifact, labels=labels)
    usual = (await client.get("/openapi.json")).json()
    services_of(client).slot.current = ready(artifact, served_by(client).identity, {}, "a test")
    document = (await client.get("/openapi.json")).json()
    assert faults(document, usual) == []
    row = {"Column_0": 1.0}
    bodies = {"/predict": row, "/predict/batch": {"predictions": [row]}, "/predict/bulk": {"rows": [row]}}
    for path, body in bodies.items():
        operation = document["paths"][path]["post"]
        parameter, *others = operation["parameters"]
        top = [] if path == "/predict/bulk" else ["top"]
        assert [other["name"] for other in others] == ["explain", *top, "space", "leaves"]
        flag, count = {"enum": ["false", "true"]}, {"type": "integer", "minimum": 1, "maximum": 1}
        assert others[0]["schema"] == ({"anyOf": [flag, count]} if top else flag)
        assert (parameter["name"], parameter["in"], parameter["required"]) == ("output", "query", False)
        choices = ["auto", "labels", "probabilities", "raw"] if labels else ["auto", "probabilities", "raw"]
        assert parameter["schema"].pop("enum") == choices
        for query in (*(f"output={output}" for output in choices), "explain=true&leaves=true", "space=model"):
            answer = (await client.post(f"{path}?{query}", json=body)).json()
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            validator = Draft202012Validator(schema | {"components": document["components"]})
            assert [error.message for error in validator.iter_errors(answer)] == []
    answers = document["components"]["schemas"]
    for name in ("PredictionResponse", "PredictedItem"):
        assert answers[name]["properties"].get("label") == (labels and {"enum": list(labels)})
        optional = {"label", "probabilities", "raw_score", "explanation", "leaves"}
        assert optional.isdisjoint(answers[name]["required"])
    info = (await client.get("/predict/model/info")).json()
    validator = Draft202012Validator(answers["ModelInfo"] | {"components": document["components"]})
    assert [error.message for error in validator.iter_errors(info)] == []


async def test_more_labels_than_can_be_listed_are_described(client: Client, tmp_path: Path) -> None:
    classes = 1001
    text = model_text([tree_text([], [], [0.0])] * classes, 1, classes, f"multiclass num_class:{classes}")
    artifact = serve(save_text(text, tmp_path / "model")).artifact
    artifact = msgspec.structs.replace(artifact, labels=tuple(range(classes)))
    services_of(client).slot.current = ready(artifact, served_by(client).identity, {}, "a test")
    document = (await client.get("/openapi.json")).json()
    label = document["components"]["schemas"]["PredictionResponse"]["properties"]["label"]
    assert "enum" not in label
    answer = (await client.post("/predict", json={"Column_0": 1.0})).json()
    assert list(Draft202012Validator(label).iter_errors(answer["label"])) == []


async def test_the_document_lists_the_interval_levels(client: Client, referring: ServedModel) -> None:
    for model in (referring, None, served_by(client)):
        services_of(client).slot.current = model
        document = (await client.get("/openapi.json")).json()
        for path in ("/predict", "/predict/batch", "/predict/bulk", "/predict/explain"):
            operation = document["paths"][path]["post"]
            if model is not None and model.artifact.intervals is None:
                assert operation["parameters"][0]["name"] == "output"
                continue
            parameter = operation["parameters"][0]
            assert (parameter["name"], parameter["in"], parameter["required"]) == ("interval", "query", False)
            assert parameter["schema"].pop("enum", None) == (model and list(model.artifact.intervals.levels))
            assert parameter["schema"].keys() == {"type", "description"}
            assert parameter["schema"]["type"] == "number"
            assert "interval_levels" in parameter["description"]


async def test_the_schema_has_the_features_of_the_model(client: Client, example: dict[str, float]) -> None:
    document = (await client.get("/openapi.json")).json()
    served = served_by(client)
    expected = json.loads(json.dumps(served.codec.json_schema()))
    assert document["components"]["schemas"]["Features"] == expected
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert body == {"schema": {"$ref": "#/components/schemas/Features"}, "example": example}
    assert (await client.post("/predict", json=body["example"])).status_code == 200
    batch = document["paths"]["/predict/batch"]["post"]["requestBody"]["content"]["application/json"]
    assert (await client.post("/predict/batch", json=batch["example"])).json()["failed_predictions"] == 0


async def test_another_model_has_another_schema(churn_settings: Settings) -> None:
    async with client_of(churn_settings) as client:
        features = (await client.get("/openapi.json")).json()["components"]["schemas"]["Features"]
        assert list(features["properties"]) == ["tenure", "monthly charge", "contract"]
        assert features["required"] == ["tenure", "contract"]
        assert features["properties"]["monthly charge"]["type"] == ["number", "boolean", "null"]


async def test_the_schema_follows_a_swap(client: Client) -> None:
    served = served_by(client)
    codec = JsonCodec((Feature(name="only one"),))
    services_of(client).slot.current = msgspec.structs.replace(served, codec=codec)
    features = (await client.get("/openapi.json")).json()["components"]["schemas"]["Features"]
    assert list(features["properties"]) == ["only one"]


async def test_the_document_exists_without_a_model(settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(settings, model_name="unknown")) as client:
        document = (await client.get("/openapi.json")).json()
        assert document["components"]["schemas"]["Features"] == {"type": "object"}
        assert all(isinstance(resolve(document, reference), dict) for reference in references(document))


@pytest.mark.parametrize("path", [*PAGES, "/docs/assets/swagger/swagger-ui.css", "/schema", "/schema/swagger"])
async def test_pages_exist_only_in_debug_mode(client: Client, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    problem(response)


async def test_an_unknown_path_is_a_problem_in_debug_mode(debug: Settings) -> None:
    async with client_of(debug) as client:
        for path in ("/nothing", "/docs/nothing", "/docs/assets/nothing.js", "/docs/assets/../../../../etc/passwd"):
            response = await client.get(path)
            assert response.status_code == 404
            problem(response)


async def test_pages_load_only_served_assets(debug: Settings) -> None:
    async with client_of(debug) as client:
        for path in PAGES:
            response = await client.get(path)
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/html")
            assets = [address for address in Page(response.text).loads if not address.startswith("data:")]
            assert assets, path
            for address in assets:
                assert address.startswith("/docs/assets/")
                asset = await client.get(address)
                assert asset.status_code == 200
                assert len(asset.content) > 1000
                expected = "text/css" if address.endswith(".css") else "text/javascript"
                assert asset.headers["content-type"].partition(";")[0] in (expected, "application/javascript")
                if address.endswith(".css"):
                    assert re.findall(r"(?:url\(|@import)\s*[\"']?https?://", asset.text) == []
            assert re.findall(r"(?:src|href|url)\s*[=(:]\s*[\"']?https?://", response.text) == []


async def test_a_description_cannot_end_the_script_around_it(debug: Settings) -> None:
    attack = "</script><script>alert('here')</script><!--"
    async with client_of(debug) as client:
        codec = JsonCodec((Feature(name="x", description=attack),))
        services_of(client).slot.current = msgspec.structs.replace(served_by(client), codec=codec)
        for path in PAGES:
            text = (await client.get(path)).text
            assert attack not in text
            assert not any(script.lstrip().startswith("alert(") for script in Page(text).scripts)
        document = (await client.get("/openapi.json")).json()
        assert document["components"]["schemas"]["Features"]["properties"]["x"]["description"] == attack


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")
@pytest.mark.slow
def test_a_browser_renders_both_pages(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(API_DEBUG="true").wait_ready()
    for path in PAGES:
        shown = subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *(f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=8000", "--dump-dom"),
                server.url + path,
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        # The document itself is in a script: only what is rendered counts.
        rendered = re.sub(r"<script\b.*?</script>", "", shown, flags=re.DOTALL)
        assert "/predict/batch" in re.sub(r"<[^>]+>|\u200b", "", rendered)
