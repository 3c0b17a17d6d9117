"""Files of rows, read by record batches."""

import csv
import glob
import io
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv
from pyarrow import json as arrow_json

from app.codecs.categories import holds_numbers
from app.feature import Feature
from app.score.options import Format, ScoreRefused

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".arrow": "arrow",
    ".feather": "arrow",
}

STANDARD = "-"
"""Standard input or output."""

BATCH_ROWS = 65_536
BLOCK_BYTES = 2**22
"""Rows of a record batch of Parquet, and bytes of a block of CSV or NDJSON: they bound the memory, with the budget."""

HEADER_BYTES = 2**18
"""Most bytes of the header of a CSV file."""

BATCHES_OF_PART = 8
"""Record batches of a part, where the input has no row groups."""

UNREADABLE = "is not one JSON object, or has a value of another type than the rows before"

Wanted = Callable[[Any], list[str]]
"""Names of the columns to read, by the schema of the file."""


class Piece(NamedTuple):
    """Rows of an input.

    Attributes:
        part: Number of the part of the input that they belong to.
        batch: The rows.
        text: Whether all columns are text.
        bad: Rows that cannot be read, with the reason of each.
    """

    part: int
    batch: Any
    text: bool = False
    bad: dict[int, str] | None = None


def find_inputs(given: str) -> list[Path]:
    """The files of a path, a folder or a pattern, by name (ScoreRefused: there are none)."""
    path = Path(given)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [one for one in sorted(path.iterdir()) if one.is_file() and one.suffix in SUFFIXES]
    else:
        found = [Path(one) for one in sorted(glob.glob(given, recursive=True)) if Path(one).is_file()]
    if not found:
        raise ScoreRefused(f"There is no file to score: {given}.")
    return found


def format_of(path: str, given: Format | None) -> Format:
    """Format of a file by its name, unless it is given (ScoreRefused: the name does not tell)."""
    found = given or SUFFIXES.get(Path(path).suffix)
    if found is None:
        raise ScoreRefused(f"The format of {path} cannot be told by its name; give it with --format.")
    return found


def rows_of(path: str, format: Format) -> int | None:
    """Rows of a file, where its metadata tells them."""
    if format != "parquet" or path == STANDARD:
        return None
    with _readable(path):
        return pq.read_metadata(path).num_rows


def read_pieces(
    path: str, format: Format, features: tuple[Feature, ...], wanted: Wanted, finished: int = 0
) -> Iterator[Piece]:
    """The rows of a file, in order, from its first unfinished part on. A part without rows has an empty piece.

    Args:
        path: The file, or `-`.
        format: Its format.
        features: Features by the input's names.
        wanted: Tells the columns to read.
        finished: Parts to leave out.

    Raises:
        ScoreRefused: The file cannot be read.
    """
    with _readable(path):
        if format == "parquet":
            yield from _parquet(path, wanted, finished)
            return
        with _opened(path) as file:
            source = _batches(file, format, features, wanted)
            for index, (batch, text, bad) in enumerate(source):
                if index // BATCHES_OF_PART >= finished:
                    yield Piece(index // BATCHES_OF_PART, batch, text, bad)


@contextmanager
def _readable(path: str) -> Generator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        raise ScoreRefused(f"{path} cannot be read: {str(error).splitlines()[0][:200]}.") from error


@contextmanager
def _opened(path: str) -> Generator[BinaryIO]:
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    with open(path, "rb", buffering=HEADER_BYTES) as file:
        yield file


def _parquet(path: str, wanted: Wanted, finished: int) -> Iterator[Piece]:
    """Rows of a Parquet file, whose parts are its row groups."""
    source = io.BytesIO(sys.stdin.buffer.read()) if path == STANDARD else path  # its metadata stand at its end
    with pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        names = wanted(schema)
        empty = schema.empty_table().select(names).to_batches() or [_no_rows(schema, names)]
        if not file.num_row_groups:
            yield Piece(0, empty[0])
        for group in range(finished, file.num_row_groups):
            seen = False
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
                seen = True
                yield Piece(group, batch.select(names))
            if not seen:
                yield Piece(group, empty[0])


def _no_rows(schema: Any, names: list[str]) -> Any:
    fields = pa.schema([schema.field(name) for name in names])
    return pa.record_batch([pa.array([], field.type) for field in fields], schema=fields)


def _batches(
    file: BinaryIO, format: Format, features: tuple[Feature, ...], wanted: Wanted
) -> Iterator[tuple[Any, bool, dict[int, str]]]:
    if format == "ndjson":
        yield from ((batch, False, bad) for batch, bad in _ndjson(file, features))
        return
    if format == "csv":
        source, text = _csv(file), True
    else:
        source, text = _arrow(file), False
    schema = next(source)
    names, seen = wanted(schema), False
    for batch in source:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            seen = True
            yield batch.slice(start, BATCH_ROWS).select(names), text, {}
    if not seen:
        yield _no_rows(schema, names), text, {}


def _csv(file: BinaryIO) -> Iterator[Any]:
    """The schema of a CSV file, then its record batches. All cells are text, so that kept ones stay as they are."""
    line = file.readline(HEADER_BYTES)
    if not line.endswith(b"\n"):
        raise ScoreRefused(f"A CSV file needs a header of at most {HEADER_BYTES} bytes, with an end of line.")
    names = next(csv.reader([line.decode("utf-8-sig", "replace").rstrip("\r\n")]), [])
    types = {name: pa.string() for name in names}
    yield pa.schema(list(types.items()))
    try:
        reader = arrow_csv.open_csv(
            file,
            read_options=arrow_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False, column_names=names),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):  # no line but the header
            return
        raise
    with reader:
        yield from reader


