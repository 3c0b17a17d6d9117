"""CSV with a header line of column names (RFC 4180)."""

import csv
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import csv as arrow_csv

from app.codecs.batch_builder import BatchBuilder
from app.codecs.block_checks import Limits
from app.codecs.columns.cells import FALSE, TRUE, arrow_type, codes, holds_empty, is_doubtful, numbers_of
from app.codecs.columns.record_batches import Filler, record_batch, schema_of
from app.codecs.result import Result
from app.codecs.rules import BODY, WRONG_COLUMNS, Buffer, FloatArray, check_width, limits_of, match_columns
from app.errors import FieldError, InvalidInput, MalformedBody
from app.feature import Feature

MEDIA_TYPE = "text/csv"

BLOCK_BYTES = 2**20
"""Least size of the blocks that Arrow parses; also the longest line of a table that is not very wide."""

WIDE_BYTES, MOST_BYTES = 2**9, 2**24
"""Bytes of a block for each column, so that it holds many lines of a wide table, too; and most bytes of a block."""

HEADER_BYTES = 2**17
"""Bytes of a header beyond twice the bytes of the features' names: quotes, spaces, names that are no feature's."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MISSING = ("",)
MALFORMED = "The body is not valid CSV: lines of as many cells as the first, in UTF-8."


class Header(NamedTuple):
    """Header of a body.

    Attributes:
        names: Names of the columns.
        alone: Whether the body has no other line.
    """

    names: list[str]
    alone: bool


class _Table(NamedTuple):
    """How the lines of a body are read; the attributes are the arguments of `read_lines`."""

    names: list[str]
    features: tuple[Feature, ...]
    places: list[int | None]
    missing: tuple[str, ...]


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode lines of cells under a header of the features' names, in any order; optional columns may be left out.

    Arrow parses the body block by block, in threads of its own. A body with a cell that Arrow cannot convert is read
    again as text, which takes longer.

    Returns:
        float64[B, F] in the features' order; an empty cell is NaN, and so is a column that was left out. Where the
        empty text is a category, an empty cell in quotes is that category.

    Raises:
        MalformedBody: A line has more or fewer cells than the header, or the body is not in UTF-8.
        TooLarge: The body holds more than `max_rows` rows.
        InvalidInput: The header is too long, or columns are missing or unknown, or hold values that the model does not
            take.
    """
    header = read_header(body, features)
    check_width(len(header.names), features)
    return read_lines(body, header, features, match_columns(header.names, features), max_rows)


def read_header(body: Buffer, features: tuple[Feature, ...]) -> Header:
    """Read the header of a body.

    Raises:
        MalformedBody: There is none.
        InvalidInput: It is too long.
    """
    return _names(body, longest_header(features))


