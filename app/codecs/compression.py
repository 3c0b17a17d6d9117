"""Compressed request bodies, decompressed by Arrow's streams, which release the GIL."""

import numpy as np
import pyarrow as pa

from app.errors import MalformedBody, TooLarge, UnsupportedMediaType

ENCODINGS = ("gzip", "zstd")

PIECE_BYTES = 1024 * 1024


def check_encoding(encoding: str) -> str | None:
    """Encoding that a Content-Encoding header names: one of `ENCODINGS`, or None for an uncompressed body.

    Raises:
        UnsupportedMediaType: The header names another one, or several.
    """
    name = encoding.strip().lower().removeprefix("x-")
    if name in ("", "identity"):
        return None
    if name not in ENCODINGS:
        raise UnsupportedMediaType(f"Content-Encoding must be absent, or one of {' and '.join(ENCODINGS)}.")
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
        with pa.CompressedInputStream(pa.BufferReader(body), encoding) as stream:
            while count := stream.readinto(piece[: limit + 1 - len(plain)]):
                plain += piece[:count]
                if len(plain) > limit:
                    raise TooLarge(f"The decompressed body is larger than {setting} allows.")
    except (OSError, pa.ArrowException):
        raise MalformedBody(f"The body is not valid {encoding} data.") from None
    return plain
