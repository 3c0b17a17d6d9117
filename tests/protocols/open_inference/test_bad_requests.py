"""Requests that are not valid: 400, and a text that names the tensor, or what else is wrong."""

import re
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from app.config.settings import Settings
from app.models.served import ServedModel
from tests.protocols.open_inference.support import HEAD_LENGTH, INFER, App, asked, body, error, sample, tensor
from tests.routes.support import settings_with

ROW = [0.5, -1.0, 3.0]
GOOD = body(ROW, [1, 3])
RAW = struct.pack("<3d", *ROW)
SECRET = "a-value-of-the-caller"


def binary(head: Any, tail: bytes, length: int | str | None = None) -> dict[str, Any]:
    """A request of JSON and bytes, with another length of the JSON than it has."""
    text = head if isinstance(head, bytes) else msgspec.json.encode(head)
    told = len(text) if length is None else length
    return {"content": text + tail, "headers": {HEAD_LENGTH: str(told)}}


def raw(
    size: Any = 24, shape: Any = (1, 3), datatype: str = "FP64", name: str = "given", **more: Any
) -> dict[str, Any]:
    """A tensor whose values are bytes."""
    parameters = {"binary_data_size": size}
    return {"name": name, "shape": list(shape), "datatype": datatype, "parameters": parameters, **more}


def with_parameters(**parameters: Any) -> dict[str, Any]:
    return {"inputs": [GOOD["inputs"][0] | {"parameters": parameters}]}


def with_output(name: str = "prediction", **parameters: Any) -> dict[str, Any]:
    return GOOD | {"outputs": [{"name": name, "parameters": parameters}]}


