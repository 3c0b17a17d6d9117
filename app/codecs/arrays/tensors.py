"""Tensors of the Open Inference Protocol, version 2: their datatypes, and the rows that they hold.

The protocol is https://github.com/kserve/open-inference-protocol. A request has one tensor [B, F] with the features in
the model's order, or a tensor [B] or [B, 1] for each feature, by name.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.codecs import categories
from app.codecs.arrays import dense
from app.codecs.batch_builder import BatchBuilder
from app.codecs.categories import Codes, holds_numbers, holds_text
from app.codecs.columns.record_batches import PIECE_ROWS
from app.codecs.filled import check_filled
from app.codecs.rules import (
    BODY,
    MAX_ERRORS,
    WRONG_COLUMNS,
    FloatArray,
    check_rows,
    fault_text,
    match_columns,
    printable,
)
from app.errors import FieldError, InvalidInput
from app.feature import Feature

BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
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
        values: Values in row-major order: an array [n] of the datatype's dtype, or the texts of BYTES, None where one
            is missing.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | Sequence[str | None]


def rows_of(tensors: Sequence[Tensor], features: tuple[Feature, ...], max_rows: int, size: int) -> FloatArray:
    """Rows of the tensors of a request.

    Args:
        tensors: The tensors.
        features: The model's features, in the engine's order.
        max_rows: Most rows.
        size: Bytes of the request.

    Returns:
        float64[B, F] in the features' order; an optional feature without a tensor is NaN. A view of the tensor's values
        if these are all of it.

    Raises:
        TooLarge: The tensors hold more than `max_rows` rows, or far more missing values than the request has bytes.
        InvalidInput: The tensors are in neither layout, or their names, shapes, datatypes or values are not what the
            model takes.
    """
    if len(tensors) == 1 and _is_matrix(tensors[0], features):
        return _rows_of_matrix(tensors[0], features, max_rows)
    places = match_columns([tensor.name for tensor in tensors], features)
    columns = [None if place is None else tensors[place] for place in places]
    count = _check_columns(tensors, columns, features)
    check_rows(count, max_rows)
    check_filled(count, len(features), size)
    builder = BatchBuilder(features, count, kinds=_needs_kinds(columns, features))
    numbers = [_numbers(builder, index, tensor) if tensor is not None else None for index, tensor in enumerate(columns)]
    builder.add_columns(numbers)
    return builder.matrix()


def count_of(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Number of values of a tensor with a name, datatype and shape as a request gives them.

    Raises:
        InvalidInput: The datatype is none of DATATYPES, or the shape is none of one or two dimensions.
    """
    if datatype not in DATATYPES:
        raise refusal(name, f"has a datatype that is not read; those that are: {', '.join(DATATYPES)}")
    if len(shape) not in (1, 2):
        raise refusal(name, f"must have a shape of one or two dimensions, and has {len(shape)}")
    if min(shape) < 0:
        raise refusal(name, "has a negative dimension in its shape")
    return shape[0] if len(shape) == 1 else shape[0] * shape[1]


def refusal(name: str, message: str) -> InvalidInput:
    """The error for a tensor of a request."""
    return InvalidInput("The tensors are not valid.", (FieldError(printable(name) or BODY, message),))


def _is_matrix(tensor: Tensor, features: tuple[Feature, ...]) -> bool:
    """Whether a tensor that came alone has all features, and is not that of one feature."""
    if len(tensor.shape) != 2 or tensor.datatype == BYTES:
        return False
    return tensor.shape[1] != 1 or all(feature.name != tensor.name for feature in features)


def _rows_of_matrix(tensor: Tensor, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    rows, columns = tensor.shape
    if columns != len(features):
        expected = f"must have the shape [rows, {len(features)}], or there must be a tensor for each feature, by name"
        raise InvalidInput(WRONG_COLUMNS, (FieldError(printable(tensor.name) or BODY, expected),))
    texts = [
        FieldError(feature.name, "is a category of text, so there must be a tensor for each feature, by name")
        for feature in features
        if feature.kind == "category" and not holds_numbers(feature)
    ]
    if texts:
        raise InvalidInput(WRONG_COLUMNS, tuple(texts[:MAX_ERRORS]))
    check_rows(rows, max_rows)
    array = np.asarray(tensor.values).reshape(rows, columns)
    if array.dtype == dense.FLOAT64:
        array = array.view(dense.FLOAT64)  # the one object, by which `to_batch` sees that nothing is to be converted
    return dense.to_batch(array, features)


def _check_columns(tensors: Sequence[Tensor], columns: Sequence[Tensor | None], features: tuple[Feature, ...]) -> int:
    """Number of rows of tensors that belong to features by name.

    Raises:
        InvalidInput: There are none, their datatypes are not those of the features, or their shapes differ.
    """
    if not tensors:
        raise InvalidInput("The tensors are not valid.", (FieldError(BODY, "must hold at least one tensor"),))
    kinds = [
        FieldError(feature.name, f"{fault_text(feature, 'kind')}, not {tensor.datatype}")
        for feature, tensor in zip(features, columns, strict=True)
        if tensor is not None and not _takes(feature, tensor.datatype)
    ]
    if kinds:
        raise InvalidInput(WRONG_COLUMNS, tuple(kinds[:MAX_ERRORS]))
    count = tensors[0].shape[0] if tensors[0].shape else 0
    shapes = [
        FieldError(printable(tensor.name) or BODY, f"must have the shape [{count}] or [{count}, 1]")
        for tensor in tensors
        if tensor.shape not in ((count,), (count, 1))
    ]
    if shapes:
        raise InvalidInput("The shapes are not [rows] or [rows, 1] of as many rows.", tuple(shapes[:MAX_ERRORS]))
    return count


def _takes(feature: Feature, datatype: str) -> bool:
    """Whether a tensor of a datatype can hold values of a feature; its values tell the rest."""
    if datatype == BYTES:
        return feature.kind == "category" and holds_text(feature)
    return feature.kind != "category" or holds_numbers(feature)


def _needs_kinds(columns: Sequence[Tensor | None], features: tuple[Feature, ...]) -> bool:
    """Whether the values of some integer or boolean feature must be checked: its tensor has another datatype."""
    allowed = {"integer": "iub", "boolean": "b"}
    return any(
        tensor is not None and feature.kind in allowed and DTYPES[tensor.datatype].kind not in allowed[feature.kind]
        for feature, tensor in zip(features, columns, strict=True)
    )


def _numbers(builder: BatchBuilder, index: int, tensor: Tensor) -> NDArray[Any]:
    """Values of a feature's tensor, [B]: codes if the feature is a category."""
    feature = builder.features[index]
    if feature.kind != "category":
        return np.asarray(tensor.values)
    found = np.empty(len(tensor.values))
    for start in range(0, len(found), PIECE_ROWS):
        codes, unseen = _codes(feature, tensor.values[start : start + PIECE_ROWS])
        builder.note_unseen(index, unseen, start)
        found[start : start + PIECE_ROWS] = codes
        builder.yield_gil()
    return found


def _codes(feature: Feature, values: NDArray[Any] | Sequence[str | None]) -> Codes:
    if isinstance(values, np.ndarray):
        return categories.codes_of_numbers(feature, values)
    try:
        column = pa.array(values, pa.string())
    except UnicodeEncodeError:  # a lone surrogate, which no category has
        column = pa.array([None if text is None else printable(text) for text in values], pa.string())
    return categories.codes(feature, column)
