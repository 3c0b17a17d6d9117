"""One set of rules: a fault has the same field, text and status in every format that can express it."""

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.codecs.formats import FORMATS
from app.codecs.json.row import JsonCodec
from app.codecs.rules import LARGEST_SINGLE, broken_rule, fault_text, limits_of
from app.errors import FieldError, InvalidInput
from app.feature import Feature
from tests.codecs.support import FEATURES, MAKERS, NAMES, ROWS, arrow_stream, msgpack_map, npy_file, parquet_file

VALID: dict[str, Any] = {"x": 0.5, "ranged": 5.0, "n": 3, "flag": True, "maybe": 2.5}

Row = list[tuple[str, Any]]


def json_object(row: Row) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in row) + "}"


def json_columns(rows: list[Row]) -> str:
    lists = [(name, [row[place][1] for row in rows]) for place, (name, _) in enumerate(rows[0])]
    return json_object(lists)


def table(rows: list[Row]) -> Any:
    """Columns of the type that their values have, or of float64 or text."""
    arrays: list[Any] = []
    for cells in zip(*([value for _, value in row] for row in rows), strict=True):
        try:
            arrays.append(pa.array(cells))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            of = str if any(isinstance(cell, str) for cell in cells) else float
            arrays.append(pa.array(map(of, cells)))
        except OverflowError:
            arrays.append(pa.array(cells, pa.uint64()))
    return pa.Table.from_arrays(arrays, [name for name, _ in rows[0]])


def bodies(rows: list[Row]) -> dict[str, bytes]:
    """The rows in each format that can hold them, by its name in MAKERS."""
    names = [name for name, _ in rows[0]]
    values = [[value for _, value in row] for row in rows]
    objects = list(map(json_object, rows))
    lines = [names, *(["" if value is None else str(value) for value in row] for row in values)]
    found = {
        "json rows": f'{{"rows": [{", ".join(objects)}]}}'.encode(),
        "json columns": f'{{"columns": {json_columns(rows)}}}'.encode(),
        "json data": json.dumps({"names": names, "data": values}).encode(),
        "ndjson": "\n".join(objects).encode(),
        "csv": "".join(",".join(line) + "\n" for line in lines).encode(),
        "arrow": arrow_stream(table(rows)),
    }
    if len(set(names)) == len(names):
        found["parquet"] = parquet_file(table(rows))
    if not any(isinstance(value, str) for row in values for value in row):
        matrix = np.array(values, dtype=np.float64)
        found["msgpack"] = msgpack_map(matrix, names=names)
        if names == NAMES:
            found["npy"] = npy_file(matrix)
    return found


def row_errors(row: Row) -> dict[str, tuple[FieldError, ...]]:
    """Errors of a row alone, and in a batch behind a valid one."""
    codec, text = JsonCodec(FEATURES), json_object(row)
    with pytest.raises(InvalidInput) as caught:
        codec.decode_row(text.encode())
    batch = codec.decode_batch(f'{{"predictions": [{json.dumps(VALID)}, {text}]}}'.encode(), ROWS)
    assert batch.errors.keys() == {1}
    return {"row": caught.value.errors, "batch": batch.errors[1]}


def changed(**values: Any) -> Row:
    return list((VALID | values).items())


FAULTS: dict[str, tuple[Row, str, str, str]] = {
    "out of range": (changed(ranged=11.0), "ranged", "must be in the range 0 to 10", ""),
    "infinite": (changed(x=float("inf")), "x", "must be a finite number", ""),
    "infinite and optional": (changed(maybe=float("-inf")), "maybe", "must be a finite number", ""),
    "null": (changed(x=None), "x", "must be a finite number", ", not null"),
    "text": (changed(x="a"), "x", "must be a number", ", not text"),
    "no whole number": (changed(n=1.5), "n", "must be a whole number", ", not a fraction"),
    "no boolean": (changed(flag=2), "flag", "must be true or false", ", not a number"),
    "too large": (changed(n=2**63), "n", "must be in the range -9007199254740992 to 9007199254740992", ""),
    "missing": ([item for item in changed() if item[0] != "x"], "x", "is missing", ""),
    "unknown": ([*changed(), ("zip", 1.0)], "zip", "unknown field", ""),
    "repeated": ([*changed(), ("n", 3)], "n", "appears more than once", ""),
}
"""An invalid row, the field at fault, its text, and what the text ends with where it is about a single row."""