JSON: dict[str, tuple[Any, str]] = {
    "a list": ([], "(body): Expected `object`, got `array`"),
    "no inputs": ({}, "(body): Object missing required field `inputs`"),
    "empty inputs": ({"inputs": []}, "is missing"),
    "an unknown field": (GOOD | {"input": []}, "(body): Object contains unknown field `input`"),
    "an id that is no text": (GOOD | {"id": 7}, "id: Expected `str | null`, got `int`"),
    "a name that is no text": (body(ROW, [1, 3], name=7), "inputs[0].name: Expected `str`, got `int`"),  # type: ignore[arg-type]
    "a fraction as dimension": (body(ROW, [1.5, 3]), "inputs[0].shape[0]: Expected `int`, got `float`"),  # type: ignore[list-item]
    "no shape": ({"inputs": [{"name": "x", "datatype": "FP64", "data": ROW}]}, "inputs[0]: Object missing required"),
    "a negative dimension": (body(ROW, [-1, 3]), "features: has a negative dimension in its shape"),
    "no dimensions": (body(ROW, []), "features: must have a shape of one or two dimensions, and has 0"),
    "three dimensions": (body(ROW, [1, 3, 1]), "features: must have a shape of one or two dimensions, and has 3"),
    "an overflowing shape": (body(ROW, [2**62, 2**62]), "features: must have as many values as its shape says"),
    "a shape beyond 64 bits": (body(ROW, [2**64 + 1, 3]), "features: must have as many values as its shape says"),
    "fewer values": (body(ROW[:2], [1, 3]), "features: must have as many values as its shape says, and has 2"),
    "more values": (body([*ROW, 1], [1, 3]), "features: must have as many values as its shape says, and has 4"),
    "another nesting": (body([ROW], [3, 1]), "features: must have as data numbers or null, in a list that is flat"),
    "uneven nesting": (body([[1, 2, 3], [1, 2]], [2, 3]), "features: must have as data numbers or null"),
    "deeper nesting": (body([[[1], [2], [3]]], [1, 3]), "features: must have as data numbers or null"),
    "nesting of one dimension": (body([[1]], [1], name="age"), "age: must have as data numbers or null"),
    "a number as data": (body(1, [1, 3]), "features: must have as data numbers or null"),
    "an object as data": (body({"a": 1}, [1, 3]), "features: must have as data numbers or null"),
    "a text as a number": (body([SECRET, 1, 2], [1, 3]), "features: must have as data numbers or null"),
    "true as a number": (body([True, 1, 2], [1, 3]), "features: must have as data numbers or null"),
    "a fraction as whole number": (body(ROW, [1, 3], "INT32"), "features: must have as data whole numbers"),
    "null as a whole number": (body([None, 1, 2], [1, 3], "INT64"), "features: must have as data whole numbers"),
    "a number that is too large": (body([300, 1, 2], [1, 3], "INT8"), "features: has values that INT8 does not hold"),
    "a number below zero": (body([-1, 1, 2], [1, 3], "UINT64"), "features: has values that UINT64 does not hold"),
    "a number beyond 64 bits": (body([2**70, 1, 2], [1, 3], "INT64"), "features: has values that INT64 does not hold"),
    "numbers as booleans": (body([2, 1, 0], [1, 3], "BOOL"), "features: must have as data true and false"),
    "an infinite number": (body([1e39, 1, 2], [1, 3], "FP32"), "income: must be a finite number (row 0)"),
    "an unknown datatype": (body(ROW, [1, 3], "FP128"), "features: has a datatype that is not read; those that are"),
    "texts for numbers": (body(["1"], [1], "BYTES", "age"), "income: is missing"),
    "no values": ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64"}]}, "x: has no values: neither data"),
    "another width": (body([1, 2], [1, 2]), "features: must have the shape [rows, 3], or there must be a tensor"),
    "an unknown feature": ({"inputs": [GOOD["inputs"][0], GOOD["inputs"][0] | {"name": "age"}]}, "features: unknown"),
    "a repeated feature": ({"inputs": [GOOD["inputs"][0] | {"name": "age"}] * 2}, "age: appears more than once"),
    "too many tensors": ({"inputs": GOOD["inputs"] * 1004}, "must hold at most 1003 columns, and holds 1004"),
    "bytes without a header": ({"inputs": [raw()]}, "given: has binary_data_size, and the request has no Inference-He"),
    "shared memory": (with_parameters(shared_memory_region="a"), "features: is in shared memory, which is not support"),
    "an unknown parameter of a tensor": (with_parameters(color=1), "features: has an unknown parameter: color"),
    "an unknown parameter": (GOOD | {"parameters": {"color": 1}}, "color: unknown parameter"),
    "parameters that are no object": (GOOD | {"parameters": [1]}, "parameters: Expected `object | null`, got `array`"),
    "a form that is no boolean": (GOOD | {"parameters": {"binary_data_output": 1}}, "binary_data_output: must be true"),
    "an unknown level": (GOOD | {"parameters": {"interval": 0.7}}, "interval: must be one of the model's levels 0.5,"),
    "a level that is no number": (GOOD | {"parameters": {"interval": "0.9"}}, "interval: must be one of the model's l"),
    "a level that is a boolean": (GOOD | {"parameters": {"interval": True}}, "interval: must be one of the model's le"),
    "an unknown output": (with_output("median"), "median: is no output of the model, which gives prediction, lower, u"),
    "labels of a regression": (with_output("label"), "label: is no output of the model"),
    "a repeated output": (GOOD | {"outputs": [{"name": "lower"}] * 2}, "lower: appears more than once"),
    "a classification": (with_output(classification=2), "prediction: cannot be a classification, which is not support"),
    "an output in shared memory": (with_output(shared_memory_region="a"), "prediction: is in shared memory"),
    "a form of an output": (with_output(binary_data="yes"), "prediction: must have true or false as binary_data"),
    "an unknown parameter of an output": (with_output(color=1), "prediction: has an unknown parameter: color"),
}  # fmt: skip

