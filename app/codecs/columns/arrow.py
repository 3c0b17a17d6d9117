"""Arrow IPC streams, by column name.

The format is https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format.
"""

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from app.codecs.batch_builder import BatchBuilder
from app.codecs.columns.record_batches import Filler, needs_kinds, record_batch, schema_of, validate
from app.codecs.gil_yield import GilYield
from app.codecs.result import Result
from app.codecs.rules import Buffer, FloatArray, check_rows, check_width, match_columns
from app.errors import MalformedBody, UnsupportedMediaType
from app.feature import Feature

MEDIA_TYPE = "application/vnd.apache.arrow.stream"

# Indices of fields in the flatbuffers tables of Arrow's format/Message.fbs.
MESSAGE_HEADER = 2
RECORD_BATCH_LENGTH = 0
RECORD_BATCH_COMPRESSION = 3
DICTIONARY_DATA = 1
DICTIONARY_IS_DELTA = 2

END_OF_STREAM = struct.pack("<Ii", 0xFFFFFFFF, 0)


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode a stream whose columns are the features, in any order; optional ones may be left out.

    Row counts are read before a batch is decoded, and compressed buffers are refused, so that a small body cannot
    expand into a large one.

    Returns:
        float64[B, F] in the features' order; a null is NaN, and so is a column that was left out.

    Raises:
        MalformedBody: The body is not an Arrow stream.
        UnsupportedMediaType: The stream's buffers are compressed, or add values to a dictionary that was sent before.
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
        rows, kinds = _count_rows(buffer, max_rows), needs_kinds(features, places, schema.types)
        builder = BatchBuilder(features, rows, kinds=kinds, size=buffer.size)
        filler = Filler(builder, places)
        for batch in _batches(buffer, schema):
            validate(batch)
            filler.add(batch)
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


def _batches(buffer: Any, schema: Any) -> Iterator[Any]:
    """Record batches of a stream whose messages `_count_rows` has seen."""
    if not any(pa.types.is_dictionary(kind) for kind in schema.types):
        for message in _messages(buffer):
            yield pa.ipc.read_record_batch(message, schema)
        return
    with pa.ipc.open_stream(buffer, options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
        yield from reader


def _count_rows(buffer: Any, max_rows: int) -> int:
    """Number of rows that the metadata of all record batches declares."""
    rows, yield_gil = 0, GilYield()
    for message in _messages(buffer):
        rows += _declared_rows(message)
        check_rows(rows, max_rows)
        yield_gil()
    return rows


def _messages(buffer: Any) -> Iterator[Any]:
    """Messages after the schema, not decoded."""
    reader = pa.ipc.MessageReader.open_stream(buffer)
    reader.read_next_message()
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _declared_rows(message: Any) -> int:
    """Number of rows that the metadata of a message declares; 0 for a dictionary."""
    if message.type not in ("record batch", "dictionary"):
        raise MalformedBody("The Arrow stream may hold a schema, dictionaries and record batches only.")
    metadata = message.metadata.to_pybytes()
    root = struct.unpack_from("<I", metadata, 0)[0]
    header = _field(metadata, root, MESSAGE_HEADER)
    if header is None:
        raise MalformedBody("The Arrow stream has a message without a header.")
    batch = _table(metadata, header)
    if message.type == "dictionary":
        delta = _field(metadata, batch, DICTIONARY_IS_DELTA)
        if delta is not None and metadata[delta]:
            # Arrow joins the parts at every record batch: many small ones would take a time beyond their size.
            raise UnsupportedMediaType("Arrow streams with delta dictionaries are not read.")
        data = _field(metadata, batch, DICTIONARY_DATA)
        if data is None:
            raise MalformedBody("The Arrow stream has a dictionary without values.")
        batch = _table(metadata, data)
    if _field(metadata, batch, RECORD_BATCH_COMPRESSION) is not None:
        raise UnsupportedMediaType("Arrow streams with compressed buffers are not read.")
    length = _field(metadata, batch, RECORD_BATCH_LENGTH)
    rows = 0 if length is None else int(struct.unpack_from("<q", metadata, length)[0])
    if rows < 0:
        raise MalformedBody("The Arrow stream has a record batch with a negative number of rows.")
    return rows if message.type == "record batch" else 0


def _table(buffer: bytes, reference: int) -> int:
    """Position of the flatbuffers table that a reference points to."""
    return reference + int(struct.unpack_from("<I", buffer, reference)[0])


def _field(buffer: bytes, table: int, index: int) -> int | None:
    """Position of a field in a flatbuffers table; None if absent (https://flatbuffers.dev/internals)."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    size = struct.unpack_from("<H", buffer, vtable)[0]
    entry = 4 + 2 * index
    offset = struct.unpack_from("<H", buffer, vtable + entry)[0] if entry + 2 <= size else 0
    return table + offset if offset else None
