"""Faults of a message: each has a status, and a text that names what is wrong."""

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from app.config.settings import Settings
from tests.protocols.open_inference.rpc_support import Rpc, code, parsed, request, rpc_of, text, typed
from tests.routes.support import Row, compute_with, put, row_of, services_of, varied

JSON_BYTES = 2048
BODY_BYTES = 1024 * 1024
BULK_ROWS = 100


@pytest.fixture
async def rpc(settings: Settings) -> AsyncIterator[Rpc]:
    limits = {"max_json_bytes": JSON_BYTES, "max_body_bytes": BODY_BYTES, "max_bulk_rows": BULK_ROWS}
    async with rpc_of(settings, **limits) as rpc:
        yield rpc


def output(name: str) -> Any:
    return service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name)


class Fault(NamedTuple):
    """A change to a good message of two rows, and a part of the text that it is answered with."""

    change: Callable[[Any], None]
    told: str


def shaped(*shape: int) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        message.inputs[0].shape[:] = shape

    return change


def raw(change: Callable[[bytes], bytes]) -> Callable[[Any], None]:
    def changed(message: Any) -> None:
        message.raw_input_contents[0] = change(message.raw_input_contents[0])

    return changed


def instead(*given: Any) -> Callable[[Any], None]:
    """Put other inputs in the place of the good one."""

    def change(message: Any) -> None:
        del message.inputs[:], message.raw_input_contents[:]
        message.inputs.extend(given)

    return change


def set_to(**fields: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for name, value in fields.items():
            setattr(message.inputs[0], name, value)

    return change


def repeated(message: Any) -> None:
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])


def both(message: Any) -> None:
    message.inputs[0].contents.fp64_contents.append(1.0)


