"""JSON tables: three layouts, and every fault of each is named."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.json import table as table_json
from app.codecs.result import PIECE_ROWS, Result
from app.errors import InvalidInput, MalformedBody, TooLarge
from app.feature import Feature
from tests.codecs.support import FEATURES, GOOD, NAMES, ROWS, cells, errors_of, json_data, objects

DATA: list[list[Any]] = [list(row.values()) for row in objects(GOOD)]
LOOSE = (Feature(name="a", required=False), Feature(name="b", required=False))


def errors(body: Any) -> dict[str, str]:
    return errors_of("json data", body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [3, 1, 2, 0, 4], [0, 2, 1, 3, 4]])
def test_names_give_the_order_of_the_values(order: list[int]) -> None:
    rows = [[row[place] for place in order] for row in DATA]
    body = json.dumps({"names": [NAMES[place] for place in order], "data": rows}).encode()
    np.testing.assert_array_equal(table_json.decode(body, FEATURES, ROWS), GOOD)


def test_values_are_checked_by_the_kind_of_their_name() -> None:
    names = ["flag", "x", "n", "ranged", "maybe"]
    assert errors({"names": names, "data": [[0.5, "a", 1, 1, 1], [True, 1, 1.5, 1, 1]]}) == {
        "x": "must be a number (row 0)",
        "n": "must be a whole number (row 1)",
        "flag": "must be true or false (row 0)",
    }


def test_optional_features_may_be_left_out_by_name() -> None:
    for body in (
        {"names": ["b"], "data": [[1], [None]]},
        {"columns": {"b": [1, None]}},
        {"rows": [{"b": 1}, {}]},
    ):
        rows = table_json.decode(json.dumps(body).encode(), LOOSE, ROWS)
        np.testing.assert_array_equal(rows, [[np.nan, 1], [np.nan, np.nan]])
    np.testing.assert_array_equal(table_json.decode(b'{"names": [], "data": [[]]}', LOOSE, ROWS), [[np.nan] * 2])


@pytest.mark.parametrize("body", [b'{"rows": []}', b'{"data": []}', b'{"columns": {}}', b'{"columns": {"a": []}}'])
def test_no_rows_are_an_empty_batch(body: bytes) -> None:
    assert table_json.decode(body, LOOSE, ROWS).shape == (0, 2)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], {"(body)": "must be an object with rows, columns or data"}),
        ({}, {"(body)": "must hold exactly one of rows, columns and data"}),
        ({"rows": [], "data": []}, {"(body)": "must hold exactly one of rows, columns and data"}),
        ({"rows": [], "predictions": []}, {"predictions": "unknown field"}),
        ({"rows": [], "names": NAMES}, {"names": "is allowed only together with data"}),
        ({"data": [], "names": "x"}, {"names": "must be a list of strings"}),
        ({"data": [], "names": [1]}, {"names": "must be a list of strings"}),
        ({"rows": {}}, {"rows": "must be a list"}),
        ({"data": 1}, {"data": "must be a list"}),
        ({"columns": []}, {"columns": "must be an object of lists by name"}),
        ({"rows": [1]}, {"(body)": "must be an object of features by name (row 0)"}),
        ({"data": [DATA[0], [1], 1]}, {"(body)": "must be a list of 5 values (2 rows, the first is row 1)"}),
        (
            {"data": [], "names": ["n", "n", "zip", "x"]},
            {"ranged": "is missing", "n": "appears more than once", "zip": "unknown field"},
        ),
        (
            {"columns": cells(GOOD) | {"n": [1], "flag": 1}},
            {
                "flag": "must be a list",
                "n": "must hold as many values as the first column, 3, and holds 1",
            },
        ),
        ({"columns": {"zip": [], "x": [], "n": []}}, {"ranged": "is missing", "zip": "unknown field"}),
    ],
)
def test_fields_beside_the_values_are_checked(body: Any, expected: dict[str, str]) -> None:
    assert errors(body) == expected


@pytest.mark.parametrize("layout", ["rows", "columns", "data"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("x", "secret", "must be a number (row 1)"),
        ("x", {"a": 1}, "must be a number (row 1)"),
        ("x", None, "must be a finite number (row 1)"),
        ("maybe", np.nan, "must be a finite number (row 1)"),
        ("n", 1.5, "must be a whole number (row 1)"),
        ("n", 10**400, "must be a finite number (row 1)"),
        ("flag", 0.5, "must be true or false (row 1)"),
        ("ranged", 11, "must be in the range 0 to 10 (row 1)"),
    ],
)
def test_a_bad_value_has_one_text_in_every_layout(layout: str, field: str, value: Any, message: str) -> None:
    columns = cells(GOOD)
    columns[field][1] = value
    rows = list(zip(*columns.values(), strict=True))
    body = {"columns": columns, "data": rows, "rows": [dict(zip(NAMES, row, strict=True)) for row in rows]}
    assert errors({layout: body[layout]}) == {field: message}


@pytest.mark.parametrize("layout", ["rows", "data", "columns"])
def test_too_many_rows_are_refused_even_if_they_are_invalid(layout: str) -> None:
    body = {"columns": {"a": ["x"] * (ROWS + 1)}}.get(layout, [0] * (ROWS + 1))
    with pytest.raises(TooLarge):
        table_json.decode(json.dumps({layout: body}).encode(), LOOSE, ROWS)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'{"rows": [', b"[" * 100_000, b'{"rows": []} x'],
)
def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="The body is not valid JSON"):
        table_json.decode(body, LOOSE, ROWS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["rows", "columns", "data", "names", "more"]), json_values, max_size=3))
def test_any_json_is_a_batch_or_an_error_of_the_caller(body: Any) -> None:
    for features in (LOOSE, FEATURES):
        try:
            rows = table_json.decode(json.dumps(body).encode(), features, ROWS)
        except (MalformedBody, InvalidInput):
            continue
        assert rows.shape[1] == len(features)
        assert not np.isinf(rows).any()


@pytest.mark.parametrize("rows", [0, 1, 2049, PIECE_ROWS + 1])
def test_results_are_columns(rows: int) -> None:
    random = np.random.default_rng(0)
    one, many, half = random.normal(size=rows), random.normal(size=(rows, 2)), random.random(rows)
    for answer, expected in (
        (Result(one, None, "1"), {"prediction": one}),
        (Result(many, None, '"'), {"prediction_0": many[:, 0], "prediction_1": many[:, 1]}),
        (Result(one, half, "1"), {"prediction": one, "lower": one - half, "upper": one + half}),
    ):
        found = json.loads(b"".join(table_json.encode(answer)))
        assert found == {
            "columns": {name: values.tolist() for name, values in expected.items()},
            "model_version": answer.model_version,
        }


def test_data_with_names_in_order_is_read() -> None:
    np.testing.assert_array_equal(table_json.decode(json_data(GOOD, names=NAMES), FEATURES, ROWS), GOOD)


def test_values_must_fit_their_names_not_the_models_order() -> None:
    features = (Feature(name="x"), Feature(name="flag", kind="boolean"))
    with pytest.raises(InvalidInput) as caught:
        table_json.decode(b'{"names": ["flag", "x"], "data": [[0.5, "1"]]}', features, ROWS)
    assert [error.field for error in caught.value.errors] == ["x", "flag"]
