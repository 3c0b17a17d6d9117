"""Compressed text, unpacked while it is read."""

import bz2
import io
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa

from app.score.options import ScoreRefused
from app.score.places import BUFFER_BYTES

SUFFIXES = {".gz": "gzip", ".bgz": "gzip", ".bz2": "bzip2", ".zst": "zstd"}

BEGINS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"\x50\x2a\x4d\x18": "zstd"}
"""First bytes of compressed files; the last ones are those of pzstd."""

XZ = b"\xfd7zXZ"


def without_packing(path: str) -> str:
    """A path without the suffix of a packer, if it has one."""
    return path[: -len(PurePosixPath(path).suffix)] if _packer_by_name(path) else path


def unpacked(file: BinaryIO, path: str) -> tuple[BinaryIO, Callable[[int], int]]:
    """A file of text, unpacked if it is compressed, and what tells the place in the file of a byte of the text.

    Args:
        file: The file, at its begin.
        path: Its path, for messages.

    Raises:
        ScoreRefused: Its name says that it is compressed, and it is not, or by another program.
    """
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # pyright: ignore[reportArgumentType]
    head = buffered.peek(len(XZ))
    if head.startswith(XZ):
        raise ScoreRefused(
            f"{path} is compressed by xz: unpack it, such as by `xz -dc FILE | madrone score - --format csv ...`."
        )
    packer, named = next((BEGINS[begin] for begin in BEGINS if head.startswith(begin)), None), _packer_by_name(path)
    if named and packer != named:
        raise ScoreRefused(f"{path} is not compressed by {named}, as its name says.")
    if packer is None:
        return buffered, int
    # Arrow's reader of bzip2 fails where several streams follow each other.
    raw = _Packed(buffered, _Bzip2(buffered) if packer == "bzip2" else pa.CompressedInputStream(buffered, packer))
    return io.BufferedReader(raw, BUFFER_BYTES), raw.place


def _packer_by_name(path: str) -> str | None:
    return SUFFIXES.get(PurePosixPath(path).suffix.lower())


class _Packed(io.RawIOBase):
    """The unpacked bytes of a file.

    Args:
        file: The compressed file.
        stream: What unpacks it.
    """

    def __init__(self, file: BinaryIO, stream: Any) -> None:
        self._file, self._stream = file, stream
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._unpacked += count
        return count

    def place(self, unpacked: int) -> int:
        """About where in the compressed file a byte of the unpacked one is; what is read ahead is no further."""
        return int(self._file.tell() * min(1.0, unpacked / max(1, self._unpacked)))

    def tell(self) -> int:
        return self._unpacked


class _Bzip2:
    """Unpacks bzip2, all streams of a file: unlike `bz2.open`, it refuses what follows and is no stream.

    Args:
        file: The compressed file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = bz2.BZ2Decompressor()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and tell the number of bytes; 0 at the end (EOFError: that is missing)."""
        packed = b""
        while True:
            if self._stream.eof:
                packed = self._stream.unused_data or self._file.read(BUFFER_BYTES)
                if not packed:
                    return 0
                self._stream = bz2.BZ2Decompressor()
            elif self._stream.needs_input:
                packed = self._file.read(BUFFER_BYTES)
                if not packed:
                    raise EOFError("Truncated compressed stream")
            data, packed = self._stream.decompress(packed, len(buffer)), b""
            if data:
                buffer[: len(data)] = data
                return len(data)
