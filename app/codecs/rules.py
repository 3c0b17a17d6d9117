"""Rules of a model's features for the values in a request, and the text of each fault.

Every reader follows these rules, whatever its format: names, kinds, missing values and ranges.
"""

import json
import math
import struct
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.codecs.categories import code, codes_of, holds_numbers, holds_text
from app.errors import FieldError, InvalidInput, TooLarge
from app.feature import Category, Feature

FloatArray = NDArray[np.float64]
Buffer = bytes | bytearray | memoryview

BODY = "(body)"
"""Field of an error that concerns the body as a whole."""

LARGEST = float(np.finfo(np.float64).max)
LARGEST_SINGLE = math.nextafter((2 - 2.0**-24) * 2.0**127, 0)
"""Greatest float64 that float32 rounds to a finite number."""

LARGEST_WHOLE = 2.0**53
"""Whole numbers up to this one differ from their neighbours in float64, which the forest compares."""

MAX_ERRORS = 1000
"""Most errors listed in one answer."""

MAX_UNKNOWN = 1000
"""Most columns beyond the features that are still checked by name."""

SHOWN = 60
"""Most characters of a caller's value that a warning shows."""

Rule = Literal["once", "given", "kind", "finite", "range", "category"]
RULES: tuple[Rule, ...] = ("once", "kind", "given", "finite", "range", "category")
"""Rules by precedence: one fault of a column is reported, that of the first rule it breaks."""

KINDS = {"number": "must be a number", "integer": "must be a whole number", "boolean": "must be true or false"}

REPEATED = "appears more than once"
MISSING = "is missing"
UNSEEN = "is none of the model's categories"
UNKNOWN = "unknown field"
NOT_OBJECT = "must be an object of features by name"

INVALID = "The body is not valid."
WRONG_COLUMNS = "The columns are not the model's features."
WRONG_VALUES = "Some columns hold values that the model does not take."


class Fault(NamedTuple):
    """A rule broken by a value that was parsed from JSON.

    Attributes:
        column: Index of the feature.
        rule: The rule.
        value: The value; None where it is null or missing.
    """

    column: int
    rule: Rule
    value: object


def limits_of(feature: Feature) -> tuple[float, float]:
    """Least and greatest value accepted: the physical range, clipped to what float64 or the column's type can hold.

    A category's value has no limits.
    """
    if feature.kind == "boolean":
        return 0.0, 1.0
    if feature.kind == "category":
        return -LARGEST, LARGEST
    greatest = LARGEST_WHOLE if feature.kind == "integer" else LARGEST_SINGLE if feature.single else LARGEST
    low, high = feature.physical_range or (-greatest, greatest)
    low, high = max(low, -greatest), min(high, greatest)
    return (float(math.ceil(low)), float(math.floor(high))) if feature.kind == "integer" else (low, high)


def broken_rule(feature: Feature, value: object, limits: tuple[float, float]) -> Rule | None:
    """The rule broken by a value that Python's JSON parser made; it reads NaN, Infinity and integers of any size.

    Args:
        feature: The feature.
        value: The value.
        limits: The feature's `limits_of`.
    """
    if value is None:
        if feature.takes_missing:
            return None
        return "finite" if feature.kind == "number" else "kind"  # a caller with an integer is not to send 2.5 next
    if feature.kind == "category":
        return _category_rule(feature, value)
    if not isinstance(value, bool | int | float):
        return "kind"
    if feature.kind == "boolean":
        return None if value in (0, 1) else "kind"
    low, high = limits
    if low <= value <= high:
        return "kind" if feature.kind == "integer" and value != math.floor(value) else None
    try:
        number = float(value)
    except OverflowError:
        return "finite"
    if not math.isfinite(number):
        return "finite"
    if feature.kind == "integer":
        return "range" if number == math.floor(number) else "kind"
    return None if low <= number <= high else "range"


def number_of(feature: Feature, value: object) -> float:
    """The number that the forest gets for a value that breaks no rule: a category's code, NaN where it is missing.

    A value for a column of type float is rounded to float32, as MLflow does.
    """
    if value is None:
        return math.nan
    if feature.kind == "category":
        return code(feature, cast(Category, value))
    number = float(cast(float, value))
    return to_single(number) if feature.single else number


def to_single(number: float) -> float:
    """A number rounded to float32."""
    return struct.unpack("f", struct.pack("f", number))[0]


def fault_text(feature: Feature, rule: Rule) -> str:
    """Text of a message about a feature that breaks a rule, in every format."""
    match rule:
        case "once":
            return REPEATED
        case "given":
            return MISSING
        case "kind":
            return _kind_text(feature)
        case "finite":
            return _kind_text(feature) if feature.kind in ("boolean", "category") else "must be a finite number"
        case "range":
            return f"must be in the range {range_text(feature)}"
        case "category":
            return UNSEEN


def value_fault(feature: Feature, fault: Fault) -> FieldError:
    """Error for one value of one row, with the kind of value that was sent."""
    text = fault_text(feature, fault.rule)
    if fault.rule == "kind" or (fault.rule == "finite" and fault.value is None):
        text = f"{text}, not {_json_name(fault.value)}"
    return FieldError(feature.name, text)


