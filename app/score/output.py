"""A file of scored rows, which appears whole or not at all."""

import fcntl
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from app.files import sync_directory
from app.score.inputs import STANDARD
from app.score.options import Format, ScoreRefused

GROUP_ROWS = 2**19
"""Least rows of a row group of Parquet."""


class Output:
    """Writes record batches of one schema.

    Args:
        sink: The open file, which the caller closes.
        format: Its format.
        schema: Schema of the record batches.
        stream: Whether the sink is no file: Arrow is written in its streaming format, and nothing goes to the disk.
    """

    def __init__(self, sink: BinaryIO, format: Format, schema: Any, *, stream: bool) -> None:
        self._sink = sink
        self._schema = schema
        self._held: list[Any] = []
        self._writer: Any = None
        if format == "parquet":
            repeating: Any = [field.name for field in schema if _repeats(field.type)]
            self._writer = pq.ParquetWriter(sink, schema, compression="snappy", use_dictionary=repeating)
        elif format == "csv":
            self._writer = arrow_csv.CSVWriter(sink, schema)
        elif format == "arrow":
            self._writer = (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, schema)
        self._grouped = format == "parquet"
        self._stream = stream

    def write(self, batch: Any) -> None:
        """Add a record batch."""
        if self._grouped:
            self._held.append(batch)
            if sum(map(len, self._held)) >= GROUP_ROWS:
                self._flush()
        elif self._writer is None:
            self._sink.write(msgspec.json.Encoder().encode_lines(batch.to_pylist()))
        elif batch.num_rows:
            self._writer.write_batch(batch)

    def close(self) -> None:
        """Write what is left, and the end."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if any(map(len, self._held)):
            table = pa.Table.from_batches(self._held, self._schema)
            self._writer.write_table(table, row_group_size=max(1, len(table)))
            if not self._stream:  # rows are scored meanwhile, and the end has little to wait for
                os.fdatasync(self._sink.fileno())
        self._held = []


def _repeats(kind: Any) -> bool:
    """Whether values of a type often repeat; a dictionary of predictions or ids costs time and saves nothing."""
    return not pa.types.is_floating(kind) and kind not in (pa.int64(), pa.uint64())


@contextmanager
def whole_file(path: str) -> Generator[BinaryIO]:
    """A file that gets its name once it is complete and on the disk; standard output is written as it comes."""
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    final = Path(path)
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
