"""MessagePack: a map with an array's shape, dtype and bytes, and lists of values for columns that are no numbers.

The format is https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

import struct
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from app.codecs.arrays import dense
from app.codecs.arrays.value_lists import BINS, COLUMNS, MALFORMED, MOST_NAMES, numbers_of_list, read_map
from app.codecs.categories import holds_numbers
from app.codecs.faults import Faults
from app.codecs.gil_yield import GilYield
from app.codecs.result import LABEL, Result
from app.codecs.rules import (
    MAX_ERRORS,
    WRONG_COLUMNS,
    Buffer,
    FloatArray,
    check_width,
    match_columns,
)
from app.errors import FieldError, InvalidInput, MalformedBody, TooLarge
from app.feature import Feature

MEDIA_TYPE = "application/msgpack"

LARGEST_BIN = 2**32 - 1

LABEL_ROWS = 8192
"""Labels encoded in one call, in less than a millisecond."""


class Matrix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent with a matrix, but for its data and the lists of columns.

    Attributes:
        shape: Number of rows and of columns.
        dtype: NumPy's name of the dtype.
        names: Names of the columns; by default the model's features in order, without those of `columns`.
    """

    shape: tuple[int, int]
    dtype: str
    names: Annotated[list[str], msgspec.Meta(max_length=MOST_NAMES)] | UnsetType | None = UNSET


_DECODER = msgspec.msgpack.Decoder(Matrix)


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode `{"shape": [B, C], "dtype": "float64", "data": bytes, "names"?: [...], "columns"?: {"x": [...]}}`.

    With names, the columns may be in any order, and optional ones may be left out. Features whose categories are texts
    are lists of `columns`, and any other feature may be.

    Returns:
        float64[B, F] in the features' order; a view of the body if nothing is to be converted.

    Raises:
        MalformedBody: The body is not such a map, or the shape does not fit the number of bytes.
        TooLarge: The shape has more than `max_rows` rows.
        InvalidInput: A key is repeated, or columns, dtype or values are not what the model takes.
    """
    fields, columns = read_map(body, features, max_rows)
    data = fields.pop("data", memoryview(b"\xc0"))
    fields.pop(COLUMNS, None)
    if (size := BINS.get(data[0])) is None:
        raise MalformedBody(MALFORMED)
    data = data[1 + size :]
    head = [bytes([0x80 + len(fields)])]
    head += [part for key, value in fields.items() for part in (msgspec.msgpack.encode(key), value)]
    try:
        matrix = _DECODER.decode(b"".join(head))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(MALFORMED) from error
    dtype = dense.DTYPES.get(matrix.dtype)
    if dtype is None:
        error = FieldError("dtype", f"must be one of {', '.join(dense.DTYPES)}")
        raise InvalidInput("The array has a dtype that is not read.", (error,))
    names = matrix.names
    if not isinstance(names, list):
        names = [feature.name for feature in features if feature.name not in columns]
    check_width(len(names) + len(columns), features)
    places = match_columns([*names, *columns], features)
    _check_texts(features, places, len(names))
    array = dense.view(data, 0, _little_endian(dtype), matrix.shape, "C", len(names), max_rows)
    if not columns:
        return dense.to_batch(array, features, places)
    faults, others = Faults(features), dict[int, FloatArray]()
    for index, (feature, place) in enumerate(zip(features, places, strict=True)):
        if place is not None and place >= len(names):
            others[index] = numbers_of_list(feature, index, columns[feature.name], len(array), faults)
    in_array = [None if place is None or place >= len(names) else place for place in places]
    return dense.to_batch(array, features, in_array, others, faults)


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as a map of `shape`, `dtype`, `names`, `model_version` and `data`; labels are a list `label` beside it.

    Raises:
        TooLarge: The values are more than MessagePack can hold.
    """
    size = 8 * len(result.numbers) * result.rows
    if size > LARGEST_BIN:
        raise TooLarge("The predictions are more than the 4 GiB that a MessagePack answer can hold.")
    head: dict[str, Any] = {
        "shape": result.shape,
        "dtype": "float64",
        "names": result.numbers,
        "model_version": result.model_version,
    }
    # More keys than in `head`: any `label`, and `data`. Their values follow piece by piece.
    parts = [bytes([0x80 + len(head) + (result.labels is not None) + 1])]
    parts += [msgspec.msgpack.encode(part) for item in head.items() for part in item]
    if result.labels is not None:
        labels = [msgspec.msgpack.encode(label) for label in result.labels]
        yield b"".join((*parts, msgspec.msgpack.encode(LABEL), struct.pack(">BI", 0xDD, result.rows)))
        yield_gil = GilYield()
        for start, stop in result.pieces(LABEL_ROWS):
            yield b"".join([labels[index] for index in result.class_indices(start, stop).tolist()])
            yield_gil()
        parts = []
    parts += [msgspec.msgpack.encode("data"), struct.pack(">BI", 0xC6, size)]
    yield b"".join(parts)
    for start, stop in result.pieces():
        yield result.matrix(start, stop).data.cast("B")


def _check_texts(features: tuple[Feature, ...], places: list[int | None], width: int) -> None:
    """Refuse an array with a column of a feature whose categories are texts; it holds the first `width` columns."""
    errors = [
        FieldError(feature.name, "must be a list of texts in columns, and not in the array")
        for feature, place in zip(features, places, strict=True)
        if place is not None and place < width and feature.kind == "category" and not holds_numbers(feature)
    ]
    if errors:
        raise InvalidInput(WRONG_COLUMNS, tuple(errors[:MAX_ERRORS]))


def _little_endian(dtype: Any) -> Any:
    return dtype.newbyteorder("<")
