"""NDJSON: lines of JSON, each an object (https://github.com/ndjson/ndjson-spec)."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from app.codecs.batch_builder import BatchBuilder
from app.codecs.filled import check_objects
from app.codecs.gil_yield import GilYield
from app.codecs.json.duplicates import RepeatedName, check_json, has_repeated, parse
from app.codecs.json.objects import REFUSED, RowReader, table_row_reader
from app.codecs.result import Result
from app.codecs.rules import Buffer, FloatArray
from app.errors import MalformedBody
from app.feature import Feature

MEDIA_TYPE = "application/x-ndjson"

BLOCK_BYTES = 2**16
"""Bytes decoded in one call: some hundred rows, less than a millisecond."""

LINE_ROWS = 512
"""Rows encoded in one call, in less than a millisecond."""

_ENCODER = msgspec.json.Encoder()


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode lines that each hold an object of features by name; blank lines are skipped.

    Returns:
        float64[B, F] in the features' order; a null and an optional feature that was left out are NaN.

    Raises:
        MalformedBody: A line is not JSON, or longer than a row can be.
        TooLarge: The body holds more than `max_rows` rows.
        InvalidInput: Fields are missing, unknown, repeated, of a wrong type or out of range.
    """
    check_objects(body, features)
    reader = table_row_reader(features)
    builder = BatchBuilder(features, max_rows, _most_rows(memoryview(body).nbytes, features), kinds=True)
    for block in _blocks(body, 2**16 + 2**10 * len(features), builder):
        try:
            rows = reader.decoder.decode_lines(block)
            once = not reader.names.may_repeat(block, len(rows), map(msgspec.structs.astuple, rows))
            plain = once and len(rows) == block.count(b"\n") + (not block.endswith(b"\n"))
            plain = plain or (once and len(rows) == sum(map(bool, map(bytes.strip, block.split(b"\n")))))
            values = reader.array(rows) if plain else None
        except REFUSED:
            values = None
        if values is not None:
            builder.add_rows(values)
        else:
            _inspect(block, reader, builder)
    return builder.matrix()


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as lines, each an object of the result's columns by name."""
    row, yield_gil = _row(result.names), GilYield()
    for start, stop in result.pieces():
        lines: list[bytes] = []
        for first in range(start, stop, LINE_ROWS):
            last = min(first + LINE_ROWS, stop)
            columns = [column.tolist() for column in result.columns(first, last).values()]
            if result.labels is not None:
                columns.append(result.labels_of(first, last).tolist())
            lines.append(_ENCODER.encode_lines(list(map(row, *columns))))
            yield_gil()
        yield b"".join(lines)


def _blocks(body: Buffer, longest: int, builder: BatchBuilder) -> Iterator[bytes]:
    """Pieces of the body that end with a line: about BLOCK_BYTES each, or one longer line."""
    view = memoryview(body).cast("B")
    start, size = 0, BLOCK_BYTES
    while start < len(view):
        block = bytes(view[start : start + size])
        end = len(block) if start + size >= len(view) else block.rfind(b"\n") + 1
        if end == 0:
            if size > longest:
                raise MalformedBody(f"Row {builder.rows} of the body is longer than {longest} bytes.")
            size *= 2
            continue
        yield block[:end]
        start, size = start + end, BLOCK_BYTES


def _inspect(block: bytes, reader: RowReader, builder: BatchBuilder) -> None:
    """Read a block line by line, and count the faults; only some of its lines may be faulty."""
    values: list[FloatArray] = []
    row = builder.rows
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            decoded = reader.decoder.decode(line)
            if reader.names.may_repeat_in_one(line, msgspec.structs.astuple(decoded)) and has_repeated(line):
                raise RepeatedName
            values.append(reader.array([decoded]))
        except (*REFUSED, RepeatedName):
            what = f"Row {row} of the body"
            value, seen = parse(line, what), builder.faults.noted
            values.append(np.array([reader.inspect(value, row, builder.faults)]))
            if builder.faults.noted == seen:
                check_json(line, what)
        row += 1
        builder.yield_gil()
    if values:
        builder.add_rows(np.concatenate(values))


def _most_rows(size: int, features: tuple[Feature, ...]) -> int:
    """Most valid rows that so many bytes have room for: each row names the required features."""
    least = sum(len(feature.name.encode()) + len('"":0,') for feature in features if feature.required)
    return (size + 1) // max(len("{}\n"), least + len("{}\n") - 1)


@lru_cache(maxsize=16)
def _row(names: tuple[str, ...]) -> Callable[..., Any]:
    """Makes a row of values: a struct, which is quicker than a dict, unless a name can be no attribute."""
    if all(map(str.isidentifier, names)):
        return msgspec.defstruct("Row", [(name, Any) for name in names], gc=False)
    return lambda *values: dict(zip(names, values, strict=True))
