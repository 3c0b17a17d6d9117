"""Categories in JSON: codes by value, missing and unseen values, and how each reader tells of them."""

import json
from typing import Any

import numpy as np
import pytest

from app.codecs.json import ndjson
from app.codecs.json import table as table_json
from app.codecs.json.row import JsonCodec
from app.errors import InvalidInput, MalformedBody
from app.feature import Category, Feature
from tests.codecs.support import ROWS, Array

COLORS = ("mauve", "teal", "a:b", "é")
FEATURES = (
    Feature(name="color", kind="category", categories=COLORS),
    Feature(name="x", nullable=True),
    Feature(name="size", kind="category", categories=(10, 2, 7), required=False),
    Feature(name="new", kind="category", categories=(False, True)),
)
NAMES = [feature.name for feature in FEATURES]
ROW: dict[str, Any] = {"color": "teal", "x": 0.5, "size": 7, "new": True}
REFUSING = tuple(
    Feature(name=feature.name, kind=feature.kind, categories=feature.categories, unseen="refuse")
    if feature.kind == "category"
    else feature
    for feature in FEATURES
)


def bodies(rows: list[dict[str, Any]], *, ascii_only: bool = True) -> dict[str, bytes]:
    """The rows in each layout of JSON, by its name."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    data = [list(row.values()) for row in rows]

    def dumps(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=ascii_only).encode()

    return {
        "rows": dumps({"rows": rows}),
        "columns": dumps({"columns": columns}),
        "data": dumps({"data": data, "names": list(rows[0])}),
        "ndjson": b"\n".join(map(dumps, rows)),
    }


def decode(name: str, body: bytes, features: tuple[Feature, ...] = FEATURES) -> Array:
    return (ndjson if name == "ndjson" else table_json).decode(body, features, ROWS)


def one(row: dict[str, Any], features: tuple[Feature, ...] = FEATURES) -> tuple[list[float], tuple[str, ...]]:
    """Numbers and warnings of a row, which are the same alone and in a batch, in the typed pass and the other."""
    codec, body = JsonCodec(features), json.dumps(row).encode()
    numbers, warnings = codec.decode_row(body)
    batch = codec.decode_batch(b'{"predictions": [%b, %b]}' % (json.dumps(ROW).encode(), body), 9)
    beside = codec.decode_batch(b'{"predictions": [%b, 3]}' % body, 9)
    for found, place in ((batch, 1), (beside, 0)):
        np.testing.assert_array_equal(found.rows[place], numbers[0])
        assert found.warnings.get(place, ()) == warnings
        assert found.warnings.keys() <= {place}
    return numbers[0].tolist(), warnings


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        *[("color", value, code) for code, value in enumerate(COLORS)],
        ("color", None, np.nan),
        ("size", 10, 0),
        ("size", 2.0, 1),
        ("size", None, np.nan),
        ("new", False, 0),
        ("new", 1, 1),
        ("new", 1.0, 1),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_value_becomes_its_code(field: str, value: Category | None, code: float, ascii_only: bool) -> None:
    row = ROW | {field: value}
    expected = [1, 0.5, 2, 1]
    expected[NAMES.index(field)] = code
    found, warnings = one(row)
    np.testing.assert_array_equal(found, expected)
    assert warnings == ()
    for name, body in bodies([ROW, row], ascii_only=ascii_only).items():
        np.testing.assert_array_equal(decode(name, body), [[1, 0.5, 2, 1], expected], name)


def test_columns_of_data_may_be_in_any_order() -> None:
    rows = [dict(reversed(ROW.items())), dict(reversed((ROW | {"color": "a:b"}).items()))]
    for name, body in bodies(rows).items():
        np.testing.assert_array_equal(decode(name, body), [[1, 0.5, 2, 1], [2, 0.5, 2, 1]], name)
    plain = json.dumps({"data": [list(ROW.values())]}).encode()
    np.testing.assert_array_equal(decode("data", plain), [[1, 0.5, 2, 1]])
    assert decode("data", b'{"data": []}').shape == (0, 4)


def test_an_optional_category_may_be_left_out_and_a_required_one_may_not() -> None:
    row = {name: value for name, value in ROW.items() if name != "size"}
    np.testing.assert_array_equal(one(row)[0], [1, 0.5, np.nan, 1])
    for name, body in bodies([row, row]).items():
        np.testing.assert_array_equal(decode(name, body)[:, 2], [np.nan] * 2, name)
    with pytest.raises(InvalidInput) as caught:
        JsonCodec(FEATURES).decode_row(b'{"x": 1, "new": true}')
    assert [(error.field, error.message) for error in caught.value.errors] == [("color", "is missing")]


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("color", "Teal", "'Teal'"),
        ("color", "", "''"),
        ("color", "\x1b[31m\n", "'\\x1b[31m\\n'"),
        ("color", "x" * 100, f"'{'x' * 60}'"),
        ("color", "b:c:d", "'b:c:d'"),
        ("size", 3, "3"),
        ("size", 2.5, "2.5"),
        ("size", 10**300, "1" + "0" * 59),
        ("size", False, "false"),
        ("new", 2, "2"),
    ],
)
def test_an_unseen_value_is_missing_with_a_warning(field: str, value: Category, shown: str) -> None:
    row = ROW | {field: value}
    found, warnings = one(row)
    assert np.isnan(found[NAMES.index(field)])
    assert warnings == (
        f"{field} has the value {shown}, which is none of the model's categories; it counts as missing",
    )
    for name, body in bodies([ROW, row]).items():
        assert np.isnan(decode(name, body)[1, NAMES.index(field)]), name


@pytest.mark.parametrize(("field", "value"), [("color", "Teal"), ("size", 3), ("new", 7)])
def test_an_unseen_value_may_be_refused(field: str, value: Category) -> None:
    text = "is none of the model's categories"
    row = json.dumps(ROW | {field: value}).encode()
    codec = JsonCodec(REFUSING)
    assert codec.decode_row(json.dumps(ROW).encode())[0].tolist() == [[1, 0.5, 2, 1]]
    with pytest.raises(InvalidInput) as caught:
        codec.decode_row(row)
    assert [(error.field, error.message) for error in caught.value.errors] == [(field, text)]
    batch = codec.decode_batch(b'{"predictions": [%b, %b]}' % (json.dumps(ROW).encode(), row), 9)
    assert (batch.positions, [(error.field, error.message) for error in batch.errors[1]]) == ((0,), [(field, text)])
    for name, body in bodies([ROW, ROW | {field: value}, ROW | {field: None}]).items():
        with pytest.raises(InvalidInput) as caught:
            decode(name, body, REFUSING)
        assert [(error.field, error.message) for error in caught.value.errors] == [(field, f"{text} (row 1)")], name


@pytest.mark.parametrize(
    ("field", "value", "text", "found"),
    [
        ("color", 1, "must be text", "a number"),
        ("color", True, "must be text", "true or false"),
        ("color", ["teal"], "must be text", "a list"),
        ("size", "7", "must be a number, or true or false", "text"),
        ("size", {}, "must be a number, or true or false", "an object"),
    ],
)
def test_a_value_of_another_kind_is_refused(field: str, value: Any, text: str, found: str) -> None:
    row = ROW | {field: value}
    with pytest.raises(InvalidInput) as caught:
        JsonCodec(FEATURES).decode_row(json.dumps(row).encode())
    assert [(error.field, error.message) for error in caught.value.errors] == [(field, f"{text}, not {found}")]
    for name, body in bodies([ROW, row]).items():
        with pytest.raises(InvalidInput) as caught:
            decode(name, body)
        assert [(error.field, error.message) for error in caught.value.errors] == [(field, f"{text} (row 1)")], name


def test_a_feature_without_categories_takes_any_value_as_missing() -> None:
    features = (Feature(name="none", kind="category", categories=()),)
    for value in ("a", 1, 2.5, True):
        numbers, warnings = JsonCodec(features).decode_row(json.dumps({"none": value}).encode())
        assert np.isnan(numbers).all()
        assert len(warnings) == 1
    assert JsonCodec(features).decode_row(b'{"none": null}')[1] == ()


def test_texts_and_numbers_may_be_categories_of_one_feature() -> None:
    codec = JsonCodec((Feature(name="c", kind="category", categories=("1", 1, True + 1)),))
    found = [codec.decode_row(json.dumps({"c": value}).encode())[0].item() for value in ("1", 1, 2.0, True)]
    assert found == [0, 1, 2, 1]


@pytest.mark.parametrize("value", ["a:b", "a\\u003ab", "\\u0061:b", "a\\u003Ab"])
def test_a_repeated_name_is_found_beside_texts_with_colons(value: str) -> None:
    row = f'{{"color": "{value}", "x": 1, "new": true}}'
    twice = f'{{"color": "{value}", "x": 1, "new": true, "x": 1}}'
    doubled = f'{{"color": "{value}", "color": "{value}", "x": 1, "new": true}}'
    np.testing.assert_array_equal(JsonCodec(FEATURES).decode_row(row.encode())[0], [[2, 1, np.nan, 1]])
    np.testing.assert_array_equal(decode("rows", f'{{"rows": [{row}, {row}]}}'.encode())[:, 0], [2, 2])
    np.testing.assert_array_equal(decode("ndjson", f"{row}\n{row}".encode())[:, 0], [2, 2])
    for wrong, name in ((twice, "x"), (doubled, "color")):
        with pytest.raises(InvalidInput) as caught:
            JsonCodec(FEATURES).decode_row(wrong.encode())
        assert [(error.field, error.message) for error in caught.value.errors] == [(name, "appears more than once")]
        for layout, body in (("rows", f'{{"rows": [{row}, {wrong}]}}'), ("ndjson", f"{row}\n{wrong}")):
            with pytest.raises(InvalidInput) as caught:
                decode(layout, body.encode())
            assert [error.field for error in caught.value.errors] == [name]
    columns = f'{{"columns": {{"color": ["{value}"], "x": [1], "new": [true], "x": [1]}}}}'
    with pytest.raises(InvalidInput):
        decode("columns", columns.encode())


@pytest.mark.parametrize("name", ["row", "rows", "ndjson", "columns", "data"])
def test_a_text_that_is_not_unicode_is_malformed(name: str) -> None:
    row = ROW | {"color": "\ud800"}
    body = bodies([row] * 2).get(name, json.dumps(row).encode())
    with pytest.raises(MalformedBody):
        JsonCodec(FEATURES).decode_row(body) if name == "row" else decode(name, body)


def test_many_categories_are_looked_up_by_value() -> None:
    categories = tuple(f"c{index}" for index in range(100_000))
    features = (Feature(name="c", kind="category", categories=categories),)
    order = np.random.default_rng(0).integers(0, len(categories), ROWS)
    for name, body in bodies([{"c": categories[code]} for code in order.tolist()]).items():
        np.testing.assert_array_equal(decode(name, body, features)[:, 0], order, name)
