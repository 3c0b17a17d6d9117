"""Inference as tritonclient asks for it: both layouts, every datatype, every output."""

import gzip
import struct
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from app.config.settings import Settings
from app.models.served import ServedModel
from app.protocols.open_inference.request import read_request
from tests.models.colors import Trained, trained_on
from tests.models.support import INTERVALS, NAMES, serve
from tests.protocols.open_inference.support import (
    HEAD_LENGTH,
    INFER,
    MODEL,
    App,
    asked,
    body,
    classifier,
    error,
    sample,
    tensor,
)
from tests.routes.support import churn_booster, compute_with, save_churn
from tests.support import sample_value

Array = NDArray[np.float64]

LABELS: dict[str, tuple[list[Any], str]] = {
    "texts": (["no", "yes"], "BYTES"),
    "whole numbers": ([-1, 2**40, 2**41], "INT64"),
    "booleans": ([False, True], "BOOL"),
    "numbers": ([0.0, 2.0], "FP64"),
    "unicode": (["ja", "naïve", "ü"], "BYTES"),
}


def in_columns(rows: Array, **options: bool) -> list[InferInput]:
    """A tensor for each feature, the last feature first."""
    columns = [tensor(name, rows[:, index : index + 1], **options) for index, name in enumerate(NAMES)]
    return columns[::-1]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_both_layouts_are_answered_alike_in_json_and_as_bytes(
    app: App, referring: ServedModel, rows: Array, binary: bool, count: int
) -> None:
    expected = referring.engine.predict(rows[:count]).reshape(-1, 1)
    for inputs in ([tensor("features", rows[:count], binary=binary)], in_columns(rows[:count], binary=binary)):
        for outputs in (None, asked("prediction"), asked("prediction", binary=False)):
            result = app.infer(inputs, outputs)
            np.testing.assert_array_equal(result.as_numpy("prediction"), expected)
            answer = result.get_response()
            assert (answer["model_name"], answer["model_version"]) == (MODEL, "1")
            assert [output["name"] for output in answer["outputs"]] == ["prediction"]
            assert "id" not in answer


