"""Values and tables before they are sent: none changes its meaning on the way, and errors show no value."""

import math
import sys
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from madrone.client.rows import encode_json, row_of
from madrone.client.tables import table_of

INFINITE = [math.inf, np.float32("inf"), np.float16("-inf"), np.longdouble("inf"), Decimal("Infinity")]


def sent(table: Any) -> Any:
    """A table as the service gets it."""
    made = table_of(table)
    return pa.ipc.open_stream(made.body(0, made.rows)).read_all()


@pytest.mark.parametrize("value", [*INFINITE, np.array(math.inf)], ids=repr)
def test_an_infinite_value_of_any_type_does_not_become_a_missing_one(value: Any) -> None:
    with pytest.raises(ValueError, match="is infinite, which no model takes"):
        encode_json(row_of({"x": value}))


@pytest.mark.parametrize("value", INFINITE, ids=repr)
def test_without_pyarrow_columns_go_as_json_and_refuse_infinite_values(
    monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    table = table_of({"x": np.array([1.0, np.nan], np.float32), 2: [3, None]})
    assert msgspec.json.decode(table.body(0, 2)) == {"columns": {"x": [1.0, None], "2": [3, None]}}
    with pytest.raises(ValueError, match=r"The column x holds an infinite value, which no model takes\."):
        table_of({"x": [1.0, value]})


def test_without_pyarrow_a_frame_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"x": [1.0]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"^Tables of columns are sent by Arrow, which needs pyarrow: pip install"):
        table_of(frame)


def test_numbers_of_odd_types_are_sent_as_what_they_are() -> None:
    row = {"long": np.longdouble(1.5), "single": np.float32(0.5), "none": pd.NA, "true": np.True_}
    assert msgspec.json.decode(encode_json(row_of(row))) == {"long": 1.5, "single": 0.5, "none": None, "true": True}
    columns = sent({"x": [pd.NA, 1.0], 2: pa.chunked_array([[1], [2]]), "m": np.ma.masked_array([1, 2], [True, False])})
    assert columns.to_pydict() == {"x": [None, 1.0], "2": [1, 2], "m": [None, 2]}


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.float16, np.longdouble, ">f4"])
def test_matrices_of_every_dtype_and_order_are_sent(dtype: Any) -> None:
    matrix = np.arange(12).reshape(3, 4).astype(dtype)
    for given in (matrix, np.asfortranarray(matrix), matrix[::-1, ::2], matrix[:0]):
        table = table_of(given)
        found = table.answer([table.body(0, table.rows)])
        assert found.itemsize <= 8
        assert np.array_equal(found, given)


def test_masked_values_are_missing() -> None:
    table = table_of(np.ma.masked_array([[1, 2], [3, 4]], [[False, True], [False, False]]))
    assert np.array_equal(table.answer([table.body(0, 2)]), [[1, np.nan], [3, 4]], equal_nan=True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"x": [1, "secret"]}, "The column x cannot be sent"),
        ({"x": [2**70]}, "The column x cannot be sent"),
        ({"x": 1.0}, "The column x cannot be sent"),
        ({"x": [1.0], "y": []}, "The columns cannot be sent: .*length"),
        (pd.DataFrame({"x": [1, "secret"]}), "The table cannot be sent: Conversion failed for column x"),
        (pd.DataFrame({"x": [1j]}), "The table cannot be sent: Conversion failed for column x"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "The table cannot be sent: Duplicate column names"),
        (pd.Series([1.0]), "The table cannot be sent"),
        (pl.DataFrame({"x": pl.Series([1], dtype=pl.Int128)}), "The table cannot be sent"),
    ],
)
def test_what_arrow_does_not_take_is_named_and_not_shown(table: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        table_of(table)
    assert "secret" not in str(caught.value)
