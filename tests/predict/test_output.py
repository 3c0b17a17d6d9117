"""Labels, probabilities and raw scores beside the predictions, compared with LightGBM's own classifier."""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.config.settings import Settings
from app.models.identity import ModelIdentity
from app.models.served import ServedModel
from tests.kernels.forest.boosters import Split, model_text, tree_text
from tests.models.support import ready, save_text, serve
from tests.routes.support import (
    ARROW,
    JSON,
    Array,
    Client,
    client_of,
    fields,
    put,
    services_of,
    settings_with,
    stream_of,
)
from tests.support import problem


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


NAMES = ("Column_0", "Column_1", "Column_2")
OPTIONS: dict[str, Any] = {"n_estimators": 4, "num_leaves": 4, "min_child_samples": 5, "n_jobs": 1, "verbosity": -1}
ROUTES = ("/predict", "/predict/batch", "/predict/bulk")

ODD = ('a, "quoted"', "two\nlines", " ü ")
"""Labels that CSV must quote, in the order of LightGBM's classes."""

LABELS: dict[str, Any] = {
    "two texts": np.array(["no", "yes"]),
    "two whole numbers": np.array([-1, 2**40]),
    "two booleans": np.array([False, True]),
    "two numbers": np.array([0.0, 2.0]),
    "three texts": np.array(sorted(ODD)),
    "three whole numbers": np.array([3, 5, 7]),
}
"""Labels of each classifier, from which its targets are drawn."""


class Classifier(NamedTuple):
    """A classifier of LightGBM, and the same model in service."""

    lightgbm: lgb.LGBMClassifier
    served: ServedModel

    @property
    def labels(self) -> list[Any]:
        return self.lightgbm.classes_.tolist()


def sample(count: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).normal(size=(count, len(NAMES)))


def labelled(text: str, labels: Any, directory: Path) -> ServedModel:
    """A model of this text and these labels, in service."""
    artifact = msgspec.structs.replace(serve(save_text(text, directory)).artifact, labels=labels)
    return ready(artifact, ModelIdentity(name="houses", version="1"), {}, "a test")


def classifier(labels: Any, directory: Path, **options: Any) -> Classifier:
    rows = sample(200, 1)
    target = labels[np.digitize(rows[:, 0] + rows[:, 1] / 2, np.linspace(-0.5, 0.5, len(labels) + 1)[1:-1])]
    own = lgb.LGBMClassifier(**OPTIONS, **options).fit(rows, target)
    return Classifier(own, labelled(own.booster_.model_to_string(), tuple(own.classes_.tolist()), directory))


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    directory = tmp_path_factory.mktemp("classifiers")
    made = {kind: classifier(labels, directory / kind) for kind, labels in LABELS.items()}
    ova = classifier(LABELS["three texts"], directory / "ova", objective="multiclassova")
    return made | {"one against all": ova}


def objects(rows: Array) -> list[dict[str, float]]:
    return [dict(zip(NAMES, row, strict=True)) for row in rows.tolist()]


async def bulk(client: Client, rows: Array, accept: str, query: str) -> Any:
    headers = ARROW | {"Accept": accept}
    return await client.post(f"/predict/bulk{query}", content=stream_of(rows, NAMES), headers=headers)


async def table(client: Client, rows: Array, query: str) -> pa.Table:
    response = await bulk(client, rows, ARROW["Content-Type"], query)
    assert response.status_code == 200, response.text
    return pa.ipc.open_stream(response.content).read_all()


async def test_answers_have_the_labels_and_probabilities_of_lightgbm(
    client: Client, classifiers: dict[str, Classifier]
) -> None:
    rows = sample(60)
    for one in classifiers.values():
        put(client, one.served)
        expected, shares = one.lightgbm.predict(rows).tolist(), one.lightgbm.predict_proba(rows).tolist()
        predictions = one.lightgbm.booster_.predict(rows).tolist()
        assert len({*expected}) > 1
        batch = (await client.post("/predict/batch", json={"predictions": objects(rows)})).json()["predictions"]
        for place, (item, row) in enumerate(zip(batch, objects(rows), strict=True)):
            alone = (await client.post("/predict", json=row)).json() if place < 20 else item
            for answer in (item, alone):
                assert answer["label"] == expected[place]
                assert type(answer["label"]) is type(expected[place])
                assert answer["probabilities"] == shares[place]
                assert answer["prediction"] == predictions[place]
                assert "raw_score" not in answer