@pytest.mark.parametrize("dtype", ["f2", "f4", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_of_numbers_is_read(app: App, referring: ServedModel, dtype: str, binary: bool) -> None:
    rows = np.array([[1, 0, 1], [0, 1, 1]], np.dtype(dtype))
    expected = referring.engine.predict(rows.astype(np.float64)).reshape(-1, 1)
    result = app.infer([tensor("any name", rows, binary=binary)])
    np.testing.assert_array_equal(result.as_numpy("prediction"), expected)
    mixed = [tensor(NAMES[0], rows[:, :1], binary=binary), *in_columns(rows.astype(np.float64))[:2]]
    np.testing.assert_array_equal(app.infer(mixed).as_numpy("prediction"), expected)


def test_data_in_json_is_flat_or_nested(app: App, referring: ServedModel, rows: Array) -> None:
    expected = referring.engine.predict(rows).reshape(-1).tolist()
    nested, flat = body(rows.tolist(), [5, 3]), body(rows.reshape(-1).tolist(), [5, 3])
    columns = {"inputs": [
        {"name": name, "shape": shape, "datatype": "FP64", "data": data}
        for name, shape, data in (
            (NAMES[0], [5], rows[:, 0].tolist()), (NAMES[1], [5, 1], rows[:, 1].tolist()),
            (NAMES[2], [5, 1], rows[:, 2:].tolist()),
        )
    ]}  # fmt: skip
    for request in (nested, flat, columns):
        answer = app.post(json=request)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "model_name": MODEL, "model_version": "1",
            "outputs": [{"name": "prediction", "shape": [5, 1], "datatype": "FP64", "data": expected}],
        }  # fmt: skip


def test_values_may_be_missing_as_clients_write_them(app: App, tmp_path: Path) -> None:
    app.slot.current = served = serve(save_churn(tmp_path / "churn", churn_booster()))
    expected = served.engine.predict(np.array([[3.0, np.nan, 1.0], [40.0, 70.5, 0.0]]))
    tenure, contract = tensor("tenure", np.array([[3], [40]])), tensor("contract", np.array([[True], [False]]))
    charges = np.array([[np.nan], [70.5]])
    for binary in (True, False):  # tritonclient writes the literal NaN
        result = app.infer([tenure, contract, tensor("monthly charge", charges, binary=binary)])
        np.testing.assert_array_equal(result.as_numpy("prediction"), expected)
    request = {"inputs": [
        {"name": "tenure", "shape": [2], "datatype": "INT64", "data": [3, 40]},
        {"name": "contract", "shape": [2], "datatype": "BOOL", "data": [True, False]},
        {"name": "monthly charge", "shape": [2], "datatype": "FP32", "data": [None, 70.5]},
    ]}  # fmt: skip
    (output,) = app.post(json=request).json()["outputs"]
    assert (output["shape"], output["data"]) == ([2, 3], expected.reshape(-1).tolist())
    del request["inputs"][2]
    (output,) = app.post(json=request).json()["outputs"]
    assert output["data"][:3] == expected[0].tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_on(tmp_path_factory.mktemp("colors") / "model")


@pytest.mark.parametrize("binary", [True, False])
def test_categories_are_texts_numbers_and_booleans(app: App, trained: Trained, binary: bool) -> None:
    app.slot.current = serve(trained.directory)
    shown = trained.asked[
        trained.asked["size"].notna() & trained.asked["flag"].notna() & trained.asked["color"].notna()
    ]
    inputs = [
        tensor("color", [str(color) for color in shown["color"]], binary=binary),
        tensor("income", shown[["income"]].to_numpy(), binary=binary),
        tensor("size", shown[["size"]].astype(int).to_numpy(), binary=binary),
        tensor("flag", shown[["flag"]].astype(bool).to_numpy(), binary=binary),
    ]
    result = app.infer(inputs)
    np.testing.assert_array_equal(result.as_numpy("prediction").reshape(-1), trained.booster.predict(shown))
    metadata = app.get(f"/v2/models/{MODEL}").json()["inputs"]
    assert {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in metadata} == {
        "color": ("BYTES", [-1, 1]), "income": ("FP64", [-1, 1]), "size": ("INT64", [-1, 1]), "flag": ("BOOL", [-1, 1]),
    }  # fmt: skip


def test_a_missing_text_is_null_and_a_missing_number_of_a_category_is_nan(app: App, trained: Trained) -> None:
    app.slot.current = serve(trained.directory)
    color = {"name": "color", "shape": [1], "datatype": "BYTES", "data": [None]}
    numbers = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in (("income", 0.5), ("size", None), ("flag", None))
    ]
    (output,) = app.post(json={"inputs": [color, *numbers]}).json()["outputs"]
    frame = trained.asked[:1].copy()
    frame.loc[:, ["color", "size", "flag"]], frame["income"] = np.nan, 0.5
    assert output["data"] == trained.booster.predict(frame).tolist()


@pytest.mark.parametrize("kind", LABELS)
def test_labels_and_probabilities_are_those_of_lightgbm(app: App, tmp_path: Path, kind: str) -> None:
    labels, datatype = LABELS[kind]
    own, app.slot.current = classifier(labels, tmp_path / "model")
    rows = sample(40)
    expected = own.predict(rows)
    assert len({*expected.tolist()}) == len(labels)
    for binary in (True, False):
        result = app.infer([tensor("x", rows)], asked("label", "probabilities", "raw_score", binary=binary))
        found = result.as_numpy("label")
        assert found.shape == (40, 1)
        texts = [text.decode() if isinstance(text, bytes) else text for text in found.reshape(-1).tolist()]
        assert texts == expected.tolist()
        np.testing.assert_array_equal(result.as_numpy("probabilities"), own.predict_proba(rows))
        raw = own.booster_.predict(rows, raw_score=True).reshape(40, -1)
        np.testing.assert_array_equal(result.as_numpy("raw_score"), raw)
        assert result.get_output("label")["datatype"] == datatype
    described = {output["name"]: output for output in app.get(f"/v2/models/{MODEL}").json()["outputs"]}
    width = 1 if len(labels) == 2 else 3
    assert {name: (output["datatype"], output["shape"]) for name, output in described.items()} == {
        "prediction": ("FP64", [-1, width]), "label": (datatype, [-1, 1]),
        "probabilities": ("FP64", [-1, len(labels)]), "raw_score": ("FP64", [-1, width]),
    }  # fmt: skip


