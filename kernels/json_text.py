"""Rows of numbers out of JSON text, compiled and GIL-free.

What is read is the plain part of JSON: numbers of at most 19 significant digits, whole ones up to 2**53, true, false
and null, in arrays, or in objects by names that are spelled in one way. Whatever else there is, valid or not, is left
to a parser that knows all of JSON and says what is wrong: these functions only say that they do not read it.

A decimal number becomes the nearest float64, ties to even, as Python's own `float` has it: exactly by one product or
quotient where both numbers are exact (Clinger, "How to read floating point numbers accurately", 1990), else by the
first 128 bits of a power of five (Lemire, "Number parsing at a gigabyte per second", 2021, and Mushtak and Lemire,
"Fast number parsing without fallback", 2023). Subnormal and infinite numbers are left to others too.
"""

# pyright: reportCallIssue=false, reportArgumentType=false
# Numba passes an intrinsic's typing context, and its types are not those of the Python around it.

import math

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

INTEGER = 1
BOOLEAN = 2
OPTIONAL = 4
"""What a value must be, by bits; without the first two, a number."""

UNREAD = -1
"""In the place of where the text was read to."""

MOST_DIGITS = 19
"""Any so many decimal digits fit into 64 bits."""

EXACT = np.uint64(1 << 53)
"""Whole numbers up to this are float64."""

EXACT_POWER = 22
"""So are the powers of ten up to this one."""

LEAST_POWER, GREATEST_POWER = -342, 308
"""Beyond these powers of ten, a number of 19 digits is zero or infinite."""

WORD = 8
"""Bytes compared at once."""

LEAST_DIVISOR = -27
"""The least power of ten whose power of five fits into 64 bits."""

MANTISSA_BITS = 52
EXPONENT_BIAS = 1023
INFINITE_EXPONENT = 2047

TIE_POWERS = (-4, 23)
"""Powers of ten with which a number of 64 bits can lie just between two float64 (Lemire, section 8)."""

TENS = np.array([10.0**power for power in range(EXACT_POWER + 1)])


def _fives() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """uint64[651] twice, high and low halves of the first 128 bits of each power of five.

    Positive powers are truncated, and reciprocals rounded up, as the proof of the algorithm wants them.
    """
    leading: list[int] = []
    for power in range(LEAST_POWER, GREATEST_POWER + 1):
        if power >= 0:
            five = 5**power
            excess = five.bit_length() - 128
            leading.append(five >> excess if excess > 0 else five << -excess)
        else:
            five = 5**-power
            # Those that 64 bits can be divided by round at their 128th bit, the others are cut there.
            bits = five.bit_length() + 127 if power >= LEAST_DIVISOR else 2 * five.bit_length() + 128
            reciprocal = (1 << bits) // five + 1
            leading.append(reciprocal >> max(0, reciprocal.bit_length() - 128))
    mask = (1 << 64) - 1
    return (
        np.array([five >> 64 for five in leading], dtype=np.uint64),
        np.array([five & mask for five in leading], dtype=np.uint64),
    )


FIVES_HIGH, FIVES_LOW = _fives()

QUOTE, COMMA, MINUS, PLUS, POINT, ZERO, NINE, COLON = (ord(char) for char in '",-+.09:')
OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = (ord(char) for char in "[]{}")
SMALL_E, LARGE_E = ord("e"), ord("E")
SPACE, TAB, NEWLINE, RETURN = (ord(char) for char in " \t\n\r")
NULL, TRUE, FALSE = ((ord(a), ord(b), ord(c), ord(d)) for a, b, c, d in ("null", "true", "fals"))


@intrinsic
def _byte(_, at):
    """The byte at an address.

    Text goes from function to function by its addresses: handing an array over counts a reference each time, which
    takes longer than reading a number.
    """

    def codegen(context, builder, signature, arguments):
        return builder.load(builder.inttoptr(arguments[0], context.get_value_type(types.uint8).as_pointer()))

    return types.uint8(types.intp), codegen


