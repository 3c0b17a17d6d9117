"""Tables of thousands of columns: every format reads the same rows; a header is as long as its names need."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from app.codecs.columns import csv
from app.codecs.formats import FORMATS
from app.errors import InvalidInput, MalformedBody
from app.feature import Feature
from tests.codecs.support import MAKERS, Array, arrow_stream, msgpack_map, npy_file, parquet_file

WIDTH = 20_000
NAMES = [f"feature number {index}, of many" for index in range(WIDTH)]
FEATURES = tuple(Feature(name=name, nullable=True) for name in NAMES)


@pytest.fixture(scope="module", params=[4_000, pytest.param(WIDTH, marks=pytest.mark.slow)])
def rows(request: pytest.FixtureRequest) -> Array:
    """float64[3, F]"""
    rows = np.random.default_rng(0).normal(size=(3, request.param))
    rows[0, ::7] = np.nan
    return rows


def null(value: float) -> float | None:
    return None if np.isnan(value) else value


def header(width: int) -> str:
    return ",".join(f'"{name}"' for name in NAMES[:width])


def csv_table(rows: Array) -> bytes:
    lines = [",".join("" if np.isnan(value) else repr(value) for value in row) for row in rows.tolist()]
    return "\n".join([header(rows.shape[1]), *lines]).encode()


def json_objects(rows: Array) -> list[dict[str, Any]]:
    return [dict(zip(NAMES[: len(row)], map(null, row), strict=True)) for row in rows.tolist()]


def arrow_table(rows: Array) -> pa.Table:
    return pa.table({NAMES[index]: column for index, column in enumerate(rows.T)})


BODIES: dict[str, Callable[[Array], bytes]] = {
    "csv": csv_table,
    "arrow": lambda rows: arrow_stream(arrow_table(rows)),
    "parquet": lambda rows: parquet_file(arrow_table(rows)),
    "npy": npy_file,
    "msgpack": lambda rows: msgpack_map(rows[:, ::-1].copy(), names=NAMES[rows.shape[1] - 1 :: -1]),
    "ndjson": lambda rows: b"\n".join(map(msgspec.json.encode, json_objects(rows))),
    "json rows": lambda rows: msgspec.json.encode({"rows": json_objects(rows)}),
    "json columns": lambda rows: msgspec.json.encode(
        {"columns": {NAMES[index]: list(map(null, column)) for index, column in enumerate(rows.T.tolist())}}
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_thousands_of_columns_are_read_in_every_format(name: str, rows: Array) -> None:
    decoded = FORMATS[MAKERS[name][0]].decode(BODIES[name](rows), FEATURES[: rows.shape[1]], 10)
    np.testing.assert_array_equal(decoded, rows)


def test_faults_of_a_wide_table_are_those_of_other_tables(rows: Array) -> None:
    few = 2_500  # faults are looked for column by column
    cells = [",".join(map(repr, row)) for row in rows[1:, :few].tolist()]
    body = "\n".join([header(few), *cells, "text" + cells[0][cells[0].index(",") :]])
    with pytest.raises(InvalidInput) as caught:
        csv.decode(body.encode(), FEATURES[:few], 10)
    (error,) = caught.value.errors
    assert (error.field, error.message) == (NAMES[0], "must be a number (row 2)")


def test_a_header_may_be_as_long_as_twice_the_names_and_no_longer() -> None:
    features = tuple(Feature(name="x" * 400 + str(index)) for index in range(1000))
    longest = csv.longest_header(features)
    names = ",".join(feature.name for feature in features)
    line = ",".join(["1"] * len(features))
    for size, taken in ((longest - 2, True), (longest, False)):
        blank = "\n" * (size - len(names) - 1)
        body = f"{blank}{names}\n{line}\n".encode()
        if taken:
            assert csv.decode(body, features, 10).shape == (1, 1000)
            continue
        with pytest.raises(InvalidInput) as caught:
            csv.decode(body, features, 10)
        assert caught.value.errors[0].message == f"must have a header of at most {longest} bytes"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_long_header_without_lines_is_an_empty_batch(end: str) -> None:
    assert csv.decode((header(WIDTH) + end).encode(), FEATURES, 10).shape == (0, WIDTH)


def test_blank_lines_alone_are_malformed_however_many() -> None:
    with pytest.raises(MalformedBody):
        csv.decode(b"\n" * 2**18, FEATURES, 10)
