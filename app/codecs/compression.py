"""Compressed request bodies, by Arrow's streams, which let go of the interpreter's lock."""

import numpy as np
import pyarrow as pa

from app.errors import MalformedBody, TooLarge, UnsupportedMediaType

ENCODINGS = ("gzip", "zstd")

PIECE_BYTES = 1024 * 1024


def check_encoding(encoding: str) -> str | None:
    """What a Content-Encoding header asks for: one of `ENCODINGS`, or None for a body that is not compressed.

    Raises:
        UnsupportedMediaType: Something else.
    """
    name = encoding.strip().lower().removeprefix("x-")
    if name in ("", "identity"):
        return None
    if name not in ENCODINGS:
        raise UnsupportedMediaType(f"Bodies are read plain, or with one Content-Encoding of {' and '.join(ENCODINGS)}.")
    return name


def decompress(body: bytes | bytearray, encoding: str, limit: int, setting: str) -> bytearray:
    """Unfold a body, piece by piece, up to a limit.

    Args:
        body: Compressed.
        encoding: One of `ENCODINGS`.
        limit: Bytes that it may unfold to.
        setting: Name of the limit.

    Raises:
        MalformedBody: It is not compressed so, damaged or cut short.
        TooLarge: It unfolds to more.
    """
    plain = bytearray()
    # Into a buffer of our own: `read` allocates one for each piece, and never frees it when the data turns out damaged.
    piece = np.empty(min(PIECE_BYTES, limit + 1), dtype=np.uint8).data
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), encoding) as stream:
            while count := stream.readinto(piece[: limit + 1 - len(plain)]):
                plain += piece[:count]
                if len(plain) > limit:
                    raise TooLarge(f"The body unfolds to more bytes than {setting} allows.")
    except (OSError, pa.ArrowException):
        raise MalformedBody(f"The body is not whole {encoding} data.") from None
    return plain