@intrinsic
def _eight(_, at):
    """The eight bytes at an address."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], context.get_value_type(types.uint64).as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(types.intp), codegen


@njit(nogil=True, cache=True, error_model="numpy")
def _peek(at, end):
    """The byte there, 0 past the end."""
    return _byte(at) if at < end else np.uint8(0)


@njit(nogil=True, cache=True, error_model="numpy")
def _skip(at, end):
    """Past white space."""
    while at < end:
        char = _byte(at)
        if char > SPACE or (char != SPACE and char != NEWLINE and char != RETURN and char != TAB):
            break
        at += 1
    return at


@njit(nogil=True, cache=True, error_model="numpy")
def _spells(at, end, word, length):
    """Whether the text goes on with the word of so many bytes at another address."""
    if at + length > end:
        return False
    while length >= WORD:
        if _eight(at) != _eight(word):
            return False
        at += WORD
        word += WORD
        length -= WORD
    while length > 0:
        if _byte(at) != _byte(word):
            return False
        at += 1
        word += 1
        length -= 1
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _is_word(at, end, word):
    """Whether the text goes on with four characters."""
    return (
        at + 4 <= end
        and _byte(at) == word[0]
        and _byte(at + 1) == word[1]
        and _byte(at + 2) == word[2]
        and _byte(at + 3) == word[3]
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _product(a, b):
    """High and low uint64 of the product of two uint64."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a_high, a_low, b_high, b_low = a >> half, a & mask, b >> half, b & mask
    low = a_low * b_low
    middle = a_high * b_low + (low >> half)
    other = a_low * b_high + (middle & mask)
    return a_high * b_high + (middle >> half) + (other >> half), (other << half) | (low & mask)


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest(mantissa, power):
    """The float64 nearest to mantissa * 10**power, mantissa > 0; NaN where it is subnormal or infinite."""
    one, top = np.uint64(1), np.uint64(63)
    if power < LEAST_POWER or power > GREATEST_POWER:
        return math.nan
    zeros = 0
    while not mantissa >> top:
        mantissa <<= one
        zeros += 1
    index = power - LEAST_POWER
    high, low = _product(mantissa, FIVES_HIGH[index])
    undecided = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(MANTISSA_BITS + 3)
    if high & undecided == undecided:
        more, _ = _product(mantissa, FIVES_LOW[index])
        low += more
        if low < more:
            high += one
    upper = high >> top
    shift = upper + np.uint64(64 - MANTISSA_BITS - 3)
    bits = high >> shift
    # floor(power * log2(10)), by a ratio that is right for all powers here
    exponent = ((217706 * power) >> 16) + 63 + np.int64(upper) - zeros + EXPONENT_BIAS
    if exponent <= 0:
        return math.nan
    if low <= one and TIE_POWERS[0] <= power <= TIE_POWERS[1] and bits & np.uint64(3) == one and bits << shift == high:
        bits &= ~one  # just between two: to the even one
    bits = (bits + (bits & one)) >> one
    if bits >> np.uint64(MANTISSA_BITS + 1):
        bits >>= one
        exponent += 1
    if exponent >= INFINITE_EXPONENT:
        return math.nan
    return math.ldexp(np.float64(bits), exponent - EXPONENT_BIAS - MANTISSA_BITS)


