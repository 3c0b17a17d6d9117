"""Columns of categories in every format that can carry them: the forest gets the code of each value."""

import io
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs import categories
from app.codecs.formats import FORMATS
from app.errors import InvalidInput, MalformedBody, TooLarge, UnsupportedMediaType
from app.feature import Category, Feature
from tests.codecs.support import MAKERS, Array, arrow_stream, msgpack_map, npy_file, parquet_file

NAN = float("nan")


def category(*values: Category, name: str = "c", **changes: Any) -> Feature:
    return Feature(name=name, kind="category", categories=values, **changes)


TEXT = category("red", 'b,l"ue', "", "grün\n", "x" * 300)
WHOLE = category(3, 1, 20)
FRACTIONS = category(0.5, -1.25, 1e300)
BOOLEANS = category(False, True)
MIXED = category("1", "no", 2, 3.5)
EXACT = category(2**53, 2**53 + 1, -1)
FEATURES = {"text": TEXT, "whole": WHOLE, "fractions": FRACTIONS, "booleans": BOOLEANS, "mixed": MIXED, "exact": EXACT}
UNSEEN: dict[str, list[Category]] = {
    "text": ["mauve", "Red", "red ", " "],
    "whole": [2, -3, 2.5, 10**15],
    "fractions": [0.25, 3.0, -1e300],
    "booleans": [2.0, 0.5],
    "mixed": ["3", "yes"],
    "exact": [2**53 - 1, 7],
}
"""Values that are none of the categories, by the feature."""


def bodies(feature: Feature, values: list[Any], *, numeric: bool) -> dict[str, bytes]:
    """A column of values, None where one is missing, beside a column of numbers, by the name of its format."""
    rows = [{"x": float(row), feature.name: value} for row, value in enumerate(values)]
    found = {
        "json": msgspec.json.encode({"rows": rows}),
        "ndjson": b"\n".join(map(msgspec.json.encode, rows)),
        "csv": csv_table(values),
        "msgpack": msgpack_map(np.arange(len(values), dtype=np.float64)[:, None], columns={feature.name: values}),
    }
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        table = pa.table({"x": np.arange(len(values), dtype=np.float64), feature.name: pa.array(values)})
        found |= {"arrow": arrow_stream(table), "parquet": parquet_file(table)}
        encoded = table.set_column(1, feature.name, pa.array(values).dictionary_encode())
        found |= {"arrow dictionary": arrow_stream(encoded), "parquet dictionary": parquet_file(encoded)}
    if numeric:
        column = np.array([NAN if value is None else value for value in values], np.float64)
        matrix = np.column_stack([np.arange(len(values)), column])
        found |= {"npy": npy_file(matrix), "msgpack matrix": msgpack_map(matrix)}
        found["msgpack names"] = msgpack_map(matrix[:, ::-1].copy(), names=[feature.name, "x"])
        found["npy fortran"] = npy_file(np.asfortranarray(matrix))
    return found


def csv_table(values: list[Any]) -> bytes:
    lines = io.StringIO()
    lines.write("c,x\n")
    for row, value in enumerate(values):
        quoted = '"' + value.replace('"', '""') + '"' if isinstance(value, str) else str(value)
        lines.write(f"{'' if value is None else quoted},{row}\n")
    return lines.getvalue().encode()


def decode(name: str, body: bytes, *features: Feature, max_rows: int = 10_000) -> Array:
    kind = name.split()[0]
    media_type = "application/json" if kind == "json" else MAKERS[kind][0]
    return FORMATS[media_type].decode(body, features, max_rows)


def errors_of(name: str, body: bytes, *features: Feature) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        decode(name, body, *features)
    return {error.field: error.message for error in caught.value.errors}


@pytest.mark.parametrize("kind", FEATURES)
def test_values_become_codes_in_every_format(kind: str) -> None:
    feature = FEATURES[kind]
    known = list(feature.categories or ())
    values = [*reversed(known), None, *known, *UNSEEN[kind], known[0]]
    expected = [*range(len(known) - 1, -1, -1), NAN, *range(len(known)), *[NAN] * len(UNSEEN[kind]), 0]
    made = bodies(feature, values, numeric=not any(isinstance(value, str) for value in values) and kind != "exact")
    assert {"json", "ndjson", "csv", "msgpack"} <= made.keys()
    for name, body in made.items():
        rows = decode(name, body, Feature(name="x"), feature)
        np.testing.assert_array_equal(rows[:, 1], expected, name)
        np.testing.assert_array_equal(rows[:, 0], np.arange(len(values)), name)


