"""The wire format: what is read of a message is what protobuf reads of it, and any bytes are an error at worst."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from app.codecs.arrays.tensors import DTYPES
from app.config.settings import Settings
from app.errors import InvalidInput, MalformedBody, TooLarge
from app.protocols.open_inference.rpc.contents import FIELDS, tensors_of
from app.protocols.open_inference.rpc.infer import REQUEST
from app.protocols.open_inference.rpc.wire import delimited, named_model, split, varint
from tests.protocols.open_inference.rpc_support import Rpc, code, parsed, request, rpc_of, typed
from tests.routes.support import Row, row_of

WHOLE = {
    "INT8": 7, "INT16": 15, "INT32": 31, "INT64": 63, "UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64,
}  # fmt: skip
LIMIT = 10_000


def read(message: bytes) -> Any:
    parts = split(message, 8, LIMIT, "MAX_JSON_BYTES")
    return tensors_of(REQUEST.FromString(parts.rest), parts)


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_whole_numbers_are_those_that_protobuf_wrote(datatype: str, data: Any) -> None:
    bits = WHOLE[datatype]
    least = 0 if datatype.startswith("U") else -(2**bits)
    values = data.draw(st.lists(st.integers(least, 2**bits - 1), max_size=300))
    message = request()
    message.inputs.append(typed("x", datatype, [len(values)], FIELDS[datatype][0], values))
    (tensor,) = read(message.SerializeToString())
    found = np.asarray(tensor.values)
    assert found.dtype == DTYPES[datatype]
    assert found.tolist() == values


def test_more_numbers_than_one_piece_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.protocols.open_inference.rpc.contents.PIECE", 7)
    values = [(-1) ** place * 3**place for place in range(39)]
    message = request()
    message.inputs.append(typed("x", "INT64", [len(values)], "int64_contents", values))
    (tensor,) = read(message.SerializeToString())
    assert np.asarray(tensor.values).tolist() == values


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "BOOL", "INT64"])
def test_unpacked_and_divided_numbers_are_the_same(datatype: str) -> None:
    field, number = FIELDS[datatype]
    message = typed("x", datatype, [3], field, [1, 0, 1]).contents.SerializeToString()
    whole = message[2:]
    size = len(whole) // 3
    kind = {"FP32": 5, "FP64": 1}.get(datatype, 0)
    unpacked = b"".join(varint(number << 3 | kind) + whole[at : at + size] for at in range(0, len(whole), size))
    divided = b"".join(delimited(number << 3 | 2, whole[at : at + size]) for at in range(0, len(whole), size))
    head = typed("x", datatype, [3], field, []).SerializeToString()
    for contents in (unpacked, divided):
        (tensor,) = read(delimited(5 << 3 | 2, head + delimited(5 << 3 | 2, contents)))
        assert np.asarray(tensor.values).tolist() == [1, 0, 1]
    with pytest.raises(InvalidInput, match="not valid"):
        read(delimited(5 << 3 | 2, head + delimited(5 << 3 | 2, divided + unpacked)))


def test_numbers_that_do_not_end_or_are_too_long_are_refused() -> None:
    head = typed("x", "INT64", [1], "int64_contents", []).SerializeToString()
    for coded in (b"\x01\x80", b"\x80" * 11 + b"\x01", b"\x80"):
        with pytest.raises(InvalidInput):
            read(delimited(5 << 3 | 2, head + delimited(5 << 3 | 2, delimited(3 << 3 | 2, coded))))


names = st.sampled_from(["", "a", "features", "ü"])
parameters = st.dictionaries(names, st.just(service_pb2.InferParameter(bool_param=True)), max_size=2)
inputs = st.builds(
    service_pb2.ModelInferRequest.InferInputTensor,
    name=names, datatype=names, shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4), parameters=parameters,
    contents=st.none() | st.builds(
        service_pb2.InferTensorContents, fp64_contents=st.lists(st.floats(), max_size=3),
        int_contents=st.lists(st.integers(-9, 9), max_size=3),
        bytes_contents=st.lists(st.binary(max_size=3), max_size=3),
    ),
)  # fmt: skip
requests = st.builds(
    service_pb2.ModelInferRequest, model_name=names, model_version=names, id=names, parameters=parameters,
    inputs=st.lists(inputs, max_size=3), raw_input_contents=st.lists(st.binary(max_size=9), max_size=3),
)  # fmt: skip


@given(requests)
def test_the_rest_of_a_message_is_the_message_without_its_numbers(message: Any) -> None:
    sent = message.SerializeToString()
    assert named_model(sent, 8) == (message.model_name, message.model_version)
    parts = split(sent, 8, LIMIT, "MAX_JSON_BYTES")
    assert [bytes(raw) for raw in parts.raw] == list(message.raw_input_contents)
    rest = REQUEST.FromString(parts.rest)
    del message.raw_input_contents[:]
    for place, tensor in enumerate(message.inputs):
        assert set(parts.packed[place]) == {
            number for field, number in ((tensor.contents.fp64_contents, 7), (tensor.contents.int_contents, 2)) if field
        }
        tensor.contents.ClearField("fp64_contents")
        tensor.contents.ClearField("int_contents")
        if not tensor.contents.ListFields():
            tensor.ClearField("contents")
            rest.inputs[place].ClearField("contents") if not rest.inputs[place].contents.ListFields() else None
    assert rest.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


pieces = st.sampled_from([b"\x2a", b"\x3a", b"\x0a", b"\x80", b"\x00", b"\x05", b"\x01"])


@given(st.binary(max_size=60) | st.lists(pieces).map(b"".join))
def test_any_bytes_are_read_as_protobuf_reads_them_or_refused(message: bytes) -> None:
    with suppress(MalformedBody, InvalidInput, DecodeError):
        named_model(message, 8)
        tensors = read(message)
        assert len(service_pb2.ModelInferRequest.FromString(message).inputs) == len(tensors)


def test_a_rest_is_bounded_before_it_is_read() -> None:
    for many in (b"\x2a\x00" * LIMIT, b"\x0a\x01x" * LIMIT, delimited(5 << 3 | 2, b"\x2a\x02\x42\x00" * LIMIT)):
        with pytest.raises((TooLarge, InvalidInput)):
            split(many, 8, LIMIT, "MAX_JSON_BYTES")
    texts = delimited(5 << 3 | 2, delimited(5 << 3 | 2, b"\x42\x00" * LIMIT))
    with pytest.raises(TooLarge, match="MAX_JSON_BYTES"):
        split(texts, 8, LIMIT, "MAX_JSON_BYTES")
    pieces = delimited(5 << 3 | 2, delimited(5 << 3 | 2, b"\x3a\x00" * 101))
    with pytest.raises(InvalidInput, match="pieces"):
        split(pieces, 8, LIMIT, "MAX_JSON_BYTES")


@pytest.fixture
async def rpc(settings: Settings) -> AsyncIterator[Rpc]:
    async with rpc_of(settings) as rpc:
        yield rpc


async def test_the_server_lives_on_after_messages_of_any_bytes(rpc: Rpc, example: Row) -> None:
    good = request(row_of(example)).SerializeToString()
    right = await rpc.send(good)
    random = np.random.default_rng(0)
    named = request().SerializeToString()
    for size in (0, 1, 2, 3, 5, 8, 13, 40, 100, 1000, 40_000):
        for _ in range(6):
            junk = random.integers(0, 256, size, dtype=np.uint8).tobytes()
            assert code(await rpc.refused(junk)) in ("INVALID_ARGUMENT", "NOT_FOUND")  # it may name no model at all
            assert code(await rpc.refused(named + junk)) in ("INVALID_ARGUMENT", "NOT_FOUND")
    for place in range(0, len(good), 3):
        assert code(await rpc.refused(good[:place])) in ("INVALID_ARGUMENT", "NOT_FOUND")
    assert parsed(await rpc.send(good)).outputs == parsed(right).outputs