@njit(nogil=True, cache=True, error_model="numpy")
def _number(at, end):
    """A number in JSON's grammar: where it ends or UNREAD, its value, and whether it is written as a whole number."""
    negative = _peek(at, end) == MINUS
    if negative:
        at += 1
    first = at
    mantissa = np.uint64(0)
    while ZERO <= _peek(at, end) <= NINE:
        mantissa = mantissa * np.uint64(10) + np.uint64(_byte(at) - ZERO)
        at += 1
    digits = at - first
    if digits == 0 or (digits > 1 and _byte(first) == ZERO):
        return UNREAD, 0.0, False
    whole = True
    power = 0
    if _peek(at, end) == POINT:
        whole = False
        at += 1
        start = at
        while ZERO <= _peek(at, end) <= NINE:
            mantissa = mantissa * np.uint64(10) + np.uint64(_byte(at) - ZERO)
            at += 1
        power = start - at
        if power == 0:
            return UNREAD, 0.0, False
        digits -= power
    if digits > MOST_DIGITS:
        leading = first
        while _byte(leading) in (ZERO, POINT):
            digits -= _byte(leading) == ZERO
            leading += 1
            if leading == at:
                break
        if digits > MOST_DIGITS:
            return UNREAD, 0.0, False
    char = _peek(at, end)
    if char in (SMALL_E, LARGE_E):
        whole = False
        at += 1
        sign = _peek(at, end)
        if sign in (MINUS, PLUS):
            at += 1
        start = at
        exponent = 0
        while ZERO <= _peek(at, end) <= NINE:
            exponent = min(exponent * 10 + np.int64(_byte(at) - ZERO), 1 << 20)
            at += 1
        if at == start:
            return UNREAD, 0.0, False
        power += -exponent if sign == MINUS else exponent
    if mantissa == 0:
        value = 0.0
        if negative and whole:  # a whole number has no sign then, a fraction has
            return UNREAD, 0.0, False
    elif mantissa <= EXACT and -EXACT_POWER <= power <= EXACT_POWER:
        value = np.float64(mantissa)
        value = value / TENS[-power] if power < 0 else value * TENS[power]
    else:
        value = _nearest(mantissa, power)
        if math.isnan(value) or whole:
            return UNREAD, 0.0, False
    return at, -value if negative else value, whole


@njit(nogil=True, cache=True, error_model="numpy")
def _value(at, end, kind, low, high):
    """A value of a kind, within limits: where it ends or UNREAD, and the value; a null is NaN."""
    char = _peek(at, end)
    if char == MINUS or ZERO <= char <= NINE:
        at, value, whole = _number(at, end)
        if at == UNREAD or kind & BOOLEAN or (kind & INTEGER and not whole) or not low <= value <= high:
            return UNREAD, 0.0
        return at, value
    if kind & OPTIONAL and _is_word(at, end, NULL):
        return at + 4, math.nan
    if kind & BOOLEAN and _is_word(at, end, TRUE):
        return at + 4, 1.0
    if kind & BOOLEAN and _is_word(at, end, FALSE) and _peek(at + 4, end) == SMALL_E:
        return at + 5, 0.0
    return UNREAD, 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def _find(at, end, names, starts):
    """Which name the text goes on with, or UNREAD."""
    for index in range(starts.shape[0] - 1):
        if _spells(at, end, names + starts[index], starts[index + 1] - starts[index]):
            return index
    return UNREAD


@njit(nogil=True, cache=True, error_model="numpy")
def _colon(at, end):
    """Past a colon and the white space about it, or UNREAD."""
    at = _skip(at, end)
    return _skip(at + 1, end) if _peek(at, end) == COLON else UNREAD


@njit(nogil=True, cache=True, error_model="numpy")
def _row_object(at, end, names, starts, kinds, low, high, row):
    """Read one object into a row, from past its brace: where it ends, or UNREAD."""
    given = 0
    n_columns = row.shape[0]
    for column in range(n_columns):
        row[column] = math.inf  # not given; no value is infinite
    at = _skip(at, end)
    if _peek(at, end) == CLOSE_OBJECT:
        at += 1
    else:
        while True:
            column = given
            if column == n_columns or not _spells(at, end, names + starts[column], starts[column + 1] - starts[column]):
                column = _find(at, end, names, starts)
                if column == UNREAD:
                    return UNREAD
            if row[column] != math.inf:
                return UNREAD
            at = _colon(at + starts[column + 1] - starts[column], end)
            if at == UNREAD:
                return UNREAD
            at, row[column] = _value(at, end, kinds[column], low[column], high[column])
            if at == UNREAD:
                return UNREAD
            given += 1
            at = _skip(at, end)
            char = _peek(at, end)
            at += 1
            if char == CLOSE_OBJECT:
                break
            if char != COMMA:
                return UNREAD
            at = _skip(at, end)
    if given < n_columns:
        for column in range(n_columns):
            if row[column] == math.inf:
                if not kinds[column] & OPTIONAL:
                    return UNREAD
                row[column] = math.nan
    return at


