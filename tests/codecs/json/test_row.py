"""JSON rows and batches: valid rows are accepted, and every fault is named."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.json.row import JsonCodec
from app.errors import InvalidInput, MalformedBody
from app.feature import Feature

FEATURES = (
    Feature(name="income", physical_range=(0.0, 100.0), description="Median income", unit="10,000 USD"),
    Feature(name="rooms per house"),
    Feature(name="année", kind="integer", physical_range=(-10.0, 10.0)),
    Feature(name="coastal", kind="boolean", required=False),
    Feature(name="age", required=False, training_range=(1.0, 52.0)),
)
CODEC = JsonCodec(FEATURES)
VALID: dict[str, Any] = {"income": 3, "rooms per house": 5.5, "année": 7, "coastal": True, "age": 12.5}


def errors_of(body: bytes | dict[str, Any]) -> dict[str, str]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidInput) as caught:
        CODEC.decode_row(raw)
    return {error.field: error.message for error in caught.value.errors}


def test_a_row_is_float64_in_the_order_of_the_features() -> None:
    shuffled = dict(reversed(VALID.items()))
    row, _ = CODEC.decode_row(json.dumps(shuffled).encode())
    assert row.dtype == np.float64
    np.testing.assert_array_equal(row, [[3.0, 5.5, 7.0, 1.0, 12.5]])


def test_null_and_missing_optional_features_are_nan() -> None:
    row, _ = CODEC.decode_row(b'{"income": 3, "rooms per house": 5, "ann\xc3\xa9e": 7, "age": null}')
    np.testing.assert_array_equal(row, [[3.0, 5.0, 7.0, math.nan, math.nan]])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("income", "1.5", "must be a number, not text"),
        ("income", None, "must be a finite number, not null"),
        ("année", None, "must be a whole number, not null"),
        ("income", [1], "must be a number, not a list"),
        ("income", {"a": 1}, "must be a number, not an object"),
        ("income", math.nan, "must be a finite number"),
        ("income", math.inf, "must be a finite number"),
        ("rooms per house", -math.inf, "must be a finite number"),
        ("rooms per house", 10**400, "must be a finite number"),
        ("income", 100.1, "must be in the range 0 to 100"),
        ("income", -1e-9, "must be in the range 0 to 100"),
        ("année", 1.5, "must be a whole number, not a fraction"),
        ("année", 11, "must be in the range -10 to 10"),
        ("coastal", 2, "must be true or false, not a number"),
        ("coastal", 0.5, "must be true or false, not a fraction"),
        ("coastal", "yes", "must be true or false, not text"),
    ],
)
def test_a_bad_value_is_refused_with_its_field(field: str, value: Any, message: str) -> None:
    assert errors_of(VALID | {field: value}) == {field: message}


def test_every_fault_of_a_row_is_named_at_once() -> None:
    assert errors_of(b'{"income": NaN, "rooms per house": "5", "coastal": 2, "zip": 1}') == {
        "income": "must be a finite number",
        "rooms per house": "must be a number, not text",
        "année": "is missing",
        "coastal": "must be true or false, not a number",
        "zip": "unknown field",
    }


@pytest.mark.parametrize("body", [b"[]", b"3", b"null", b'"text"'])
def test_a_row_must_be_an_object(body: bytes) -> None:
    assert errors_of(body) == {"(body)": "must be an object of features by name"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"income": 1} x', b'{"income": 1' + b"0" * 5_000 + b"}"],
    ids=["empty", "truncated", "no UTF-8", "byte order mark", "deep", "trailing", "endless integer"],
)
def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        CODEC.decode_row(body)


def test_values_and_long_names_are_not_echoed() -> None:
    errors = errors_of(VALID | {"x" * 10_000: 1, "income": "password123"})
    assert "password123" not in str(errors)
    assert max(map(len, errors)) == 256


def test_a_name_with_a_lone_surrogate_is_named_in_the_answer() -> None:
    errors = errors_of(b'{"\\ud800": 1}')
    assert "?" in errors


def test_text_that_is_not_unicode_is_malformed() -> None:
    body = json.dumps({"predictions": [VALID], "batch_id": "\ud800"}).encode()
    with pytest.raises(MalformedBody, match="The body is not valid JSON"):
        CODEC.decode_batch(body, max_rows=10)


def test_a_repeated_name_is_refused_even_if_its_last_value_is_valid() -> None:
    body = json.dumps(VALID).encode()[:-1] + b', "income": "a", "income": 3}'
    assert errors_of(body)


@pytest.mark.parametrize(
    ("field", "value", "number"),
    [
        ("income", True, 1),
        ("income", 2**53 + 1, 2**53),
        ("année", 2.0, 2),
        ("année", -0.0, 0),
        ("année", True, 1),
        ("coastal", 1, 1),
        ("coastal", 0.0, 0),
    ],
)
def test_numbers_and_booleans_stand_for_each_other(field: str, value: Any, number: float) -> None:
    codec = JsonCodec(tuple(msgspec.structs.replace(feature, physical_range=None) for feature in FEATURES))
    body = json.dumps(VALID | {field: value}).encode()
    place = [feature.name for feature in FEATURES].index(field)
    rows = codec.decode_batch(b'{"predictions": [%b, %b]}' % (body, json.dumps(VALID).encode()), 9).rows
    assert codec.decode_row(body)[0][0, place] == rows[0, place] == number


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63, 2.0**53 + 2])
def test_whole_numbers_that_float64_does_not_tell_apart_are_refused(value: float) -> None:
    codec = JsonCodec((Feature(name="n", kind="integer"),))
    assert codec.decode_row(b'{"n": 9007199254740992}')[0].tolist() == [[2.0**53]]
    with pytest.raises(InvalidInput) as caught:
        codec.decode_row(json.dumps({"n": value}).encode())
    assert caught.value.errors[0].message == "must be in the range -9007199254740992 to 9007199254740992"


def test_values_of_float_columns_are_rounded_to_float32() -> None:
    codec = JsonCodec((Feature(name="a", single=True, required=False), Feature(name="b")))
    for value in (0.1, 3.4028235e38, -3.4028235e38, 1e-46, 1.00000001):
        body = json.dumps({"a": value, "b": 0.1}).encode()
        expected = [[float(np.float32(value)), 0.1]]
        assert codec.decode_row(body)[0].tolist() == expected
        assert codec.decode_batch(b'{"predictions": [%b]}' % body, 9).rows.tolist() == expected
    for body in (b'{"a": null, "b": 0.1}', b'{"b": 0.1}'):
        np.testing.assert_array_equal(codec.decode_row(body)[0], [[math.nan, 0.1]])
    for value in (3.4028236e38, -1e39):
        with pytest.raises(InvalidInput) as caught:
            codec.decode_row(json.dumps({"a": value, "b": 0.1}).encode())
        assert caught.value.errors[0].message == "must be in the range -3.4028235e+38 to 3.4028235e+38"


def test_an_invalid_row_leaves_the_other_rows_valid() -> None:
    rows = [VALID, VALID | {"income": "x"}, 7, VALID | {"age": 1}]
    batch = CODEC.decode_batch(json.dumps({"predictions": rows, "batch_id": "b1"}).encode(), max_rows=10)
    assert batch.rows.shape == (2, 5)
    assert batch.positions == (0, 3)
    assert {index: [error.field for error in errors] for index, errors in batch.errors.items()} == {
        1: ["income"],
        2: ["(body)"],
    }
    assert (batch.size, batch.batch_id) == (4, "b1")


def test_a_row_with_nan_leaves_the_other_rows_valid() -> None:
    good = json.dumps(VALID)
    batch = CODEC.decode_batch(f'{{"predictions": [{good}, {{"income": NaN}}]}}'.encode(), max_rows=10)
    assert batch.positions == (0,)
    assert batch.errors[1][0].message == "must be a finite number"


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (b"{}", {"predictions": "is missing"}),
        (b'{"predictions": []}', {"predictions": "must hold 1 to 2 rows, and holds 0"}),
        (b'{"predictions": [1, 2, 3]}', {"predictions": "must hold 1 to 2 rows, and holds 3"}),
        (b'{"predictions": {}}', {"predictions": "must be a list"}),
        (b"[]", {"(body)": "must be an object with predictions, a list of rows"}),
        (
            b'{"predictions": [1], "batch_id": 3, "extra": 1}',
            {"extra": "unknown field", "batch_id": "must be text of at most 128 characters"},
        ),
    ],
)
def test_fields_beside_the_rows_are_checked(body: bytes, errors: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        CODEC.decode_batch(body, max_rows=2)
    assert {error.field: error.message for error in caught.value.errors} == errors


def test_the_schema_describes_the_features() -> None:
    schema = CODEC.json_schema()
    assert schema["required"] == ["income", "rooms per house", "année"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["income"] == {
        "type": ["number", "boolean"], "minimum": 0.0, "maximum": 100.0, "description": "Median income [10,000 USD]",
    }  # fmt: skip
    assert schema["properties"]["coastal"] == {
        "type": ["boolean", "number", "null"], "enum": [False, True, 0, 1, None],
    }  # fmt: skip
    assert schema["properties"]["age"]["description"] == "Training saw 1 to 52."


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
near_rows = st.fixed_dictionaries(
    {},
    optional={
        "income": st.floats(-1, 101) | json_values,
        "rooms per house": st.floats() | json_values,
        "année": st.integers(-12, 12) | json_values,
        "coastal": st.booleans() | json_values,
        "age": st.floats(allow_nan=False) | json_values,
        "zip": json_values,
    },
)


def is_valid(row: dict[str, Any]) -> bool:
    """The rules again, written apart from the decoder."""

    def number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
        if type(value) is int:
            return abs(value) < 10**308 and low <= value <= high
        return type(value) is float and math.isfinite(value) and low <= value <= high

    return (
        row.keys() <= {feature.name for feature in FEATURES}
        and number(row.get("income"), 0, 100)
        and number(row.get("rooms per house"))
        and type(row.get("année")) is int
        and -10 <= row["année"] <= 10
        and (row.get("coastal") is None or type(row["coastal"]) is bool)
        and (row.get("age") is None or number(row["age"]))
    )


@given(near_rows)
def test_only_valid_rows_are_accepted(row: dict[str, Any]) -> None:
    body = json.dumps(row).encode()
    if is_valid(row):
        expected = [float("nan") if row.get(f.name) is None else float(row[f.name]) for f in FEATURES]
        np.testing.assert_array_equal(CODEC.decode_row(body)[0], [expected])
    else:
        assert errors_of(body)


@given(st.lists(near_rows, min_size=1, max_size=5))
def test_a_batch_accepts_the_same_rows_as_single_requests(rows: list[dict[str, Any]]) -> None:
    batch = CODEC.decode_batch(json.dumps({"predictions": rows}).encode(), max_rows=5)
    assert batch.positions == tuple(index for index, row in enumerate(rows) if is_valid(row))
    assert set(batch.errors) == set(range(len(rows))) - set(batch.positions)
    assert batch.size == len(rows)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(body: bytes) -> None:
    with pytest.raises((MalformedBody, InvalidInput)):
        CODEC.decode_row(body)
    with pytest.raises((MalformedBody, InvalidInput)):
        CODEC.decode_batch(body, max_rows=5)
