"""NumPy's .npy files: a matrix whose columns are in the model's order.

The format is https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib import format as npy

from app.codecs.arrays import dense
from app.codecs.classes import Labels, as_numbers
from app.codecs.result import Result
from app.codecs.rules import BODY, Buffer, FloatArray, printable
from app.errors import FieldError, InvalidInput, MalformedBody, NotAcceptable, UnsupportedMediaType
from app.feature import Feature

MEDIA_TYPE = "application/x-npy"

HEADER_BYTES = 4096
"""Longest header read, more than a matrix needs: NumPy parses it with Python's own parser."""

MAX_NAMED = 10
"""Most columns that a message names."""


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode an array [B, F] of real numbers or booleans, of any byte order and either memory order.

    Nothing is unpickled, and the header's shape must fit the number of bytes that follow.

    Returns:
        float64[B, F]; a view of the body if nothing is to be converted.

    Raises:
        MalformedBody: The body is not a whole .npy file.
        TooLarge: The shape has more than `max_rows` rows.
        UnsupportedMediaType: The model has categories that are texts.
        InvalidInput: Shape, dtype or values are not what the model takes.
    """
    texts = [feature.name for feature in features if any(isinstance(value, str) for value in feature.categories or ())]
    if texts:
        named = ", ".join(map(printable, texts[:MAX_NAMED])) + (", and others" if len(texts) > MAX_NAMED else "")
        raise UnsupportedMediaType(
            f"An .npy file holds numbers alone, and the model has columns of text: {named}. "
            "Send JSON, NDJSON, CSV, MessagePack, Arrow or Parquet."
        )
    shape, order, dtype, offset = _header(body)
    if dtype.newbyteorder("=") not in dense.DTYPES.values():
        error = FieldError(BODY, "must be an array of real numbers or booleans of at most 64 bits")
        raise InvalidInput("The array has a dtype that is not read.", (error,))
    return dense.to_batch(dense.view(body, offset, dtype, shape, order, len(features), max_rows), features)


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as one array of the result's columns: float64[B] for a single one, else float64[B, columns].

    Raises:
        NotAcceptable: The result has labels that are no numbers: see `check_labels`.
    """
    head, labels = io.BytesIO(), check_labels(result.labels)
    shape = result.shape if labels is None else (result.rows, len(result.names))
    npy.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
    yield head.getvalue()
    for start, stop in result.pieces():
        matrix = result.matrix(start, stop)
        if labels is not None:
            matrix = np.column_stack((matrix, labels[result.class_indices(start, stop)]))
        yield matrix.data.cast("B")


def check_labels(labels: Labels | None) -> FloatArray | None:
    """Labels as the numbers of a column; None for an answer without labels.

    Raises:
        NotAcceptable: They are no numbers, or numbers that float64 does not hold.
    """
    if labels is None:
        return None
    numbers = as_numbers(labels)
    if numbers is None:
        raise NotAcceptable(
            f"{MEDIA_TYPE} holds float64 only, and the model's labels are text or larger numbers. "
            "Accept must name another format, or the query parameter output another output."
        )
    return numbers


def _header(body: Buffer) -> tuple[tuple[int, ...], str, np.dtype[Any], int]:
    """Shape, memory order, dtype, and offset of the values."""
    head = io.BytesIO(bytes(memoryview(body)[: HEADER_BYTES + npy.MAGIC_LEN + 4]))
    try:
        version = npy.read_magic(head)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(head, max_header_size=HEADER_BYTES)
    except Exception as error:  # Python's parser raises exceptions that NumPy does not document
        raise MalformedBody("The body is not a valid .npy file.") from error
    return shape, "F" if fortran else "C", dtype, head.tell()
