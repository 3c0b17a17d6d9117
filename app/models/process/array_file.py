"""Writes and reads a struct that holds arrays, in a file, to pass it from one process of the service to another.

    8 bytes     length of the description
    …           the struct as MessagePack, where an array is its start and shape
    …           the arrays as they lie in memory, each at a multiple of 64 bytes from the first

Reading checks types and sizes, but not the numbers, since the writer runs the same code.
"""

import math
import os
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

LENGTH_BYTES = 8
ALIGNMENT = 64

T = TypeVar("T")


def write_struct(path: Path, struct: msgspec.Struct) -> None:
    """Write a struct to a file (0600), which is replaced if it exists.

    Raises:
        OSError: The file cannot be written.
        UnicodeEncodeError: The struct holds text that is not Unicode.
    """
    arrays: list[NDArray[Any]] = []
    end = 0

    def place(array: object) -> tuple[int, tuple[int, ...]]:
        nonlocal end
        if not isinstance(array, np.ndarray):
            raise NotImplementedError(f"{type(array).__name__} cannot be written")
        start = end
        end += _padded(array.nbytes)
        arrays.append(np.ascontiguousarray(array))
        return start, array.shape

    description = msgspec.msgpack.encode(struct, enc_hook=place)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(len(description).to_bytes(LENGTH_BYTES, "little"))
        file.write(description)
        for array in arrays:
            file.write(array.data)
            file.write(bytes(_padded(array.nbytes) - array.nbytes))


def read_struct(path: Path, kind: type[T]) -> T:
    """Read a struct. Its arrays share one block of memory.

    Args:
        path: The file.
        kind: Class of the struct; its annotations give the dtypes of the arrays.

    Raises:
        OSError: The file cannot be read.
        msgspec.DecodeError: The file is truncated, or holds another class.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        size = os.fstat(file.fileno()).st_size - LENGTH_BYTES - length
        if size < 0:
            raise msgspec.DecodeError("the file ends before its description")
        description = file.read(length)
        memory = np.empty(size + ALIGNMENT, dtype=np.uint8)
        content = memory[-memory.ctypes.data % ALIGNMENT :][:size]
        if file.readinto(content) != size:  # pyright: ignore[reportArgumentType]
            raise msgspec.DecodeError("the file ends before its arrays")

    def array(annotation: Any, placed: tuple[int, list[int]]) -> NDArray[Any]:
        if get_origin(annotation) is not np.ndarray:
            raise NotImplementedError(f"{annotation} cannot be read")
        (dtype,) = get_args(get_args(annotation)[1])
        start, shape = placed
        end = start + math.prod(shape) * np.dtype(dtype).itemsize
        if not 0 <= start <= end <= size:
            raise ValueError("an array is outside the file")
        return content[start:end].view(dtype).reshape(shape)

    return msgspec.msgpack.decode(description, type=kind, dec_hook=array)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
