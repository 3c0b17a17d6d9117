"""Arrow streams: columns by name, and no small body that expands into a large one."""

import struct
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.columns import arrow
from app.codecs.result import PIECE_ROWS, Result
from app.errors import InvalidInput, MalformedBody, ServiceError, TooLarge, UnsupportedMediaType
from app.feature import Feature

FEATURES = (
    Feature(name="x", physical_range=(0.0, 10.0)),
    Feature(name="n", kind="integer"),
    Feature(name="flag", kind="boolean", required=False),
)


def stream(columns: dict[str, Any], *, compression: str | None = None, chunk: int | None = None) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return sink.getvalue().to_pybytes()


VALID: dict[str, Any] = {
    "flag": pa.array([True, None, False]),
    "n": [1, 2, 3],
    "x": pa.array([1, 2.5, 3], pa.float32()),
}


def errors_of(body: bytes) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        arrow.decode(body, FEATURES, 500)
    return {error.field: error.message for error in caught.value.errors}


def test_columns_are_put_in_the_order_of_the_features() -> None:
    rows = arrow.decode(stream(VALID), FEATURES, 3)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, [[1, 1, 1], [2.5, 2, np.nan], [3, 3, 0]])


@pytest.mark.parametrize("kind", [pa.decimal64(18, 16), pa.decimal128(38, 20), pa.decimal256(76, 40)])
def test_a_decimal_is_the_nearest_number(kind: Any) -> None:
    digits = np.random.default_rng(3).integers(0, 10**17, 500).tolist()
    numbers = [Decimal(number).scaleb(-16) for number in digits]
    columns = {"x": pa.array(numbers, kind), "n": pa.array([Decimal(7)] * 500, pa.decimal128(38, 0))}
    rows = arrow.decode(stream(columns | {"flag": [True] * 500}), FEATURES, 500)
    assert rows[:, 0].tolist() == [float(number) for number in numbers]
    assert np.unique(rows[:, 1]).tolist() == [7.0]
    columns["n"] = pa.array([*[Decimal(7)] * 499, Decimal("7.5")], pa.decimal128(9, 1))
    assert errors_of(stream(columns | {"flag": [True] * 500}, chunk=100)) == {"n": "must be a whole number (row 499)"}


def test_many_record_batches_make_one_batch() -> None:
    columns = {"x": np.linspace(0, 10, 50), "n": range(50), "flag": [True] * 50}
    np.testing.assert_array_equal(
        arrow.decode(stream(columns, chunk=7), FEATURES, 50), arrow.decode(stream(columns), FEATURES, 50)
    )


def test_a_stream_without_rows_is_an_empty_batch() -> None:
    schema = pa.schema([("x", pa.float64()), ("n", pa.int64()), ("flag", pa.bool_())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema):
        pass
    assert arrow.decode(sink.getvalue().to_pybytes(), FEATURES, 5).shape == (0, 3)


def test_every_wrong_column_is_named() -> None:
    body = stream({"x": ["1.5"], "zip": [1], "flag": ["true"]})
    assert errors_of(body) == {
        "x": "must be a number, not string",
        "n": "is missing",
        "flag": "must be true or false, not string",
        "zip": "unknown field",
    }


def test_a_repeated_column_is_refused() -> None:
    table = pa.Table.from_arrays(
        [pa.array([1.0]), pa.array([1.0]), pa.array([1]), pa.array([True])], ["x", "x", "n", "flag"]
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert errors_of(sink.getvalue().to_pybytes())["x"] == "appears more than once"


@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_nulls_in_a_required_column_are_refused(bad: float | None) -> None:
    body = stream(VALID | {"x": pa.array([1.0, bad, bad])})
    assert errors_of(body) == {"x": "must be a finite number (2 rows, the first is row 1)"}


def test_a_value_out_of_range_is_refused_with_its_row() -> None:
    assert errors_of(stream(VALID | {"x": [1.0, 2.0, 10.5]})) == {"x": "must be in the range 0 to 10 (row 2)"}


def test_too_many_rows_are_refused_before_they_are_read() -> None:
    with pytest.raises(TooLarge, match="MAX_BULK_ROWS"):
        arrow.decode(stream(VALID), FEATURES, 2)
    with pytest.raises(TooLarge):
        arrow.decode(stream(VALID, chunk=1), FEATURES, 2)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_buffers_are_refused(compression: str) -> None:
    columns = {"x": np.zeros(50), "n": np.zeros(50, np.int64), "flag": [True] * 50}
    with pytest.raises(UnsupportedMediaType, match="compressed"):
        arrow.decode(stream(columns, compression=compression), FEATURES, 100)


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff\xff", b"PAR1" * 10, stream(VALID)[:200], stream(VALID)[:-60]])
def test_a_body_that_is_not_a_stream_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        arrow.decode(body, FEATURES, 500)


@given(st.integers(0, len(stream(VALID)) - 1), st.integers(0, 255))
def test_a_damaged_stream_is_an_error_of_the_caller(position: int, value: int) -> None:
    body = bytearray(stream(VALID))
    body[position] = value
    status = HTTPStatus.OK
    try:
        arrow.decode(bytes(body), FEATURES, 100)
    except ServiceError as error:
        status = error.status
    assert status < HTTPStatus.INTERNAL_SERVER_ERROR


@pytest.mark.parametrize("rows", [0, 1, PIECE_ROWS, PIECE_ROWS + 1])
def test_results_are_complete_streams(rows: int) -> None:
    prediction = np.random.default_rng(0).normal(size=rows)
    table = pa.ipc.open_stream(b"".join(arrow.encode(Result(prediction, None, "7")))).read_all()
    assert table.schema.metadata == {b"model_version": b"7"}
    assert table.column_names == ["prediction"]
    np.testing.assert_array_equal(table["prediction"].to_numpy(), prediction)


def test_a_negative_number_of_rows_is_malformed() -> None:
    body = stream({"x": [1.0] * 77, "n": [1] * 77, "flag": [True] * 77})
    length = struct.pack("<q", 77)
    with pytest.raises(MalformedBody):
        arrow.decode(body.replace(length, struct.pack("<q", -77)), FEATURES, 100)


def test_the_names_inside_a_nested_column_are_not_echoed() -> None:
    assert errors_of(stream(VALID | {"x": pa.array([{"secret": 1.0}] * 3)})) == {"x": "must be a number, not struct"}


def test_too_many_columns_are_refused_before_their_names_are_read() -> None:
    body = stream({f"c{index}": [1.0] for index in range(1004)})
    assert errors_of(body) == {"(body)": "must hold at most 1003 columns, and holds 1004"}


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 5, 224])
def test_a_stream_without_a_schema_is_malformed(kind: int) -> None:
    body = bytearray(stream(VALID))
    assert body[29] == 1  # the first message's type, by Arrow's format/Message.fbs: a schema
    body[29] = kind
    with pytest.raises(MalformedBody):
        arrow.decode(bytes(body), FEATURES, 100)