BINARY: dict[str, tuple[dict[str, Any], str]] = {
    "a truncated tail": (binary({"inputs": [raw()]}, RAW[:-1]), "given: has a binary_data_size beyond the end"),
    "no tail": (binary({"inputs": [raw()]}, b""), "given: has a binary_data_size beyond the end of the body"),
    "a surplus tail": (binary({"inputs": [raw()]}, RAW + b"ab"), "The body has 2 bytes beyond those of its tensors."),
    "a tail of no tensor": (binary(GOOD, b"abc"), "The body has 3 bytes beyond those of its tensors."),
    "a size unlike the shape": (binary({"inputs": [raw(16)]}, RAW[:16]), "given: must have the bytes that its shape a"),
    "an overflowing shape": (binary({"inputs": [raw(24, (2**62, 4))]}, RAW), "given: must have the bytes that its sha"),
    "a shape of nothing": (binary({"inputs": [raw(24, (2**32, 2**32))]}, RAW), "given: must have the bytes that its"),
    "a negative size": (binary({"inputs": [raw(-1)]}, RAW), "given: must have a whole number of bytes as binary_data_"),
    "a fraction as size": (binary({"inputs": [raw(24.5)]}, RAW), "given: must have a whole number of bytes"),
    "a boolean as size": (binary({"inputs": [raw(True)]}, RAW), "given: must have a whole number of bytes"),
    "a size beyond 64 bits": (binary({"inputs": [raw(2**70)]}, RAW), "given: has a binary_data_size beyond the end"),
    "values twice": (binary({"inputs": [raw(data=ROW)]}, RAW), "given: has both data and binary_data_size"),
    "no size": (binary({"inputs": [raw(None)]}, RAW), "given: has no values: neither data nor binary_data_size"),
    "booleans of other bytes": (binary({"inputs": [raw(3, datatype="BOOL")]}, b"\0\1\2"), "given: must hold 1 or 0"),
    "texts that end early": (binary({"inputs": [raw(6, (1,), "BYTES")]}, b"\5\0\0\0ab"), "given: ends within a text"),
    "texts not in UTF-8": (binary({"inputs": [raw(5, (1,), "BYTES")]}, b"\1\0\0\0\xff"), "given: must hold texts in U"),
    "missing values": (binary({"inputs": [raw()]}, struct.pack("<3d", 1, float("nan"), 1)), "rooms: must be a finite"),
    "a header beyond the body": (binary(GOOD, b"", 10_000), "The body is shorter than its Inference-Header-Content-Le"),
    "a header that cuts the JSON": (binary(GOOD, b"", 20), "The body is not valid JSON."),
    "a header of nothing": (binary(GOOD, b"", 0), "The body is not valid JSON."),
    "a header below zero": (binary(GOOD, b"", -5), "Inference-Header-Content-Length must be a whole number"),
    "a header that is no number": (binary(GOOD, b"", "0x10"), "Inference-Header-Content-Length must be a whole number"),
    "a header of many digits": (binary(GOOD, b"", "9" * 5000), "Inference-Header-Content-Length must be a whole numbe"),
    "JSON not in UTF-8": (binary(b'{"id":"\xff"}', b""), "The body is not valid JSON."),
}  # fmt: skip

TEXTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "The body is not valid JSON."),
    "no JSON": (b"{", "The body is not valid JSON."),
    "two values": (msgspec.json.encode(GOOD) * 2, "The body is not valid JSON."),
    "bytes that are no text": (b"\x80\x81", "The body is not valid JSON."),
    "deep nesting": (b'{"inputs":[],"parameters":{"a":' + b"[" * 100_000, "The body is not valid JSON."),
    "deep data": (
        b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP64","data":' + b"[" * 50_000 + b"]" * 50_000 + b"}]}",
        "The body is not valid JSON.",
    ),
    "a repeated field": (
        msgspec.json.encode(GOOD)[:-1] + b',"inputs":[]}', "(body): has a name more than once in an object",
    ),
    "a repeated field beside NaN": (
        msgspec.json.encode(GOOD)[:-1].replace(b"0.5", b"NaN") + b',"inputs":[]}', "(body): has a name more than once",
    ),
    "a repeated field hidden by an escaped colon": (
        b'{"id":"1","id":"\\u003a",' + msgspec.json.encode(GOOD)[1:], "(body): has a name more than once in an object",
    ),
    "a lone surrogate beside NaN": (
        b'{"id":"\\ud800",' + msgspec.json.encode(GOOD)[1:].replace(b"0.5", b"NaN"), "The body is not valid JSON.",
    ),
    "data not in UTF-8": (
        msgspec.json.encode(body(["q"], [1], "BYTES", "age")).replace(b"q", b"\xff"),
        "age: must have as data texts or null",
    ),
    "NaN": (msgspec.json.encode(GOOD).replace(b"0.5", b"NaN"), "income: must be a finite number (row 0)"),
    "Infinity": (msgspec.json.encode(GOOD).replace(b"0.5", b"-Infinity"), "income: must be a finite number (row 0)"),
    "NaN as a whole number": (
        msgspec.json.encode(body([7, 1, 2], [1, 3], "INT8")).replace(b"[7", b"[NaN"),
        "features: must have as data whole numbers",
    ),
    "NaN in an uneven nesting": (
        msgspec.json.encode(body([[7, 1, 2], [1]], [2, 3])).replace(b"[7", b"[NaN"),
        "features: must have as data numbers or null",
    ),
    "a dimension of many digits": (
        msgspec.json.encode(body(ROW, [7, 3])).replace(b"[7,", b"[" + b"9" * 4000 + b","),
        "features: must have as many values as its shape says",
    ),
}  # fmt: skip


