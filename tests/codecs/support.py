"""Features of each kind, rows as a body of each format, and shortcuts to decode them."""

import io
import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from app.codecs.formats import FORMATS
from app.errors import InvalidInput
from app.feature import Feature

Array = NDArray[np.float64]

FEATURES = (
    Feature(name="x"),
    Feature(name="ranged", physical_range=(0.0, 10.0)),
    Feature(name="n", kind="integer"),
    Feature(name="flag", kind="boolean", required=False),
    Feature(name="maybe", required=False),
)
NAMES = [feature.name for feature in FEATURES]
GOOD = np.array([[-0.0, 0.5, -3, 1, 2.5], [5e-324, 10, 2**53, np.nan, np.nan], [1e300, 0, 0, 0, -1]])
"""float64[3, 5], rows that are taken."""

ROWS = 1000
"""The most rows, in tests."""


def cells(rows: Array, null: Any = None) -> dict[str, list[Any]]:
    """Columns of values as Python and JSON have them, by name."""
    kinds = {"number": float, "integer": int, "boolean": bool}
    return {
        feature.name: [null if np.isnan(value) else kinds[feature.kind](value) for value in rows[:, index].tolist()]
        for index, feature in enumerate(FEATURES)
    }


def objects(rows: Array) -> list[dict[str, Any]]:
    columns = cells(rows)
    return [dict(zip(NAMES, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def arrow_table(rows: Array) -> pa.Table:
    kinds = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}
    return pa.table(
        {name: pa.array(column, kinds[FEATURES[NAMES.index(name)].kind]) for name, column in cells(rows).items()}
    )


def arrow_stream(table: pa.Table, batch_rows: int = 2) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return sink.getvalue()


def parquet_file(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def npy_file(array: NDArray[Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array, **options)
    return sink.getvalue()


def msgpack_map(array: NDArray[Any], **more: Any) -> bytes:
    parts = {"shape": array.shape, "dtype": array.dtype.name, "data": array.tobytes()}
    return msgspec.msgpack.encode(parts | more)


def csv_lines(rows: Array) -> bytes:
    columns = cells(rows, null="")
    lines = [NAMES, *zip(*columns.values(), strict=True)]
    return "".join(",".join(map(str, line)) + "\n" for line in lines).encode()


def json_lines(rows: Array) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in objects(rows)).encode()


def json_data(rows: Array, **more: Any) -> bytes:
    return json.dumps({"data": [list(row.values()) for row in objects(rows)]} | more).encode()


MAKERS: dict[str, tuple[str, Callable[[Array], bytes]]] = {
    "arrow": ("application/vnd.apache.arrow.stream", lambda rows: arrow_stream(arrow_table(rows))),
    "parquet": ("application/vnd.apache.parquet", lambda rows: parquet_file(arrow_table(rows))),
    "npy": ("application/x-npy", npy_file),
    "msgpack": ("application/msgpack", msgpack_map),
    "csv": ("text/csv", csv_lines),
    "ndjson": ("application/x-ndjson", json_lines),
    "json rows": ("application/json", lambda rows: json.dumps({"rows": objects(rows)}).encode()),
    "json columns": ("application/json", lambda rows: json.dumps({"columns": cells(rows)}).encode()),
    "json data": ("application/json", json_data),
}
"""Media type, and rows of FEATURES to a body, by a name for the format and its layout."""


def decode(name: str, body: bytes | bytearray | memoryview, features: tuple[Feature, ...] = FEATURES) -> Array:
    """What the format of that name makes of a body."""
    return FORMATS[MAKERS[name][0]].decode(body, features, ROWS)


def errors_of(name: str, body: bytes, features: tuple[Feature, ...] = FEATURES) -> dict[str, str]:
    """What the format of that name says is wrong with a body."""
    with pytest.raises(InvalidInput) as caught:
        decode(name, body, features)
    return {error.field: error.message for error in caught.value.errors}