def read_lines(
    body: Buffer, header: Header, features: tuple[Feature, ...], places: list[int | None], max_rows: int,
    limits: Limits = limits_of, missing: tuple[str, ...] = MISSING,
) -> FloatArray:  # fmt: skip
    """Read the lines under a header.

    Args:
        body: The body.
        header: Its header.
        features: The model's features.
        places: Position of each feature's column.
        max_rows: Most rows allowed.
        limits: Gives the least and greatest value of a feature.
        missing: Cells that are missing values.

    Returns:
        float64[B, F] in the features' order.

    Raises:
        ServiceError: As `decode` does.
    """
    capacity, table = _most_rows(body, len(header.names)), _Table(header.names, features, places, missing)
    size = memoryview(body).nbytes
    builder = BatchBuilder(features, max_rows, capacity, kinds=True, limits=limits, size=size)
    if header.alone:  # Arrow refuses a header without lines as an empty file
        return builder.matrix()
    try:
        _read(body, table, builder)
    except pa.ArrowException:
        builder = BatchBuilder(features, max_rows, capacity, kinds=True, limits=limits, size=size)
        _read_as_text(body, table, builder)
    return builder.matrix()


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as a header line of column names and a line for each row."""
    schema = schema_of(result)
    options = arrow_csv.WriteOptions(include_header=False)
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(result.names)
    yield header.getvalue().encode()
    for start, stop in result.pieces():
        sink = pa.BufferOutputStream()
        arrow_csv.write_csv(record_batch(result, schema, start, stop), sink, options)
        yield memoryview(sink.getvalue())


def longest_header(features: tuple[Feature, ...]) -> int:
    """Most bytes of the lines up to the header's end: twice those of the features' names, and HEADER_BYTES more."""
    return HEADER_BYTES + 2 * sum(len(feature.name.encode(errors="replace")) + 2 for feature in features)


def _names(body: Buffer, most: int) -> Header:
    """Cells of the header, the first line that is not blank, and whether the body has no other line."""
    view, size = memoryview(body).cast("B"), HEADER_BYTES
    while True:
        head, whole = bytes(view[:size]), size >= len(view)
        text = head.removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
        try:
            lines = csv.reader(io.StringIO(text, newline=""))
            names = next((line for line in lines if line), None)
            more = next(lines, None)
            alone = whole and not more and not any(lines)
        except csv.Error as error:
            raise MalformedBody(MALFORMED) from error
        if names is not None and (whole or more is not None):
            return Header(names, alone)
        if whole:
            raise MalformedBody(MALFORMED)
        if size >= most:
            error = FieldError(BODY, f"must have a header of at most {most} bytes")
            raise InvalidInput(WRONG_COLUMNS, (error,))
        size = min(2 * size, most)


def _read(body: Buffer, table: _Table, builder: BatchBuilder) -> None:
    """Read a body whose cells Arrow converts.

    Raises:
        ArrowException: A cell is not of its column's kind, or only its text tells whether it is.
    """
    # Columns that are no features are text, which every cell is.
    types = dict.fromkeys(table.names, pa.string()) | {
        table.names[place]: arrow_type(feature)
        for place, feature in zip(table.places, table.features, strict=True)
        if place is not None
    }
    filler = Filler(builder, table.places, codes)
    for batch in _batches(body, table, types):
        if is_doubtful(batch, table.features, table.places):
            raise pa.ArrowInvalid("only the text tells a whole number from its neighbour")
        filler.add(batch)


def _read_as_text(body: Buffer, table: _Table, builder: BatchBuilder) -> None:
    """Read a body as text, and count the cells that are not of their column's kind."""
    filler = Filler(builder, table.places, codes)
    try:
        for batch in _batches(body, table, dict.fromkeys(table.names, pa.string())):
            for start in range(0, batch.num_rows, builder.block_rows):
                part = batch.slice(start, builder.block_rows)
                filler.add(numbers_of(part, table.features, table.places, builder))
    except pa.ArrowException as error:
        raise MalformedBody(MALFORMED) from error


def _batches(body: Buffer, table: _Table, types: dict[str, Any]) -> Iterator[Any]:
    features = table.features
    block = max(BLOCK_BYTES, longest_header(features), min(WIDE_BYTES * len(table.names), MOST_BYTES))
    texts = [*table.names]
    texts += [value for feature in features for value in feature.categories or () if isinstance(value, str)]
    with arrow_csv.open_csv(
        pa.BufferReader(pa.py_buffer(body)),
        read_options=arrow_csv.ReadOptions(block_size=block),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=any("\n" in text or "\r" in text for text in texts)),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types,
            null_values=list(table.missing),
            true_values=[*TRUE, "1"],
            false_values=[*FALSE, "0"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=not holds_empty(features),
        ),
    ) as reader:
        try:
            same = reader.schema.names == table.names
        except UnicodeDecodeError:
            same = False
        if not same:
            raise pa.ArrowInvalid("Arrow reads other column names than were checked")
        yield from reader


def _most_rows(body: Buffer, columns: int) -> int:
    """Most rows that the body has room for: a line takes a byte for each column but the last, and one for its end."""
    return (memoryview(body).nbytes + 1) // max(2, columns)
