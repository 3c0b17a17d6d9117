"""Canary and shadow over HTTP: every answer is of the model that it names, and the shadow leaves them alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from app.config.settings import Settings
from app.models.served import ServedModel
from app.serving.share import Share
from tests.models.support import NAMES, PARAMETERS, save_booster, serve, tiny_booster, tiny_rows
from tests.routes.support import ARROW, Array, Client, client_of, services_of, settings_with, stream_of
from tests.support import problem, sample_value

PATHS = ("/predict", "/predict/batch", "/predict/bulk", "/invocations")
ROWS = tiny_rows()[:4]


class Answer(NamedTuple):
    """What a prediction route says: predictions, the version that made them, and the request's id."""

    predictions: list[float]
    version: str
    request_id: str


def versioned(model: ServedModel, version: str) -> ServedModel:
    return msgspec.structs.replace(model, identity=msgspec.structs.replace(model.identity, version=version))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    """Versions 1 to 3 of a model of the same features, each of which says something else of every row."""
    directory: Path = tmp_path_factory.mktemp("models")
    first = tiny_rows()[:, 0]
    targets = {"1": first + 10, "2": 20 - first, "3": 30 + 2 * first}
    return {
        version: versioned(serve(save_booster(tiny_booster(target), directory / version)), version)
        for version, target in targets.items()
    }


@pytest.fixture
async def start(settings: Settings) -> AsyncIterator[Callable[..., Any]]:
    """Starts apps with settings of their own and the models that they are given."""
    entered: list[Any] = []

    async def start(current: ServedModel, *, canary: Any = None, shadow: Any = None, **changes: Any) -> Client:
        context = client_of(settings_with(settings, **changes))
        client = await context.__aenter__()
        entered.append(context)
        slot = services_of(client).slot
        slot.current, slot.canary, slot.shadow = current, canary, shadow
        return client

    yield start
    for context in reversed(entered):
        await context.__aexit__(None, None, None)