def parameter(name: str, field: str, value: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        setattr(message.parameters[name], field, value)

    return change


FAULTS = {
    "no input": Fault(instead(), "Longitude: is missing"),
    "truncated": Fault(raw(lambda values: values[:-1]), "datatype take, and has 127"),
    "surplus": Fault(raw(lambda values: values + b"\0"), "datatype take, and has 129"),
    "nothing": Fault(raw(lambda _: b""), "datatype take, and has 0"),
    "another number of values": Fault(shaped(3, 8), "datatype take, and has 128"),
    "an overflowing shape": Fault(shaped(2**61, 2**62), "datatype take, and has 128"),
    "a product that overflows to the right one": Fault(shaped(2**63 - 1, 2**63 - 1), "datatype take, and has 128"),
    "a negative shape": Fault(shaped(-2, -8), "features: has a negative dimension"),
    "no dimension": Fault(shaped(), "features: must have a shape of one or two dimensions"),
    "three dimensions": Fault(shaped(1, 2, 8), "features: must have a shape of one or two dimensions"),
    "another width": Fault(shaped(4, 4), "features: must have the shape [rows, 8]"),
    "an unknown datatype": Fault(set_to(datatype="BF16"), "features: has a datatype that is not read"),
    "text for numbers": Fault(set_to(datatype="BYTES"), "features: "),
    "raw and typed": Fault(both, "features: has contents, and raw_input_contents as well"),
    "raw for none": Fault(lambda message: message.inputs.pop(), "0 inputs and 1 raw_input_contents"),
    "raw for one of two": Fault(lambda message: message.inputs.append(message.inputs[0]), "2 inputs and 1 raw"),
    "twice the same": Fault(repeated, "features: "),
    "an unknown output": Fault(lambda message: message.outputs.add(name="median"), "median: is no output"),
    "an output twice": Fault(lambda message: message.outputs.extend(2 * [output("lower")]), "lower: appears more"),
    "an unknown level": Fault(parameter("interval", "double_param", 0.123), "interval: must be one of"),
    "a level of text": Fault(parameter("interval", "string_param", "0.9"), "interval: must be one of"),
    "an unknown parameter": Fault(parameter("colour", "bool_param", True), "colour: unknown parameter"),
    "too few typed": Fault(
        instead(typed("features", "FP64", [2, 8], "fp64_contents", [1.0] * 15)),
        "datatype take, and has 120",
    ),
    "too few whole numbers": Fault(
        instead(typed("features", "INT64", [2, 8], "int64_contents", [300] * 15)), "features: has 15 values"
    ),
    "no contents": Fault(instead(typed("features", "INT64", [2, 8], "int64_contents", [])), "features: has 0 values"),
    "another field": Fault(
        instead(typed("features", "FP32", [1, 1], "fp64_contents", [1.0])),
        "features: must have its values in fp32_contents alone, not in fp64_contents",
    ),
    "halves that are typed": Fault(
        instead(typed("features", "FP16", [1, 1], "fp32_contents", [1.0])), "must be in raw_input_contents"
    ),
    "beyond its datatype": Fault(
        instead(typed("features", "INT8", [1, 2], "int_contents", [5, -129])), "features: has values beyond INT8"
    ),
    "beyond its unsigned datatype": Fault(
        instead(typed("features", "UINT16", [1, 1], "uint_contents", [65_536])), "features: has values beyond UINT16"
    ),
    "not UTF-8": Fault(
        instead(typed("features", "BYTES", [1], "bytes_contents", [b"\xff"])), "features: must hold texts in UTF-8"
    ),
}


async def test_a_fault_is_named_and_no_value_is_repeated(rpc: Rpc, example: Row) -> None:
    found: dict[str, str] = {}
    for name, (change, told) in FAULTS.items():
        message = request(varied(example, 2))
        change(message)
        error = await rpc.refused(message)
        if code(error) != "INVALID_ARGUMENT" or told not in text(error) or "0.123" in text(error):
            found[name] = f"{code(error)}: {text(error)}"
    assert found == {}
    assert services_of(rpc.client).admission.in_flight == 0


async def test_what_is_too_large_is_told_by_its_limit(rpc: Rpc, example: Row) -> None:
    error = await rpc.refused(request(varied(example, BULK_ROWS + 1)))
    assert (code(error), "MAX_BULK_ROWS" in text(error)) == ("RESOURCE_EXHAUSTED", True)
    error = await rpc.refused(request(row_of(example), id="x" * JSON_BYTES))
    assert (code(error), "MAX_JSON_BYTES" in text(error)) == ("RESOURCE_EXHAUSTED", True)
    error = await rpc.refused(b"x" * (BODY_BYTES + 1))
    assert (code(error), str(BODY_BYTES) in text(error)) == ("RESOURCE_EXHAUSTED", True)
    error = await rpc.refused(bytes(JSON_BYTES + 1), "/inference.GRPCInferenceService/ServerLive")
    assert (code(error), "MAX_JSON_BYTES" in text(error)) == ("RESOURCE_EXHAUSTED", True)
    names = request()
    names.inputs.extend(typed(str(place), "FP64", [1], "fp64_contents", [1.0]) for place in range(200))
    assert "more fields" in text(await rpc.refused(names))
    message = request(row_of(example)).SerializeToString() + b"\x3a\x00" * 200
    assert "more fields" in text(await rpc.refused(message))
    assert parsed(await rpc.send(request(row_of(example)).SerializeToString())).outputs


async def test_a_bomb_of_zeros_is_refused_by_its_size(rpc: Rpc) -> None:
    error = await rpc.refused(bytes(64 * BODY_BYTES), compression=grpc.Compression.Gzip)
    assert code(error) == "RESOURCE_EXHAUSTED"


async def test_a_name_and_a_version_that_are_not_served_are_not_found(rpc: Rpc, example: Row) -> None:
    rows = row_of(example)
    other = await rpc.refused(request(rows, model="secret"))
    assert (code(other), "secret" in text(other)) == ("NOT_FOUND", False)
    assert code(await rpc.refused(request(rows, model_version="7"))) == "NOT_FOUND"
    answer = await rpc.send(request(rows, model_version="1").SerializeToString())
    assert parsed(answer).model_version == "1"
    for path in ("ModelReady", "ModelMetadata", "ModelConfig"):
        error = await rpc.refused(b"\x0a\x06secret", f"/inference.GRPCInferenceService/{path}")
        assert code(error) == "NOT_FOUND"


async def test_a_fault_of_the_model_and_of_the_service_are_internal(rpc: Rpc, example: Row) -> None:
    served = services_of(rpc.client).slot.require()
    compute_with(rpc.client, lambda rows: np.full(len(rows), np.inf))
    error = await rpc.refused(request(varied(example, 2)))
    assert (code(error), "no finite answer" in text(error)) == ("INTERNAL", True)
    metrics = services_of(rpc.client).metrics.exposition.text().decode()
    labels = f'model_name="{served.identity.name}",model_version="1",prediction_type="batch"'
    assert f"predictions_not_finite_total{{{labels}}} 2.0" in metrics

    def broken(rows: Any) -> Any:
        raise RuntimeError("a secret")

    put(rpc.client, served)
    compute_with(rpc.client, broken)
    error = await rpc.refused(request(varied(example, 2)), metadata=(("x-request-id", "of-a-test"),))
    assert (code(error), "secret" in text(error), "of-a-test" in text(error)) == ("INTERNAL", False, True)


async def test_a_long_text_is_shortened(rpc: Rpc, example: Row) -> None:
    name = "ü" * 60
    message = request(row_of(example), outputs=[{"name": f"{place}{name}"} for place in range(15)])
    error = await rpc.refused(message)
    assert code(error) == "INVALID_ARGUMENT"
    assert text(error).endswith("…")
    assert len(text(error).encode()) < 4096