OF_NAMES = ("missing", "unknown", "repeated")
"""Faults of every row, in a format with columns."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_one_text_in_every_format(fault: str) -> None:
    row, field, text, found = FAULTS[fault]
    for name, errors in row_errors(row).items():
        assert [(error.field, error.message) for error in errors] == [(field, text + found)], name
    made = bodies([row if fault in OF_NAMES else changed(), row])
    assert made.keys() >= {"json rows", "json columns", "json data", "ndjson", "csv", "arrow"}
    for name, body in made.items():
        with pytest.raises(InvalidInput) as caught:
            FORMATS[MAKERS[name][0]].decode(body, FEATURES, ROWS)
        (error,) = caught.value.errors
        assert error.field == field, name
        # Arrow and Parquet refuse a column of text by its type, of which every row is.
        typed = name in ("arrow", "parquet") and fault == "text"
        ending = "" if fault in OF_NAMES else r", not \w+" if typed else r" \(row 1\)"
        assert re.fullmatch(re.escape(text) + ending, error.message), (name, error.message)


def test_every_format_has_a_body_for_a_fault_of_values() -> None:
    assert bodies([changed(), changed(ranged=11.0)]).keys() == MAKERS.keys()


def test_valid_rows_are_read_in_every_format() -> None:
    for name, body in bodies([changed(), changed(maybe=1.0)]).items():
        rows = FORMATS[MAKERS[name][0]].decode(body, FEATURES, ROWS)
        np.testing.assert_array_equal(rows, [[0.5, 5, 3, 1, 2.5], [0.5, 5, 3, 1, 1]], name)


@pytest.mark.parametrize(
    ("feature", "limits"),
    [
        (Feature(name="a"), (-1.7976931348623157e308, 1.7976931348623157e308)),
        (Feature(name="a", physical_range=(0.0, float("inf"))), (0, 1.7976931348623157e308)),
        (Feature(name="a", kind="integer"), (-(2.0**53), 2.0**53)),
        (Feature(name="a", kind="integer", physical_range=(-1e30, 5.0)), (-(2.0**53), 5)),
        (Feature(name="a", kind="boolean"), (0, 1)),
        (Feature(name="a", single=True), (-LARGEST_SINGLE, LARGEST_SINGLE)),
    ],
)
def test_limits_are_finite_and_exact_for_an_integer(feature: Feature, limits: tuple[float, float]) -> None:
    assert limits_of(feature) == limits
    assert JsonCodec((feature,)).decode_row(b'{"a": 1}')[0].tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("feature", "text"),
    [
        (Feature(name="a", physical_range=(0.0, float("inf"))), "0 to inf"),
        (Feature(name="a", physical_range=(-1e300, 0.30000000000000004)), "-1e+300 to 0.30000000000000004"),
        (Feature(name="a", kind="integer", physical_range=(-1e30, 5.0)), "-9007199254740992 to 5"),
        (Feature(name="a", kind="integer", physical_range=(-(2.0**31), 2.0**31 - 1)), "-2147483648 to 2147483647"),
        (Feature(name="a", single=True), "-3.4028235e+38 to 3.4028235e+38"),
        (Feature(name="a", single=True, physical_range=(0.0, float("inf"))), "0 to 3.4028235e+38"),
    ],
)
def test_the_text_of_a_range_is_exact(feature: Feature, text: str) -> None:
    assert fault_text(feature, "range") == f"must be in the range {text}"


def test_the_greatest_float32_is_in_its_range_and_the_next_is_not() -> None:
    feature = Feature(name="a", single=True)
    low, high = limits_of(feature)
    assert np.float32(high) == np.finfo(np.float32).max == -np.float32(low)
    with np.errstate(over="ignore"):
        assert np.isinf(np.float32(np.nextafter(high, np.inf)))
    assert low <= -3.4028235e38
    assert high >= 3.4028235e38


def test_an_integer_is_compared_exactly_with_its_range() -> None:
    feature = Feature(name="a", kind="integer", physical_range=(0.0, 2.0**53))
    assert broken_rule(feature, 2**53, limits_of(feature)) is None
    assert broken_rule(feature, 2**53 + 1, limits_of(feature)) == "range"
    with pytest.raises(InvalidInput):
        JsonCodec((feature,)).decode_row(b'{"a": 9007199254740993}')


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ({"x": True, "n": True, "flag": 1, "maybe": False}, [1, 5, 1, 1, 0]),
        ({"x": 2**53, "n": 2.0, "flag": 0.0}, [2**53, 5, 2, 0, 2.5]),
        ({"x": 1, "n": -(2**53), "flag": 0, "maybe": -1}, [1, 5, -(2**53), 0, -1]),
    ],
)
def test_numbers_and_booleans_stand_for_each_other_in_every_format(
    values: dict[str, Any], numbers: list[float]
) -> None:
    row = changed(**values)
    found = JsonCodec(FEATURES).decode_row(json_object(row).encode())[0]
    np.testing.assert_array_equal(found, [numbers])
    made = bodies([row, row])
    assert made.keys() == MAKERS.keys()
    for name, body in made.items():
        rows = FORMATS[MAKERS[name][0]].decode(body, FEATURES, ROWS)
        np.testing.assert_array_equal(rows, [numbers, numbers], name)


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1])
def test_a_long_that_float64_rounds_is_refused_in_every_format_that_has_it(value: int) -> None:
    text = "must be in the range -9007199254740992 to 9007199254740992"
    assert {error.message for errors in row_errors(changed(n=value)).values() for error in errors} == {text}
    made = bodies([changed(), changed(n=value)])
    integers = np.array([[value]] * 2, np.uint64 if value >= 2**63 else np.int64)
    alone = (Feature(name="n", kind="integer"),)
    given = [(name, FEATURES, made[name], "1") for name in made if name not in ("npy", "msgpack")]
    given += [("npy", alone, npy_file(integers), "0"), ("msgpack", alone, msgpack_map(integers), "0")]
    for name, features, body, row in given:
        with pytest.raises(InvalidInput) as caught:
            FORMATS[MAKERS[name][0]].decode(body, features, ROWS)
        where = f" (row {row})" if row == "1" else " (2 rows, the first is row 0)"
        assert [(error.field, error.message) for error in caught.value.errors] == [("n", text + where)], name
