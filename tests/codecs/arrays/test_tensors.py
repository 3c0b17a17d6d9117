"""Rows of tensors in both layouts, of every datatype; and every fault, with the tensor's name."""

from typing import Any

import numpy as np
import pytest

from app.codecs.arrays import tensors as codec
from app.codecs.arrays.tensors import BYTES, DATATYPES, DTYPES, Tensor, count_of
from app.codecs.columns.record_batches import PIECE_ROWS
from app.codecs.filled import FEW_VALUES, MOST_PER_BYTE
from app.codecs.rules import FloatArray
from app.errors import InvalidInput, TooLarge
from app.feature import Feature
from tests.codecs.support import FEATURES, GOOD, NAMES, ROWS

PAIR = (Feature(name="a"), Feature(name="b"))
COLORS = Feature(name="color", kind="category", categories=("red", "", "grün"))
SIZES = Feature(name="size", kind="category", categories=(30, 10))
MIXED = Feature(name="mixed", kind="category", categories=("one", 2))
MANY_BYTES = 2**20
STRICT = Feature(name="strict", kind="category", categories=("red",), unseen="refuse")


def rows_of(tensors: list[Tensor], features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    return codec.rows_of(tensors, features, max_rows, MANY_BYTES)


def matrix(values: Any, datatype: str = "FP64", name: str = "input-0") -> Tensor:
    array = np.asarray(values, DTYPES[datatype])
    return Tensor(name, datatype, array.shape, array.reshape(-1))


def column(name: str, values: Any, datatype: str = "FP64", *, flat: bool = False) -> Tensor:
    given = list(values) if datatype == BYTES else np.asarray(values, DTYPES[datatype])
    return Tensor(name, datatype, (len(given),) if flat else (len(given), 1), given)


def errors_of(tensors: list[Tensor], features: tuple[Feature, ...], max_rows: int = ROWS) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        rows_of(tensors, features, max_rows)
    return {error.field: error.message for error in caught.value.errors}


@pytest.mark.parametrize("datatype", DTYPES)
def test_a_matrix_of_every_datatype_of_numbers_is_read(datatype: str) -> None:
    rows = rows_of([matrix([[1, 0], [0, 1], [1, 1]], datatype)], PAIR, ROWS)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, [[1, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("flat", [True, False])
def test_columns_of_every_datatype_of_numbers_are_read_in_any_order(datatype: str, flat: bool) -> None:
    rows = rows_of([column("b", [1, 0], datatype, flat=flat), column("a", [0, 1], datatype)], PAIR, ROWS)
    np.testing.assert_array_equal(rows, [[0, 1], [1, 0]])


def test_datatypes_have_the_sizes_that_they_are_named_after() -> None:
    sizes = {name: 8 * dtype.itemsize for name, dtype in DTYPES.items() if name != "BOOL"}
    assert {name: int(name.lstrip("FPUINT")) for name in sizes} == sizes
    assert {dtype.kind for name, dtype in DTYPES.items() if name.startswith("UINT")} == {"u"}
    assert len(DATATYPES) == 13


def test_a_matrix_of_float64_is_not_copied() -> None:
    tensor = matrix([[1.0, 2.0], [3.0, 4.0]])
    assert np.shares_memory(rows_of([tensor], PAIR, ROWS), np.asarray(tensor.values))


@pytest.mark.parametrize("places", [[1, 0, 4, 2, 3], [0, 1, 2, 3, 4]])
def test_columns_obey_the_rules_of_all_formats(places: list[int]) -> None:
    tensors = [column(NAMES[place], GOOD[:, place]) for place in places]
    np.testing.assert_array_equal(rows_of(tensors, FEATURES, ROWS), GOOD)
    np.testing.assert_array_equal(rows_of([matrix(GOOD)], FEATURES, ROWS), GOOD)
    bad = GOOD.copy()
    bad[1] = [np.inf, 11, 2.5, 2, -np.inf]
    expected = {
        "x": "must be a finite number (row 1)",
        "ranged": "must be in the range 0 to 10 (row 1)",
        "n": "must be a whole number (row 1)",
        "flag": "must be true or false (row 1)",
        "maybe": "must be a finite number (row 1)",
    }
    assert errors_of([matrix(bad)], FEATURES) == expected
    assert errors_of([column(NAMES[place], bad[:, place]) for place in places], FEATURES) == expected


def test_optional_features_need_no_tensor() -> None:
    optional = (Feature(name="a", required=False), Feature(name="b", required=False), Feature(name="c"))
    rows = rows_of([column("c", [1, 2])], optional, ROWS)
    np.testing.assert_array_equal(rows, [[np.nan, np.nan, 1], [np.nan, np.nan, 2]])
    rows = rows_of([column("a", [1, 2])], optional[:2], ROWS)
    np.testing.assert_array_equal(rows, [[1, np.nan], [2, np.nan]])


def test_whole_numbers_beyond_those_of_float64_are_refused_and_none_is_rounded() -> None:
    whole = (Feature(name="n", kind="integer"),)
    assert rows_of([column("n", [2**53, -(2**53)], "INT64")], whole, ROWS).tolist() == [[2.0**53], [-(2.0**53)]]
    for value, datatype in ((2**53 + 1, "INT64"), (2**64 - 1, "UINT64")):
        message = "must be in the range -9007199254740992 to 9007199254740992 (row 0)"
        assert errors_of([column("n", [value], datatype)], whole) == {"n": message}


def test_texts_and_numbers_are_categories() -> None:
    features = (COLORS, SIZES, MIXED)
    tensors = [
        column("color", ["grün", "", "mauve", None, "\ud800"], BYTES),
        column("size", [10, 30, 31, 10, 10], "INT16"),
        column("mixed", ["one", "2", "one", None, "one"], BYTES),
    ]
    expected = [[2, 1, 0], [1, 0, np.nan], [np.nan, np.nan, 0], [np.nan, 1, np.nan], [np.nan, 1, 0]]
    np.testing.assert_array_equal(rows_of(tensors, features, ROWS), expected)
    np.testing.assert_array_equal(
        rows_of([matrix([[30, 2], [np.nan, 3]])], (SIZES, MIXED), ROWS), [[0, 1], [np.nan] * 2]
    )


def test_a_refused_category_is_named() -> None:
    tensors = [column("strict", ["red", "mauve", "blue"], BYTES)]
    message = "is none of the model's categories (2 rows, the first is row 1)"
    assert errors_of(tensors, (STRICT,)) == {"strict": message}


def test_a_column_alone_is_that_of_the_only_feature_whatever_the_name_of_a_matrix() -> None:
    alone = (Feature(name="a"),)
    for name in ("a", "features"):
        np.testing.assert_array_equal(rows_of([matrix([[1], [2]], name=name)], alone, ROWS), [[1], [2]])
    np.testing.assert_array_equal(rows_of([column("a", [1, 2], flat=True)], alone, ROWS), [[1], [2]])


@pytest.mark.parametrize(
    ("tensors", "features", "errors"),
    [
        ([], PAIR, {"a": "is missing", "b": "is missing"}),
        ([], (Feature(name="a", required=False),), {"(body)": "must hold at least one tensor"}),
        ([column("a", [1])], PAIR, {"b": "is missing"}),
        ([column("a", [1], flat=True)], PAIR, {"b": "is missing"}),
        ([column("a", [1]), column("a", [1])], PAIR, {"a": "appears more than once", "b": "is missing"}),
        ([column("a", [1]), column("b", [1]), column("c", [1])], PAIR, {"c": "unknown field"}),
        ([column("a", [1]), column("b", [1, 2])], PAIR, {"b": "must have the shape [1] or [1, 1]"}),
        ([column("a", [1]), matrix([[1, 2]], name="b")], PAIR, {"b": "must have the shape [1] or [1, 1]"}),
        ([column("a", ["1"], BYTES), column("b", [1])], PAIR, {"a": "must be a number, not BYTES"}),
        ([column("color", [1], "INT8")], (COLORS,), {"color": "must be text, not INT8"}),
        ([column("size", ["30"], BYTES)], (SIZES,), {"size": "must be a number, or true or false, not BYTES"}),
        ([matrix([[1, 2]])], (Feature(name="x"), COLORS),
         {"color": "is a category of text, so there must be a tensor for each feature, by name"}),
        ([matrix([[1, 2, 3]])], PAIR, {"input-0": "must have the shape [rows, 2], or there must be a tensor for each "
                                                  "feature, by name"}),
        ([matrix([[1, 2, 3]], name="n" * 300)], PAIR, {"n" * 256: "must have the shape [rows, 2], or there must be a "
                                                                  "tensor for each feature, by name"}),
    ],
)  # fmt: skip
def test_tensors_in_neither_layout_are_named(
    tensors: list[Tensor], features: tuple[Feature, ...], errors: dict[str, str]
) -> None:
    assert errors_of(tensors, features) == errors


def test_more_rows_than_allowed_are_refused() -> None:
    for tensors in ([matrix(np.zeros((4, 2)))], [column("a", np.zeros(4)), column("b", np.zeros(4))]):
        assert rows_of(tensors, PAIR, 4).shape == (4, 2)
        with pytest.raises(TooLarge, match="MAX_BULK_ROWS"):
            rows_of(tensors, PAIR, 3)


def test_columns_that_are_left_out_take_no_memory_that_the_request_does_not_show() -> None:
    features = tuple(Feature(name=f"x{index}", required=False) for index in range(1000))
    tensors, values = [column("x0", np.zeros(200))], 200 * len(features)
    assert values > FEW_VALUES
    assert codec.rows_of(tensors, features, 200, values // MOST_PER_BYTE).shape == (200, 1000)
    with pytest.raises(TooLarge, match="lack too many columns"):
        codec.rows_of(tensors, features, 200, values // MOST_PER_BYTE - 1)
    few = [column("x0", np.zeros(FEW_VALUES // len(features)))]
    assert codec.rows_of(few, features, 131, 0).shape == (131, 1000)


def test_no_rows_are_an_empty_batch() -> None:
    assert rows_of([matrix(np.zeros((0, 2)))], PAIR, ROWS).shape == (0, 2)
    assert rows_of([column("a", []), column("b", [])], PAIR, ROWS).shape == (0, 2)
    assert rows_of([column("color", [], BYTES)], (COLORS,), ROWS).shape == (0, 1)


@pytest.mark.parametrize(
    ("datatype", "shape", "message"),
    [
        ("FP8", [1], "has a datatype that is not read; those that are: BOOL, INT8"),
        ("fp64", [1], "has a datatype that is not read"),
        ("FP64", [], "must have a shape of one or two dimensions, and has 0"),
        ("FP64", [1, 1, 1], "must have a shape of one or two dimensions, and has 3"),
        ("FP64", [2, -1], "has a negative dimension in its shape"),
        ("FP64", [-1, -1], "has a negative dimension in its shape"),
    ],
)
def test_shapes_and_datatypes_are_checked(datatype: str, shape: list[int], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        count_of("given", datatype, shape)
    (error,) = caught.value.errors
    assert error.field == "given"
    assert error.message.startswith(message)


def test_the_number_of_values_does_not_overflow() -> None:
    assert count_of("a", "FP64", [3]) == 3
    assert count_of("a", "FP64", [2**62, 2**62]) == 2**124


def test_codes_are_found_piece_by_piece() -> None:
    count = PIECE_ROWS + 3
    texts = ["grün"] * count
    texts[-2:] = ["red", "mauve"]
    numbers = np.full(count, 10)
    numbers[-1] = 30
    rows = rows_of([column("color", texts, BYTES), column("size", numbers, "INT64")], (COLORS, SIZES), count)
    assert rows[:-2].tolist() == [[2, 1]] * (count - 2)
    np.testing.assert_array_equal(rows[-2:], [[0, 1], [np.nan, 0]])
    message = f"is none of the model's categories (row {count - 1})"
    with pytest.raises(InvalidInput) as caught:
        rows_of([column("strict", ["red"] * (count - 1) + ["mauve"], BYTES)], (STRICT,), count)
    assert [error.message for error in caught.value.errors] == [message]