@pytest.mark.parametrize("kind", FEATURES)
def test_an_unseen_value_can_be_refused_in_every_format(kind: str) -> None:
    feature = msgspec.structs.replace(FEATURES[kind], unseen="refuse")
    known = (feature.categories or ())[0]
    values = [known, None, UNSEEN[kind][0], known, UNSEEN[kind][0]]
    numeric = not any(isinstance(value, str) for value in values) and kind != "exact"
    message = "is none of the model's categories (2 rows, the first is row 2)"
    for name, body in bodies(feature, values, numeric=numeric).items():
        assert errors_of(name, body, Feature(name="x"), feature) == {"c": message}, name


@pytest.mark.parametrize(
    ("feature", "values", "message"),
    [
        (TEXT, [1.5, 2.0], "must be text"),
        (TEXT, [True, False], "must be text"),
        (WHOLE, ["a", "b"], "must be a number, or true or false"),
        (BOOLEANS, ["1", "yes"], "must be a number, or true or false"),
    ],
)
def test_a_value_of_another_kind_is_refused(feature: Feature, values: list[Any], message: str) -> None:
    for name, body in bodies(feature, values, numeric=False).items():
        if name != "csv":  # all of its cells are text
            assert errors_of(name, body, Feature(name="x"), feature)["c"].startswith(message), name
    if feature is not TEXT:
        of = {WHOLE: "2 rows, the first is row 0", BOOLEANS: "row 1"}[feature]
        assert errors_of("csv", csv_table(values), Feature(name="x"), feature) == {"c": f"{message} ({of})"}


def test_infinity_is_no_value_of_a_category() -> None:
    for feature in (WHOLE, BOOLEANS, EXACT):
        for name in ("npy", "msgpack matrix"):
            maker = npy_file if name == "npy" else msgpack_map
            body = maker(np.array([[0.0, np.inf], [1.0, 1.0]]))
            assert errors_of(name, body, Feature(name="x"), feature) == {
                "c": "must be a number, or true or false (row 0)"
            }


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "float32", "float16", "bool"])
def test_numbers_of_any_dtype_are_categories(dtype: str) -> None:
    matrix = np.array([[0, 1], [1, 0]], dtype)
    for name, body in {"npy": npy_file(matrix), "msgpack": msgpack_map(matrix)}.items():
        rows = decode(name, body, category(1, 5), category(False, True, name="d"))
        np.testing.assert_array_equal(rows, [[NAN, 1], [0, 0]], name)
    table = pa.table({"c": matrix[:, 0], "d": matrix[:, 1]})
    for name, body in {"arrow": arrow_stream(table), "parquet": parquet_file(table)}.items():
        rows = decode(name, body, category(1, 5), category(False, True, name="d"))
        np.testing.assert_array_equal(rows, [[NAN, 1], [0, 0]], name)


def test_whole_numbers_that_float64_does_not_tell_apart_are_exact() -> None:
    matrix = np.array([[2**53 + 1], [2**53], [2**53 + 2]], np.int64)
    for name, body in {
        "npy": npy_file(matrix),
        "msgpack": msgpack_map(matrix),
        "arrow": arrow_stream(pa.table({"c": matrix[:, 0]})),
        "csv": b"c\n9007199254740993\n9007199254740992\n9007199254740994\n",
    }.items():
        np.testing.assert_array_equal(decode(name, body, EXACT)[:, 0], [1, 0, NAN], name)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.uint64(), pa.large_string()),
        pa.dictionary(pa.int32(), pa.string_view()),
    ],
    ids=str,
)
def test_text_columns_of_every_arrow_type_are_read(kind: Any) -> None:
    values = ["red", None, "mauve", 'b,l"ue', "", "x" * 300]
    column = pa.array(values).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values)
    if pa.types.is_dictionary(kind):
        column = pa.DictionaryArray.from_arrays(
            column.indices.cast(kind.index_type), column.dictionary.cast(kind.value_type)
        )
    table = pa.table({"c": column.cast(kind)})
    np.testing.assert_array_equal(decode("arrow", arrow_stream(table), TEXT)[:, 0], [0, NAN, NAN, 1, 2, 4])


def test_a_dictionary_may_hold_nulls_and_values_of_no_row() -> None:
    dictionary = pa.array(["mauve", None, "red", "unused"])
    column = pa.DictionaryArray.from_arrays(pa.array([2, 1, None, 2], pa.int16()), dictionary)
    feature = msgspec.structs.replace(TEXT, unseen="refuse")
    rows = decode("arrow", arrow_stream(pa.table({"c": column})), feature)
    np.testing.assert_array_equal(rows[:, 0], [0, NAN, NAN, 0])


