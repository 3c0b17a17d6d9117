"""ModelInfer, asked by tritonclient: rows in either layout, raw or typed, and every output of a model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferRequestedOutput

from app.config.settings import Settings
from app.protocols.open_inference.rpc.contents import FIELDS
from tests.models.colors import Trained, trained_on
from tests.predict.test_output import LABELS, classifier
from tests.protocols.open_inference.rpc_support import Rpc, code, matrix, parsed, request, rpc_of, tensor, text, typed
from tests.routes.support import Array, Row, put, row_of, served_by, services_of, varied
from tests.support import come_true


def expected(rpc: Rpc, rows: Array) -> Array:
    """float64[B, K], what the model itself predicts."""
    prediction = served_by(rpc.client).engine.evaluate(rows).prediction
    return prediction.reshape(len(rows), -1)


async def test_raw_and_typed_rows_are_predicted_to_the_bit(settings: Settings, example: Row) -> None:
    async with rpc_of(settings) as rpc:
        for count in (1, 2, 50_000):
            await check_prediction(rpc, varied(example, count))
        await come_true(lambda: services_of(rpc.client).admission.in_flight == 0)


async def check_prediction(rpc: Rpc, rows: Array) -> None:
    right = expected(rpc, rows)
    answer = await rpc.infer([matrix(rows)], request_id="of-a-test")
    assert answer.as_numpy("prediction").tobytes() == right.tobytes()
    assert answer.get_response().id == "of-a-test"
    assert (answer.get_response().model_name, answer.get_response().model_version) == (rpc.model, "1")
    again = await rpc.sync(lambda triton: triton.infer(rpc.model, [matrix(rows)]))
    assert again.as_numpy("prediction").tobytes() == right.tobytes()
    message = request()
    message.inputs.append(typed("features", "FP64", rows.shape, "fp64_contents", rows.ravel()))
    output = parsed(await rpc.send(message.SerializeToString())).outputs[0]
    assert (output.name, output.datatype, list(output.shape)) == ("prediction", "FP64", [len(rows), 1])
    assert np.array(output.contents.fp64_contents).tobytes() == right.tobytes()


async def test_a_tensor_for_each_feature_is_the_same_rows(settings: Settings, example: Row) -> None:
    rows = varied(example, 3)
    async with rpc_of(settings) as rpc:
        named = [tensor(name, rows[:, [place]]) for place, name in enumerate(example)]
        answer = await rpc.infer(named[::-1])
        assert answer.as_numpy("prediction").tobytes() == expected(rpc, rows).tobytes()
        single = [tensor(name, rows[:, place].astype(np.float32)) for place, name in enumerate(example)]
        answer = await rpc.infer(single)
        right = expected(rpc, rows.astype(np.float32).astype(np.float64))
        assert answer.as_numpy("prediction").tobytes() == right.tobytes()


async def test_a_request_names_its_outputs_and_the_level_of_the_interval(settings: Settings, example: Row) -> None:
    rows = varied(example, 5)
    async with rpc_of(settings) as rpc:
        served = served_by(rpc.client)
        intervals = served.artifact.intervals
        assert intervals is not None
        level = intervals.levels[0]
        answer = await rpc.infer([matrix(rows)], "upper", "raw_score", "lower", parameters={"interval": level})
        assert [output.name for output in answer.get_response().outputs] == ["upper", "raw_score", "lower"]
        objects = [dict(zip(example, row, strict=True)) for row in rows.tolist()]
        native = await rpc.client.post(f"/predict/batch?interval={level}", json={"predictions": objects})
        for name in ("lower", "upper"):
            right = [row["confidence_interval"][name] for row in native.json()["predictions"]]
            assert answer.as_numpy(name).ravel().tolist() == right


async def test_labels_and_probabilities_are_those_of_the_classifier(settings: Settings, tmp_path: Path) -> None:
    rows = np.random.default_rng(3).normal(size=(200, 3))
    message = request(outputs=[{"name": "label"}])
    message.inputs.append(typed("features", "FP64", rows.shape, "fp64_contents", rows.ravel()))
    async with rpc_of(settings) as rpc:
        for name, labels in LABELS.items():
            model = classifier(labels, tmp_path / name)
            put(rpc.client, model.served)
            raw = await rpc.infer([matrix(rows)], "label", "probabilities")
            answer = parsed(await rpc.send(message.SerializeToString()))
            right = model.lightgbm.predict(rows).tolist()
            assert texts(raw.as_numpy("label").ravel().tolist()) == right
            assert raw.as_numpy("probabilities").tobytes() == model.lightgbm.predict_proba(rows).tobytes()
            ((_, values),) = answer.outputs[0].contents.ListFields()
            assert texts(values) == right


def texts(values: Any) -> list[Any]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_on(tmp_path_factory.mktemp("colors") / "model")


async def test_categories_come_by_their_own_values(colors: Trained, registry_dir: Path, tmp_path: Path) -> None:
    asked = colors.asked.dropna()
    right = colors.booster.predict(asked)
    columns: dict[str, Any] = {
        "color": asked["color"].astype(object).to_numpy(),
        "income": asked["income"].to_numpy(),
        "size": asked["size"].astype("int64").to_numpy(),
        "flag": asked["flag"].astype(bool).to_numpy(),
    }
    settings = Settings(data_dir=tmp_path / "data", model_path=str(colors.directory))
    async with rpc_of(settings) as rpc:
        metadata = await rpc.sync(lambda triton: triton.get_model_metadata(rpc.model))
        assert {given.name: given.datatype for given in metadata.inputs} == {
            "color": "BYTES", "income": "FP64", "size": "INT64", "flag": "BOOL",
        }  # fmt: skip
        raw = await rpc.infer([tensor(name, values) for name, values in columns.items()])
        assert raw.as_numpy("prediction").ravel().tobytes() == right.tobytes()
        shape = [len(asked), 1]
        fields = {name: FIELDS[name][0] for name in ("BYTES", "FP64", "INT64", "BOOL")}
        message = request(model=rpc.model)
        for given in metadata.inputs:
            values = columns[given.name]
            sent = [value.encode() for value in values] if given.datatype == "BYTES" else values.tolist()
            message.inputs.append(typed(given.name, given.datatype, shape, fields[given.datatype], sent))
        answer = parsed(await rpc.send(message.SerializeToString()))
        assert np.array(answer.outputs[0].contents.fp64_contents).tobytes() == right.tobytes()


async def test_compressed_messages_are_read(settings: Settings, example: Row) -> None:
    rows = varied(example, 2000)
    async with rpc_of(settings) as rpc:
        for algorithm in ("gzip", "deflate"):
            answer = await rpc.infer([matrix(rows)], compression_algorithm=algorithm)
            assert answer.as_numpy("prediction").tobytes() == expected(rpc, rows).tobytes()


async def test_what_is_not_supported_is_said(settings: Settings, example: Row) -> None:
    rows = row_of(example)
    async with rpc_of(settings) as rpc:
        shared = matrix(rows)
        shared.set_shared_memory("region", rows.nbytes)
        error = await rpc.refused(request(inputs=[shared._get_tensor()]))
        assert (code(error), "in shared memory" in text(error)) == ("INVALID_ARGUMENT", True)
        top = InferRequestedOutput("prediction", class_count=3)._get_tensor()
        error = await rpc.refused(request(rows, outputs=[top]))
        assert (code(error), "cannot be a classification" in text(error)) == ("INVALID_ARGUMENT", True)
        for path in ("RepositoryModelLoad", "ModelStreamInfer", "TraceSetting"):
            error = await rpc.refused(b"", f"/inference.GRPCInferenceService/{path}")
            assert (code(error), "ModelInfer" in text(error)) == ("UNIMPLEMENTED", True)