def match_columns(
    names: Sequence[str], features: tuple[Feature, ...], kinds: Sequence[Any] | None = None, *, others: bool = False
) -> list[int | None]:
    """Position of each feature's column among `names`; None for an optional feature that has no column.

    Args:
        names: Names of the body's columns.
        features: The model's features.
        kinds: Arrow types of the columns, in a format that has them.
        others: Whether there may be columns that are no features.

    Raises:
        InvalidInput: Columns are missing, unknown, repeated or of a wrong type; all of them are named.
    """
    if not others:
        check_width(len(names), features)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    errors: list[FieldError] = []
    for feature in features:
        found = places.get(feature.name, [])
        if not found and not feature.required:
            continue
        if len(found) != 1:
            errors.append(FieldError(feature.name, fault_text(feature, "once" if found else "given")))
        elif kinds is not None and not _takes(feature, kind := kinds[found[0]]):
            errors.append(FieldError(feature.name, f"{fault_text(feature, 'kind')}, not {_type_name(kind)}"))
    known = {feature.name for feature in features}
    errors += [unknown_field(name) for name in places if name not in known and not others]
    if errors:
        raise InvalidInput(WRONG_COLUMNS, tuple(errors[:MAX_ERRORS]))
    return [places[feature.name][0] if feature.name in places else None for feature in features]


def check_width(columns: int, features: tuple[Feature, ...]) -> None:
    """Raise InvalidInput if there are more columns than are checked by name."""
    if columns > (limit := len(features) + MAX_UNKNOWN):
        error = FieldError(BODY, f"must hold at most {limit} columns, and holds {columns}")
        raise InvalidInput(WRONG_COLUMNS, (error,))


def check_rows(rows: int, max_rows: int) -> None:
    """Raise TooLarge if the body holds more than `max_rows` rows."""
    if rows > max_rows:
        raise TooLarge(f"The body holds more than the {max_rows} rows of MAX_BULK_ROWS.")


def unknown_field(name: str) -> FieldError:
    """The error for a name that is no feature."""
    return FieldError(printable(name), UNKNOWN)


def unseen_warning(feature: Feature, value: object) -> str:
    """Warning about a value that counts as missing. It is for the caller alone: a log must not have the value."""
    shown = repr(value[:SHOWN]) if isinstance(value, str) else json.dumps(value)[:SHOWN]
    return f"{feature.name} has the value {shown}, which is none of the model's categories; it counts as missing"


def span(bounds: tuple[float, float]) -> str:
    """A range as messages show it: see `number_text`."""
    return " to ".join(map(number_text, bounds))


def number_text(number: float) -> str:
    """A number as messages show it: with all its digits, and a whole one as such."""
    return str(int(number)) if abs(number) <= LARGEST_WHOLE and number == int(number) else repr(float(number))


def range_text(feature: Feature) -> str:
    """The range of a feature, which includes its ends."""
    low, high = limits_of(feature)
    if feature.kind == "number" and not feature.single:
        low, high = feature.physical_range or (low, high)
    # The limit of float32 is shown as the greatest float32 in its own few digits. Read as float64 they are accepted.
    shown = [math.copysign(3.4028235e38, end) if abs(end) == LARGEST_SINGLE else end for end in (low, high)]
    return span((shown[0], shown[1]))


def printable(name: str) -> str:
    """A caller's name cut to 256 characters, without lone surrogates, which JSON escapes can hold and UTF-8 cannot."""
    return name[:256].encode(errors="replace").decode()


def _json_name(value: object) -> str:
    """The kind of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case float():
            return "a fraction"
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            return "a number"


def _category_rule(feature: Feature, value: object) -> Rule | None:
    """The rule broken by a value, not None, of a category."""
    of_kind = holds_text(feature) if isinstance(value, str) else holds_numbers(feature)
    if not of_kind or not isinstance(value, str | bool | int | float):
        return "kind"
    if feature.unseen == "refuse" and value not in codes_of(feature):
        return "category"
    return "kind" if isinstance(value, float) and not math.isfinite(value) else None


def _kind_text(feature: Feature) -> str:
    if feature.kind != "category":
        return KINDS[feature.kind]
    kinds = [(holds_text(feature), "text"), (holds_numbers(feature), "a number, or true or false")]
    return f"must be {' or '.join(text for holds, text in kinds if holds)}"


def _takes(feature: Feature, kind: Any) -> bool:
    """Whether a column of an Arrow type can hold values of the feature; their values tell the rest."""
    if pa.types.is_null(kind):
        return feature.takes_missing
    if pa.types.is_dictionary(kind):
        return _takes(feature, kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return feature.kind == "category" and holds_text(feature)
    if feature.kind == "category" and not holds_numbers(feature):
        return False
    if pa.types.is_decimal(kind):
        return feature.kind != "category"
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _type_name(kind: Any) -> str:
    """Name of an Arrow type, without its parameters or fields: those may repeat the caller's own names at length."""
    return str(kind) if kind.num_fields == 0 and pa.types.is_primitive(kind) else str(kind).partition("<")[0]