def test_dictionaries_of_dictionaries_and_of_numbers_are_read() -> None:
    inner = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array(["red", 'b,l"ue']))
    nested = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), inner)
    codes = categories.codes(TEXT, nested)
    np.testing.assert_array_equal(codes.values, [1, 0, 1])
    numbers = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int32()), pa.array([20, 4, 3]))
    np.testing.assert_array_equal(decode("arrow", arrow_stream(pa.table({"c": numbers})), WHOLE)[:, 0], [2, NAN, 0])


def test_a_dictionary_that_changes_between_batches_is_read_anew() -> None:
    sink = io.BytesIO()
    columns = [pa.array(["red", 'b,l"ue']).dictionary_encode(), pa.array(["", "red", None]).dictionary_encode()]
    batches = [pa.record_batch([column], names=["c"]) for column in columns]
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    np.testing.assert_array_equal(decode("arrow", sink.getvalue(), TEXT)[:, 0], [0, 1, 2, 0, NAN])


def test_delta_dictionaries_are_refused() -> None:
    sink = io.BytesIO()
    batches = [pa.record_batch([pa.array(texts).dictionary_encode()], names=["c"]) for texts in (["a"], ["a", "b"])]
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    with pytest.raises(UnsupportedMediaType, match="delta dictionaries"):
        decode("arrow", sink.getvalue(), TEXT)


def test_a_compressed_dictionary_is_refused() -> None:
    sink = io.BytesIO()
    table = pa.table({"c": pa.array(["red"] * 1000).dictionary_encode()})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    with pytest.raises(UnsupportedMediaType, match="compressed"):
        decode("arrow", sink.getvalue(), TEXT)


def test_a_place_outside_a_dictionary_is_malformed() -> None:
    good = arrow_stream(pa.table({"c": pa.array(["red", "red", "red"]).dictionary_encode()}))
    for place in (1, 77, -1):
        bad = pa.DictionaryArray.from_arrays(pa.array([0, 0, place], pa.int32()), pa.array(["red"]), safe=False)
        with pytest.raises(MalformedBody):
            decode("arrow", arrow_stream(pa.table({"c": bad})), TEXT)
    assert len(decode("arrow", good, TEXT)) == 3


@pytest.mark.parametrize("encoded", [False, True])
def test_text_that_is_not_utf_8_is_malformed(encoded: bool) -> None:
    body = pa.array([b"red", b"\xff\xfe"]).view(pa.string())
    column = body.dictionary_encode() if encoded else body
    with pytest.raises(MalformedBody):
        decode("arrow", arrow_stream(pa.table({"c": column})), TEXT)
    with pytest.raises(MalformedBody):
        decode("parquet", parquet_file(pa.table({"c": column})), TEXT)


def test_the_view_of_a_missing_text_may_be_anything() -> None:
    views = np.array([[3, int.from_bytes(b"red", "little"), 0, 0], [-637534208, 0, 2**30, -1]], np.int32)
    column = pa.Array.from_buffers(pa.string_view(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(views.tobytes())])
    np.testing.assert_array_equal(decode("arrow", arrow_stream(pa.table({"c": column})), TEXT), [[0], [NAN]])
    bad = pa.Array.from_buffers(pa.string_view(), 2, [None, pa.py_buffer(views.tobytes())])
    with pytest.raises(MalformedBody):
        decode("arrow", arrow_stream(pa.table({"c": bad})), TEXT)


COLUMN = ["red", None, "mauve", "x" * 300] * 3
DAMAGED = {
    "arrow": arrow_stream(pa.table({"c": pa.array(COLUMN)})),
    "arrow dictionary": arrow_stream(pa.table({"c": pa.array(COLUMN).dictionary_encode()}), 5),
    "arrow view": arrow_stream(pa.table({"c": pa.array(COLUMN, pa.string_view())})),
    "parquet": parquet_file(pa.table({"c": COLUMN})),
    "csv": b"c\n" + b"\n".join((value or '""').encode() for value in COLUMN),
    "msgpack": msgpack_map(np.empty((len(COLUMN), 0)), columns={"c": COLUMN}),
}


@pytest.mark.parametrize("name", DAMAGED)
@given(data=st.data())
def test_a_damaged_column_of_text_is_an_error_of_the_caller(name: str, data: st.DataObject) -> None:
    body = bytearray(DAMAGED[name])
    flips = st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(1, 255)), max_size=3)
    for position, mask in data.draw(flips):
        body[position] ^= mask
    keep = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    try:
        codes = decode(name, bytes(body[:keep]), TEXT)[:, 0]
    except (MalformedBody, InvalidInput, TooLarge, UnsupportedMediaType):
        return
    assert np.isin(codes[~np.isnan(codes)], range(5)).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"c": ["red"]}, "must hold as many values as the array has rows, 2, and holds 1"),
        ({"c": ["red"] * 3}, "must hold as many values as the array has rows, 2, and holds 3"),
    ],
)
def test_a_list_must_have_a_value_for_each_row(columns: dict[str, Any], message: str) -> None:
    body = msgpack_map(np.zeros((2, 1)), columns=columns)
    assert errors_of("msgpack", body, Feature(name="x"), TEXT) == {"c": message}


