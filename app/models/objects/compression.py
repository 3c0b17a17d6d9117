"""Files that joblib compressed, unpacked within bounds.

joblib tells the method by the file's first bytes (joblib/compressor.py), and so does this.
"""

import bz2
import lzma
import zlib
from typing import Any

import pyarrow as pa

from app.models.refusal import ModelRefused

MAX_RATIO = 200
"""Largest ratio of an object to its compressed file. The texts of boosters shrink to a third or a fifth."""

MAX_LZMA_BYTES = 256 * 1024**2
"""Largest dictionary of LZMA, which the file states and which is allocated: its highest preset has 64 MiB."""

LEAST_BYTES = 1024**2
"""Bytes that any file may be unpacked to, whatever the ratio."""


def unpack(content: bytes, most: int) -> bytes:
    """Content of a file, unpacked if it is compressed.

    Args:
        content: The file.
        most: Largest result, in bytes.

    Raises:
        ModelRefused: The file is damaged, or its content beyond a bound.
    """
    if (method := method_of(content)) is None:
        return content
    limit = min(most, max(LEAST_BYTES, MAX_RATIO * len(content)))
    try:
        unpacked, whole = _lz4(content, limit) if method == "lz4" else _unpacked(method, content, limit)
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise ModelRefused(f"the model's file is compressed with {method}, and damaged") from error
    if len(unpacked) > limit:
        raise ModelRefused(
            f"the model's file unpacks to more than {limit} bytes, and at most {most} and {MAX_RATIO} times the file "
            "are read"
        )
    if not whole:
        raise ModelRefused(f"the model's file is compressed with {method}, and ends too early")
    return unpacked


def method_of(content: bytes) -> str | None:
    """Method that a file is compressed with; None if it is not."""
    return next((method for start, method in PREFIXES.items() if content.startswith(start)), None)


def _unpacked(method: str, content: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = DECOMPRESSORS[method]()
    unpacked = decompressor.decompress(content, limit + 1)
    return unpacked, decompressor.eof


def _lz4(content: bytes, limit: int) -> tuple[bytes, bool]:
    with pa.CompressedInputStream(pa.py_buffer(content), "lz4") as stream:
        return stream.read(limit + 1), True


PREFIXES = {
    b"\x78": "zlib",
    b"\x1f\x8b": "gzip",
    b"BZ": "bz2",
    b"\x5d\x00": "lzma",
    b"\xfd7zXZ": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}
DECOMPRESSORS: dict[str, Any] = {
    "zlib": lambda: zlib.decompressobj(),
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, MAX_LZMA_BYTES),
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_LZMA_BYTES),
}
