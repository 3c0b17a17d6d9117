"""MessagePack maps: an array as shape, dtype and bytes, with columns in any order."""

from typing import Any

import msgspec
import numpy as np
import pytest

from app.codecs.arrays import msgpack
from app.codecs.result import PIECE_ROWS, Result
from app.errors import MalformedBody, TooLarge
from app.feature import Feature
from tests.codecs.support import FEATURES, GOOD, NAMES, ROWS, errors_of, msgpack_map

PAIR = (Feature(name="a"), Feature(name="b", required=False))
SMALL = np.array([[1, 0], [2, 100], [3, 1]])


@pytest.mark.parametrize(
    "dtype",
    ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"],
)
def test_every_real_dtype_is_read(dtype: str) -> None:
    rows = msgpack.decode(msgpack_map(SMALL.astype(dtype)), PAIR, ROWS)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, SMALL)


def test_names_put_columns_in_order() -> None:
    order = [3, 0, 4, 2, 1]
    body = msgpack_map(np.ascontiguousarray(GOOD[:, order]), names=[NAMES[place] for place in order])
    np.testing.assert_array_equal(msgpack.decode(body, FEATURES, ROWS), GOOD)


def test_optional_features_may_be_left_out_by_name() -> None:
    rows = msgpack.decode(msgpack_map(np.ones((2, 1)), names=["a"]), PAIR, ROWS)
    np.testing.assert_array_equal(rows, [[1, np.nan], [1, np.nan]])
    only = (Feature(name="b", required=False),)
    body = msgpack_map(np.ones((2, 0)), names=[])
    np.testing.assert_array_equal(msgpack.decode(body, only, ROWS), [[np.nan], [np.nan]])


def test_every_wrong_name_is_named() -> None:
    body = msgpack_map(np.zeros((1, 4)), names=["n", "n", "zip", "x"])
    assert errors_of("msgpack", body) == {
        "ranged": "is missing",
        "n": "appears more than once",
        "zip": "unknown field",
    }


@pytest.mark.parametrize("offset", range(9))
def test_aligned_float64_values_are_not_copied(offset: int) -> None:
    values = np.arange(6.0).reshape(3, 2)
    body = msgspec.msgpack.encode(
        {"names": ["a", "b"], "dtype": "float64", "shape": (3, 2), "data": values.tobytes()}
    ).rjust(200 + offset, b"\0")
    start = body.index(b"\x84")
    rows = msgpack.decode(memoryview(body)[start:], PAIR, ROWS)
    np.testing.assert_array_equal(rows, values)
    assert rows.flags.aligned
    place = np.frombuffer(body, np.uint8)[body.index(b"data") + 6 :].ctypes.data
    assert np.shares_memory(rows, np.frombuffer(body, np.uint8)) == (place % 8 == 0)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3]}, {"shape": [3, 2, 1]}, {"shape": "3x2"}, {"shape": [3, 3]}, {"shape": [-3, 2]},
        {"data": "text"}, {"data": None}, {"data": bytes(47)}, {"more": 1}, {"dtype": 8},
        {"names": "ab"}, {"names": [1, 2]}, {"names": ["a"] * 70_000},
    ],
)  # fmt: skip
def test_other_messagepack_is_malformed(change: dict[str, Any]) -> None:
    parts = {"shape": [3, 2], "dtype": "float64", "data": bytes(48)}
    assert msgpack.decode(msgspec.msgpack.encode(parts), PAIR, ROWS).shape == (3, 2)
    if change == {"shape": [3, 3]}:
        assert errors_of("msgpack", msgspec.msgpack.encode(parts | change)) == {
            "(body)": "must be an array of shape (rows, 5)"
        }
        return
    with pytest.raises(MalformedBody):
        msgpack.decode(msgspec.msgpack.encode(parts | change), PAIR, ROWS)


@pytest.mark.parametrize("dtype", ["object", "complex128", "<f8", "float128", "str", "", "O"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    body = msgspec.msgpack.encode({"shape": [0, 5], "dtype": dtype, "data": b""})
    assert errors_of("msgpack", body) == {
        "dtype": "must be one of float64, float32, float16, int64, int32, int16, int8, uint64, uint32, uint16, uint8, "
        "bool"
    }


@pytest.mark.parametrize("rows", [ROWS + 1, 2**63, 2**64 - 1])
def test_too_many_rows_are_refused_by_the_shape(rows: int) -> None:
    with pytest.raises(TooLarge):
        msgpack.decode(msgspec.msgpack.encode({"shape": [rows, 2], "dtype": "float64", "data": b""}), PAIR, ROWS)


@pytest.mark.parametrize("rows", [0, 1, PIECE_ROWS + 1])
def test_results_are_maps(rows: int) -> None:
    random = np.random.default_rng(0)
    one, many, half = random.normal(size=rows), random.normal(size=(rows, 3)), random.random(rows)
    for answer, names, expected in (
        (Result(one, None, "1"), ["prediction"], one),
        (Result(many, None, "1"), ["prediction_0", "prediction_1", "prediction_2"], many),
        (Result(one, half, "1"), ["prediction", "lower", "upper"], np.column_stack([one, one - half, one + half])),
    ):
        found = msgspec.msgpack.decode(b"".join(msgpack.encode(answer)))
        values = np.frombuffer(found.pop("data"), found["dtype"]).reshape(found["shape"])
        assert found == {"shape": list(expected.shape), "dtype": "float64", "names": names, "model_version": "1"}
        np.testing.assert_array_equal(values, expected)