def _arrow(file: BinaryIO) -> Iterator[Any]:
    """The schema of an Arrow file or stream, then its record batches."""
    head = file.peek(6) if isinstance(file, io.BufferedReader) and file.seekable() else b""
    if head[:6] == b"ARROW1":
        with pa.ipc.open_file(file) as reader:
            yield reader.schema
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
        return
    with pa.ipc.open_stream(file) as reader:
        yield reader.schema
        yield from reader


def _ndjson(file: BinaryIO, features: tuple[Feature, ...]) -> Iterator[tuple[Any, dict[int, str]]]:
    """Record batches of lines of JSON, and the lines of each that cannot be read.

    The first block tells the types of the columns; numbers are float64 in any case.
    """
    types = {feature.name: kind for feature in features if (kind := _json_type(feature)) is not None}
    schema, rest, ended = None, b"", False
    while not ended:
        block = file.read(BLOCK_BYTES)
        ended = len(block) == 0
        cut = len(block) if ended else block.rfind(b"\n") + 1
        lines, rest = (rest + block[:cut], block[cut:]) if cut or ended else (b"", rest + block)
        if not lines.strip():
            continue
        batch, bad = _json_rows(lines, schema, types)
        schema = batch.schema
        yield batch, bad


def _json_type(feature: Feature) -> Any:
    if feature.kind in ("number", "integer"):
        return pa.float64()
    return pa.string() if feature.kind == "category" and not holds_numbers(feature) else None


def _json_rows(lines: bytes, schema: Any, types: dict[str, Any]) -> tuple[Any, dict[int, str]]:
    """Lines as one record batch. Where some cannot be read, all are read one by one, and these rows are null."""
    explicit = pa.schema(list(types.items())) if schema is None else schema
    others = "infer" if schema is None else "ignore"
    try:
        return _json_table(lines, explicit, others).combine_chunks().to_batches()[0], {}
    except pa.ArrowException:
        pass
    rows, bad = [line for line in lines.split(b"\n") if line.strip()], dict[int, str]()
    tables: list[Any] = []
    for place, line in enumerate(rows):
        try:
            table = _json_table(line, explicit, others)
            if len(table) != 1:
                raise pa.ArrowInvalid("no row")
            explicit = table.schema if schema is None and not tables else explicit
            others = "ignore" if tables or schema is not None else others
            tables.append(table)
        except pa.ArrowException:
            bad[place] = UNREADABLE
            tables.append(pa.table({name: pa.nulls(1, kind) for name, kind in zip(explicit.names, explicit.types)}))  # noqa: B905
    joined = pa.concat_tables(tables, promote_options="default").combine_chunks()
    return joined.to_batches()[0], bad


def _json_table(lines: bytes, schema: Any, others: str) -> Any:
    return arrow_json.read_json(
        pa.BufferReader(lines),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=max(len(lines) + 1, 1024)),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others),
    )


def stamp(path: str) -> dict[str, Any]:
    """What tells whether a file is the same as before."""
    if path == STANDARD:
        return {}
    found = os.stat(path)
    return {"path": os.path.abspath(path), "size": found.st_size, "mtime_ns": found.st_mtime_ns}
