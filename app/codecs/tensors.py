"""Tensors of the Open Inference Protocol, version 2: their datatypes, and the rows that they hold.

The protocol is https://github.com/kserve/open-inference-protocol. A request has one tensor [B, F] with the features in
the model's order, or a tensor [B] or [B, 1] for each feature, by name.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.codecs import dense
from app.codecs.batch_builder import BatchBuilder
from app.codecs.record_batches import Filler, needs_kinds
from app.codecs.rules import (
    BODY,
    WRONG_COLUMNS,
    FloatArray,
    check_rows,
    match_columns,
    printable,
)
from app.errors import FieldError, InvalidInput
from app.feature import Feature

BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"{sign}INT{bits}": np.dtype(f"<{sign.lower()}int{bits}"[1:]) for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
"""Dtype of each datatype of numbers."""

DATATYPES = (*DTYPES, BYTES)
"""Datatypes that are read. BYTES is the text of a category."""


class Tensor(NamedTuple):
    """A tensor of a request, whose values are as many as its shape says.

    Attributes:
        name: Name.
        datatype: One of DATATYPES.
        shape: Its dimensions.
        values: Values in row-major order: an array [n] of the datatype's dtype, or the texts of BYTES.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | list[str]


def rows_of(tensors: Sequence[Tensor], features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Rows of the tensors of a request.

    Returns:
        float64[B, F] in the features' order; an optional feature without a tensor is NaN.

    Raises:
        TooLarge: The tensors hold more than `max_rows` rows.
        InvalidInput: The tensors are in neither layout, or their names, shapes, datatypes or values are not what the
            model takes.
    """
    if len(tensors) == 1 and _is_matrix(tensors[0], features):
        return _rows_of_matrix(tensors[0], features, max_rows)
    names = [tensor.name for tensor in tensors]
    kinds = [_arrow_type(tensor) for tensor in tensors]
    places = match_columns(names, features, kinds)
    count = tensors[0].shape[0] if tensors and tensors[0].shape else 0
    errors = tuple(_misshapen(tensor, count) for tensor in tensors if tensor.shape not in ((count,), (count, 1)))
    if errors or not tensors:
        raise InvalidInput("The shapes are not [rows] or [rows, 1] of as many rows.", errors)
    check_rows(count, max_rows)
    builder = BatchBuilder(features, count, kinds=needs_kinds(features, places, kinds))
    columns = [pa.array(tensor.values, kind) for tensor, kind in zip(tensors, kinds, strict=True)]
    Filler(builder, places).add(pa.record_batch(columns, names=names))
    return builder.matrix()


def _is_matrix(tensor: Tensor, features: tuple[Feature, ...]) -> bool:
    """Whether a tensor that came alone is not that of the model's only feature."""
    return (
        len(tensor.shape) == 2
        and tensor.datatype != BYTES
        and not (len(features) == 1 and tensor.name == features[0].name)
    )


def _rows_of_matrix(tensor: Tensor, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    rows, columns = tensor.shape
    if columns != len(features):
        expected = f"must have the shape [rows, {len(features)}], or there must be a tensor for each feature, by name"
        raise InvalidInput(WRONG_COLUMNS, (FieldError(printable(tensor.name), expected),))
    texts = [
        FieldError(feature.name, "is a category of text, so there must be a tensor for each feature, by name")
        for feature in features
        if any(isinstance(value, str) for value in feature.categories or ())
    ]
    if texts:
        raise InvalidInput(WRONG_COLUMNS, tuple(texts))
    check_rows(rows, max_rows)
    array = np.asarray(tensor.values).reshape(rows, columns)
    if array.dtype == np.float64:
        array = array.view(dense.FLOAT64)  # the one object, by which `to_batch` sees that nothing is to be converted
    return dense.to_batch(array, features)


def _arrow_type(tensor: Tensor) -> Any:
    return pa.string() if tensor.datatype == BYTES else pa.from_numpy_dtype(DTYPES[tensor.datatype])


def _misshapen(tensor: Tensor, rows: int) -> FieldError:
    return FieldError(printable(tensor.name) or BODY, f"must have the shape [{rows}] or [{rows}, 1]")
