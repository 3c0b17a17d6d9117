"""Tensors as bytes: the binary tensor extension of the Open Inference Protocol, and the raw contents of its gRPC.

Numbers are little-endian and in row-major order. Each text of BYTES follows its length, of four bytes
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md).
"""

import struct
from collections.abc import Sequence

import numpy as np

from app.codecs.arrays.tensors import BYTES, DTYPES, Tensor, count_of, refusal
from app.codecs.gil_yield import GilYield
from app.codecs.rules import Buffer

ITEMS = 4096
"""Texts that are read or written before the thread yields the GIL, in about a millisecond."""

_LENGTH = struct.Struct("<I")


def read_raw(name: str, datatype: str, shape: Sequence[int], data: Buffer) -> Tensor:
    """A tensor whose values are a view of the bytes; texts are copied.

    Args:
        name: Name.
        datatype: Datatype as the request has it.
        shape: Shape as the request has it.
        data: The bytes of the tensor alone.

    Raises:
        InvalidInput: Datatype or shape is not read, or they do not fit the bytes.
    """
    count, view = count_of(name, datatype, shape), memoryview(data)
    if datatype == BYTES:
        return Tensor(name, datatype, tuple(shape), _read_texts(name, count, view))
    dtype = DTYPES[datatype]
    if count * dtype.itemsize != len(view):
        raise refusal(name, f"must have the bytes that its shape and datatype take, and has {len(view)}")
    if not count:
        return Tensor(name, datatype, tuple(shape), np.empty(0, dtype))
    if dtype == np.bool_:
        places = np.frombuffer(view, np.uint8)
        if places.max() > 1:  # NumPy does not define such a boolean
            raise refusal(name, "must hold 1 or 0 in each byte")
        return Tensor(name, datatype, tuple(shape), places.view(np.bool_))
    return Tensor(name, datatype, tuple(shape), np.frombuffer(view, dtype))


def write_raw(tensor: Tensor) -> Buffer:
    """The bytes of a tensor: of numbers a view of its values."""
    if isinstance(tensor.values, np.ndarray):
        return np.ascontiguousarray(tensor.values).data.cast("B") if len(tensor.values) else b""
    known: dict[str, bytes] = {}
    parts: list[bytes] = []
    yield_gil = GilYield()
    for start in range(0, len(tensor.values), ITEMS):
        for text in tensor.values[start : start + ITEMS]:
            part = known.get(text or "")
            if part is None:
                encoded = (text or "").encode(errors="replace")
                part = known[text or ""] = _LENGTH.pack(len(encoded)) + encoded
            parts.append(part)
        yield_gil()
    return b"".join(parts)


def _read_texts(name: str, count: int, data: memoryview) -> list[str]:
    if _LENGTH.size * count > len(data):
        raise refusal(name, f"has {len(data)} bytes of data, too few for the texts that its shape tells")
    texts: list[str] = []
    yield_gil, unpack, at = GilYield(), _LENGTH.unpack_from, 0
    try:
        for first in range(0, count, ITEMS):
            for _ in range(min(ITEMS, count - first)):
                start = at + 4
                at = start + unpack(data, at)[0]
                if at > len(data):
                    raise refusal(name, "ends within a text")
                texts.append(str(data[start:at], "utf-8"))
            yield_gil()
    except struct.error:
        raise refusal(name, "ends within the length of a text") from None
    except UnicodeDecodeError:
        raise refusal(name, "must hold texts in UTF-8") from None
    if at != len(data):
        raise refusal(name, f"has {len(data) - at} bytes more than the texts that its shape tells")
    return texts
