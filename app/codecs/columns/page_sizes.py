"""Sizes of a Parquet file's pages after decompression, from the pages' own headers: the footer may understate them.

Footer and page headers are Thrift structs in the compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md) with fields as in
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift. They are parsed here because
pyarrow crashes the process on the metadata of some damaged column chunks, by C++ exceptions that it does not catch.
"""

from typing import Any, NamedTuple

from app.codecs.gil_yield import GilYield
from app.codecs.rules import Buffer

# Ids of fields.
ROW_GROUPS = 4  # FileMetaData
COLUMNS, TOTAL_BYTE_SIZE, NUM_ROWS = 1, 2, 3  # RowGroup
META_DATA = 3  # ColumnChunk
TOTAL_COMPRESSED_SIZE, DATA_PAGE, DICTIONARY_PAGE = 7, 9, 11  # ColumnMetaData
UNCOMPRESSED_SIZE, COMPRESSED_SIZE = 2, 3  # PageHeader

MAGIC = b"PAR1"
FOOTER_BYTES, COLUMN_BYTES = 2**22, 2**10
"""Most bytes of a footer, and most more for each column."""
HEADER_BYTES = 2**16
DEEPEST = 16
"""Most levels of nested structs; a valid footer has half as many."""

# Types of the compact protocol.
STOP, TRUE, FALSE, BYTE, INT16, INT32, INT64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)


class Group(NamedTuple):
    """A row group, as the footer declares it.

    Attributes:
        rows: Number of rows.
        size: Bytes after decompression.
        chunks: First byte of each column's pages and the one after their last.
    """

    rows: int
    size: int
    chunks: list[tuple[int, int]]


def row_groups(body: Buffer, columns: int = 0) -> list[Group]:
    """Row groups of a file that should have so many columns.

    Raises:
        ValueError: The footer is invalid, or larger than FOOTER_BYTES and COLUMN_BYTES for each column.
    """
    view = memoryview(body).cast("B")
    length = int.from_bytes(view[-8:-4], "little")
    if bytes(view[-4:]) != MAGIC or not 0 < length <= min(len(view) - 8, FOOTER_BYTES + COLUMN_BYTES * columns):
        raise ValueError("no footer")
    footer = _Reader(bytes(view[-8 - length : -8])).struct()
    try:
        return [
            Group(
                _whole(group[NUM_ROWS]),
                _whole(group[TOTAL_BYTE_SIZE]),
                [_span(chunk[META_DATA]) for chunk in group[COLUMNS]],
            )
            for group in footer.get(ROW_GROUPS, ())
        ]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("the footer lacks a required field") from error


def unpacked_size(body: Buffer, groups: list[Group], limit: int) -> int:
    """Bytes of all pages after decompression; beyond `limit`, some number greater than it.

    Args:
        body: The file.
        groups: Its row groups.
        limit: Number of bytes beyond which no more headers are read.

    Raises:
        ValueError: A chunk or a page lies outside the file, or a page's header is invalid.
    """
    view, size, yield_gil = memoryview(body).cast("B"), 0, GilYield()
    # A group without rows may have no pages where the footer places them.
    for start, end in (chunk for group in groups if group.rows for chunk in group.chunks):
        if not 0 <= start <= end <= len(view):
            raise ValueError("a column chunk lies outside the file")
        while start < end and size <= limit:
            reader = _Reader(bytes(view[start : min(end, start + HEADER_BYTES)]))
            header = reader.struct()
            unpacked, packed = _whole(header.get(UNCOMPRESSED_SIZE)), _whole(header.get(COMPRESSED_SIZE))
            if min(unpacked, packed) < 0:
                raise ValueError("a page has a negative size")
            size += unpacked
            start += reader.position + packed
            yield_gil()
    return size


def _span(chunk: dict[int, Any]) -> tuple[int, int]:
    """First byte of a chunk's pages and the one after their last; a dictionary page precedes the data."""
    start, dictionary = _whole(chunk[DATA_PAGE]), _whole(chunk.get(DICTIONARY_PAGE, 0))
    if 0 < dictionary < start:
        start = dictionary
    return start, start + _whole(chunk[TOTAL_COMPRESSED_SIZE])


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("the footer or a page lacks a number")
    return value


class _Reader:
    """Parses structs of the compact protocol; integers, lists and structs are kept, other values are None.

    Args:
        data: Bytes that begin with a struct.

    Attributes:
        position: Number of bytes parsed.
    """

    def __init__(self, data: bytes) -> None:
        self.position = 0
        self._data = data
        self._yield_gil = GilYield()

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Parse a struct: its fields by id."""
        if depth > DEEPEST:
            raise ValueError("structs are nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != STOP:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            # The type of a boolean field is its value.
            fields[number] = None if kind in (TRUE, FALSE) else self._value(kind, depth)
        self._yield_gil()
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (INT16, INT32, INT64):
            return self._zigzag()
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth + 1)
        if kind == BINARY:
            self._advance(self._varint())
        elif kind in (TRUE, FALSE, BYTE):
            self._advance(1)
        elif kind == DOUBLE:
            self._advance(8)
        else:
            raise ValueError("Parquet has no such type")
        return None

    def _list(self, depth: int) -> list[Any]:
        if depth > DEEPEST:
            raise ValueError("lists are nested too deep")
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        return [self._value(head & 15, depth) for _ in range(count)]

    def _advance(self, count: int) -> None:
        self.position += count
        if self.position > len(self._data):
            raise ValueError("a struct is cut short")

    def _byte(self) -> int:
        position = self.position
        if position >= len(self._data):
            raise ValueError("a struct is cut short")
        self.position = position + 1
        return self._data[position]

    def _varint(self) -> int:
        value = self._byte()
        if value < 128:  # most are so small
            return value
        value, shift = value & 127, 7
        while True:
            part = self._byte()
            value |= (part & 127) << shift
            if part < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is longer than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
