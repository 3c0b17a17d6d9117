"""Tensors as bytes: views of the body, and nothing that the bytes do not bear out."""

import re
import struct
from typing import Any

import numpy as np
import pytest

from app.codecs.arrays.raw_tensors import ITEMS, read_raw, write_raw
from app.codecs.arrays.tensors import BYTES, DTYPES, Tensor
from app.errors import InvalidInput


def texts(*values: str | bytes) -> bytes:
    encoded = [value if isinstance(value, bytes) else value.encode() for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)


@pytest.mark.parametrize("datatype", DTYPES)
def test_numbers_are_views_wherever_they_begin(datatype: str) -> None:
    values = np.array([[1, 0], [0, 1], [1, 1]], DTYPES[datatype])
    body = b"{}?" + values.tobytes()
    tensor = read_raw("a", datatype, [3, 2], memoryview(body)[3:])
    assert tensor[:3] == ("a", datatype, (3, 2))
    assert isinstance(tensor.values, np.ndarray)
    assert tensor.values.dtype == DTYPES[datatype]
    assert np.shares_memory(tensor.values, np.frombuffer(body, np.uint8))
    np.testing.assert_array_equal(tensor.values, values.reshape(-1))
    assert bytes(write_raw(tensor)) == values.tobytes()


def test_texts_are_read_and_written() -> None:
    given = ["red", "", "grün", "a\0b"] * ITEMS
    tensor = read_raw("a", BYTES, [len(given), 1], texts(*given))
    assert tensor.values == given
    assert write_raw(tensor) == texts(*given)
    assert write_raw(Tensor("a", BYTES, (2,), [None, "\ud800"])) == texts("", "?")


@pytest.mark.parametrize("datatype", [*DTYPES, BYTES])
def test_no_values_have_no_bytes(datatype: str) -> None:
    tensor = read_raw("a", datatype, [0, 3], b"")
    assert len(tensor.values) == 0
    assert bytes(write_raw(tensor)) == b""


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP64", [2], bytes(15), "must have the bytes that its shape and datatype take, and has 15"),
        ("FP64", [2], bytes(24), "must have the bytes .* 24"),
        ("FP64", [2**62, 2**62], bytes(8), "must have the bytes"),
        ("FP64", [2**61], bytes(0), "must have the bytes"),
        ("INT8", [2**64 + 1], bytes(1), "must have the bytes"),
        ("BOOL", [3], b"\0\1\2", "must hold 1 or 0 in each byte"),
        (BYTES, [2**40], texts("a"), "has 5 bytes of data, too few"),
        (BYTES, [2], texts("abcd"), "ends within the length of a text"),
        (BYTES, [2], texts("a", "b")[:-1], "ends within a text"),
        (BYTES, [1], b"\xff\xff\xff\xff", "ends within a text"),
        (BYTES, [1], texts("a", "b"), "has 5 bytes more than"),
        (BYTES, [1], texts(b"\xff"), "must hold texts in UTF-8"),
        ("BF16", [1], bytes(2), "has a datatype that is not read"),
    ],
)
def test_faults_name_the_tensor(datatype: str, shape: list[int], data: bytes, message: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_raw("given", datatype, shape, data)
    (error,) = caught.value.errors
    assert error.field == "given"
    assert re.match(message, error.message)