def test_a_list_of_more_values_than_rows_are_allowed_is_refused() -> None:
    with pytest.raises(TooLarge, match="MAX_BULK_ROWS"):
        decode("msgpack", packed(b"\x81\xa1c\xdd\x7f\xff\xff\xff"), TEXT)


def test_many_record_batches_share_the_codes_of_one_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[int] = []
    codes = categories.codes

    def noted(feature: Feature, column: Any) -> Any:
        looked_up.append(len(column))
        return codes(feature, column)

    monkeypatch.setattr(categories, "codes", noted)
    column = pa.DictionaryArray.from_arrays(pa.array([1] * 500, pa.int32()), pa.array(["a", "red", *"bcd" * 100]))
    rows = decode("arrow", arrow_stream(pa.table({"c": column}), batch_rows=1), TEXT)
    np.testing.assert_array_equal(rows, [[0]] * 500)
    assert looked_up == [302]


def test_a_cell_of_too_many_digits_is_no_category() -> None:
    for digits, taken in ((300, True), (301, False)):
        feature, body = category(10 ** (digits - 1), True), f"c\n1{'0' * (digits - 1)}\n".encode()
        if taken:
            np.testing.assert_array_equal(decode("csv", body, feature), [[0]])
        else:
            assert np.isnan(decode("csv", body, feature)).all()


def test_every_wrong_column_of_a_map_is_named() -> None:
    body = msgpack_map(np.zeros((2, 2)), names=["x", "c"], columns={"c": ["red", "red"], "y": [1, 2]})
    assert errors_of("msgpack", body, Feature(name="x"), TEXT, Feature(name="z")) == {
        "c": "appears more than once",
        "y": "unknown field",
        "z": "is missing",
    }
    body = msgpack_map(np.zeros((2, 2)))
    assert errors_of("msgpack", body, Feature(name="x"), TEXT) == {
        "c": "must be a list of texts in columns, and not in the array"
    }


def packed(columns: bytes) -> bytes:
    """A map of two rows without numbers, and `columns` as they are."""
    body = msgpack_map(np.empty((2, 0)))
    return bytes([body[0] + 1]) + body[1:] + msgspec.msgpack.encode("columns") + columns


def test_a_list_that_is_sent_twice_is_refused() -> None:
    pair = msgspec.msgpack.encode("c") + msgspec.msgpack.encode(["red", "red"])
    assert errors_of("msgpack", packed(b"\x82" + pair + pair), TEXT) == {"c": "appears more than once"}
    np.testing.assert_array_equal(decode("msgpack", packed(b"\xde\x00\x01" + pair), TEXT), [[0], [0]])
    many = b"\xde" + (1002).to_bytes(2, "big")
    assert errors_of("msgpack", packed(many + pair * 1002), TEXT) == {
        "(body)": "must hold at most 1001 columns, and holds 1002"
    }


@pytest.mark.parametrize(
    "columns",
    [
        ["c"], None, {1: ["red", "red"]}, {"c": "red"}, {"c": ["red", {"a": 1}]}, {"c": ["red", ["red"]]},
        {"c": ["red", b"red"]}, {"c": {"red": 1, "blue": 2}},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_map_of_lists_is_malformed(columns: Any) -> None:
    with pytest.raises(MalformedBody):
        decode("msgpack", packed(msgspec.msgpack.encode(columns)), TEXT)


def test_long_texts_and_long_lists_of_messagepack_are_read() -> None:
    long = "x" * 70_000
    values: list[Any] = ["red", None, "y" * 40, long, True, 1, -1, 200, -200, 2**40, 0.5, "z" * 300] * 6000
    feature = category(long, True, -200, 0.5, 2**40, "y" * 40, "z" * 300)
    rows = decode("msgpack", msgpack_map(np.empty((len(values), 0)), columns={"c": values}), feature, max_rows=10**6)
    one = [NAN, NAN, 5, 0, 1, 1, NAN, NAN, 2, 4, 3, 6]
    np.testing.assert_array_equal(rows[:, 0], one * 6000)


def test_a_column_of_nulls_alone_is_missing() -> None:
    table = pa.table({"c": pa.nulls(3)})
    for name, body in {"arrow": arrow_stream(table), "parquet": parquet_file(table)}.items():
        np.testing.assert_array_equal(decode(name, body, TEXT), [[NAN]] * 3, name)


def test_one_long_text_in_many_rows_of_a_page_is_not_unpacked() -> None:
    rows = 200_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 1_000_000]))
    body = parquet_file(pa.table({"c": column}))
    assert len(body) < 2_000_000
    # As plain text, these would be 200 GB.
    np.testing.assert_array_equal(decode("parquet", body, TEXT, max_rows=rows), np.full((rows, 1), NAN))


