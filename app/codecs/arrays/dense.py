"""Matrices of one dtype, which the npy and MessagePack formats share."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.batch_builder import BatchBuilder, block_rows
from app.codecs.block_checks import Checks
from app.codecs.categories import codes_of_numbers, missing
from app.codecs.faults import Faults
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


def to_batch(
    array: NDArray[Any],
    features: tuple[Feature, ...],
    places: list[int | None] | None = None,
    others: dict[int, FloatArray] | None = None,
    faults: Faults | None = None,
) -> FloatArray:
    """Check an array, and convert it to a batch.

    Args:
        array: Values [B, C]; a category's are its own, and not its code.
        features: The model's features.
        places: Position of each feature's column in the array, as `match_columns` gives it; None is the model's order.
        others: Values [B] of features that are not in the array: codes, or numbers.
        faults: Faults of these.

    Returns:
        float64[B, F] in the features' order; the array itself if nothing is to be converted.

    Raises:
        InvalidInput: The array holds values that the model does not take.
    """
    ordered = places is None or places == list(range(array.shape[1]))
    as_it_is = not any(feature.kind == "category" or feature.single for feature in features)
    if as_it_is and ordered and array.dtype is FLOAT64 and array.flags.c_contiguous and array.flags.aligned:
        _check(array, features)
        return array
    size = array.nbytes + sum(values.nbytes for values in (others or {}).values())
    builder = BatchBuilder(features, len(array), kinds=True, faults=faults, size=size)
    if ordered and not any(feature.kind == "category" for feature in features):
        builder.add_rows(array)
    else:
        _add_columns(builder, array, places or list(range(len(features))), others or {})
    return builder.matrix()


def _add_columns(
    builder: BatchBuilder, array: NDArray[Any], places: list[int | None], others: dict[int, FloatArray]
) -> None:
    """Add the rows block by block, with codes of categories."""
    for start in range(0, len(array), builder.block_rows):
        block = array[start : start + builder.block_rows]
        columns: list[NDArray[Any] | None] = []
        for column, (feature, place) in enumerate(zip(builder.features, places, strict=True)):
            if column in others:
                columns.append(others[column][start : start + len(block)])
            elif place is None or feature.kind != "category":
                columns.append(None if place is None else block[:, place])
            else:
                codes, unseen = codes_of_numbers(feature, block[:, place])
                builder.note_unseen(column, unseen, start)
                columns.append(codes)
        if all(column is None for column in columns):  # one column must tell the number of rows
            columns = [missing(len(block)).values, *columns[1:]]
        builder.add_columns(columns)


def _check(array: FloatArray, features: tuple[Feature, ...]) -> None:
    size, yield_gil = block_rows(features), GilYield()
    checks = Checks(features, max(1, min(size, len(array))), kinds=True)
    for start in range(0, len(array), size):
        checks.check(array[start : start + size], start)
        yield_gil()
    checks.faults.check(len(array))
