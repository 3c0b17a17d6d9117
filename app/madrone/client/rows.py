"""Rows as JSON: values of Python, and of NumPy and pandas."""

import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import msgspec


def row_of(given: Any, place: str = "") -> dict[str, Any]:
    """A row as an object of JSON: a mapping of values by feature, or a Series of pandas.

    NaN and pandas' NA become null, which is a missing value. JSON has no infinity, which would become one as well.

    Raises:
        TypeError: It has no names.
        ValueError: A value is infinite.
    """
    if not isinstance(given, Mapping) and not hasattr(given, "keys"):
        raise TypeError(f"A row{place} must be a mapping of values by feature, not {type(given).__name__}.")
    row: dict[str, Any] = {str(name): given[name] for name in given.keys()}  # noqa: SIM118 - a Series yields its values
    for name, value in row.items():
        if is_infinite(value):
            raise ValueError(f"{name}{place} is infinite, which no model takes.")
    return row


def is_infinite(value: Any) -> bool:
    """Whether a value is an infinite number of Python or NumPy."""
    if type(value) is float:  # told faster than by the classes of numbers, which matters in a column
        return math.isinf(value)
    return isinstance(value, Real | Decimal) and not isinstance(value, int) and math.isinf(value)


def encode_json(value: Any) -> bytes:
    """Encode as JSON."""
    return _encode(value)


def _plain(value: Any) -> Any:
    """The value of Python that a scalar of NumPy or pandas is."""
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        plain = value.item()
        plain = float(plain) if type(plain) is type(value) else plain  # NumPy's longdouble
        if is_infinite(plain):
            raise ValueError("A value is infinite, which no model takes.")
        return plain
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise TypeError(f"A value of the type {type(value).__name__} cannot be sent.")


_encode = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number").encode
