"""A file of scored rows, which appears whole or not at all."""

import fcntl
import io
import os
import re
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from app.files import sync_directory
from app.score.csv_rows import COMMA
from app.score.options import Format, ScoreRefused
from app.score.places import is_stream, streamed

GROUP_ROWS = 2**19
"""Least rows of a row group of Parquet."""

ANSWER = re.compile(r"prediction(_\d+)?|lower|upper|base_value|contribution[_:].*")
"""Names of the columns of numbers that the model answers with."""


class Output:
    """Writes record batches of one schema. A file has its end only if nothing failed before: half of one looks broken.

    Args:
        sink: The open file, which the caller closes.
        format: Its format.
        schema: Schema of the record batches.
        stream: Whether the sink is no file: Arrow is written in its streaming format, and nothing goes to the disk.
        delimiter: What is between cells of CSV.
    """

    def __init__(self, sink: BinaryIO, format: Format, schema: Any, *, stream: bool, delimiter: str = COMMA) -> None:
        self._file, self._sink = sink, _Sink(sink)
        self._schema = pa.schema([field.with_type(_type_in(field.type, format, stream=stream)) for field in schema])
        self._held: list[Any] = []
        self._writer: Any = None
        try:
            if format == "parquet":
                repeating: Any = [field.name for field in schema if _repeats(field.type)]
                self._writer = pq.ParquetWriter(
                    self._sink,
                    schema,
                    compression=_compression(schema),
                    use_dictionary=repeating,
                    column_encoding=_encodings(schema),
                )
            elif format == "csv":
                self._writer = arrow_csv.CSVWriter(
                    self._sink, self._schema, write_options=arrow_csv.WriteOptions(delimiter=delimiter)
                )
            elif format == "arrow":
                self._writer = (pa.ipc.new_stream if stream else pa.ipc.new_file)(self._sink, self._schema)
        except pa.ArrowException as error:
            raise ScoreRefused(f"A kept column (--keep) is of a type that the output cannot hold: {error}.") from None
        self._grouped = format == "parquet"
        self._disk = None if stream else ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._synced: Future[None] | None = None

    def write(self, batch: Any) -> None:
        """Add a record batch."""
        if self._grouped:
            self._held.append(batch)
            if sum(map(len, self._held)) >= GROUP_ROWS:
                self._flush()
        elif self._writer is None:
            self._sink.write(_json.encode_lines(batch.to_pylist()))
        elif batch.num_rows:
            self._writer.write_batch(batch if batch.schema.types == self._schema.types else batch.cast(self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
            return
        self._sink.given_up = True
        if self._writer is not None:
            with suppress(pa.ArrowException, OSError):  # it may be what has failed
                self._writer.close()
        if self._disk is not None:
            self._disk.shutdown()

    def close(self) -> None:
        """Write what is left, and the end."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
        if self._disk is not None:
            self._disk.shutdown()
        if self._synced is not None:
            self._synced.result()  # a disk tells of a failure once

    def _flush(self) -> None:
        if any(map(len, self._held)):
            table = pa.Table.from_batches(self._held, self._schema)
            self._writer.write_table(table, row_group_size=max(1, len(table)))
            self._sync()
        self._held = []

    def _sync(self) -> None:
        """Have what is written go to the disk while rows are scored, so that the end has little to wait for."""
        if self._disk is None:
            return
        if self._synced is not None:
            if not self._synced.done():
                return
            self._synced.result()
        self._synced = self._disk.submit(os.fdatasync, self._file.fileno())


class _Sink(io.RawIOBase):
    """Passes bytes on to a file, until that is given up: writers of Arrow write an end whenever they are closed.

    Args:
        file: The file, which stays open.

    Attributes:
        given_up: Whether nothing is written any more.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.given_up = False
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data) if self.given_up else self._file.write(data)


def _repeats(kind: Any) -> bool:
    """Whether values of a type often repeat; a dictionary of predictions or ids costs time and saves nothing."""
    return not pa.types.is_floating(kind) and not _is_long(kind)


def _is_long(kind: Any) -> bool:
    """Whether a type is that of most ids, whose differences are written: in a third of the time, and mostly smaller."""
    return kind in (pa.int64(), pa.uint64())


def _encodings(schema: Any) -> dict[str, str]:
    """Encodings of columns; none beside nested columns, whose parts may have the name of another column."""
    if any(map(pa.types.is_nested, schema.types)):
        return {}
    return {field.name: "DELTA_BINARY_PACKED" for field in schema if _is_long(field.type)}


def _compression(schema: Any) -> Any:
    """Snappy, but none for the answers, which hardly repeat and hardly get smaller.

    Parts of nested columns have names of their own, without which they would not be compressed.
    """
    if any(map(pa.types.is_nested, schema.types)):
        return "snappy"
    return {name: "none" if ANSWER.fullmatch(name) else "snappy" for name in schema.names}


def _type_in(kind: Any, format: Format, *, stream: bool) -> Any:
    """Type that a format has in place of one that it lacks."""
    if format == "csv" and pa.types.is_string_view(kind):
        return pa.large_string()
    # An Arrow file has one dictionary for all its record batches, and these have their own.
    return kind.value_type if format == "arrow" and not stream and pa.types.is_dictionary(kind) else kind


def _plain(value: Any) -> Any:
    """Text of a value of pandas, as which Arrow gives times in nanoseconds."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_json = msgspec.json.Encoder(enc_hook=_plain)


@contextmanager
def whole_file(path: str) -> Generator[BinaryIO]:
    """A file that gets its name once it is complete and on the disk; a stream is written as it comes."""
    if is_stream(path):
        with streamed(path) as file:
            yield file
        return
    final = Path(path).resolve()  # what a link leads to is replaced, and not the link
    if not final.parent.is_dir():
        raise ScoreRefused(f"There is no folder {Path(path).parent}.")
    temporary = final.with_name(f".{final.name}.partial")
    with temporary.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScoreRefused(f"Another run writes {path}.") from None
        try:
            file.truncate(0)  # left by a run that was killed
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(final)
            sync_directory(final.parent)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
