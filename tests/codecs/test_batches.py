"""Properties of every bulk format: the same rows are read, the same faults named, and no bytes crash a decoder."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, MalformedBody, TooLarge, UnsupportedMediaType
from tests.codecs.support import FEATURES, GOOD, MAKERS, ROWS, Array, decode, errors_of

every_format = pytest.mark.parametrize("name", MAKERS)

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308])
missing = st.just(np.nan)
good_rows = st.lists(
    st.tuples(
        numbers,
        st.floats(0, 10),
        st.integers(-(2**53), 2**53).map(float),
        st.sampled_from([0.0, 1.0, np.nan]),
        numbers | missing,
    ),
    max_size=20,
).map(lambda rows: np.array(rows, dtype=np.float64).reshape(len(rows), len(FEATURES)))


def bits(rows: Array) -> list[list[int]]:
    """Exactly what is held, -0.0 and all; any NaN counts as one."""
    return np.where(np.isnan(rows), np.nan, rows).view(np.uint64).tolist()


@every_format
@given(rows=good_rows)
def test_rows_are_decoded_bit_for_bit(name: str, rows: Array) -> None:
    decoded = decode(name, MAKERS[name][1](rows))
    assert decoded.dtype == np.float64
    assert decoded.shape == rows.shape
    assert bits(decoded) == bits(rows)


@every_format
@pytest.mark.parametrize("of", [bytes, bytearray, memoryview])
def test_a_body_may_be_any_buffer(name: str, of: Callable[[bytes], bytes]) -> None:
    np.testing.assert_array_equal(decode(name, of(MAKERS[name][1](GOOD))), GOOD)


@every_format
def test_rows_of_several_blocks_keep_their_order(name: str) -> None:
    rows = np.tile(GOOD, (300, 1))
    rows[:, 0] = np.arange(900)
    np.testing.assert_array_equal(decode(name, MAKERS[name][1](rows)), rows)


@every_format
def test_a_value_out_of_range_is_refused_with_its_first_row(name: str) -> None:
    rows = np.tile(GOOD, (3, 1))
    rows[4:6, 1] = 10.5, -1e-9
    message = "must be in the range 0 to 10 (2 rows, the first is row 4)"
    assert errors_of(name, MAKERS[name][1](rows)) == {"ranged": message}


@every_format
def test_nan_in_a_required_feature_is_refused(name: str) -> None:
    rows = GOOD.copy()
    rows[1:, 0] = np.nan
    rows[2, 1] = np.nan
    assert errors_of(name, MAKERS[name][1](rows)) == {
        "x": "must be a finite number (2 rows, the first is row 1)",
        "ranged": "must be a finite number (row 2)",
    }


@every_format
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinite_numbers_are_refused_even_if_optional(name: str, bad: float) -> None:
    rows = GOOD.copy()
    rows[2, 0] = rows[0, 4] = bad
    assert errors_of(name, MAKERS[name][1](rows)) == {
        "x": "must be a finite number (row 2)",
        "maybe": "must be a finite number (row 0)",
    }


@every_format
def test_too_many_rows_are_refused(name: str) -> None:
    rows = np.tile(GOOD[:1], (ROWS + 1, 1))
    assert len(decode(name, MAKERS[name][1](rows[:-1]))) == ROWS
    with pytest.raises(TooLarge) as caught:
        decode(name, MAKERS[name][1](rows))
    assert caught.value.detail == f"The body holds more than the {ROWS} rows of MAX_BULK_ROWS."


@every_format
@given(data=st.data())
def test_a_truncated_or_damaged_body_is_an_error_of_the_caller(name: str, data: st.DataObject) -> None:
    body = bytearray(MAKERS[name][1](GOOD))
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(1, 255)), max_size=3))
    for position, mask in flips:
        body[position] ^= mask
    keep = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    try:
        rows = decode(name, bytes(body[:keep]))
    except (MalformedBody, InvalidInput, TooLarge, UnsupportedMediaType):
        return
    assert rows.shape[1] == len(FEATURES)
    assert np.isfinite(rows[:, :3]).all()


@every_format
@given(body=st.binary(max_size=200))
def test_random_bytes_are_an_error_of_the_caller(name: str, body: bytes) -> None:
    try:
        decode(name, body)
    except (MalformedBody, InvalidInput, TooLarge, UnsupportedMediaType):
        return
    assert name == "ndjson"
    assert not body.strip()


@every_format
def test_a_body_of_another_format_is_refused(name: str) -> None:
    for other in MAKERS:
        if MAKERS[other][0] != MAKERS[name][0]:
            with pytest.raises((MalformedBody, InvalidInput)):
                decode(name, MAKERS[other][1](GOOD))
