"""JSON text to numbers: the very float64 that Python reads, and nothing that is not JSON."""

import json
import math
import random
import struct
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.json_text import (
    BOOLEAN,
    INTEGER,
    OPEN_LIST,
    OPEN_OBJECT,
    OPTIONAL,
    UNREAD,
    read_columns,
    read_rows,
)

NAMES = ("a", "longer name", "é")
KINDS = (0, INTEGER | OPTIONAL, BOOLEAN | OPTIONAL)
LARGEST = float(np.finfo(np.float64).max)


def readonly(text: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(text, np.uint8)


def read(
    text: str,
    names: tuple[str, ...] = NAMES,
    kinds: tuple[int, ...] = KINDS,
    bounds: tuple[float, float] = (-LARGEST, LARGEST),
    room: int = 100,
) -> tuple[int, NDArray[np.float64]]:
    """Where the text after its first byte was read to, and the rows."""
    raw = readonly(text.encode())
    encoded = [json.dumps(name, ensure_ascii=False).encode() for name in names]
    schema = readonly(b"".join(encoded)), np.cumsum([0, *map(len, encoded)]), np.array(kinds, np.uint8)
    limits = np.full(len(names), bounds[0]), np.full(len(names), bounds[1])
    rows = np.full((room, len(names)), -1.0)
    if text.startswith("{"):
        end, count = read_columns(raw, 1, *schema, *limits, rows)
    else:
        opening = OPEN_OBJECT if "{" in text else OPEN_LIST
        end, count = read_rows(raw, 1, opening, *schema, *limits, rows)
    return end, rows[:count]


def number(text: str) -> float | None:
    end, rows = read(f"[[{text}]]", ("x",), (0,))
    assert end in (UNREAD, len(text) + 4)
    return None if end == UNREAD else rows[0, 0]


def bits(value: float) -> bytes:
    return struct.pack("d", value)


def decimals(source: random.Random, count: int) -> Iterator[str]:
    """Numbers of at most 19 digits, of all sizes and spellings, many of them hard to round."""
    for _ in range(count):
        value = struct.unpack("d", source.randbytes(8))[0]
        if math.isfinite(value):
            yield repr(value)
        yield repr(source.uniform(-200, 2000))
        yield f"{source.getrandbits(source.randrange(1, 64))}e{source.randrange(-345, 310)}"
        yield f"-{source.getrandbits(63)}E{source.randrange(-30, 30):+d}"
        yield f"{source.randrange(10 ** source.randrange(1, 10))}.{source.randrange(10 ** source.randrange(1, 10))}"
        yield f"0.{'0' * source.randrange(30)}{source.getrandbits(60)}"
        # Just between two float64, where only the rule of the even one decides, and right beside that.
        middle = (source.getrandbits(52) << 1 | 1 << 53 | 1) * 2 ** source.randrange(6)
        yield f"{middle}.0"
        yield f"{middle + source.choice((-1, 1))}e0"
        yield f"{Decimal(middle) / 2 ** source.randrange(1, 4)}"


def test_a_number_is_the_float64_that_python_reads() -> None:
    known = 0
    for text in decimals(random.Random(7), 4000):
        value = number(text)
        if value is not None:
            known += 1
            assert bits(value) == bits(float(text)), text
        else:  # left to others: large whole numbers, more digits, subnormal and infinite numbers
            digits = len(text.lower().partition("e")[0].replace(".", "").strip("-").lstrip("0"))
            large = text.isdigit() and int(text) > 2**53
            assert large or digits > 19 or abs(float(text)) < 2.3e-308 or math.isinf(float(text)), text
    assert known > 25_000


@pytest.mark.parametrize(
    "text",
    [
        "9007199254740993.0", "9007199254740992.0", "9007199254740991", "4503599627370496.5", "4503599627370497.5",
        "1e22", "1e23", "8.5e22", "123456789012345678e-22", "1.7976931348623157e308", "2.2250738585072014e-308",
        "9214843084008499.0", "0.5000000000000000", "3007850512938114745e-1", "1e-22", "7.2057594037927933e16",
        "-0.0", "0e5", "0.0000000000000000000000000000000000001", "922337203685477580.7", "6.02214076E+23",
    ],
)  # fmt: skip
def test_numbers_at_the_edges_of_the_algorithm(text: str) -> None:
    value = number(text)
    assert value is not None
    assert bits(value) == bits(float(text))


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "1.e5", "0x10", "1_0", "NaN", "Infinity", "-Infinity",
        "1e400", "5e-324", "1e-400", "null", "true", '"1"', "1 2", "1,", "[1]", "{}", "--1", "1e5.0", "1.5.5", "tru",
        "12345678901234567890", "1.2345678901234567890", "-0", "9007199254740993", "1e99999999999999999999",
    ],
)  # fmt: skip
def test_what_is_no_number_or_no_plain_one_is_not_read(text: str) -> None:
    assert number(text) is None


