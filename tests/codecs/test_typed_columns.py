"""One rule for values in every typed format: missing ones, booleans, whole floats, float32 and long integers."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.codecs.formats import FORMATS
from app.errors import InvalidInput, MalformedBody
from app.feature import Feature
from tests.codecs.support import MAKERS, Array, arrow_stream, msgpack_map, npy_file, parquet_file

NAN = float("nan")
NUMBER, WHOLE = Feature(name="a", nullable=True), Feature(name="a", kind="integer")
FLAG, SINGLE = Feature(name="a", kind="boolean"), Feature(name="a", single=True)
END = 2**53
RANGE = f"must be in the range {-END} to {END}"


def bodies(*values: Any, dtype: str | None = None) -> dict[str, bytes]:
    """A column in each format; None where a value is missing."""
    lines = ['""' if value is None else str(value) for value in values]  # blank lines are skipped
    found = {"csv": "\n".join(["a", *lines, ""]).encode()}
    found["msgpack list"] = msgpack_map(np.empty((len(values), 0)), columns={"a": list(values)})
    table = pa.table({"a": pa.array(values, None if dtype is None else pa.from_numpy_dtype(np.dtype(dtype)))})
    found |= {"arrow": arrow_stream(table), "parquet": parquet_file(table)}
    found["arrow dictionary"] = arrow_stream(pa.table({"a": table["a"].combine_chunks().dictionary_encode()}))
    if dtype is None or None not in values:
        matrix = np.array([NAN if value is None else value for value in values], dtype)[:, None]
        found |= {"npy": npy_file(matrix), "msgpack": msgpack_map(matrix)}
        found["npy big-endian"] = npy_file(matrix.astype(matrix.dtype.newbyteorder(">")))
        found["npy fortran"] = npy_file(np.asfortranarray(np.column_stack([matrix, matrix])[:, :1]))
    return found


def decode(name: str, body: bytes, feature: Feature) -> Array:
    return FORMATS[MAKERS[name.split()[0]][0]].decode(body, (feature,), 1000)


def error_of(name: str, body: bytes, feature: Feature) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode(name, body, feature)
    (error,) = caught.value.errors
    assert error.field == "a"
    return error.message


def check(made: dict[str, bytes], feature: Feature, expected: list[float]) -> None:
    for name, body in made.items():
        np.testing.assert_array_equal(decode(name, body, feature)[:, 0], expected, name)


def check_fault(made: dict[str, bytes], feature: Feature, message: str) -> None:
    for name, body in made.items():
        assert error_of(name, body, feature) == message, name


def test_missing_numbers_are_nan_where_the_feature_takes_them() -> None:
    check(bodies(1.5, None, -0.0), NUMBER, [1.5, NAN, -0.0])
    check(bodies(None, None, 1.0), NUMBER, [NAN, NAN, 1])
    check_fault(bodies(1.5, None, 2.5), Feature(name="a"), "must be a finite number (row 1)")


def test_booleans_are_numbers_and_whole_numbers() -> None:
    for feature in (NUMBER, WHOLE, FLAG, SINGLE):
        check(bodies(True, False, True), feature, [1, 0, 1])


def test_a_dictionary_of_numbers_is_a_column_of_numbers() -> None:
    dictionary = pa.array([2.5, None, 7.0])
    column = pa.DictionaryArray.from_arrays(pa.array([2, 1, None, 0], pa.uint8()), dictionary)
    check({"arrow": arrow_stream(pa.table({"a": column}))}, NUMBER, [7, NAN, NAN, 2.5])
    empty = pa.DictionaryArray.from_arrays(pa.array([None, None], pa.int8()), pa.array([], pa.int64()))
    check({"arrow": arrow_stream(pa.table({"a": empty}))}, NUMBER, [NAN, NAN])
    texts = pa.array(["1", "2"]).dictionary_encode()
    check_fault({"arrow": arrow_stream(pa.table({"a": texts}))}, NUMBER, "must be a number, not dictionary")


def test_a_place_outside_a_dictionary_of_numbers_is_malformed() -> None:
    good = arrow_stream(pa.table({"a": pa.array([2.5, 2.5, 2.5]).dictionary_encode()}))
    places = np.zeros(3, np.int32).tobytes()
    at = good.rindex(places)
    for place in (1, -1, 2**31 - 1):
        with pytest.raises(MalformedBody):
            decode("arrow", good[:at] + np.array([0, place, 0], np.int32).tobytes() + good[at + 12 :], NUMBER)


def test_whole_floats_are_whole_numbers_and_fractions_are_not() -> None:
    check(bodies(2.0, -3.0, 1e15), WHOLE, [2, -3, 1e15])
    check_fault(bodies(2.0, 2.5, -0.5), WHOLE, "must be a whole number (2 rows, the first is row 1)")
    check_fault(bodies(1.0, 0.0, 0.5, 2.0), FLAG, "must be true or false (2 rows, the first is row 2)")
    check(bodies(1.0, 0.0), FLAG, [1, 0])
    check(bodies(1, 0), FLAG, [1, 0])


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_long_integers_that_float64_would_round_are_refused(dtype: str) -> None:
    check(bodies(1, END, END - 1, dtype=dtype), WHOLE, [1, END, END - 1])
    for value in (END + 1, END + 2, 2**63 - 1):
        check_fault(bodies(1, value, 2, value, dtype=dtype), WHOLE, f"{RANGE} (2 rows, the first is row 1)")
    check(bodies(1, END + 1, dtype=dtype), NUMBER, [1, END])


def test_long_negative_integers_are_refused_too() -> None:
    check(bodies(-END, dtype="int64"), WHOLE, [-END])
    check_fault(bodies(0, -END - 1, dtype="int64"), WHOLE, f"{RANGE} (row 1)")


def test_long_integers_beside_missing_ones_are_exact() -> None:
    optional = Feature(name="a", kind="integer", required=False)
    check(bodies(END, None, 1, dtype="int64"), optional, [END, NAN, 1])
    check_fault(bodies(END, None, END + 1, dtype="int64"), optional, f"{RANGE} (row 2)")


@pytest.mark.parametrize(
    "cell", ["9007199254740993", "9007199254740992.5", "-9007199254740993.0", "9.007199254740993e15"]
)
def test_cells_are_compared_exactly_with_the_range(cell: str) -> None:
    assert error_of("csv", f"a\n1\n{cell}\n".encode(), WHOLE) == f"{RANGE} (row 1)"
    np.testing.assert_array_equal(
        decode("csv", b"a\n9007199254740992.0\n-9.007199254740992E15\n", WHOLE), [[END], [-END]]
    )


def test_values_of_float_columns_are_rounded_to_float32() -> None:
    values = [0.1, 1 / 3, -1e-46, 3.4028235e38, 16777217.0]
    expected = np.array(values, np.float32).astype(float).tolist()
    check(bodies(*values), SINGLE, expected)
    check(bodies(0.1, None), Feature(name="a", single=True, nullable=True), [expected[0], NAN])
    check_fault(bodies(0.1, 3.5e38), SINGLE, "must be in the range -3.4028235e+38 to 3.4028235e+38 (row 1)")


def test_a_matrix_that_is_taken_as_it_is_is_rounded_too() -> None:
    features = (Feature(name="a"), Feature(name="b", single=True))
    matrix = np.full((3, 2), 0.1)
    body = npy_file(matrix)
    rows = FORMATS[MAKERS["npy"][0]].decode(body, features, 10)
    np.testing.assert_array_equal(rows, [[0.1, float(np.float32(0.1))]] * 3)
    assert FORMATS[MAKERS["npy"][0]].decode(body, features[:1] * 2, 10).base is not None  # no copy


def test_lists_of_a_messagepack_map_take_any_feature() -> None:
    features = (NUMBER, Feature(name="n", kind="integer"), Feature(name="f", kind="boolean"), Feature(name="x"))
    body = msgpack_map(np.array([[1.5], [2.5]]), columns={"a": [None, NAN], "n": [2.0, True], "f": [1, False]})
    rows = FORMATS[MAKERS["msgpack"][0]].decode(body, features, 10)
    np.testing.assert_array_equal(rows, [[NAN, 2, 1, 1.5], [NAN, 1, 0, 2.5]])
    for values, message in (
        (["a", 1], "must be a whole number (row 0)"),
        ([1, None], "must be a whole number (row 1)"),
        ([1, 2**53 + 1], f"{RANGE} (row 1)"),
    ):
        made = msgpack_map(np.empty((2, 0)), columns={"a": values})

        assert error_of("msgpack", made, WHOLE) == message