def check(text: str, expected: str) -> None:
    assert expected in text
    assert SECRET not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("case", JSON)
def test_json_that_is_not_valid_is_named(app: App, case: str) -> None:
    given, expected = JSON[case]
    check(error(app.post(json=given)), expected)


@pytest.mark.parametrize("case", BINARY)
def test_bytes_that_are_not_valid_are_named(app: App, case: str) -> None:
    given, expected = BINARY[case]
    check(error(app.post(**given)), expected)


@pytest.mark.parametrize("case", TEXTS)
def test_texts_that_are_not_valid_are_named(app: App, case: str) -> None:
    given, expected = TEXTS[case]
    check(error(app.post(content=given)), expected)


def test_a_long_name_is_cut(app: App) -> None:
    text = error(app.post(json=body(ROW, [1, 4], name="n" * 100_000)))
    assert len(text) < 1000


def test_names_with_colons_are_not_taken_for_repeated_ones(app: App) -> None:
    request = body(ROW, [1, 3], name="a:b", id="c::d", parameters={"content_type": "a:b"}, outputs=[])
    assert app.post(json=request).status_code == 200
    text = msgspec.json.encode(request).replace(b"a:b", b"a\\u003ab")
    assert app.post(content=text).status_code == 200


@pytest.fixture(scope="module")
def small(app_settings: Settings, referring: ServedModel) -> Iterator[App]:
    """An app of low limits."""
    limits = {"max_json_bytes": 2048, "max_body_bytes": 8192, "max_bulk_rows": 200}
    app = App(settings_with(app_settings, **limits), referring)
    yield app
    app.close()


def test_json_is_limited_by_its_own_limit_and_bytes_by_that_of_bodies(small: App) -> None:
    assert small.send([tensor("x", sample(200))]).status_code == 200
    text = error(small.send([tensor("x", sample(400))]), 413)
    assert text == "The body is larger than MAX_BODY_BYTES."
    text = error(small.post(json=body(sample(100).tolist(), [100, 3])), 413)
    assert text == "The body is larger than MAX_JSON_BYTES."
    text = error(small.post(**binary(GOOD | {"id": "i" * 3000}, b"")), 413)
    assert text == "The JSON is larger than MAX_JSON_BYTES."


def test_rows_are_limited(small: App) -> None:
    for array in (sample(201), sample(201).astype("f4")):
        assert "MAX_BULK_ROWS" in error(small.send([tensor("x", array)]), 413)
    columns = [tensor(name, sample(201, 1).astype("i1")) for name in ("income", "rooms", "age")]
    assert "MAX_BULK_ROWS" in error(small.send(columns), 413)


def test_other_encodings_of_a_body_are_refused(app: App) -> None:
    text = error(app.post(json=GOOD, headers={"content-encoding": "br"}), 415)
    assert re.match("Content-Encoding must be absent, or one of", text)
    error(app.post(content=b"no gzip", headers={"content-encoding": "gzip"}))


def test_other_methods_are_refused(app: App) -> None:
    response = app.get(INFER)
    assert error(response, 405) == "This route supports only OPTIONS, POST."


def test_a_refused_request_leaves_nothing_behind(app: App) -> None:
    admission = app.services.admission
    error(app.post(**binary({"inputs": [raw(16)]}, RAW[:16])))
    error(app.send([tensor("x", sample(5000, 4))], asked("prediction")))
    assert admission.rows() == {"held": 0, "queued": 0}