def test_rows_come_as_objects_lists_and_columns() -> None:
    expected = [[1.5, 2, 1], [-3.0, math.nan, 0], [4.0, 7, math.nan]]
    for text in (
        '[{"a":1.5,"longer name":2,"é":true},{"é":false,"a":-3},{"longer name":7,"a":4,"é":null}]',
        "[[1.5,2,true],[-3,null,false],[4,7,null]]",
        '{"a":[1.5,-3,4],"longer name":[2,null,7],"é":[true,false,null]}',
        '{"é":[true,false,null],"longer name":[2,null,7],"a":[1.5,-3,4]}',
    ):
        spaced = text
        for char in "[]{},:":
            spaced = spaced.replace(char, f" \t{char}\r\n")
        for spelling in (text, spaced.lstrip()):
            end, rows = read(spelling + " rest")
            assert end == len(spelling.rstrip().encode()), spelling
            np.testing.assert_array_equal(rows, expected)


def test_columns_that_are_not_given_are_nan() -> None:
    _, rows = read('{"a":[1,2]}')
    np.testing.assert_array_equal(rows, [[1, math.nan, math.nan], [2, math.nan, math.nan]])


@pytest.mark.parametrize(
    "text",
    [
        "[]", "[{}]", '[{"a":1,"a":2}]', '[{"a":1,"b":2}]', '[{"longer name":1}]', '[{"a":null}]', '[{"a":"1"}]',
        '[{"a":true}]', '[{"a":1,"longer name":1.0}]', '[{"a":1,"longer name":1e0}]', '[{"a":1,"é":1}]', '[{"a":1}',
        '[{"a":1},]', '[{"a":1},[1,2,true]]', '[{"a":1,}]', '[{,"a":1}]', '[{"a" 1}]', '[{a:1}]', '[{"\\u0061":1}]',
        "[[1,2]]", "[[1,2,true,4]]", "[[]]", "[[1,2,true],]", "[[1,2,1]]", "[[1 2,true]]", "[[1,2,truE]]", "[1,2,3]",
        "{}", '{"a":[]}', '{"a":[1],"a":[1]}', '{"a":[1],"é":[]}', '{"a":[1,2],"longer name":[1]}', '{"é":[true]}',
        '{"a":[1],"b":[1]}', '{"a":1}', '{"a":[1,]}', '{"a":[1]', '{"a":[1],}', '{"a":[1]"é":[true]}',
    ],
)  # fmt: skip
def test_anything_else_is_not_read(text: str) -> None:
    assert read(text)[0] == UNREAD


@pytest.mark.parametrize("text", ['[{"a":1.25,"longer name":-12,"é":true}]', "[[1.25,-12,false]]", '{"a":[1.25e2,3]}'])
def test_text_that_was_cut_off_or_damaged_is_not_read_past_its_end(text: str) -> None:
    raw = text.encode()
    assert read(text)[0] == len(raw)
    for stop in range(2, len(raw)):
        assert read(raw[:stop].decode(errors="ignore"))[0] == UNREAD


def test_limits_hold_for_every_value() -> None:
    for text, end in (("[[5]]", 5), ("[[5.000001]]", UNREAD), ("[[-5]]", 6), ("[[-6]]", UNREAD), ("[[0]]", 5)):
        assert read(text, ("x",), (0,), bounds=(-5.0, 5.0))[0] == end


def test_no_more_rows_are_read_than_there_is_room_for() -> None:
    for text in ("[[1],[2],[3]]", '[{"x":1},{"x":2},{"x":3}]', '{"x":[1,2,3]}'):
        assert read(text, ("x",), (0,), room=3)[0] == len(text)
        assert read(text, ("x",), (0,), room=2)[0] == UNREAD
