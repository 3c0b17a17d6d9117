"""Arrow IPC streams, by column name, and the record batches that the Arrow, Parquet and CSV formats share.

The format is https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from app.codecs.batch_builder import BatchBuilder
from app.codecs.classes import Labels, as_numbers
from app.codecs.gil_yield import GilYield
from app.codecs.result import LABEL, Result
from app.codecs.rules import Buffer, FloatArray, check_rows, check_width, match_columns
from app.errors import MalformedBody, UnsupportedMediaType
from app.feature import Feature

MEDIA_TYPE = "application/vnd.apache.arrow.stream"

# Indices of fields in the flatbuffers tables of Arrow's format/Message.fbs.
MESSAGE_HEADER = 2
RECORD_BATCH_LENGTH = 0
RECORD_BATCH_COMPRESSION = 3

END_OF_STREAM = struct.pack("<Ii", 0xFFFFFFFF, 0)


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode a stream whose columns are the features, in any order; optional ones may be left out.

    Row counts are read before a batch is decoded, and compressed buffers are refused, so that a small body cannot
    expand into a large one.

    Returns:
        float64[B, F] in the features' order; a null is NaN, and so is a column that was left out.

    Raises:
        MalformedBody: The body is not an Arrow stream.
        UnsupportedMediaType: The stream's buffers are compressed.
        TooLarge: The stream holds more than `max_rows` rows.
        InvalidInput: Columns are missing, unknown or of a wrong type, or hold values that the model does not take.
    """
    buffer = pa.py_buffer(body)
    try:
        first = pa.ipc.MessageReader.open_stream(buffer).read_next_message()
        if first.type != "schema":  # Arrow would read any message as a schema, and crash the process
            raise ValueError("no schema")
        schema = pa.ipc.read_schema(first)
        check_width(len(schema), features)
        places = match_columns(schema.names, features, schema.types)
        builder = BatchBuilder(features, _count_rows(buffer, max_rows))
        for message in _record_batches(buffer):
            batch = pa.ipc.read_record_batch(message, schema)
            batch.validate(full=True)
            fill(builder, batch, places)
            builder.yield_gil()
    except (pa.ArrowException, OSError, StopIteration, ValueError, OverflowError, struct.error) as error:
        raise MalformedBody("The body is not a valid Arrow IPC stream.") from error
    return builder.matrix()


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as a stream: schema, record batches, end-of-stream marker."""
    schema = schema_of(result)
    yield memoryview(schema.serialize())
    for start, stop in result.pieces():
        yield memoryview(record_batch(result, schema, start, stop).serialize())
    yield END_OF_STREAM


def fill(builder: BatchBuilder, batch: Any, places: list[int | None]) -> None:
    """Add the rows of a record batch; a null is NaN.

    Args:
        builder: The batch to add to.
        batch: The record batch.
        places: Position of each feature's column, as `match_columns` gives it.
    """
    for start in range(0, batch.num_rows, builder.block_rows):
        part = batch.slice(start, builder.block_rows)
        columns = [None if place is None else _values(part.column(place)) for place in places]
        if all(column is None for column in columns):  # one column must tell the number of rows
            columns = [np.full(part.num_rows, np.nan), *columns[1:]]
        builder.add_columns(columns)


def schema_of(result: Result) -> Any:
    """Arrow schema of a result: float64 columns, any labels, and the model's version in the metadata."""
    fields = [(name, pa.float64()) for name in result.numbers]
    if result.labels is not None:
        fields.append((LABEL, _labels(result.labels).type))
    return pa.schema(fields, {"model_version": result.model_version})


def record_batch(result: Result, schema: Any, start: int, stop: int) -> Any:
    """Rows `start` to `stop` of a result as a record batch."""
    columns = [pa.array(values) for values in result.columns(start, stop).values()]
    if result.labels is not None:
        columns.append(_labels(result.labels).take(pa.array(result.class_indices(start, stop))))
    return pa.record_batch(columns, schema=schema)


def _labels(labels: Labels) -> Any:
    """Labels as an Arrow array of booleans, whole numbers or numbers; else of texts, which hold labels of any kind."""
    kinds = {type(label) for label in labels}
    if kinds == {bool}:
        return pa.array(labels, pa.bool_())
    if kinds <= {bool, int} and all(-(2**63) <= label < 2**63 for label in labels):
        return pa.array([int(label) for label in labels], pa.int64())
    if as_numbers(labels) is not None:
        return pa.array([float(label) for label in labels], pa.float64())
    return pa.array([str(label) for label in labels], pa.string())


def _values(column: Any) -> FloatArray:
    """Values of a column of numbers or booleans as float64[b]."""
    values = column if column.type == pa.float64() else column.cast(pa.float64(), safe=False)
    return (values if values.null_count == 0 else values.fill_null(np.nan)).to_numpy()


def _count_rows(buffer: Any, max_rows: int) -> int:
    """Number of rows that the metadata of all record batches declares."""
    rows, yield_gil = 0, GilYield()
    for message in _record_batches(buffer):
        rows += _declared_rows(message)
        check_rows(rows, max_rows)
        yield_gil()
    return rows


def _record_batches(buffer: Any) -> Iterator[Any]:
    """Messages after the schema, not decoded."""
    reader = pa.ipc.MessageReader.open_stream(buffer)
    reader.read_next_message()
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _declared_rows(message: Any) -> int:
    """Number of rows that the metadata of a record batch declares."""
    if message.type != "record batch":
        raise MalformedBody("The Arrow stream may hold a schema and record batches only.")
    metadata = message.metadata.to_pybytes()
    root = struct.unpack_from("<I", metadata, 0)[0]
    header = _field(metadata, root, MESSAGE_HEADER)
    if header is None:
        raise MalformedBody("The Arrow stream has a message without a header.")
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    if _field(metadata, batch, RECORD_BATCH_COMPRESSION) is not None:
        raise UnsupportedMediaType("Arrow streams with compressed buffers are not read.")
    length = _field(metadata, batch, RECORD_BATCH_LENGTH)
    rows = 0 if length is None else int(struct.unpack_from("<q", metadata, length)[0])
    if rows < 0:
        raise MalformedBody("The Arrow stream has a record batch with a negative number of rows.")
    return rows


def _field(buffer: bytes, table: int, index: int) -> int | None:
    """Position of a field in a flatbuffers table; None if absent (https://flatbuffers.dev/internals)."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    size = struct.unpack_from("<H", buffer, vtable)[0]
    entry = 4 + 2 * index
    offset = struct.unpack_from("<H", buffer, vtable + entry)[0] if entry + 2 <= size else 0
    return table + offset if offset else None
