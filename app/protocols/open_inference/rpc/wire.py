"""The wire format of protobuf, for the numbers of a message: they are read where they lie, and written without a copy.

protobuf parses a message as a whole, with the GIL held. A value can take 8 times its bytes in memory, and an empty part
60 times. So the numbers are cut out of a message, as views of its bytes, and protobuf parses the small rest.
"""

from collections.abc import Iterator
from typing import NamedTuple

from app.codecs.rules import Buffer
from app.errors import InvalidInput, MalformedBody, TooLarge

BYTES_KIND = 2
LONGEST_VARINT = 10
LARGEST_TAG = 2**32 - 1

MODEL_NAME, MODEL_VERSION, INPUT, RAW, CONTENTS = (number << 3 | BYTES_KIND for number in (1, 2, 5, 7, 5))
"""Tags of fields of ModelInferRequest, and of an input's `contents`."""

PACKED = {number << 3 | BYTES_KIND: number for number in range(1, 8)}
"""Numbers of the fields of InferTensorContents that hold numbers, by the tags of their packed form."""

FREE_FIELDS = 100
"""Most fields of one message, beside those that the model's features need."""

SMALL = [bytes((number,)) for number in range(0x80)]
"""Numbers of one byte."""

NOT_A_REQUEST = "The message is not a ModelInferRequest."


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        tag: Number and kind.
        start: Where its tag begins.
        value: Where its value begins.
        end: Where its value ends.
    """

    tag: int
    start: int
    value: int
    end: int


class Parts(NamedTuple):
    """A ModelInferRequest in parts.

    Attributes:
        rest: The message without its numbers.
        raw: Each of raw_input_contents.
        packed: The numbers of each input's `contents`, by the number of their field.
    """

    rest: bytes
    raw: list[memoryview]
    packed: list[dict[int, list[memoryview]]]


def split(message: bytes, features: int, limit: int, setting: str) -> Parts:
    """Cut the numbers out of a ModelInferRequest.

    Args:
        message: The message.
        features: Number of the model's features, each of which can have an input.
        limit: Most bytes of the rest.
        setting: Name of that limit.

    Raises:
        MalformedBody: The message is not in the wire format.
        TooLarge: The rest is larger than the limit.
        InvalidInput: There are more fields than a request for the model can have.
    """
    return _Splitter(message, features, limit, setting).parts()


def named_model(message: bytes, features: int) -> tuple[str, str]:
    """Name and version of the model that a ModelInferRequest names, empty where it names none.

    Args:
        message: The message.
        features: Number of the model's features, each of which can have an input.

    Raises:
        MalformedBody: The message is not in the wire format.
        InvalidInput: There are more fields than a request for the model can have.
    """
    found = {MODEL_NAME: b"", MODEL_VERSION: b""}
    for field in _fields(message, 0, len(message), 2 * features + FREE_FIELDS):
        if field.tag in found:  # the last one counts
            found[field.tag] = message[field.value : field.end]
    try:
        return found[MODEL_NAME].decode(), found[MODEL_VERSION].decode()
    except UnicodeDecodeError:
        raise MalformedBody(NOT_A_REQUEST) from None


class _Splitter:
    def __init__(self, message: bytes, features: int, limit: int, setting: str) -> None:
        self._message = message
        self._view = memoryview(message)
        self._most = 2 * features + FREE_FIELDS
        self._left = limit
        self._setting = setting

    def parts(self) -> Parts:
        rest: list[bytes] = []
        raw: list[memoryview] = []
        packed: list[dict[int, list[memoryview]]] = []
        for field in _fields(self._message, 0, len(self._message), self._most):
            if field.tag == RAW:
                raw.append(self._view[field.value : field.end])
            elif field.tag == INPUT:
                numbers: dict[int, list[memoryview]] = {}
                rest.append(delimited(INPUT, self._input(field, numbers)))
                packed.append(numbers)
            else:
                rest.append(self._kept(field))
        return Parts(b"".join(rest), raw, packed)

    def _input(self, field: Field, numbers: dict[int, list[memoryview]]) -> bytes:
        """An input without its numbers, which are added to `numbers`."""
        rest: list[bytes] = []
        for inner in _fields(self._message, field.value, field.end, FREE_FIELDS):
            if inner.tag == CONTENTS:
                rest.append(delimited(CONTENTS, self._contents(inner, numbers)))
            else:
                rest.append(self._kept(inner))
        self._take(len(delimited(INPUT, b"")))
        return b"".join(rest)

    def _contents(self, field: Field, numbers: dict[int, list[memoryview]]) -> bytes:
        rest: list[bytes] = []
        pieces = 0
        for inner in _fields(self._message, field.value, field.end, None):
            if (number := PACKED.get(inner.tag)) is None:
                rest.append(self._kept(inner))
                continue
            numbers.setdefault(number, []).append(self._view[inner.value : inner.end])
            pieces += 1
            if pieces > FREE_FIELDS:
                raise InvalidInput("The numbers of an input come in too many pieces.")
        return b"".join(rest)

    def _kept(self, field: Field) -> bytes:
        self._take(field.end - field.start)
        return self._message[field.start : field.end]

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge(f"Without its numbers, the message is larger than {self._setting}.")


def _fields(message: bytes, start: int, end: int, most: int | None) -> Iterator[Field]:
    """Fields between two places of a message."""
    count = 0
    while start < end:
        field = _field(message, start, end)
        start = field.end
        count += 1
        if most is not None and count > most:
            raise InvalidInput("The message has more fields than a request for this model can have.")
        yield field


def _field(message: bytes, start: int, end: int) -> Field:
    tag, value = _varint(message, start, end)
    kind = tag & 7
    if kind == BYTES_KIND:
        length, value = _varint(message, value, end)
        stop = value + length
    elif kind == 0:
        _, stop = _varint(message, value, end)
    elif kind in (1, 5):
        stop = value + (8 if kind == 1 else 4)
    else:  # groups, which no message of the protocol has
        raise MalformedBody(NOT_A_REQUEST)
    if stop > end or not 8 <= tag <= LARGEST_TAG:
        raise MalformedBody(NOT_A_REQUEST)
    return Field(tag, start, value, stop)


def _varint(message: bytes, place: int, end: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    result = shift = 0
    for index in range(place, min(place + LONGEST_VARINT, end)):
        byte = message[index]
        if byte < 0x80:  # nearly always the first
            return result | byte << shift, index + 1
        result |= (byte & 0x7F) << shift
        shift += 7
    raise MalformedBody(NOT_A_REQUEST)


def varint(number: int) -> bytes:
    """A number that is not negative."""
    if number <= 0x7F:
        return SMALL[number]
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(tag: int, value: Buffer) -> bytes:
    """A field whose value has a length."""
    return b"".join((varint(tag), varint(len(value)), value))
