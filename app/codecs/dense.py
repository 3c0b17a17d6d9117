"""Matrices of one dtype, which the npy and MessagePack formats share."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.batch_builder import BatchBuilder, Checks, block_rows
from app.codecs.gil_yield import GilYield
from app.codecs.rules import BODY, Buffer, FloatArray, check_rows
from app.errors import FieldError, InvalidInput, MalformedBody
from app.feature import Feature

FLOAT64 = np.dtype(np.float64)
DTYPES = {
    dtype.name: dtype
    for dtype in map(
        np.dtype,
        (np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8,
         np.uint64, np.uint32, np.uint16, np.uint8, np.bool_),
    )
}  # fmt: skip
"""Dtypes that are read, by name: real numbers and booleans of at most 64 bits."""


def view(
    body: Buffer, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], order: str, columns: int, max_rows: int
) -> NDArray[Any]:
    """View of a body's bytes from `offset` to its end as a read-only array [B, `columns`].

    Raises:
        MalformedBody: The shape does not fit the number of bytes.
        TooLarge: The shape has more than `max_rows` rows.
        InvalidInput: The shape has not two dimensions, or another number of columns.
    """
    if len(shape) != 2 or shape[1] != columns:
        message = f"must be an array of shape (rows, {columns})"
        raise InvalidInput("The columns are not the model's features.", (FieldError(BODY, message),))
    check_rows(shape[0], max_rows)
    if min(shape) < 0 or math.prod(shape) * dtype.itemsize != memoryview(body).nbytes - offset:
        raise MalformedBody("The array's shape does not fit its number of bytes.")
    if dtype == np.bool_:  # NumPy does not define a boolean whose byte is neither 0 nor 1
        dtype = np.dtype(np.uint8)
    elif dtype == FLOAT64:  # the one object, by which `to_batch` sees that nothing is to be converted
        dtype = FLOAT64
    flat = np.frombuffer(body, dtype, offset=offset) if math.prod(shape) else np.empty(0, dtype)
    array = flat.reshape(shape, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def to_batch(array: NDArray[Any], features: tuple[Feature, ...], places: list[int | None] | None = None) -> FloatArray:
    """Check an array, and convert it to a batch.

    Args:
        array: Values [B, C].
        features: The model's features.
        places: Position of each feature's column in the array, as `match_columns` gives it; None is the model's order.

    Returns:
        float64[B, F] in the features' order; the array itself if nothing is to be converted.

    Raises:
        InvalidInput: The array holds values that the model does not take.
    """
    ordered = places is None or places == list(range(array.shape[1]))
    if ordered and array.dtype is FLOAT64 and array.flags.c_contiguous and array.flags.aligned:
        _check(array, features)
        return array
    builder = BatchBuilder(features, len(array), kinds=True)
    if ordered:
        builder.add_rows(array)
    elif any(place is not None for place in places or ()):
        builder.add_columns([None if place is None else array[:, place] for place in places or ()])
    else:
        builder.add_rows(np.broadcast_to(np.float64(np.nan), (len(array), len(features))))
    return builder.matrix()


def _check(array: FloatArray, features: tuple[Feature, ...]) -> None:
    size, yield_gil = block_rows(features), GilYield()
    checks = Checks(features, max(1, min(size, len(array))), kinds=True)
    for start in range(0, len(array), size):
        checks.check(array[start : start + size], start)
        yield_gil()
    checks.faults.check(len(array))