@pytest.mark.parametrize("setting", ["labels", "probabilities", "raw"])
def test_a_request_that_names_no_outputs_gets_what_the_operator_chose(
    app: App, referring: ServedModel, tmp_path: Path, rows: Array, setting: Any
) -> None:
    added = {"labels": "label", "probabilities": "probabilities", "raw": "raw_score"}[setting]
    settings = app.services.settings
    _, labelled = classifier(["no", "yes"], tmp_path / "model")
    own = App(msgspec.structs.replace(settings, model_output=setting), labelled)
    try:
        for outputs, names in ((None, ["prediction", added]), (asked("prediction"), ["prediction"])):
            answer = own.infer([tensor("x", rows)], outputs).get_response()
            assert [output["name"] for output in answer["outputs"]] == names
        own.slot.current = referring
        answer = own.infer([tensor("x", rows)]).get_response()
        assert [output["name"] for output in answer["outputs"]] == ["prediction", *(["raw_score"] * (setting == "raw"))]
    finally:
        own.close()


@pytest.mark.parametrize("level", [None, *INTERVALS.levels])
def test_bounds_are_those_of_the_level(app: App, referring: ServedModel, rows: Array, level: float | None) -> None:
    evaluation = referring.engine.evaluate(rows)
    assert evaluation.difficulty is not None
    half = INTERVALS.half_width(evaluation.difficulty, level or INTERVALS.default_level)
    parameters = {} if level is None else {"interval": level}
    result = app.infer([tensor("x", rows)], asked("upper", "lower"), parameters=parameters)
    np.testing.assert_array_equal(result.as_numpy("lower")[:, 0], evaluation.prediction - half)
    np.testing.assert_array_equal(result.as_numpy("upper")[:, 0], evaluation.prediction + half)
    names = [
        output["name"] for output in app.infer([tensor("x", rows)], parameters=parameters).get_response()["outputs"]
    ]
    assert names == ["prediction"] if level is None else ["prediction", "lower", "upper"]


def test_each_output_is_in_the_form_that_it_was_asked_in(app: App, rows: Array) -> None:
    outputs = [*asked("prediction"), *asked("lower", binary=False), InferRequestedOutput("raw_score")]
    response = app.send([tensor("x", rows)], outputs)
    length = int(response.headers[HEAD_LENGTH])
    head = msgspec.json.decode(response.content[:length])
    forms = [("data" in output, output.get("parameters")) for output in head["outputs"]]
    assert forms == [(False, {"binary_data_size": 40}), (True, None), (False, {"binary_data_size": 40})]
    tail = struct.unpack("<10d", response.content[length:])
    assert tail[:5] == tail[5:]
    request = body(rows.tolist(), [5, 3], parameters={"binary_data_output": True})
    request["outputs"] = [{"name": "prediction", "parameters": {"binary_data": False}}, {"name": "lower"}]
    response = app.post(json=request)
    head = msgspec.json.decode(response.content[: int(response.headers[HEAD_LENGTH])])
    assert ["data" in output for output in head["outputs"]] == [True, False]


@pytest.mark.parametrize("name", ["predict", "output-0", "output__0"])
def test_the_prediction_has_the_name_of_another_server_if_it_is_asked_for_by_it(
    app: App, rows: Array, name: str
) -> None:
    inputs = [tensor("features", rows)]
    found = app.infer(inputs, asked(name, "prediction"))
    np.testing.assert_array_equal(found.as_numpy(name), found.as_numpy("prediction"))


