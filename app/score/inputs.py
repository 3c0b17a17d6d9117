"""Files of rows, read by record batches."""

import io
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from app.feature import Feature
from app.score.csv_rows import COMMA, read_cells, unread_of
from app.score.json_lines import BLOCK_BYTES, NOTHING, Unread, Wanted, read_lines
from app.score.options import Format, ScoreRefused
from app.score.packed import unpacked, without_packing
from app.score.places import is_folder, is_remote, opened, size_of, sought, why
from app.score.search import below, found, is_within, root_of

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".arrow": "arrow",
    ".feather": "arrow",
}

TEXT: tuple[Format, ...] = ("csv", "ndjson")
"""Formats of which compressed files are read."""

BATCH_ROWS, BATCH_CELLS = 2**17, 2**22
"""Most rows of a record batch, and most cells, if those are of more than a row: they bound the memory, with the
budget."""

BATCHES_OF_PART = 8
"""Record batches of a part, where the input has no row groups."""


class Piece(NamedTuple):
    """Rows of an input.

    Attributes:
        part: Number of the part of the input that they belong to.
        batch: The rows.
        share: Share of the input that is read with these rows; None where its size is not known.
        text: Whether all columns are text.
        unread: Rows that cannot be read.
    """

    part: int
    batch: Any
    share: float | None = None
    text: bool = False
    unread: Unread = NOTHING


def find_inputs(given: str, output: str, format: Format | None = None) -> tuple[list[str], list[str]]:
    """The files of a path, a folder or a pattern, by name, and those of a folder that are left out.

    Args:
        given: The path or pattern.
        output: Path of the output: what is in a folder for outputs below that of the inputs is none of these.
        format: Format of all files; by default their names tell.

    Raises:
        ScoreRefused: There are none.
    """
    with _readable(given):
        files, others, root = found(given), list[str](), root_of(given)
        if not is_within(output, root):
            folders = {os.path.dirname(path) for path in files}
            outputs = {folder for folder in folders if is_within(output, folder)}
            files = [path for path in files if os.path.dirname(path) not in outputs]
        if is_folder(given) and format is None:
            others = [path for path in files if _format_by_name(path) is None]
            files = [path for path in files if _format_by_name(path) is not None]
    if not files:
        named = " Names that tell no format are left out; --format takes those." if others else ""
        raise ScoreRefused(f"There is no file to score: {given}.{named}")
    return files, [str(below(root, path)) for path in others]


def _format_by_name(path: str) -> Format | None:
    text = without_packing(path)
    format = SUFFIXES.get(Path(text).suffix.lower())
    return format if text == path or format in TEXT else None


def format_of(path: str, given: Format | None) -> Format:
    """Format of an input by its name, unless it is given (ScoreRefused: the name does not tell)."""
    format = given or _format_by_name(path)
    if format is None:
        raise ScoreRefused(f"The format of {path} cannot be told by its name; give it with --format.")
    return format


def format_to_write(path: str, given: Format | None) -> Format:
    """Format of an output by its name, unless it is given.

    Raises:
        ScoreRefused: The name does not tell, or it is that of a compressed file.
    """
    if without_packing(path) != path:
        raise ScoreRefused(
            f"{path} would not be compressed, as its name says: outputs are not; compress it afterwards."
        )
    format = given or _format_by_name(path)
    if format is None:
        raise ScoreRefused(f"The format of {path} cannot be told by its name; give it with --output-format.")
    return format


def read_pieces(
    path: str, format: Format, features: tuple[Feature, ...], wanted: Wanted, finished: int = 0,
    delimiter: str = COMMA,
) -> Generator[Piece]:  # fmt: skip
    """The rows of a file, in order, from its first unfinished part on. A part without rows has an empty piece.

    Args:
        path: The file, or `-`.
        format: Its format.
        features: Features by the input's names.
        wanted: Tells the columns to read.
        finished: Parts to leave out.
        delimiter: What is between cells of CSV.

    Raises:
        ScoreRefused: The file cannot be read.
    """
    with _readable(path):
        if format == "parquet":
            with sought(path) as source:
                yield from _parquet(source, wanted, finished, remote=is_remote(path))
            return
        with opened(path) as file:
            size = size_of(path) if file.seekable() else None
            content, place = unpacked(file, path) if format in TEXT else (file, int)
            # To close it waits for a thread of Arrow's that reads ahead, and that would crash Python if it outlived it.
            with closing(content):
                source = _batches(content, format, features, wanted, delimiter)
                for index, (batch, text, unread, read) in enumerate(source):
                    if index // BATCHES_OF_PART >= finished:
                        share = min(1.0, place(read()) / size) if size else None
                        yield Piece(index // BATCHES_OF_PART, batch, share, text, unread)


@contextmanager
def _readable(path: str) -> Generator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        raise ScoreRefused(f"{path} cannot be read: {why(error).rstrip('.')}.") from error


def _parquet(file: Any, wanted: Wanted, finished: int, *, remote: bool) -> Iterator[Piece]:
    """Rows of a Parquet file, whose parts are its row groups."""
    # Where pages have checksums, as those of Spark, damage is not scored as other values.
    with pq.ParquetFile(file, pre_buffer=remote, page_checksum_verification=True) as source:
        schema, rows = source.schema_arrow, source.metadata.num_rows
        names = wanted(schema)
        empty = _no_rows(schema, names)
        if not source.num_row_groups:
            yield Piece(0, empty)
        read = sum(source.metadata.row_group(group).num_rows for group in range(finished))
        for group in range(finished, source.num_row_groups):
            seen = False
            for batch in source.iter_batches(_batch_rows(names), row_groups=[group], columns=names, use_threads=False):
                seen = True
                read += batch.num_rows
                yield Piece(group, batch.select(names), read / rows)
            if not seen:
                yield Piece(group, empty)


def _batch_rows(names: list[str]) -> int:
    return max(1, min(BATCH_ROWS, BATCH_CELLS // max(1, len(names))))


def _no_rows(schema: Any, names: list[str]) -> Any:
    return pa.RecordBatch.from_pylist([], pa.schema([schema.field(name) for name in names]))


def _batches(
    file: BinaryIO, format: Format, features: tuple[Feature, ...], wanted: Wanted, delimiter: str
) -> Iterator[tuple[Any, bool, Unread, Callable[[], int]]]:
    """Record batches, whether all columns are text, rows that cannot be read, and what tells the bytes up to there."""
    if format == "ndjson":
        yield from ((batch, False, unread, file.tell) for batch, unread in read_lines(file, features, wanted))
        return
    text = format == "csv"
    source = read_cells(file, delimiter) if text else _arrow(file)
    schema = next(source)
    try:
        names, seen = wanted(schema), False
    except ScoreRefused as error:
        if text and len(schema) == 1:
            raise ScoreRefused(f"{error} The header is one cell; --delimiter tells what is between cells.") from None
        raise
    most = _batch_rows(names)
    for number, one in enumerate(source):
        batch, bad = one if text else (one, None)
        for start in range(0, batch.num_rows, most):
            seen = True
            part = batch.slice(start, most).select(names)
            unread = NOTHING if bad is None else unread_of(bad[start : start + most])
            # Arrow reads CSV far ahead, and makes a record batch of each block.
            blocks = number + (start + part.num_rows) / batch.num_rows
            yield part, text, unread, partial(int, blocks * BLOCK_BYTES) if text else file.tell
    if not seen:
        yield _no_rows(schema, names), text, NOTHING, lambda: 0


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