async def test_each_output_is_what_lightgbm_gives_and_no_more(
    client: Client, classifiers: dict[str, Classifier]
) -> None:
    rows = sample(5)
    for one in classifiers.values():
        put(client, one.served)
        given = {
            "labels": ("label", one.lightgbm.predict(rows).tolist()),
            "probabilities": ("probabilities", one.lightgbm.predict_proba(rows).tolist()),
            "raw": ("raw_score", one.lightgbm.predict(rows, raw_score=True).tolist()),
        }
        for output, (name, values) in given.items():
            url = f"/predict/batch?output={output}"
            batch = (await client.post(url, json={"predictions": objects(rows)})).json()["predictions"]
            alone = [(await client.post(f"/predict?output={output}", json=row)).json() for row in objects(rows)]
            for answers in (batch, alone):
                assert [answer[name] for answer in answers] == values
                assert all(answer.keys() & {"label", "probabilities", "raw_score"} == {name} for answer in answers)


async def test_tables_have_the_columns_that_are_asked_for(client: Client, classifiers: dict[str, Classifier]) -> None:
    rows = sample(70_000)
    for one in (classifiers["two texts"], classifiers["three whole numbers"]):
        put(client, one.served)
        expected = one.lightgbm.booster_.predict(rows)
        plain = ["prediction"] if expected.ndim == 1 else ["prediction_0", "prediction_1", "prediction_2"]
        for query in ("", "?output=auto"):
            found = await table(client, rows[:10], query)
            assert found.column_names == plain
        found = await table(client, rows, "?output=labels")
        assert found.column_names == [*plain, "label"]
        assert found["label"].to_pylist() == one.lightgbm.predict(rows).tolist()
        found = await table(client, rows, "?output=probabilities")
        shares = one.lightgbm.predict_proba(rows)
        assert found.column_names == [*plain, *(f"probability_{k}" for k in range(shares.shape[1]))]
        np.testing.assert_array_equal(np.column_stack(found.columns[len(plain) :]), shares)
        found = await table(client, rows, "?output=raw")
        assert found.column_names == [*plain, *(name.replace("prediction", "raw_score") for name in plain)]
        raw = one.lightgbm.predict(rows, raw_score=True)
        np.testing.assert_array_equal(np.column_stack(found.columns[len(plain) :]), raw.reshape(len(rows), -1))
        np.testing.assert_array_equal(np.column_stack(found.columns[: len(plain)]), expected.reshape(len(rows), -1))


async def labels_in(client: Client, rows: Array, media_type: str) -> list[Any]:
    """The labels of a table in a format."""
    response = await bulk(client, rows, media_type, "?output=labels")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == media_type
    match media_type:
        case "application/json":
            return response.json()["columns"]["label"]
        case "application/x-ndjson":
            return [msgspec.json.decode(line)["label"] for line in response.content.splitlines()]
        case "text/csv":
            lines = list(csv.DictReader(io.StringIO(response.content.decode(), newline="")))
            return [line["label"] for line in lines]
        case "application/x-npy":
            return np.load(io.BytesIO(response.content))[:, -1].tolist()
        case "application/msgpack":
            answer = msgspec.msgpack.decode(response.content)
            matrix = np.frombuffer(answer["data"], answer["dtype"]).reshape(answer["shape"])
            predictions = client.app.services.slot.require().engine.predict(rows)
            np.testing.assert_array_equal(matrix, predictions)
            assert "label" not in answer["names"]
            return answer["label"]
        case "application/vnd.apache.parquet":
            return pq.read_table(io.BytesIO(response.content))["label"].to_pylist()
        case _:
            return pa.ipc.open_stream(response.content).read_all()["label"].to_pylist()


TYPED = (
    "application/json", "application/x-ndjson", "application/msgpack", "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.stream",
)  # fmt: skip


async def test_every_format_holds_the_labels_that_it_can(client: Client, classifiers: dict[str, Classifier]) -> None:
    rows = sample(200)
    for kind in LABELS:
        one = classifiers[kind]
        put(client, one.served)
        expected = one.lightgbm.predict(rows).tolist()
        for media_type in TYPED:
            found = await labels_in(client, rows, media_type)
            assert found == expected
            assert {*map(type, found)} == {*map(type, expected)}
        texts = [
            {"False": "false", "True": "true"}.get(str(label), str(label).removesuffix(".0")) for label in expected
        ]
        assert await labels_in(client, rows, "text/csv") == texts
        if "texts" not in kind:
            assert await labels_in(client, rows, "application/x-npy") == [float(label) for label in expected]