async def ask(client: Client, path: str, rows: Array, **headers: str) -> Answer:
    """Send rows (the first alone, to /predict) and read the answer."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    objects = [dict(zip(NAMES, row, strict=True)) for row in rows.tolist()]
    if path == "/predict/bulk":
        response = await client.post(path, content=stream_of(rows, NAMES), headers=ARROW | sent)
        assert response.status_code == 200
        table = pa.ipc.open_stream(response.content).read_all()
        version = response.headers["x-model-version"]
        assert table.schema.metadata == {b"model_version": version.encode()}
        return Answer(table["prediction"].to_pylist(), version, response.headers["x-request-id"])
    if path == "/invocations":
        response = await client.post(path, json={"dataframe_records": objects}, headers=sent)
        assert response.status_code == 200
        version = response.headers["x-model-version"]
        return Answer(response.json()["predictions"], version, response.headers["x-request-id"])
    body: Any = objects[0] if path == "/predict" else {"predictions": objects}
    response = await client.post(path, json=body, headers=sent)
    assert response.status_code == 200
    answer = response.json()
    items = [answer] if path == "/predict" else answer["predictions"]
    return Answer([item["prediction"] for item in items], answer["model_version"], response.headers["x-request-id"])


def expected(model: ServedModel, path: str) -> list[float]:
    """What a model says of `ROWS`, as far as a route takes them."""
    return model.engine.predict(ROWS[:1] if path == "/predict" else ROWS).tolist()


async def scored(client: Client) -> None:
    """Wait until the shadow has seen all that was answered."""
    shadow = services_of(client).shadow

    async def score() -> None:
        while shadow.queued:
            await shadow.score()

    # The client runs the app in a thread with a loop of its own, to which the queue belongs.
    await asyncio.to_thread(client.blocking_portal.call, score)


def arranged(rows: Array, garages: Array) -> Array:
    """Rows in another column order, with a column more."""
    return np.column_stack([rows[:, 2], rows[:, 0], rows[:, 1], garages])


def sample(client: Client, name: str, **labels: str) -> float | None:
    return sample_value(services_of(client).metrics.registry, name, labels)


async def test_every_answer_comes_from_the_model_it_names(
    start: Callable[..., Any], models: dict[str, ServedModel]
) -> None:
    client = await start(models["1"], canary=models["2"], model_canary_percent=40)
    for path in PATHS:
        wanted = {version: expected(models[version], path) for version in ("1", "2")}
        versions: list[str] = []
        for number in range(20):
            answer = await ask(client, path, ROWS, X_Request_ID=str(number))
            assert answer.predictions == wanted[answer.version], path
            inside = str(number).encode() in Share(40, b"canary")
            assert answer.version == ("2" if inside else "1"), path
            versions.append(answer.version)
        assert set(versions) == {"1", "2"}


async def test_the_canary_answers_its_share_of_requests(
    start: Callable[..., Any], models: dict[str, ServedModel]
) -> None:
    client = await start(models["1"], canary=models["2"], model_canary_percent=10)
    wanted = {version: expected(models[version], "/predict") for version in ("1", "2")}
    count = 0
    for number in range(500):
        answer = await ask(client, "/predict", ROWS, X_Request_ID=f"order-{number}")
        assert answer.predictions == wanted[answer.version]
        count += answer.version == "2"
    assert count == pytest.approx(50, abs=20)
    labels = {"prediction_type": "single"}
    assert sample(client, "predictions_total", model_version="2", **labels) == count
    assert sample(client, "predictions_total", model_version="1", **labels) == 500 - count


async def test_the_request_id_of_the_answer_decides_who_answers(
    start: Callable[..., Any], models: dict[str, ServedModel]
) -> None:
    client = await start(models["1"], canary=models["2"], model_canary_percent=50)
    for sent in 20 * ({}, {"X_Request_ID": "not a valid id"}):
        answer = await ask(client, "/predict", ROWS, **sent)
        assert answer.version == ("2" if answer.request_id.encode() in Share(50, b"canary") else "1")


async def test_the_same_header_value_always_gets_the_same_model(
    start: Callable[..., Any], models: dict[str, ServedModel]
) -> None:
    client = await start(models["1"], canary=models["2"], model_canary_percent=50, model_canary_header="X-Customer")
    seen = {
        customer: {(await ask(client, path, ROWS, X_Customer=customer)).version for path in PATHS for _ in range(2)}
        for customer in map(str, range(12))
    }
    assert all(len(versions) == 1 for versions in seen.values())
    assert {version for versions in seen.values() for version in versions} == {"1", "2"}


async def test_a_canary_with_another_column_order_answers_the_same_body(
    start: Callable[..., Any], models: dict[str, ServedModel], tmp_path: Path
) -> None:
    garages = np.where(tiny_rows()[:, 2] > 2, np.nan, 1.0)
    order = ["age", "income", "rooms", "garage"]
    data = lgb.Dataset(arranged(tiny_rows(), garages), tiny_rows()[:, 1], feature_name=order, params=PARAMETERS)
    columns = [ColSpec(DataType.double, name, required=name != "garage") for name in order]
    signature = ModelSignature(inputs=Schema(columns))
    saved = save_booster(lgb.train(PARAMETERS, data, 3), tmp_path / "saved", signature=signature, input_example=None)
    canary = versioned(serve(saved), "2")
    client = await start(models["1"], canary=canary, model_canary_percent=100)
    for path in PATHS:
        answer = await ask(client, path, ROWS)
        wanted = canary.engine.predict(arranged(ROWS, np.full(len(ROWS), np.nan)))[: len(answer.predictions)]
        assert (answer.version, answer.predictions) == ("2", wanted.tolist()), path


@pytest.mark.parametrize("path", PATHS)
async def test_the_shadow_changes_no_answer_and_records_differences(
    start: Callable[..., Any], models: dict[str, ServedModel], path: str
) -> None:
    client = await start(
        models["1"], canary=models["2"], shadow=models["3"], model_canary_percent=50, model_shadow_percent=100
    )
    rows = dict.fromkeys(("1", "2"), 0)
    for number in range(10):
        answer = await ask(client, path, ROWS, X_Request_ID=str(number))
        assert answer.version in rows
        assert answer.predictions == expected(models[answer.version], path)
        rows[answer.version] += len(answer.predictions)
    await scored(client)
    assert all(rows.values())
    assert sample(client, "model_shadow_rows_total", outcome="scored") == sum(rows.values())
    for version, count in rows.items():
        labels = {"model_version": version, "shadow_version": "3"}
        assert sample(client, "model_shadow_difference_count", **labels) == count
        apart = np.subtract(expected(models["3"], path), expected(models[version], path))
        below = sum(apart <= 10.0)
        share = count // len(apart)
        assert sample(client, "model_shadow_difference_bucket", le="10.0", **labels) == below * share
    page = (await client.get("/metrics")).text
    assert 'model_shadow_rows_total{model_name="houses",outcome="scored"}' in page


async def test_a_failing_shadow_fails_no_request(start: Callable[..., Any], models: dict[str, ServedModel]) -> None:
    # Its features are others than its engine takes, so it raises whatever it is asked.
    artifact = msgspec.structs.replace(models["3"].artifact, features=models["3"].artifact.features[:2])
    broken = msgspec.structs.replace(models["3"], artifact=artifact)
    client = await start(models["1"], shadow=broken, model_shadow_percent=100)
    for path in PATHS:
        assert (await ask(client, path, ROWS)).predictions == expected(models["1"], path)
    await scored(client)
    assert sample(client, "model_shadow_rows_total", outcome="failed") == 13
    assert (await ask(client, "/predict", ROWS)).version == "1"


async def test_the_shadow_gets_only_answered_rows(start: Callable[..., Any], models: dict[str, ServedModel]) -> None:
    client = await start(models["1"], shadow=models["3"], model_shadow_percent=100)
    assert (await client.post("/predict", json={"income": "much"})).status_code == 422
    valid = dict(zip(NAMES, ROWS[0].tolist(), strict=True))
    response = await client.post("/predict/batch", json={"predictions": [valid, {}, valid]})
    assert response.json()["successful_predictions"] == 2
    assert services_of(client).shadow.queued == 2


async def test_model_info_describes_the_model_in_use_not_the_canary(
    start: Callable[..., Any], models: dict[str, ServedModel]
) -> None:
    client = await start(models["1"], canary=models["2"], model_canary_percent=100)
    assert (await ask(client, "/predict", ROWS)).version == "2"
    assert (await client.get("/predict/model/info")).json()["version"] == "1"


async def test_a_canary_alone_answers_nothing(start: Callable[..., Any], models: dict[str, ServedModel]) -> None:
    client = await start(models["1"], canary=models["2"], model_canary_percent=100)
    services_of(client).slot.current = None
    for path in ("/predict", "/predict/batch", "/predict/bulk"):
        content = stream_of(ROWS, NAMES) if path == "/predict/bulk" else b"{}"
        headers = ARROW if path == "/predict/bulk" else {"Content-Type": "application/json"}
        response = await client.post(path, content=content, headers=headers)
        assert (response.status_code, problem(response)["type"]) == (503, "urn:madrone:problem:model-unavailable")


@pytest.mark.parametrize("alias", [None, "challenger"])
async def test_the_shadow_task_runs_only_with_a_shadow_alias(
    start: Callable[..., Any], models: dict[str, ServedModel], alias: str | None
) -> None:
    client = await start(models["1"], model_shadow_alias=alias)
    assert ("shadow" in services_of(client).tasks.status) == (alias is not None)
