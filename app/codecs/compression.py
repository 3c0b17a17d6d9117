"""Compressed request bodies, and compression of answers. All of it releases the GIL.

Arrow's streams read gzip and zstd; Python's zlib reads deflate, and writes it and gzip.
"""

import zlib
from collections.abc import Iterator
from io import RawIOBase
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from app.errors import MalformedBody, TooLarge, UnsupportedMediaType

ENCODINGS = ("gzip", "zstd", "deflate")

PIECE_BYTES = 1024 * 1024

INPUT_BYTES = 64 * 1024
"""Bytes of a deflated body that are handed over at a time: what zlib does not read of them, it copies."""

GZIP, ZLIB = 31, 15
"""Window bits of zlib for gzip's container and for its own (RFC 1950), which is HTTP's deflate."""

FASTEST = 1
"""Level of compression. Of answers in JSON, higher ones save a tenth more bytes, in two to seven times the time."""


class Compressor(Protocol):
    """Compresses a stream piece by piece."""

    def compress(self, piece: bytes, /) -> bytes:
        """Compressed bytes that are ready after this piece; perhaps none."""
        ...

    def flush(self) -> bytes:
        """The rest."""
        ...


def check_encoding(encoding: str) -> str | None:
    """Encoding that a Content-Encoding header names: one of `ENCODINGS`, or None for an uncompressed body.

    Raises:
        UnsupportedMediaType: The header names another one, or several.
    """
    name = encoding.strip().lower().removeprefix("x-")
    if name in ("", "identity"):
        return None
    if name not in ENCODINGS:
        raise UnsupportedMediaType(f"Content-Encoding must be absent, or one of {', '.join(ENCODINGS)}.")
    return name


def decompress(body: bytes | bytearray, encoding: str, limit: int, setting: str) -> bytearray:
    """Decompress a body piece by piece, up to a limit.

    Args:
        body: The compressed body.
        encoding: One of `ENCODINGS`.
        limit: Most bytes of the decompressed body.
        setting: Name of the limit's setting.

    Raises:
        MalformedBody: The body is damaged, cut short or in another encoding.
        TooLarge: The decompressed body exceeds the limit.
    """
    plain = bytearray()
    # Into one buffer: `read` allocates one for each piece, and leaks it if the data is damaged.
    piece = np.empty(min(PIECE_BYTES, limit + 1), dtype=np.uint8).data
    try:
        if encoding == "deflate":
            for part in _inflated(body, limit + 1):
                plain += part
                _check_size(plain, limit, setting)
            return plain
        with pa.CompressedInputStream(pa.BufferReader(body), encoding) as stream:
            while count := stream.readinto(piece[: limit + 1 - len(plain)]):
                plain += piece[:count]
                _check_size(plain, limit, setting)
    except (OSError, pa.ArrowException, zlib.error):
        raise MalformedBody(f"The body is not valid {encoding} data.") from None
    return plain


def compressor(encoding: str) -> Compressor:
    """A compressor for an answer in one of `ENCODINGS`."""
    if encoding == "zstd":
        return _Zstd()
    return zlib.compressobj(FASTEST, wbits=GZIP if encoding == "gzip" else ZLIB)


def _check_size(plain: bytearray, limit: int, setting: str) -> None:
    if len(plain) > limit:
        raise TooLarge(f"The decompressed body is larger than {setting} allows.")


def _inflated(body: bytes | bytearray, most: int) -> Iterator[bytes]:
    """Pieces of a deflated body, each of at most `most` bytes.

    Raises:
        zlib.error: The data is damaged, cut short, or followed by something else.
    """
    inflater = zlib.decompressobj(ZLIB)
    view = memoryview(body)
    for start in range(0, len(view), INPUT_BYTES):
        given: Any = view[start : start + INPUT_BYTES]
        while given and not inflater.eof:
            yield inflater.decompress(given, min(PIECE_BYTES, most))
            given = inflater.unconsumed_tail
        if given or inflater.unused_data:
            raise zlib.error("there is something after the end")
    while not inflater.eof and (part := inflater.decompress(b"", min(PIECE_BYTES, most))):
        yield part
    if len(view) and not inflater.eof:
        raise zlib.error("the end is missing")


class _Parts(RawIOBase):
    """File whose content is taken out as it is written, also after Arrow has closed it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        """What was written since this was asked before."""
        taken, self._parts = b"".join(self._parts), []
        return taken


class _Zstd:
    """Compresses a stream by Arrow, which writes to a file."""

    def __init__(self) -> None:
        self._parts = _Parts()
        self._stream = pa.CompressedOutputStream(pa.PythonFile(self._parts, "w"), "zstd")

    def compress(self, piece: bytes) -> bytes:
        self._stream.write(piece)
        return self._parts.take()

    def flush(self) -> bytes:
        self._stream.close()
        return self._parts.take()
