"""CSV with a header line of column names (RFC 4180)."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from pyarrow import csv as arrow_csv

from app.codecs.arrow import fill, record_batch, schema_of
from app.codecs.batch_builder import BatchBuilder
from app.codecs.result import Result
from app.codecs.rules import Buffer, FloatArray, check_width, match_columns
from app.errors import MalformedBody
from app.feature import Feature

MEDIA_TYPE = "text/csv"

compute: Any = pyarrow.compute
"""Typed as Any: its functions are generated at import, where no type checker sees them."""

BLOCK_BYTES = 2**20
"""Size of the blocks that Arrow parses; also the longest line."""

HEADER_BYTES = 2**17
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MALFORMED = "The body is not valid CSV: lines of as many cells as the first, in UTF-8."

TRUE, FALSE = ("true", "True", "TRUE", "1"), ("false", "False", "FALSE", "0")
NUMBER = r"^(?i:-?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf|infinity))$"
BOOLEAN = f"^({'|'.join(TRUE + FALSE)})$"


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode lines of cells under a header of the features' names, in any order; optional columns may be left out.

    Arrow parses the body block by block, in threads of its own.

    Returns:
        float64[B, F] in the features' order; an empty cell is NaN, and so is a column that was left out.

    Raises:
        MalformedBody: A line has more or fewer cells than the header, or the body is not in UTF-8.
        TooLarge: The body holds more than `max_rows` rows.
        InvalidInput: Columns are missing or unknown, or hold values that the model does not take.
    """
    names, alone = _names(body)
    check_width(len(names), features)
    places = match_columns(names, features)
    types = {feature.name: pa.bool_() if feature.kind == "boolean" else pa.float64() for feature in features}
    capacity = _most_rows(body, len(names))
    builder = BatchBuilder(features, max_rows, capacity, kinds=True)
    if alone:  # Arrow refuses a header without lines as an empty file
        return builder.matrix()
    try:
        for batch in _batches(body, names, types):
            fill(builder, batch, places)
    except pa.ArrowException:
        builder = BatchBuilder(features, max_rows, capacity, kinds=True)
        _inspect(body, names, features, places, builder)
    return builder.matrix()


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as a header line of column names and a line for each row."""
    schema = schema_of(result)
    options = arrow_csv.WriteOptions(include_header=False)
    yield ",".join(result.names).encode() + b"\n"
    for start, stop in result.pieces():
        sink = pa.BufferOutputStream()
        arrow_csv.write_csv(record_batch(result, schema, start, stop), sink, options)
        yield memoryview(sink.getvalue())


def _names(body: Buffer) -> tuple[list[str], bool]:
    """Cells of the header, the first line that is not blank, and whether the body has no other line."""
    head = bytes(memoryview(body)[:HEADER_BYTES])
    text = head.removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
    try:
        lines = (line for line in csv.reader(io.StringIO(text, newline="")) if line)
        names = next(lines)
        return names, len(head) < HEADER_BYTES and next(lines, None) is None
    except (StopIteration, csv.Error) as error:
        raise MalformedBody(MALFORMED) from error


def _batches(body: Buffer, names: list[str], types: dict[str, Any]) -> Iterator[Any]:
    with arrow_csv.open_csv(
        pa.BufferReader(pa.py_buffer(body)),
        read_options=arrow_csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=False),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types, null_values=[""], true_values=list(TRUE), false_values=list(FALSE)
        ),
    ) as reader:
        if reader.schema.names != names:
            raise pa.ArrowInvalid("Arrow reads other column names than were checked")
        yield from reader


def _inspect(
    body: Buffer, names: list[str], features: tuple[Feature, ...], places: list[int | None], builder: BatchBuilder
) -> None:
    """Parse a body again as text, and count the cells that are not of their column's kind."""
    try:
        for batch in _batches(body, names, dict.fromkeys(names, pa.string())):
            for start in range(0, batch.num_rows, builder.block_rows):
                part, columns = batch.slice(start, builder.block_rows), list[FloatArray | None]()
                for column, (feature, place) in enumerate(zip(features, places, strict=True)):
                    columns.append(None if place is None else _cells(part.column(place), column, feature, builder))
                builder.add_columns(columns)
    except pa.ArrowException as error:
        raise MalformedBody(MALFORMED) from error


def _cells(cells: Any, column: int, feature: Feature, builder: BatchBuilder) -> FloatArray:
    """Values of a column of text as float64[b]; empty and faulty cells are NaN."""
    text = compute.utf8_trim(cells, " \t")
    text = compute.if_else(compute.equal(text, ""), None, text)
    fits = compute.match_substring_regex(text, BOOLEAN if feature.kind == "boolean" else NUMBER)
    bad = compute.invert(fits).fill_null(False).to_numpy(zero_copy_only=False)
    if count := int(np.count_nonzero(bad)):
        builder.faults.add(column, "kind", builder.rows + int(np.argmax(bad)), count)
    text = compute.if_else(fits, text, None)
    values = compute.is_in(text, pa.array(TRUE)) if feature.kind == "boolean" else text
    values = compute.if_else(compute.is_valid(text), values.cast(pa.float64()), None)
    return values.fill_null(np.nan).to_numpy()


def _most_rows(body: Buffer, columns: int) -> int:
    """Most rows that the body has room for: a line takes a byte for each column but the last, and one for its end."""
    return (memoryview(body).nbytes + 1) // max(2, columns)
