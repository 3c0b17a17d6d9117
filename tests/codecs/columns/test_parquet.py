"""Parquet files: columns by name, and no small body that expands into a large one."""

import io
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.codecs.columns import parquet
from app.codecs.columns.page_sizes import row_groups, unpacked_size
from app.codecs.result import PIECE_ROWS, Result
from app.errors import MalformedBody, TooLarge
from tests.codecs.support import FEATURES, GOOD, ROWS, arrow_table, errors_of, parquet_file

TABLE = arrow_table(GOOD)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False}, {"row_group_size": 2}, {"data_page_version": "2.0"}]
)
def test_files_with_any_writer_options_are_read(compression: str, options: dict[str, Any]) -> None:
    body = parquet_file(TABLE, compression=compression, **options)
    np.testing.assert_array_equal(parquet.decode(body, FEATURES, ROWS), GOOD)


def test_a_damaged_page_is_refused_where_it_has_a_checksum() -> None:
    body = bytearray(parquet_file(TABLE, write_page_checksum=True, use_dictionary=False, compression="none"))
    np.testing.assert_array_equal(parquet.decode(bytes(body), FEATURES, ROWS), GOOD)
    body[body.index(GOOD[:, 0].tobytes()) + 6] ^= 1
    with pytest.raises(MalformedBody):
        parquet.decode(bytes(body), FEATURES, ROWS)


def test_columns_may_be_in_any_order_and_of_any_width() -> None:
    table = TABLE.select(TABLE.column_names[::-1]).set_column(2, "n", pa.array([1, 2, 3], pa.int8()))
    rows = parquet.decode(parquet_file(table), FEATURES, ROWS)
    np.testing.assert_array_equal(rows[:, 2], [1, 2, 3])
    np.testing.assert_array_equal(rows[:, [0, 1, 3, 4]], GOOD[:, [0, 1, 3, 4]])


def test_optional_columns_may_be_left_out() -> None:
    rows = parquet.decode(parquet_file(TABLE.drop_columns(["flag", "maybe"])), FEATURES, ROWS)
    np.testing.assert_array_equal(rows[:, :3], GOOD[:, :3])
    assert np.isnan(rows[:, 3:]).all()


def test_no_rows_are_an_empty_batch() -> None:
    assert parquet.decode(parquet_file(TABLE.slice(0, 0)), FEATURES, ROWS).shape == (0, 5)


def test_every_wrong_column_is_named() -> None:
    table = pa.table({
        "x": pa.array([[1.0]]), "ranged": ["1"], "n": ["1"], "maybe": [{"secret": 1}], "zip": [1],
    })  # fmt: skip
    assert errors_of("parquet", parquet_file(table)) == {
        "x": "must be a number, not list",
        "ranged": "must be a number, not string",
        "n": "must be a whole number, not string",
        "maybe": "must be a number, not struct",
        "zip": "unknown field",
    }


def test_too_many_rows_are_refused_by_the_metadata() -> None:
    body = bytearray(parquet_file(pa.table({"x": np.zeros(10**6)}), compression="zstd"))
    body[4:2000] = bytes(1996)  # no page can be read any more
    with pytest.raises(TooLarge, match="MAX_BULK_ROWS"):
        parquet.decode(bytes(body), FEATURES, ROWS)


def test_a_file_that_expands_beyond_its_rows_is_refused() -> None:
    body = parquet_file(TABLE, compression="zstd")
    size = pq.ParquetFile(io.BytesIO(body)).metadata.row_group(0).total_byte_size
    bomb = _with_total_byte_size(body, size, 2**40)
    with pytest.raises(TooLarge, match=re.escape("that 3 rows need.")):
        parquet.decode(bomb, FEATURES, ROWS)


def _with_total_byte_size(body: bytes, size: int, claimed: int) -> bytes:
    """A copy whose first row group claims to be as large; numbers are zigzag varints (Thrift's compact protocol)."""
    footer = int.from_bytes(body[-8:-4], "little")
    pages, metadata = body[: -8 - footer], body[-8 - footer : -8]
    found = b"\x16" + _varint(2 * size)  # field 2 of the row group, an i64
    assert metadata.count(found) >= 1
    at = metadata.rindex(found)
    metadata = metadata[:at] + b"\x16" + _varint(2 * claimed) + metadata[at + len(found) :]
    return pages + metadata + len(metadata).to_bytes(4, "little") + b"PAR1"


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\x7fPAR1", parquet_file(TABLE)[:-20]])
def test_a_body_that_is_not_parquet_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="not a valid Parquet file"):
        parquet.decode(body, FEATURES, ROWS)


@pytest.mark.parametrize("rows", [0, 1, PIECE_ROWS + 1])
def test_results_are_valid_files(rows: int) -> None:
    random = np.random.default_rng(0)
    one, many, half = random.normal(size=rows), random.normal(size=(rows, 2)), random.random(rows)
    for answer, columns in (
        (Result(one, None, "1"), {"prediction": one}),
        (Result(many, None, "1"), {"prediction_0": many[:, 0], "prediction_1": many[:, 1]}),
        (Result(one, half, "1"), {"prediction": one, "lower": one - half, "upper": one + half}),
    ):
        table = pq.read_table(io.BytesIO(b"".join(parquet.encode(answer))))
        assert table.schema.metadata[b"model_version"] == b"1"
        assert table.column_names == list(columns)
        for name, values in columns.items():
            np.testing.assert_array_equal(table[name].to_numpy(), values)


def test_a_result_is_encoded_piece_by_piece() -> None:
    pieces = parquet.encode(Result(np.random.default_rng(0).normal(size=3 * PIECE_ROWS), None, "1"))
    assert max(len(piece) for piece in pieces) < 8 * PIECE_ROWS + 1000


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_larger_than_the_footer_declares_are_refused(version: str) -> None:
    table = pa.table({"x": np.zeros(200_000)})
    body = parquet_file(table, compression="zstd", use_dictionary=False, data_page_version=version)
    assert len(body) < 20_000
    # A footer of one row and few bytes before those pages: theirs are the headers that tell.
    groups = [row_groups(body)[0]._replace(rows=1, size=100)]
    assert unpacked_size(body, groups, 10**9) == pytest.approx(200_000 * 8, rel=0.01)
    assert unpacked_size(body, groups, 1000) > 1000


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_page_sizes_equal_those_of_a_correct_footer(options: dict[str, Any], compression: str) -> None:
    rows = np.tile(GOOD, (30_000, 1))
    body = parquet_file(arrow_table(rows), compression=compression, row_group_size=20_000, **options)
    metadata = pq.ParquetFile(io.BytesIO(body)).metadata
    stated = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    groups = row_groups(body)
    assert [(group.rows, group.size) for group in groups] == [(one.num_rows, one.total_byte_size) for one in stated]
    footer = sum(one.column(index).total_uncompressed_size for one in stated for index in range(5))
    assert footer * 0.9 < unpacked_size(body, groups, 10**9) <= footer


def test_the_decoder_checks_the_page_sizes() -> None:
    body = bytearray(parquet_file(TABLE, compression="none", use_dictionary=False, write_statistics=False))
    assert body[4:7] == b"\x15\x00\x15"  # of the first page header: its type, then the unpacked size
    size = body[7]
    bomb = bytes(body[:7]) + _varint(2 * 2**30) + bytes(body[8:])  # the footer still says the old size
    assert size < 128
    with pytest.raises(TooLarge):
        parquet.decode(bomb[: 7 + 5] + bomb[12:], FEATURES, ROWS)