def test_texts_larger_than_categories_can_be_are_too_large() -> None:
    column = pa.array([f"{number:0500}" for number in range(2000)])
    with pytest.raises(TooLarge, match="that 2000 rows need"):
        decode("parquet", parquet_file(pa.table({"c": column}), compression="zstd"), category("red"))
    assert len(decode("parquet", parquet_file(pa.table({"c": column})), TEXT)) == 2000


def test_an_empty_cell_is_missing_and_a_quoted_one_a_category_where_it_is_one() -> None:
    body = b'c,d,x\n"",,1\n,"",""\nred,"red",\n'
    other = category("red", name="d", unseen="refuse")
    rows = decode("csv", body, TEXT, other, Feature(name="x", nullable=True))
    np.testing.assert_array_equal(rows, [[2, NAN, 1], [NAN, NAN, NAN], [0, 0, NAN]])
    rows = decode("csv", body, category("red", unseen="refuse"), other, Feature(name="x", nullable=True))
    np.testing.assert_array_equal(rows[:, 0], [NAN, NAN, 0])


def test_cells_of_numbers_are_read_as_numbers() -> None:
    body = b"c,d\n 3 ,TRUE\n3.0,0\n3e0,false\n20.,1.0\n.5,\n"
    rows = decode("csv", body, WHOLE, category(False, True, name="d"))
    np.testing.assert_array_equal(rows, [[0, 1], [0, 0], [0, 0], [2, 1], [NAN, NAN]])


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv_as_pandas_writes_it_is_read(line_end: str) -> None:
    table = pd.DataFrame(
        {
            "c": pd.Categorical(["red", "grün\n", None, 'b,l"ue'] * 500),
            "d": pd.Categorical([True, False, None, True] * 500),
            "e": pd.Categorical([3, 1, 20, None] * 500),
        }
    )
    body = table.to_csv(index=False, lineterminator=line_end).encode()
    rows = decode("csv", body, TEXT, category(False, True, name="d"), category(3, 1, 20, name="e"))
    np.testing.assert_array_equal(rows, [[0, 1, 0], [3, 0, 1], [NAN, NAN, 2], [1, 1, NAN]] * 500)


def test_an_npy_file_for_categories_of_text_names_the_columns_and_other_formats() -> None:
    other = category("a", name="size")
    with pytest.raises(UnsupportedMediaType) as caught:
        decode("npy", npy_file(np.zeros((1, 3))), TEXT, Feature(name="x"), other)
    assert caught.value.detail == (
        "An .npy file holds numbers alone, and the model has columns of text: c, size. "
        "Send JSON, NDJSON, CSV, MessagePack, Arrow or Parquet."
    )


def test_a_message_names_some_of_many_text_columns() -> None:
    features = [category("a", name=f"c{index}") for index in range(11)]
    with pytest.raises(UnsupportedMediaType, match="c8, c9, and others"):
        decode("npy", npy_file(np.zeros((1, 11))), *features)


@pytest.mark.parametrize("kind", ["arrow", "parquet", "csv", "msgpack"])
def test_a_hundred_thousand_rows_have_the_codes_of_pandas(kind: str) -> None:
    random = np.random.default_rng(0)
    names = [f"category {number}" for number in random.permutation(5000).tolist()]
    values = random.choice([*names, "unseen"], 100_000)
    body: Callable[[], bytes] = {
        "arrow": lambda: arrow_stream(pa.table({"c": values}), batch_rows=30_000),
        "parquet": lambda: parquet_file(pa.table({"c": values}), row_group_size=40_000),
        "csv": lambda: ("c\n" + "\n".join(values.tolist())).encode(),
        "msgpack": lambda: msgpack_map(np.empty((len(values), 0)), columns={"c": values.tolist()}),
    }[kind]
    expected = pd.Categorical(values).set_categories(names).codes.astype(float)
    expected[expected < 0] = np.nan
    np.testing.assert_array_equal(decode(kind, body(), category(*names), max_rows=100_000)[:, 0], expected)
