"""Parquet files, by column name.

The format is https://parquet.apache.org/docs/file-format/.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from app.codecs.batch_builder import BatchBuilder
from app.codecs.block_checks import Limits
from app.codecs.categories import longest_text
from app.codecs.columns.page_sizes import row_groups, unpacked_size
from app.codecs.columns.record_batches import Filler, needs_kinds, record_batch, schema_of
from app.codecs.result import LABEL, Result
from app.codecs.rules import Buffer, FloatArray, check_rows, check_width, limits_of, match_columns
from app.errors import MalformedBody, TooLarge
from app.feature import Feature

MEDIA_TYPE = "application/vnd.apache.parquet"

BATCH_ROWS = 65_536
CHUNK_SLACK = 16_384
"""Bytes of a column chunk beside its values: page headers, statistics, a dictionary."""

TEXT_BYTES = 64
"""Bytes of a text that is read although all categories are shorter."""


Match = Callable[[Any, tuple[Feature, ...]], list[int | None]]
"""Gives the position of each feature's column, from the Arrow schema of a file."""


def match_all(schema: Any, features: tuple[Feature, ...]) -> list[int | None]:
    """Position of each feature's column in a file that has no others: see `match_columns`."""
    return match_columns(schema.names, features, schema.types)


def decode(
    body: Buffer, features: tuple[Feature, ...], max_rows: int, match: Match = match_all,
    limits: Limits = limits_of,
) -> FloatArray:  # fmt: skip
    """Decode a file whose columns are the features, in any order; optional ones may be left out.

    Row counts and sizes are read from the file's metadata before a page is decompressed, so that a small body cannot
    expand into a large one.

    Args:
        body: The file.
        features: The model's features.
        max_rows: Most rows allowed.
        match: Finds the features' columns; others are not read.
        limits: Gives the least and greatest value of a feature.

    Returns:
        float64[B, F] in the features' order; a null is NaN, and so is a column that was left out.

    Raises:
        MalformedBody: The body is not a Parquet file.
        TooLarge: The file holds more than `max_rows` rows, or its pages more bytes than numbers of so many rows need.
        InvalidInput: Columns are missing, unknown or of a wrong type, or hold values that the model does not take.
    """
    buffer = pa.py_buffer(body)
    try:
        with _opened(buffer) as file:
            rows = file.metadata.num_rows
            check_rows(rows, max_rows)
            check_width(file.metadata.num_columns, features)
            schema = file.schema_arrow
            places = match(schema, features)
            _check_sizes(body, rows, [max(8, longest_text(feature, TEXT_BYTES)) for feature in features], file, places)
            kinds = needs_kinds(features, places, schema.types)
            # Few bytes may repeat a value in many rows, so only absent columns count.
            builder = BatchBuilder(features, rows, kinds=kinds, limits=limits, size=8 * rows * max(1, len(schema)))
            wanted = _Wanted.of(schema, places)
            if not wanted.texts:
                _fill(builder, wanted, file)
        if wanted.texts:  # as dictionaries, since a page of few bytes can repeat one long text in many rows
            with _opened(buffer, wanted.texts) as file:
                _fill(builder, wanted, file)
    except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError, RuntimeError) as error:
        raise MalformedBody("The body is not a valid Parquet file.") from error
    return builder.matrix()


def _opened(buffer: Any, texts: Sequence[str] = ()) -> Any:
    """A file, whose pages are checked where they have checksums, as those of Spark."""
    source = pa.BufferReader(buffer)
    return pq.ParquetFile(source, read_dictionary=list(texts), page_checksum_verification=True)


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as a file, a row group at a time."""
    schema, sink = schema_of(result), _Sink()
    # Predictions hardly repeat: a dictionary or compression would cost time and save nothing. Labels do repeat.
    dictionary: Any = False if result.labels is None else [LABEL]
    with pq.ParquetWriter(sink, schema, compression="none", use_dictionary=dictionary) as writer:
        for start, stop in result.pieces():
            writer.write_batch(record_batch(result, schema, start, stop), row_group_size=stop - start)
            yield sink.drain()
    yield sink.drain()


class _Wanted(NamedTuple):
    """Columns of a file that are read.

    Attributes:
        names: Their names; None for all columns, which is quicker for thousands of them.
        places: Position of each feature's column among them.
        texts: Names of those that hold texts.
    """

    names: list[str] | None
    places: list[int | None]
    texts: list[str]

    @classmethod
    def of(cls, schema: Any, places: list[int | None]) -> "_Wanted":
        read = sorted(place for place in places if place is not None)
        given = schema.names
        texts = [name for name, kind in zip(given, schema.types, strict=True) if _is_text(kind)]
        if len(read) == len(given):
            return cls(None, places, texts)
        names, new = [given[place] for place in read], {place: index for index, place in enumerate(read)}
        return cls(names, [None if place is None else new[place] for place in places], sorted({*texts} & {*names}))


def _fill(builder: BatchBuilder, wanted: _Wanted, file: Any) -> None:
    """Read the wanted columns of all rows of a file."""
    rows, filler = file.metadata.num_rows, Filler(builder, wanted.places)
    for batch in file.iter_batches(BATCH_ROWS, columns=wanted.names):
        if builder.rows + batch.num_rows > rows:
            raise ValueError("more rows than the metadata states")
        # A name with a dot asks for the columns of its parts, too.
        filler.add(batch if wanted.names is None else batch.select(wanted.names))
        builder.yield_gil()
    if builder.rows != rows:
        raise ValueError("fewer rows than the metadata states")


class _Sink(io.RawIOBase):
    """A write-only file for Arrow, from which the bytes written so far are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size

    def drain(self) -> bytes:
        """Bytes written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _is_text(kind: Any) -> bool:
    """Whether a column's Arrow type is text, or a dictionary, which Parquet has of texts only."""
    types = pa.types
    return (
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_dictionary(kind)
    )


def _check_sizes(body: Buffer, rows: int, widths: list[int], file: Any, places: list[int | None]) -> None:
    """Refuse a file whose footer or page headers declare more bytes than its values need.

    Args:
        body: The file.
        rows: Number of rows.
        widths: Most bytes of a value of each feature.
        file: The open file.
        places: Position of each feature's column; others are not read, whatever their sizes.
    """
    names, schema = file.schema_arrow.names, file.schema
    groups = row_groups(body, len(names))
    if sum(group.rows for group in groups) != rows or any(min(group.rows, group.size) < 0 for group in groups):
        raise ValueError("the row groups do not have the file's number of rows")
    read = {names[place] for place in places if place is not None}
    if len(read) < len(names):
        leaves = [leaf for leaf in range(len(schema)) if schema.column(leaf).path in read]
        groups = [group._replace(size=0, chunks=[group.chunks[leaf] for leaf in leaves]) for group in groups]
    # Twice the values: a dictionary holds them beside the indices into it.
    limit = 2 * sum(widths) * rows + CHUNK_SLACK * len(widths) * len(groups)
    if sum(group.size for group in groups) > limit or unpacked_size(body, groups, limit) > limit:
        raise TooLarge(f"The decompressed body is larger than the {limit} bytes that {rows} rows need.")
