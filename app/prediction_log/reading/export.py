"""Formats of exported rows: NDJSON, Parquet, and streams of Arrow, made a page at a time."""

from collections.abc import Callable, Iterable, Iterator
from io import RawIOBase
from typing import Any

import msgspec

from app.prediction_log.reading.page import LoggedRow

PIECE_ROWS = 500
"""Rows of a page: some milliseconds of work, for which a thread holds the GIL."""

GROUP_ROWS = 10_000
"""Rows of a row group of Parquet, or of a batch of Arrow."""

JSON_COLUMNS = ("features", "prediction", "actual")
"""Columns whose values are JSON, as text."""

_encoder = msgspec.json.Encoder()


def ndjson(pages: Iterable[list[LoggedRow]]) -> Iterator[bytes]:
    """A line for each row."""
    for rows in pages:
        yield _encoder.encode_lines(rows)


def parquet(pages: Iterable[list[LoggedRow]]) -> Iterator[bytes]:
    """A file of Parquet, whose columns of JSON are text."""
    import pyarrow.parquet as pq  # a second and 40 MB, for few services

    return _written(pages, lambda sink, schema: pq.ParquetWriter(sink, schema, compression="zstd"))


def arrow(pages: Iterable[list[LoggedRow]]) -> Iterator[bytes]:
    """A stream of Arrow, with the columns of `parquet`."""
    import pyarrow as pa

    return _written(pages, pa.ipc.new_stream)


class _Sink(RawIOBase):
    """A file that keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Whether it takes bytes: it does."""
        return True

    def tell(self) -> int:
        """Number of bytes written."""
        return self._size

    def write(self, content: Any) -> int:
        """Keep bytes."""
        part = bytes(content)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def take(self) -> bytes:
        """The bytes that were not taken yet."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _written(pages: Iterable[list[LoggedRow]], open_writer: Callable[[Any, Any], Any]) -> Iterator[bytes]:
    import pyarrow as pa

    schema = _schema()
    sink = _Sink()
    with open_writer(sink, schema) as writer:
        for rows in _grouped(pages):
            columns = [_column([getattr(row, field.name) for row in rows], field) for field in schema]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            yield sink.take()
    yield sink.take()


def _column(values: list[Any], field: Any) -> Any:
    import pyarrow as pa

    if field.name in JSON_COLUMNS:
        return pa.array([_json(value) for value in values], field.type)
    if field.type == pa.timestamp("us", "UTC") and any(isinstance(value, str) for value in values):
        return pa.array(values, pa.string()).cast(field.type)
    return pa.array(values, field.type)


def _json(value: Any) -> bytes | None:
    if value is None:
        return None
    return bytes(value) if isinstance(value, msgspec.Raw) else _encoder.encode(value)


def _schema() -> Any:
    import pyarrow as pa

    text, number, moment = pa.string(), pa.float64(), pa.timestamp("us", "UTC")
    types = {
        "id": pa.int64(), "created_at": moment, "request_id": text, "row": pa.int32(), "prediction_type": text,
        "model_name": text, "model_version": text, "features": text, "prediction": text, "interval_lower": number,
        "interval_upper": number, "interval_level": number, "latency_ms": number, "key_id": text, "actual": text,
        "received_at": moment,
    }  # fmt: skip
    return pa.schema(list(types.items()))


def _grouped(pages: Iterable[list[LoggedRow]]) -> Iterator[list[LoggedRow]]:
    """The rows of several pages together."""
    group: list[LoggedRow] = []
    for rows in pages:
        group += rows
        if len(group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group
