"""MessagePack lists of values, the columns of a map that are no numbers, decoded piece by piece."""

import math
from typing import Any, cast

import msgspec
import numpy as np

from app.codecs.batch_builder import Faults
from app.codecs.categories import codes_of
from app.codecs.gil_yield import GilYield
from app.codecs.rules import (
    BODY,
    INVALID,
    REPEATED,
    FloatArray,
    broken_rule,
    check_width,
    limits_of,
    number_of,
    printable,
)
from app.errors import FieldError, InvalidInput, MalformedBody
from app.feature import Feature

ITEMS = 2**12
"""Values that are decoded at a time, with the GIL held."""

MALFORMED = "The columns must be a MessagePack map of lists, each of texts, numbers, booleans and nil."

WINDOW, LONGEST_HEADER = 2**16, 5
"""Bytes that are searched at a time for the ends of values, and of a value's length at most."""

# Sizes of the headers of the lists and maps, by their first byte (msgpack/spec.md).
LONG_LISTS, LONG_MAPS = {0xDC: 2, 0xDD: 4}, {0xDE: 2, 0xDF: 4}
TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Bytes of a text's length, by its first byte."""

Value = str | bool | int | float | None
_DECODER = msgspec.msgpack.Decoder(list[Value])
_COLUMNS = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


def _sizes() -> list[int]:
    """Bytes of a value by its first byte; 0 where they are told by the next ones, -1 where it is no value."""
    sizes = [-1] * 256
    for first in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3):
        sizes[first] = 1
    for first in range(0xA0, 0xC0):
        sizes[first] = 1 + (first & 0x1F)
    for first, size in {
        0xCA: 5,
        0xCB: 9,
        0xCC: 2,
        0xCD: 3,
        0xCE: 5,
        0xCF: 9,
        0xD0: 2,
        0xD1: 3,
        0xD2: 5,
        0xD3: 9,
    }.items():
        sizes[first] = size
    for first in TEXTS:
        sizes[first] = 0
    return sizes


SIZES = _sizes()


def columns_of(raw: msgspec.Raw, features: tuple[Feature, ...]) -> dict[str, memoryview]:
    """Lists of a map, by name.

    Raises:
        MalformedBody: It is no such map.
        InvalidInput: A name appears more than once, or there are many more than features.
    """
    view = memoryview(raw).cast("B")
    if not (0x80 <= view[0] <= 0x8F or view[0] in LONG_MAPS):
        raise MalformedBody(MALFORMED)
    count, start = _header(view, 0x80, LONG_MAPS)
    check_width(count, features)
    try:
        columns = _COLUMNS.decode(view)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(MALFORMED) from error
    if count != len(columns):
        raise InvalidInput(INVALID, (FieldError(printable(_repeated(view[start:], count)), REPEATED),))
    return {name: memoryview(column).cast("B") for name, column in columns.items()}


def numbers_of_list(feature: Feature, column: int, view: memoryview, rows: int, faults: Faults) -> FloatArray:
    """Numbers that the forest gets for a list: codes if the feature is a category; float64[rows].

    Args:
        feature: The feature.
        column: Its index.
        view: The list.
        rows: Number of values that it must hold.
        faults: Where the faults of values are counted.

    Raises:
        MalformedBody: It is no list of texts, numbers, booleans and nil.
        InvalidInput: It has another number of values.
    """
    if not len(view) or not (0x90 <= view[0] <= 0x9F or view[0] in LONG_LISTS):
        raise MalformedBody(MALFORMED)
    count, position = _header(view, 0x90, LONG_LISTS)
    if count != rows:
        message = f"must hold as many values as the array has rows, {rows}, and holds {count}"
        raise InvalidInput(INVALID, (FieldError(feature.name, message),))
    numbers, yield_gil = np.empty(rows), GilYield()
    for first in range(0, rows, ITEMS):
        items = min(ITEMS, rows - first)
        end = _skip(view, position, items)
        numbers[first : first + items] = _numbers(feature, column, _decoded(view[position:end], items), first, faults)
        position = end
        yield_gil()
    return numbers


def _numbers(feature: Feature, column: int, values: list[Value], row: int, faults: Faults) -> list[float]:
    """Numbers for values from row `row` on; a faulty one is counted, and becomes some number."""
    known: Any = codes_of(feature)
    found: list[float | None] = list(map(known.get, values))
    if None not in found:
        return cast(list[float], found)
    limits, numbers = limits_of(feature), list[float]()
    for place, (value, code) in enumerate(zip(values, found, strict=True)):
        if code is None:
            if isinstance(value, float) and math.isnan(value):
                value = None
            rule = broken_rule(feature, value, limits)
            if rule is not None:
                faults.add(column, rule, row + place)
            code = limits[0] if rule is not None else number_of(feature, value)
        numbers.append(code)
    return numbers


def _decoded(part: memoryview, count: int) -> list[Value]:
    try:
        return _DECODER.decode(b"\xdd" + count.to_bytes(4, "big") + part)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(MALFORMED) from error


def _skip(view: memoryview, position: int, count: int) -> int:
    """Position after so many values."""
    sizes, data, at, last = SIZES, b"", 0, -1
    for _ in range(count):
        if at > last:  # the next value's header may not be in the window
            position += at
            data, at = bytes(view[position : position + WINDOW]), 0
            last = len(data) - LONGEST_HEADER if len(data) == WINDOW else len(data) - 1
            if last < 0:
                raise MalformedBody(MALFORMED)
        size = sizes[data[at]]
        if size <= 0:
            if size < 0:
                raise MalformedBody(MALFORMED)
            length = TEXTS[data[at]]
            size = 1 + length + int.from_bytes(data[at + 1 : at + 1 + length], "big")
        at += size
    return position + at


def _header(view: memoryview, short: int, long: dict[int, int]) -> tuple[int, int]:
    """Number of items of a list or map, and the position of the first."""
    size = long.get(view[0])
    if size is None:
        return view[0] - short, 1
    return int.from_bytes(view[1 : 1 + size], "big"), 1 + size


def _repeated(pairs: memoryview, count: int) -> str:
    """A name that appears more than once in a map of so many pairs."""
    parts = msgspec.msgpack.decode(b"\xdd" + (2 * count).to_bytes(4, "big") + pairs, type=list[msgspec.Raw])
    seen = set[str]()
    for part in parts[::2]:
        name = msgspec.msgpack.decode(part, type=str)
        if name in seen:
            return name
        seen.add(name)
    return BODY