def test_the_id_comes_back_and_parameters_of_other_servers_change_nothing(app: App, rows: Array) -> None:
    result = app.infer(
        [tensor("x", rows)], request_id="naïve/1", priority=1, timeout=1000, sequence_id=7, sequence_start=True,
    )  # fmt: skip
    assert result.get_response()["id"] == "naïve/1"
    mlserver = body(rows.tolist(), [5, 3], id=None, parameters={"content_type": "np"}, outputs=None)
    mlserver["inputs"][0]["parameters"] = {"content_type": "np"}
    assert app.post(json=mlserver).json()["outputs"][0]["data"] == result.as_numpy("prediction").reshape(-1).tolist()


def test_no_rows_are_answered_by_none(app: App) -> None:
    result = app.infer([tensor("x", np.empty((0, 3)))])
    assert result.as_numpy("prediction").shape == (0, 1)
    assert app.post(json=body([], [0, 3])).json()["outputs"][0]["data"] == []


def test_bodies_may_be_gzip(app: App, rows: Array) -> None:
    plain = app.post(json=body(rows.tolist(), [5, 3]))
    packed = gzip.compress(msgspec.json.encode(body(rows.tolist(), [5, 3])))
    assert app.post(content=packed, headers={"content-encoding": "gzip"}).content == plain.content
    assert app.send([tensor("x", rows)], asked("prediction", binary=False)).content == plain.content


@pytest.mark.parametrize("count", [3_000, 50_000])
def test_many_rows_are_answered_in_threads(app: App, referring: ServedModel, count: int) -> None:
    rows = sample(count)
    result = app.infer([tensor("x", rows)], asked("prediction", "lower", "raw_score"))
    np.testing.assert_array_equal(result.as_numpy("prediction")[:, 0], referring.engine.predict(rows))
    in_json = app.infer([tensor("x", rows)], asked("prediction", binary=False))
    np.testing.assert_array_equal(in_json.as_numpy("prediction"), result.as_numpy("prediction"))


def test_a_row_without_a_finite_answer_fails_its_request_and_is_counted(
    app: App, referring: ServedModel, rows: Array
) -> None:
    compute_with(app.client, lambda batch: np.where(np.arange(len(batch)) == 1, np.inf, 0.0))
    text = error(app.send([tensor("x", rows)]), 500)
    assert "prediction: is inf, not a finite number in row 1" in text
    labels = {"model_version": "1", "prediction_type": "batch"}
    assert sample_value(app.services.metrics.registry, "predictions_not_finite_total", labels) == 1


def test_pandas_frames_are_sent_by_column(app: App, referring: ServedModel, rows: Array) -> None:
    frame = pd.DataFrame(rows, columns=list(NAMES))
    inputs = [tensor(name, frame[[name]].to_numpy()) for name in frame]
    assert app.infer(inputs).as_numpy("prediction")[:, 0].tolist() == referring.engine.predict(rows).tolist()


def test_the_path_may_end_with_a_slash(app: App, rows: Array) -> None:
    assert app.send([tensor("x", rows)], path=INFER + "/").status_code == 200


def test_a_model_of_several_outputs_gives_all_of_them(app: App, tmp_path: Path) -> None:
    booster: lgb.Booster = churn_booster()
    app.slot.current = serve(save_churn(tmp_path / "churn", booster))
    rows = np.array([[3, 70.5, 1], [40, 20, 0]])
    result = app.infer([tensor("x", rows)], asked("prediction", "probabilities", "raw_score"))
    np.testing.assert_array_equal(result.as_numpy("prediction"), booster.predict(rows))
    np.testing.assert_array_equal(result.as_numpy("probabilities"), booster.predict(rows))
    np.testing.assert_array_equal(result.as_numpy("raw_score"), booster.predict(rows, raw_score=True))


def test_rows_that_are_logged_do_not_keep_the_body_in_memory(referring: ServedModel, rows: Array) -> None:
    settings = Settings()
    for count in (1, settings.max_batch_size, settings.max_batch_size + 1):
        given = tensor("x", sample(count))
        content, length = InferenceServerClient.generate_request_body([given])
        read = read_request(content, length, referring, settings)
        alone = read.rows.base is None
        assert alone or count > settings.max_batch_size
        np.testing.assert_array_equal(read.rows, sample(count))
