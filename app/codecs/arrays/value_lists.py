"""MessagePack lists of values, the columns of a map that are no numbers, decoded piece by piece."""

import math
from collections.abc import Container
from itertools import pairwise
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from app.codecs.categories import codes_of
from app.codecs.faults import Faults
from app.codecs.gil_yield import GilYield
from app.codecs.rules import (
    BODY,
    INVALID,
    REPEATED,
    Buffer,
    FloatArray,
    broken_rule,
    check_rows,
    check_width,
    limits_of,
    number_of,
    printable,
)
from app.errors import FieldError, InvalidInput, MalformedBody
from app.feature import Feature

ITEMS = 2**12
"""Values that are decoded at a time, with the GIL held."""

MALFORMED = "The body is not a MessagePack map of shape, dtype, data, names and columns, which are lists of values."

WINDOW, LONGEST_HEADER = 2**16, 5
"""Bytes that are searched at a time for the ends of values; most bytes of a value's header, which tells its length."""

MOST_KEYS, MOST_NAMES = 10, 2**16
"""Most keys of a map that are looked at, and most names of an array's columns."""

COLUMNS = "columns"

# Bytes of the length of each kind of value, by its first byte (msgpack/spec.md); 0 where that byte has the length.
LISTS = dict.fromkeys(range(0x90, 0xA0), 0) | {0xDC: 2, 0xDD: 4}
MAPS = dict.fromkeys(range(0x80, 0x90), 0) | {0xDE: 2, 0xDF: 4}
BINS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}

Value = str | bool | int | float | None
_DECODER = msgspec.msgpack.Decoder(list[Value])


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


class ValueList(NamedTuple):
    """A list, found but not decoded.

    Attributes:
        rows: Number of values.
        ends: Position of the first value, and those after each ITEMS values.
        view: The body.
    """

    rows: int
    ends: list[int]
    view: memoryview


def read_map(
    body: Buffer, features: tuple[Feature, ...], max_rows: int
) -> tuple[dict[str, memoryview], dict[str, ValueList]]:
    """Values of a map by key, and the lists of its key `columns` by name.

    Values are found here and not by msgspec, which would hold the GIL for all of a body's lists.

    Raises:
        MalformedBody: It is no such map.
        TooLarge: A list has more than `max_rows` values.
        InvalidInput: A key or a name appears more than once, or there are many more than features.
    """
    view, fields, columns = memoryview(body).cast("B"), dict[str, memoryview](), dict[str, ValueList]()
    try:
        count, position = _header(view, 0, MAPS)
        if count > MOST_KEYS:
            raise InvalidInput(INVALID, (FieldError(BODY, REPEATED),))
        for _ in range(count):
            key, position = _key(view, position, fields)
            start = position
            if key == COLUMNS:
                columns, position = _lists(view, position, features, max_rows)
            elif (size := BINS.get(view[position])) is not None:
                position += 1 + size + int.from_bytes(view[position + 1 : position + 1 + size], "big")
            elif view[position] in LISTS:
                items, position = _header(view, position, LISTS)
                if items > MOST_NAMES:
                    raise MalformedBody(MALFORMED)
                position = _skip(view, position, items)
            else:
                position = _skip(view, position, 1)
            fields[key] = view[start:position]
    except (IndexError, UnicodeDecodeError) as error:
        raise MalformedBody(MALFORMED) from error
    if position != len(view):
        raise MalformedBody(MALFORMED)
    return fields, columns


def _lists(
    view: memoryview, position: int, features: tuple[Feature, ...], max_rows: int
) -> tuple[dict[str, ValueList], int]:
    """Lists of a map at a position, by name, and the position after it."""
    columns, yield_gil = dict[str, ValueList](), GilYield()
    names, position = _header(view, position, MAPS)
    check_width(names, features)
    for _ in range(names):
        name, position = _key(view, position, columns)
        count, position = _header(view, position, LISTS)
        check_rows(count, max_rows)
        ends = [position]
        for first in range(0, count, ITEMS):
            position = _skip(view, position, min(ITEMS, count - first))
            ends.append(position)
            yield_gil()
        columns[name] = ValueList(count, ends, view)
    return columns, position


def _key(view: memoryview, position: int, known: Container[str]) -> tuple[str, int]:
    """A key at a position, none of the known ones, and the position after it."""
    first = view[position]
    size = TEXTS.get(first, 0)
    if not size and not 0xA0 <= first <= 0xBF:
        raise MalformedBody(MALFORMED)
    end = _skip(view, position, 1)
    key = bytes(view[position + 1 + size : end]).decode()
    if key in known:
        raise InvalidInput(INVALID, (FieldError(printable(key), REPEATED),))
    return key, end


def numbers_of_list(feature: Feature, column: int, values: ValueList, rows: int, faults: Faults) -> FloatArray:
    """Numbers that the forest gets for a list: codes if the feature is a category; float64[rows].

    Args:
        feature: The feature.
        column: Its index.
        values: The list.
        rows: Number of values that it must hold.
        faults: Where the faults of values are counted.

    Raises:
        MalformedBody: It is no list of texts, numbers, booleans and nil.
        InvalidInput: It has another number of values.
    """
    if values.rows != rows:
        message = f"must hold as many values as the array has rows, {rows}, and holds {values.rows}"
        raise InvalidInput(INVALID, (FieldError(feature.name, message),))
    numbers, yield_gil = np.empty(rows), GilYield()
    for first, (start, end) in zip(range(0, rows, ITEMS), pairwise(values.ends), strict=True):
        items = min(ITEMS, rows - first)
        part = _decoded(values.view[start:end], items)
        numbers[first : first + items] = _numbers(feature, column, part, first, faults)
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


def _header(view: memoryview, position: int, sizes: dict[int, int]) -> tuple[int, int]:
    """Number of items of a list or map at a position, and the position of the first."""
    size = sizes.get(view[position])
    if size is None:
        raise MalformedBody(MALFORMED)
    if not size:
        return view[position] & 0x0F, position + 1
    return int.from_bytes(view[position + 1 : position + 1 + size], "big"), position + 1 + size
