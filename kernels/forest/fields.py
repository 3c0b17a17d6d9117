"""The lines of a model text and the numbers in them, read as strictly as LightGBM's parser needs them.

All functions raise ValueError where a line is not what it should be; the message names the line.
"""

import re

import numpy as np
from numpy.typing import NDArray

INTEGERS = re.compile(r"(?:-?[0-9]++(?: ++|$))*+", re.ASCII)
NUMBERS = re.compile(r"[-+0-9.eEinfa ]*", re.ASCII)
STATISTIC = re.compile(r"[-+]?(?:0++(?:\.0*+)?(?:e[-+]?0++)?|inf|nan)", re.ASCII)
"""A number whose digits are all zeros."""

ZEROS = str.maketrans("123456789", "0" * 9)


def read_fields(block: str) -> dict[str, str]:
    """The `key=value` lines of a block. Raises ValueError for a key that appears twice."""
    # Not splitlines: a feature's name may hold what ends a line for Python, but not for LightGBM.
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        key, separator, value = line.partition("=")
        if separator:
            if key in fields:
                raise ValueError(f"{key} appears twice")
            fields[key] = value
    return fields


def numbers(fields: dict[str, str], name: str) -> NDArray[np.float64]:
    """The numbers of a line; none for a line that is absent."""
    value = fields.get(name, "")
    # Python reads more than LightGBM does: 1_000, and digits of other scripts.
    if not NUMBERS.fullmatch(value):
        raise ValueError(f"{name} holds what is not a number")
    return np.array([float(number) for number in value.split()], dtype=np.float64)


def count_numbers(fields: dict[str, str], name: str) -> int:
    """How many numbers a line holds, of which no value is used.

    Raises ValueError if it holds anything else.
    """
    value = fields[name].removesuffix(" ")
    # With zeros for digits, a few forms are left of a line of many numbers, which are quickly checked.
    forms = value.translate(ZEROS).split(" ") if value else []
    if not all(map(STATISTIC.fullmatch, set(forms))):
        raise ValueError(f"{name} holds what is not a number")
    return len(forms)


def integer(fields: dict[str, str], name: str) -> int:
    """The one whole number of a line."""
    found = integers(fields, name)
    if len(found) != 1:
        raise ValueError(f"{name} is not one whole number")
    return int(found[0])


def integers(fields: dict[str, str], name: str) -> NDArray[np.int64]:
    """The whole numbers of a line; none for a line that is absent."""
    value = fields.get(name, "").strip(" ")
    if not INTEGERS.fullmatch(value):
        raise ValueError(f"{name} holds what is not a whole number")
    # Of blanks alone NumPy makes a number.
    return np.fromstring(value, dtype=np.int64, sep=" ") if value else np.zeros(0, dtype=np.int64)
