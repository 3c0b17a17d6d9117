"""Tensors of a request: their values are raw, or in the field of their datatype."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.arrays.raw_tensors import read_raw
from app.codecs.arrays.tensors import BYTES, DTYPES, Tensor, count_of, refusal
from app.codecs.rules import Buffer
from app.errors import InvalidInput
from app.protocols.open_inference.request import check_parameters
from app.protocols.open_inference.rpc.wire import LONGEST_VARINT, Parts

FIELDS = {
    "BOOL": ("bool_contents", 1),
    **dict.fromkeys(("INT8", "INT16", "INT32"), ("int_contents", 2)),
    "INT64": ("int64_contents", 3),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), ("uint_contents", 4)),
    "UINT64": ("uint64_contents", 5),
    "FP32": ("fp32_contents", 6),
    "FP64": ("fp64_contents", 7),
    BYTES: ("bytes_contents", 8),
}
"""Name and number of the field of `contents` by datatype. FP16 has none: its values must be raw."""

NAMES = {number: name for name, number in FIELDS.values()}

FIXED = {6: DTYPES["FP32"], 7: DTYPES["FP64"]}
"""Dtypes of the fields whose values all have the same number of bytes."""

PIECE = 1 << 16
"""Numbers that are converted at a time, so that what they take meanwhile is little."""


def tensors_of(request: Any, parts: Parts) -> list[Tensor]:
    """The tensors of a request.

    Args:
        request: ModelInferRequest of the rest of the message.
        parts: The parts of the message.

    Raises:
        InvalidInput: Shapes, datatypes and values do not agree.
    """
    inputs, raw = request.inputs, parts.raw
    if raw and len(raw) != len(inputs):
        text = f"The message has {len(inputs)} inputs and {len(raw)} raw_input_contents, and must have one for each."
        raise InvalidInput(text)
    return [_tensor(given, raw[index] if raw else None, parts.packed[index]) for index, given in enumerate(inputs)]


def _tensor(given: Any, raw: memoryview | None, packed: dict[int, list[memoryview]]) -> Tensor:
    name, datatype, shape = given.name, given.datatype, tuple(given.shape)
    if given.parameters:
        check_parameters(name, given.parameters)
    kept = given.contents.ListFields() if given.HasField("contents") else []
    if raw is not None:
        if packed or kept:
            raise refusal(name, "has contents, and raw_input_contents as well")
        return _aligned(read_raw(name, datatype, shape, raw))
    count = count_of(name, datatype, shape)
    if datatype not in FIELDS:
        raise refusal(name, f"is {datatype}, whose values must be in raw_input_contents")
    field, number = FIELDS[datatype]
    used = sorted({NAMES[place] for place in packed} | {kind.name for kind, _ in kept})
    if used not in ([], [field]):
        raise refusal(name, f"must have its values in {field} alone, not in {', '.join(used)}")
    if kept and packed:
        raise refusal(name, "has numbers that are packed, and others that are not")
    unpacked: Sequence[Any] = kept[0][1] if kept else ()
    if kept or datatype == BYTES:
        _check_count(name, len(unpacked), count)
        if datatype == BYTES:
            return Tensor(name, datatype, shape, _texts(name, unpacked))
        return Tensor(name, datatype, shape, _narrowed(name, np.array(unpacked), datatype))
    data = b"".join(packed[number]) if len(packed.get(number, ())) > 1 else packed.get(number, [b""])[0]
    if number in FIXED:
        return _aligned(read_raw(name, datatype, shape, data))
    return Tensor(name, datatype, shape, _varints(name, data, count, datatype))


def _aligned(tensor: Tensor) -> Tensor:
    """A tensor whose numbers lie where the processor reads them at once: a message has them anywhere."""
    values = tensor.values
    if not isinstance(values, np.ndarray) or values.flags.aligned:
        return tensor
    return tensor._replace(values=values.copy())


def _varints(name: str, data: Buffer, count: int, datatype: str) -> NDArray[Any]:
    """Numbers [count] in the variable length of the wire format; a negative one is its two's complement of 64 bits."""
    coded = np.frombuffer(data, np.uint8)
    last = coded < 0x80
    _check_count(name, int(np.count_nonzero(last)), count)  # nothing larger than the message was made so far
    if len(coded) and not last[-1]:
        raise refusal(name, "ends within a number")
    if len(coded) == count:
        return _narrowed(name, coded, datatype)
    numbers = np.empty(count, DTYPES[datatype])
    ends = np.flatnonzero(last)
    for start in range(0, count, PIECE):
        piece = ends[start : start + PIECE]
        begin = int(ends[start - 1]) + 1 if start else 0
        values = _decoded(name, coded[begin : int(piece[-1]) + 1], piece - begin)
        numbers[start : start + PIECE] = _narrowed(name, values, datatype)
    return numbers


def _decoded(name: str, coded: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Numbers, given their bytes and the place of the last byte of each."""
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1] + 1])
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > LONGEST_VARINT:
        raise refusal(name, "has a number of more than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for index in range(longest):
        longer = lengths > index
        values[longer] |= (coded[starts[longer] + index] & 0x7F).astype(np.uint64) << np.uint64(7 * index)
    return values


def _narrowed(name: str, values: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Numbers of a datatype, to which the numbers of its field can be wider."""
    dtype = DTYPES[datatype]
    if values.dtype == np.uint64 and dtype.kind == "i":
        values = values.view(np.int64)
    if len(values) and dtype.kind != "f":
        least, greatest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if values.min() < least or values.max() > greatest:
            raise refusal(name, f"has values beyond {datatype}")
    return values.astype(dtype)


def _texts(name: str, values: Sequence[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise refusal(name, "must hold texts in UTF-8") from None


def _check_count(name: str, found: int, count: int) -> None:
    if found != count:
        raise refusal(name, f"has {found} values, and its shape says {count}")
