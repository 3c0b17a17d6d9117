"""NumPy's .npy files: every real dtype, byte order and memory order, but no pickle, and no size beyond the body's."""

import io
from typing import Any

import numpy as np
import pytest

from app.codecs.arrays import npy
from app.codecs.result import PIECE_ROWS, Result
from app.errors import InvalidInput, MalformedBody, TooLarge
from app.feature import Feature
from tests.codecs.support import FEATURES, GOOD, ROWS, errors_of, npy_file

PAIR = (Feature(name="a"), Feature(name="b"))
SMALL = np.array([[1, 0], [2, 100], [3, 1]])


def header(**changes: Any) -> bytes:
    """An array's header alone, with entries that need not be true."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (3, 2)} | changes)
    return head.getvalue()


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("memory_order", "CF")
def test_every_real_dtype_and_layout_is_read(kind: str, byte_order: str, memory_order: str) -> None:
    array = np.array(SMALL, dtype=byte_order + kind, order=memory_order)  # type: ignore[call-overload]
    rows = npy.decode(npy_file(array), PAIR, ROWS)
    assert rows.dtype == np.float64
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(rows, SMALL)


def test_booleans_are_zero_and_one() -> None:
    np.testing.assert_array_equal(npy.decode(npy_file(SMALL == 1), PAIR, ROWS), SMALL == 1)


def test_a_matrix_of_float64_is_not_copied() -> None:
    body = npy_file(np.arange(6.0).reshape(3, 2))
    rows = npy.decode(body, PAIR, ROWS)
    assert np.shares_memory(rows, np.frombuffer(body, np.uint8))
    assert not rows.flags.writeable
    assert not npy.decode(bytearray(body), PAIR, ROWS).flags.writeable


def test_no_rows_are_an_empty_batch() -> None:
    assert npy.decode(npy_file(np.empty((0, 2))), PAIR, ROWS).shape == (0, 2)


@pytest.mark.parametrize(
    "array", [np.array([["1", "2"]]), np.array([[1j, 2]]), np.zeros((3, 2), "f8,f8"), np.zeros((3, 2), "M8[s]")]
)
def test_other_dtypes_are_refused(array: Any) -> None:
    assert errors_of("npy", npy_file(array)) == {
        "(body)": "must be an array of real numbers or booleans of at most 64 bits"
    }


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (3, 6), (1, 3, 5)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    assert errors_of("npy", npy_file(np.zeros(shape))) == {"(body)": "must be an array of shape (rows, 5)"}


class Trap:
    """Raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit",)


def test_pickles_are_refused_unread() -> None:
    body = npy_file(np.array([[Trap()] * 5], dtype=object), allow_pickle=True)
    with pytest.raises(SystemExit):
        np.load(io.BytesIO(body), allow_pickle=True)
    assert errors_of("npy", body) == {"(body)": "must be an array of real numbers or booleans of at most 64 bits"}


@pytest.mark.parametrize("shape", [(500, 2), (2, 2), (-1, 2), (-3, -2)])
def test_a_shape_that_does_not_fit_the_bytes_is_malformed(shape: tuple[int, int]) -> None:
    with pytest.raises((MalformedBody, InvalidInput)):
        npy.decode(header(shape=shape) + bytes(48), PAIR, ROWS)


@pytest.mark.parametrize("rows", [ROWS + 1, 2**62, 2**64])
def test_too_many_rows_are_refused_by_the_header(rows: int) -> None:
    with pytest.raises(TooLarge):
        npy.decode(header(shape=(rows, 2)), PAIR, ROWS)


@pytest.mark.parametrize(
    "body",
    [
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        b"\x93NUMPY\x01\x00\x10\x00{'a': __import__}",
        b"\x93NUMPY\x09\x00\x10\x00",
        header()[:40],
        b"PK\x03\x04",
    ],
)
def test_an_invalid_header_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match=r"The body is not a valid \.npy file\."):
        npy.decode(body, PAIR, ROWS)


def test_integers_must_be_whole_and_booleans_0_or_1() -> None:
    rows = GOOD.copy()
    rows[1:, 2], rows[2, 3] = 1.5, 2
    assert errors_of("npy", npy_file(rows)) == {
        "n": "must be a whole number (2 rows, the first is row 1)",
        "flag": "must be true or false (row 2)",
    }


def test_an_integer_without_a_range_must_be_one_that_float64_tells_apart() -> None:
    rows = GOOD.copy()
    rows[1, 2] = 2.0**63
    message = "must be in the range -9007199254740992 to 9007199254740992 (row 1)"
    assert errors_of("npy", npy_file(rows)) == {"n": message}


@pytest.mark.parametrize("rows", [0, 1, PIECE_ROWS + 1])
def test_results_are_arrays(rows: int) -> None:
    random = np.random.default_rng(0)
    one, many, half = random.normal(size=rows), random.normal(size=(rows, 3)), random.random(rows)
    for answer, expected in (
        (Result(one, None, "1"), one),
        (Result(many, None, "1"), many),
        (Result(one, half, "1"), np.column_stack([one, one - half, one + half])),
    ):
        np.testing.assert_array_equal(np.load(io.BytesIO(b"".join(npy.encode(answer)))), expected)


def test_features_of_every_kind_are_checked_in_a_view() -> None:
    rows = np.tile(GOOD, (3000, 1))
    rows[8999, 1] = 11
    body = npy_file(rows)
    with pytest.raises(InvalidInput) as caught:
        npy.decode(body, FEATURES, 10**6)
    assert caught.value.errors[0].message == "must be in the range 0 to 10 (row 8999)"
