"""NumPy arrays and scalars as pickle, joblib and skops describe them, read as lists of Python values.

Only one-dimensional arrays of texts, numbers and booleans are read: class labels are no others. NumPy wrote its module
as `numpy.core` before version 2, and as `numpy._core` since.
"""

import re
from collections.abc import Sequence
from math import prod
from typing import Any, cast

import numpy as np

from app.feature import Category
from app.models.directory import read_npy
from app.models.objects.description import Described, Named, attributes, class_name

INLINE_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
RECONSTRUCTED = re.compile(r"numpy\._?core\.multiarray\._reconstruct")
FROM_BUFFER = re.compile(r"numpy\._?core\.numeric\._frombuffer")
SCALAR = re.compile(r"numpy\._?core\.multiarray\.scalar")
STORED = "numpy.ndarray"

ENCODE = Named("_codecs.encode")

CODE = re.compile(r"([?biufcSUVOMm])(\d{0,9})")
HAS_OBJECTS = 1
"""Bit of a NumPy type's flags: NPY_ITEM_REFCOUNT."""
READ = "biufU"
"""Kinds of NumPy types that are read."""

BYTES_OF = {"?": 1, "U": 4}
"""Bytes of one unit of a type's length; one for all others."""


class UnreadableArray(ValueError):
    """The description is not one of an array that is read; the message says what it is."""


def inline_size(array: Described) -> tuple[int | None, bool]:
    """Size of the values that follow an array in joblib's format.

    Returns:
        Bytes, or None if they are a pickle; and whether padding, whose length is in its first byte, comes before them.

    Raises:
        UnreadableArray: The description lacks its shape or type.
    """
    state = attributes(array)
    code, length, _ = _dtype(state.get("dtype"))
    if code == "O":
        return None, False
    return prod(_shape(state.get("shape"))) * length, state.get("numpy_array_alignment_bytes") is not None


def values(array: Any, most: int) -> list[Category]:
    """Values of a one-dimensional array.

    Args:
        array: Its description.
        most: Largest number of values.

    Raises:
        UnreadableArray: It is not such an array, or has values of another kind.
    """
    if isinstance(array, list | tuple):
        return _objects(cast(Sequence[Any], array), most)
    if not isinstance(array, Described):
        raise UnreadableArray(f"are a {class_name(array)}, not an array")
    name, state = class_name(array), array.state
    if name == STORED:  # of a skops file
        return _stored(array, most)
    if name == INLINE_ARRAY:
        found = attributes(array)
        if isinstance(array.content, Described):
            return values(_plain(array.content), most)
        return _raw(found.get("shape"), found.get("dtype"), array.content, most)
    if RECONSTRUCTED.fullmatch(name) and isinstance(state, tuple) and len(state := cast(tuple[Any, ...], state)) == 5:
        return _raw(state[1], state[2], state[4], most)
    if FROM_BUFFER.fullmatch(name) and len(array.arguments) >= 3:
        return _raw(array.arguments[2], array.arguments[1], array.arguments[0], most)
    raise UnreadableArray(f"are made by {name[:100]!r}, and not an array of NumPy")


def _plain(array: Described) -> Described:
    if class_name(array) == INLINE_ARRAY:
        raise UnreadableArray("are an array within an array")
    return array


def _stored(array: Described, most: int) -> list[Category]:
    if array.content is None:
        return _objects(array.elements, most)
    return _listed(_npy(array.content), most)


def _npy(content: Any) -> np.ndarray[Any, Any]:
    try:
        return read_npy(content)
    except (ValueError, TypeError) as error:
        raise UnreadableArray("are not a whole .npy file") from error


def _raw(shape: Any, dtype: Any, content: Any, most: int) -> list[Category]:
    code, length, order = _dtype(dtype)
    if code == "O" and isinstance(content, list):
        return _objects(cast(list[Any], content), most)
    content = _bytes(content)
    if not isinstance(content, bytes | bytearray) or len(content) != prod(sizes := _shape(shape)) * length:
        raise UnreadableArray("are an array whose values do not have the size that it states")
    if code not in READ + "?":
        raise UnreadableArray(f"are of NumPy's kind {code!r}, not texts, numbers or booleans")
    if not length:
        raise UnreadableArray("are empty texts only")
    unit = length // BYTES_OF.get(code, 1)
    return _listed(np.frombuffer(content, np.dtype(f"{order}{code}{unit}".replace("?1", "?"))).reshape(sizes), most)


def _bytes(content: Any) -> Any:
    """Bytes, which pickles before protocol 3 hold as the text that they are in Latin-1."""
    if isinstance(content, Described) and content.kind == ENCODE and len(content.arguments) == 2:
        text, encoding = content.arguments
        if isinstance(text, str) and encoding in ("latin1", "latin-1") and (text.isascii() or max(text) <= "\xff"):
            return text.encode("latin-1")
    return content


def _listed(array: np.ndarray[Any, Any], most: int) -> list[Category]:
    if array.ndim != 1:
        raise UnreadableArray(f"are an array of {array.ndim} dimensions")
    if array.dtype.kind not in READ:
        raise UnreadableArray(f"are of NumPy's kind {array.dtype.kind!r}, not texts, numbers or booleans")
    return _objects(array[: most + 1].tolist(), most)


def _objects(items: Sequence[Any], most: int) -> list[Category]:
    if len(items) > most:
        raise UnreadableArray(f"are more than {most}")
    return [_scalar(item) for item in items]


def _scalar(item: Any) -> Category:
    if isinstance(item, Described) and SCALAR.fullmatch(class_name(item)) and len(item.arguments) == 2:
        dtype, content = item.arguments
        code, _, _ = _dtype(dtype)
        if code != "O":
            return _raw((1,), dtype, content, 1)[0]
    if isinstance(item, Described) and isinstance(item.content, bytes) and class_name(item).startswith("numpy."):
        return _listed(_npy(item.content).reshape(-1), 1)[0]  # skops stores a scalar as an array of no dimension
    if isinstance(item, float) and item != item:
        raise UnreadableArray("hold a NaN")
    if isinstance(item, int) and not isinstance(item, bool) and not -(2**63) <= item < 2**64:
        raise UnreadableArray("hold an integer beyond 64 bits")
    if isinstance(item, str | int | float):
        return item
    raise UnreadableArray(f"hold a {class_name(item)[:100]!r}, not only texts, numbers and booleans")


def _dtype(dtype: Any) -> tuple[str, int, str]:
    """Kind of a NumPy type, bytes of one value, and byte order."""
    if not isinstance(dtype, Described) or dtype.kind != Named("numpy.dtype") or not dtype.arguments:
        raise UnreadableArray("are an array without a type of NumPy")
    match = CODE.fullmatch(code) if isinstance(code := dtype.arguments[0], str) else None
    if match is None:
        raise UnreadableArray("are an array of an unknown type of NumPy")
    state = cast(tuple[Any, ...], dtype.state) if isinstance(dtype.state, tuple) else ()
    order = state[1] if len(state) > 1 and state[1] in ("<", ">") else "|"
    kind = "?" if code == "b1" else match[1]
    if kind == "V" and len(state) > 7 and type(state[7]) is int and state[7] & HAS_OBJECTS:
        kind = "O"  # a record with a field of objects
    if kind in "Mm":
        return kind, 8, order
    return kind, int(match[2] or 1) * BYTES_OF.get(kind, 1), order


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = cast(tuple[Any, ...], shape) if isinstance(shape, tuple) else (-1,)
    if not all(type(size) is int and 0 <= size < 2**48 for size in sizes) or len(sizes) > 64:
        raise UnreadableArray("are an array without a shape")
    return sizes
