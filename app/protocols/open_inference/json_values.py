"""Values of tensors in JSON: flat lists, or lists nested as the shape says."""

from itertools import chain
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from app.codecs.arrays.tensors import BYTES, DTYPES, Tensor, count_of, refusal
from app.protocols.open_inference.messages import InputTensor

NUMBER, WHOLE, BOOLEAN, TEXT = "numbers or null", "whole numbers", "true and false", "texts or null"
TYPES: dict[str, Any] = {NUMBER: float | None, WHOLE: int, BOOLEAN: bool, TEXT: str | None}
"""Type of a value, by what messages call it. JSON has no NaN, so null is a number that is missing."""

KINDS = {name: {"f": NUMBER, "b": BOOLEAN}.get(dtype.kind, WHOLE) for name, dtype in DTYPES.items()} | {BYTES: TEXT}
"""What messages call the values of each datatype."""

FLAT = {kind: msgspec.json.Decoder(list[value]) for kind, value in TYPES.items()}
NESTED = {kind: msgspec.json.Decoder(list[list[value]]) for kind, value in TYPES.items()}


def read_values(given: InputTensor) -> Tensor:
    """A tensor whose values are in the JSON.

    Raises:
        InvalidInput: Datatype or shape is not read, or the values do not fit them.
    """
    name, datatype, shape = given.name, given.datatype, tuple(given.shape)
    count = count_of(name, datatype, shape)
    if given.data is UNSET:
        raise refusal(name, "has no values: neither data nor binary_data_size")
    kind = KINDS[datatype]
    try:
        values = _values(given.data, kind, shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise refusal(name, f"must have as data {kind}, in a list that is flat, or nested as its shape says") from None
    if len(values) != count:
        raise refusal(name, f"must have as many values as its shape says, and has {len(values)}")
    return Tensor(name, datatype, shape, values if datatype == BYTES else _array(name, datatype, values))


def _values(data: msgspec.Raw | list[Any], kind: str, shape: tuple[int, ...]) -> list[Any]:
    """The values in row-major order.

    Raises:
        DecodeError: They are of another kind, or nested in another way.
    """
    if isinstance(data, list):
        if not (data and isinstance(data[0], list)):
            return msgspec.convert(data, list[TYPES[kind]])
        rows = msgspec.convert(data, list[list[TYPES[kind]]])
    else:
        text = bytes(data)
        if not text[1:].lstrip().startswith(b"["):
            return FLAT[kind].decode(text)
        rows = NESTED[kind].decode(text)
    if len(shape) != 2 or len(rows) != shape[0] or {*map(len, rows)} - {shape[1]}:
        raise msgspec.ValidationError
    return list(chain.from_iterable(rows))


def _array(name: str, datatype: str, values: list[Any]) -> NDArray[Any]:
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which the rules of the features refuse
            return np.array(values, np.float64).astype(dtype, copy=False)
    try:
        return np.array(values, dtype)
    except OverflowError:
        raise refusal(name, f"has values that {datatype} does not hold") from None