@njit(nogil=True, cache=True, error_model="numpy")
def _row_list(at, end, kinds, low, high, row):
    """Read one array into a row, from past its bracket: where it ends, or UNREAD."""
    for column in range(row.shape[0]):
        at = _skip(at, end)
        at, row[column] = _value(at, end, kinds[column], low[column], high[column])
        if at == UNREAD:
            return UNREAD
        at = _skip(at, end)
        if _peek(at, end) != (COMMA if column < row.shape[0] - 1 else CLOSE_LIST):
            return UNREAD
        at += 1
    return at


@njit(nogil=True, cache=True, error_model="numpy")
def read_rows(text, at, opening, names, starts, kinds, low, high, rows):
    """Read an array of rows, all objects or all arrays.

    Args:
        text: uint8[N].
        at: Where the array's first row may begin, past its bracket.
        opening: What each row opens with, OPEN_OBJECT or OPEN_LIST.
        names: uint8, the F names as JSON has them, with their quotes, one after the other.
        starts: int64[F + 1], where each begins.
        kinds: uint8[F], bits of INTEGER, BOOLEAN and OPTIONAL.
        low: float64[F], the least value that is taken.
        high: float64[F], the greatest.
        rows: float64[R, F], written.

    Returns:
        Where the text goes on past the array, and how many rows it held; UNREAD and 0 where it holds anything else
        than rows as they should be, none, or more than R.
    """
    start = text.ctypes.data
    end = start + text.shape[0]
    at += start
    count = 0
    while True:
        at = _skip(at, end)
        if count == rows.shape[0] or _peek(at, end) != opening:
            return UNREAD, 0
        if opening == OPEN_OBJECT:
            at = _row_object(at + 1, end, names.ctypes.data, starts, kinds, low, high, rows[count])
        else:
            at = _row_list(at + 1, end, kinds, low, high, rows[count])
        if at == UNREAD:
            return UNREAD, 0
        count += 1
        at = _skip(at, end)
        char = _peek(at, end)
        at += 1
        if char == CLOSE_LIST:
            return at - start, count
        if char != COMMA:
            return UNREAD, 0


@njit(nogil=True, cache=True, error_model="numpy")
def read_columns(text, at, names, starts, kinds, low, high, rows):
    """Read an object of columns by name, each an array, from past its brace.

    Args and what is returned are those of `read_rows`. A column that is not given is NaN.
    """
    start = text.ctypes.data
    end = start + text.shape[0]
    at += start
    n_columns = kinds.shape[0]
    given = np.zeros(n_columns, dtype=np.bool_)
    count = 0
    n_given = 0
    while True:
        at = _skip(at, end)
        column = _find(at, end, names.ctypes.data, starts)
        if column == UNREAD or given[column]:
            return UNREAD, 0
        at = _colon(at + starts[column + 1] - starts[column], end)
        if at == UNREAD or _peek(at, end) != OPEN_LIST:
            return UNREAD, 0
        at += 1
        row = 0
        while True:
            at = _skip(at, end)
            if row == rows.shape[0]:
                return UNREAD, 0
            at, rows[row, column] = _value(at, end, kinds[column], low[column], high[column])
            if at == UNREAD:
                return UNREAD, 0
            row += 1
            at = _skip(at, end)
            char = _peek(at, end)
            at += 1
            if char == CLOSE_LIST:
                break
            if char != COMMA:
                return UNREAD, 0
        if n_given and row != count:
            return UNREAD, 0
        count = row
        given[column] = True
        n_given += 1
        at = _skip(at, end)
        char = _peek(at, end)
        at += 1
        if char == CLOSE_OBJECT:
            break
        if char != COMMA:
            return UNREAD, 0
    for column in range(n_columns):
        if not given[column]:
            if not kinds[column] & OPTIONAL:
                return UNREAD, 0
            rows[:count, column] = math.nan
    return at - start, count