async def test_npy_refuses_labels_of_text_and_says_what_to_do(
    client: Client, classifiers: dict[str, Classifier]
) -> None:
    put(client, classifiers["two texts"].served)
    response = await bulk(client, sample(2), "application/x-npy", "?output=labels")
    assert response.status_code == 406
    assert problem(response)["detail"] == (
        "application/x-npy holds float64 only, and the model's labels are text or larger numbers. "
        "Accept must name another format, or the query parameter output another output."
    )
    for output, width in (("auto", None), ("probabilities", 3), ("raw", 2)):
        response = await bulk(client, sample(2), "application/x-npy", f"?output={output}")
        assert np.load(io.BytesIO(response.content)).shape == ((2,) if width is None else (2, width))


async def test_an_output_that_the_model_cannot_give_is_named(
    client: Client, classifiers: dict[str, Classifier], referring: ServedModel, tmp_path: Path
) -> None:
    bare = labelled(classifiers["two texts"].lightgbm.booster_.model_to_string(), None, tmp_path / "bare")
    row = dict.fromkeys(referring.feature_names, 0.5)
    no_labels, no_shares = "the model has no class labels, and", "the model predicts no probabilities of classes, and"
    for model, given, values in (
        (referring, row, "auto, raw"), (bare, objects(sample(1))[0], "auto, probabilities, raw"),
    ):  # fmt: skip
        put(client, model)
        content = {
            "/predict": (msgspec.json.encode(given), JSON),
            "/predict/batch": (msgspec.json.encode({"predictions": [given]}), JSON),
            "/predict/bulk": (msgspec.json.encode({"rows": [given]}), JSON),
        }
        faults = {
            "labels": f"cannot be labels: {no_labels} can give {values}",
            "probabilities": f"cannot be probabilities: {no_shares} can give {values}",
            "label": f"must be one of {values}",
            "": f"must be one of {values}",
            "raw&output=raw": f"must be given once; the model can give {values}",
        }
        if model is bare:
            del faults["probabilities"]
        for path, (body, headers) in content.items():
            for output, message in faults.items():
                response = await client.post(f"{path}?output={output}", content=body, headers=headers)
                assert response.status_code == 422
                assert fields(response) == {"output": message}
            for output in values.split(", "):
                response = await client.post(f"{path}?output={output}", content=body, headers=headers)
                assert response.status_code == 200
    response = await client.post("/predict?output=labels&interval=0.8", json=objects(sample(1))[0])
    assert fields(response).keys() == {"output", "interval"}


async def test_a_booster_of_its_own_gives_probabilities_when_asked(
    client: Client, classifiers: dict[str, Classifier], tmp_path: Path
) -> None:
    rows = sample(20)
    for kind in ("two texts", "three texts", "one against all"):
        own = classifiers[kind].lightgbm
        put(client, labelled(own.booster_.model_to_string(), None, tmp_path / kind))
        plain = (await client.post("/predict/batch", json={"predictions": objects(rows)})).json()["predictions"]
        assert all(
            item.keys() == {"status", "index", "prediction", "confidence_interval", "warnings"} for item in plain
        )
        url = "/predict/batch?output=probabilities"
        batch = (await client.post(url, json={"predictions": objects(rows)})).json()["predictions"]
        assert [item["probabilities"] for item in batch] == own.predict_proba(rows).tolist()


async def test_an_answer_without_labels_keeps_its_bytes(client: Client, referring: ServedModel) -> None:
    put(client, referring)
    row = dict.fromkeys(referring.feature_names, 0.5)
    answer = (await client.post("/predict", json=row)).text
    keys = [
        "prediction", "model_version", "model_stage", "confidence_interval", "request_id", "processing_time_ms",
        "warnings",
    ]  # fmt: skip
    assert list(msgspec.json.decode(answer)) == keys
    item = (await client.post("/predict/batch", json={"predictions": [row]})).json()["predictions"][0]
    assert list(item) == ["status", "index", "prediction", "confidence_interval", "warnings"]


