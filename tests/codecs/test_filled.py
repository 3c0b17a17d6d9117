"""Rows that leave out most columns take no memory that their body does not show, in any format."""

import io
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.codecs.filled import FEW_VALUES
from app.codecs.formats import FORMATS
from app.codecs.json.row import JsonCodec
from app.errors import TooLarge
from app.feature import Feature

COLUMNS = 1000
FEATURES = tuple(Feature(name=f"x{index}", required=False) for index in range(COLUMNS))
FEW = FEW_VALUES // COLUMNS
"""Rows that any body may have."""


def arrow(rows: int) -> bytes:
    sink, batch = io.BytesIO(), pa.record_batch([pa.array([1.0] * rows)], names=["x0"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def parquet(rows: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x0": [1.0] * rows}), sink)
    return sink.getvalue()


def msgpack(rows: int) -> bytes:
    matrix = {"shape": [rows, 1], "dtype": "float64", "names": ["x0"], "data": bytes(8 * rows)}
    return msgspec.msgpack.encode(matrix)


def table(layout: dict[str, Any]) -> bytes:
    return json.dumps(layout).encode()


BODIES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "rows": ("application/json", lambda rows: table({"rows": [{}] * rows})),
    "columns": ("application/json", lambda rows: table({"columns": {"x0": [1] * rows}})),
    "data": ("application/json", lambda rows: table({"data": [[1]] * rows, "names": ["x0"]})),
    "ndjson": ("application/x-ndjson", lambda rows: b"{}\n" * rows),
    "csv": ("text/csv", lambda rows: b"x0\n" + b"1\n" * rows),
    "msgpack": ("application/msgpack", msgpack),
    "arrow": ("application/vnd.apache.arrow.stream", arrow),
    "parquet": ("application/vnd.apache.parquet", parquet),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_rows_may_lack_columns_up_to_a_bound(name: str) -> None:
    media_type, body = BODIES[name]
    decode = FORMATS[media_type].decode
    assert decode(body(FEW - 1), FEATURES, 10**6).shape == (FEW - 1, COLUMNS)
    with pytest.raises(TooLarge, match="lack too many columns"):
        decode(body(20 * FEW), FEATURES, 10**6)


def test_a_faulty_table_is_held_to_the_bound_as_well() -> None:
    body = table({"columns": {"x0": [1] * 20 * FEW + ["x"]}})
    with pytest.raises(TooLarge, match="lack too many columns"):
        FORMATS["application/json"].decode(body, FEATURES, 10**6)


def test_a_batch_is_held_to_the_bound_before_it_is_decoded() -> None:
    codec = JsonCodec(FEATURES)
    assert codec.decode_batch(b'{"predictions": [' + b"{}," * (FEW - 2) + b"{}]}", 10**6).size == FEW - 1
    with pytest.raises(TooLarge, match="lack too many columns"):
        codec.decode_batch(b'{"predictions": [' + b"{}," * 20 * FEW + b"{}]}", 10**6)