async def test_model_output_is_the_output_of_requests_without_one(
    settings: Settings, classifiers: dict[str, Classifier]
) -> None:
    rows, one = sample(3), classifiers["three texts"]
    added = {"labels": {"label"}, "probabilities": {"probabilities"}, "raw": {"raw_score"}}
    for output, names in added.items():
        async with client_of(settings_with(settings, model_output=output)) as client:
            put(client, one.served)
            answer = (await client.post("/predict", json=objects(rows)[0])).json()
            assert answer.keys() & {"label", "probabilities", "raw_score"} == names
            columns = (await table(client, rows, "")).column_names
            assert {name.partition("_")[0] for name in columns} - {"prediction"} == {
                {"probabilities": "probability", "raw_score": "raw"}.get(name, name) for name in names
            }
            answer = (await client.post("/predict?output=auto", json=objects(rows)[0])).json()
            assert answer.keys() & {"label", "probabilities", "raw_score"} == {"label", "probabilities"}
            assert (await table(client, rows, "?output=auto")).num_columns == 3


async def test_a_model_that_cannot_give_model_output_answers_as_with_auto(
    settings: Settings, classifiers: dict[str, Classifier], example: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    said = "MODEL_OUTPUT is labels, which version 1 cannot give: it answers as with auto"
    async with client_of(settings_with(settings, model_output="labels")) as client:
        told = [record for record in caplog.records if "MODEL_OUTPUT" in record.message]
        assert [(record.levelname, record.__dict__["model_output"]) for record in told] == [("WARNING", "labels")]
        answer = (await client.post("/predict", json=example)).json()
        assert "label" not in answer
        health = (await client.get("/health")).json()
        assert (health["status"], health["problems"]) == ("degraded", [said])
        slot = services_of(client).slot
        slot.canary, slot.current = slot.current, classifiers["two texts"].served
        assert (await client.get("/health")).json()["problems"] == [said]
        slot.canary = None
        assert (await client.get("/health")).json()["status"] == "healthy"


async def test_a_raw_score_that_is_not_finite_is_an_error(client: Client, tmp_path: Path) -> None:
    tree = tree_text([Split(0, 0.0, 0)], [0], [0.5, np.inf])
    put(client, serve(save_text(model_text([tree], 1, objective="binary sigmoid:1"), tmp_path / "model")))
    good, bad = {"Column_0": -1.0}, {"Column_0": 1.0}
    assert (await client.post("/predict", json=bad)).json()["prediction"] == 1.0
    response = await client.post("/predict?output=raw", json=bad)
    assert response.status_code == 500
    assert fields(response) == {"raw_score": "is inf, not a finite number"}
    batch = (await client.post("/predict/batch?output=raw", json={"predictions": [bad, good]})).json()["predictions"]
    assert [item["status"] for item in batch] == ["failed", "predicted"]
    assert batch[0]["errors"] == [{"field": "raw_score", "message": "is inf, not a finite number"}]
    assert batch[1]["raw_score"] == 0.5
    rows = np.array([[-1.0], [1.0]])
    response = await client.post("/predict/bulk?output=raw", content=stream_of(rows, ["Column_0"]), headers=ARROW)
    assert response.status_code == 500
    assert fields(response) == {"raw_score": "is inf, not a finite number in row 1, the first of 1 such rows"}


async def test_an_empty_table_has_the_columns_too(client: Client, classifiers: dict[str, Classifier]) -> None:
    put(client, classifiers["three texts"].served)
    plain = ["prediction_0", "prediction_1", "prediction_2"]
    assert (await table(client, np.empty((0, 3)), "?output=labels")).column_names == [*plain, "label"]
    assert (await table(client, np.empty((0, 3)), "?output=raw")).num_columns == 6
    assert (await table(client, np.empty((0, 3)), "?output=probabilities")).num_columns == 6


async def test_model_info_says_what_a_prediction_is(
    client: Client, classifiers: dict[str, Classifier], referring: ServedModel, tmp_path: Path
) -> None:
    tree = tree_text([Split(0, 0.0, 0)], [0], [0.5, 1.5])
    custom = labelled(model_text([tree], 1, objective=""), ("a", "b"), tmp_path / "custom")
    for model, output, choices, labels in (
        (classifiers["two texts"].served, "probability", 4, ["no", "yes"]),
        (classifiers["two booleans"].served, "probability", 4, [False, True]),
        (classifiers["three whole numbers"].served, "probabilities", 4, [3, 5, 7]),
        (referring, "value", 2, None),
        (custom, "raw_score", 2, None),
    ):
        put(client, model)
        info = (await client.get("/predict/model/info")).json()
        assert (info["output"], len(info["output_choices"]), info["labels"]) == (output, choices, labels)
