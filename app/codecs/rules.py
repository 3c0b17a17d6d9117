"""Rules of a model's features for the values in a request, and the text of each fault.

Every reader follows these rules, whatever its format: names, kinds, missing values and ranges.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec import Meta, Struct, defstruct
from numpy.typing import NDArray

from app.errors import FieldError, InvalidInput, TooLarge
from app.feature import Feature

FloatArray = NDArray[np.float64]
Buffer = bytes | bytearray | memoryview

BODY = "(body)"
"""Field of an error that concerns the body as a whole."""

INT64_RANGE = (-(2.0**63), 2.0**63 - 1024)
"""Least and greatest float64 in the range of int64."""

LARGEST = float(np.finfo(np.float64).max)

MAX_ERRORS = 1000
"""Most errors listed in one answer."""

MAX_UNKNOWN = 1000
"""Most columns beyond the features that are still checked by name."""

Rule = Literal["once", "given", "kind", "finite", "range"]
RULES: tuple[Rule, ...] = ("once", "kind", "given", "finite", "range")
"""Rules by precedence: one fault of a column is reported, that of the first rule it breaks."""

KINDS = {"number": "must be a number", "integer": "must be a whole number", "boolean": "must be true or false"}
TYPES: dict[str, tuple[type, ...]] = {"number": (float, int), "integer": (int,), "boolean": (bool,)}
"""Python's types of the JSON values of each kind."""

REPEATED = "appears more than once"
MISSING = "is missing"
UNKNOWN = "unknown field"
NOT_OBJECT = "must be an object of features by name"

NOT_JSON = "The body is not valid JSON."
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
    """Least and greatest value accepted: the physical range, clipped to finite float64 or to int64."""
    least, greatest = INT64_RANGE if feature.kind == "integer" else (-LARGEST, LARGEST)
    low, high = feature.physical_range or (least, greatest)
    return max(low, least), min(high, greatest)


def json_type(feature: Feature, *, ranged: bool) -> Any:
    """The type by which msgspec decodes a value of the feature.

    Args:
        feature: The feature.
        ranged: Whether a value out of range is refused; otherwise only integers beyond int64 are.
    """
    low, high = limits_of(feature)
    kind: Any = bool
    if feature.kind == "integer":
        low, high = (low, high) if ranged else INT64_RANGE
        kind = Annotated[int, Meta(ge=math.ceil(low), le=math.floor(high))]
    elif feature.kind == "number":
        kind = Annotated[float, Meta(ge=low, le=high)] if ranged and feature.physical_range else float
    return kind if feature.required else kind | None


def feature_struct(name: str, features: tuple[Feature, ...], types: Sequence[Any], absent: object) -> type[Struct]:
    """Struct with a field of the given type for each feature.

    Attributes are `f0`, `f1` ..., since a feature's name can be any text.

    Args:
        name: Name of the struct.
        features: The features.
        types: Type of each one's value.
        absent: Value of an optional feature that was left out.
    """
    fields = [f"f{index}" for index in range(len(features))]
    return defstruct(
        name,
        [
            (field, kind) if feature.required else (field, kind, absent)
            for field, feature, kind in zip(fields, features, types, strict=True)
        ],
        rename=dict(zip(fields, (feature.name for feature in features), strict=True)),
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def json_schema(features: tuple[Feature, ...]) -> dict[str, Any]:
    """Schema of a row as a JSON object (JSON Schema 2020-12, as in OpenAPI 3.1)."""
    properties: dict[str, Any] = {}
    for feature in features:
        schema: dict[str, Any] = {"type": feature.kind if feature.required else [feature.kind, "null"]}
        if feature.physical_range is not None:
            schema["minimum"], schema["maximum"] = feature.physical_range
        text = " ".join(part for part in (feature.description, f"[{feature.unit}]" if feature.unit else "") if part)
        if feature.training_range is not None:
            text = f"{text} Training saw {span(feature.training_range)}.".strip()
        if text:
            schema["description"] = text
        properties[feature.name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": [feature.name for feature in features if feature.required],
        "additionalProperties": False,
    }


def broken_rule(feature: Feature, value: object, limits: tuple[float, float]) -> Rule | None:
    """The rule broken by a value that Python's JSON parser made; it reads NaN, Infinity and integers of any size.

    Args:
        feature: The feature.
        value: The value.
        limits: The feature's `limits_of`.
    """
    low, high = limits
    if value is None:
        if not feature.required:
            return None
        return "finite" if feature.kind == "number" else "kind"  # a caller with an integer is not to send 2.5 next
    if not isinstance(value, bool | int | float) or type(value) not in TYPES[feature.kind]:
        return "kind"
    if low <= value <= high:
        return None
    try:
        number = float(value)
    except OverflowError:
        return "finite"
    if not math.isfinite(number):
        return "finite"
    return None if feature.kind == "number" and low <= number <= high else "range"


def fault_text(feature: Feature, rule: Rule) -> str:
    """Text of a message about a feature that breaks a rule, in every format."""
    match rule:
        case "once":
            return REPEATED
        case "given":
            return MISSING
        case "kind":
            return KINDS[feature.kind]
        case "finite":
            return KINDS["boolean"] if feature.kind == "boolean" else "must be a finite number"
        case "range":
            return f"must be in the range {span(feature.physical_range or limits_of(feature))}"


def value_fault(feature: Feature, fault: Fault) -> FieldError:
    """Error for one value of one row, with the kind of value that was sent."""
    text = fault_text(feature, fault.rule)
    if fault.rule == "kind" or (fault.rule == "finite" and fault.value is None):
        text = f"{text}, not {_json_name(fault.value)}"
    return FieldError(feature.name, text)


def match_columns(
    names: Sequence[str], features: tuple[Feature, ...], kinds: Sequence[Any] | None = None
) -> list[int | None]:
    """Position of each feature's column among `names`; None for an optional feature that has no column.

    Args:
        names: Names of the body's columns.
        features: The model's features.
        kinds: Arrow types of the columns, in a format that has them.

    Raises:
        InvalidInput: Columns are missing, unknown, repeated or of a wrong type; all of them are named.
    """
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
    errors += [unknown_field(name) for name in places if name not in known]
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


def span(bounds: tuple[float, float]) -> str:
    """A range as messages show it."""
    return f"{bounds[0]:.10g} to {bounds[1]:.10g}"


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


def _takes(feature: Feature, kind: Any) -> bool:
    """Whether a column of an Arrow type can hold values of the feature."""
    if feature.kind == "boolean":
        return pa.types.is_boolean(kind)
    if feature.kind == "integer":
        return pa.types.is_integer(kind)
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _type_name(kind: Any) -> str:
    """Name of an Arrow type, without its parameters or fields: those may repeat the caller's own names at length."""
    return str(kind) if kind.num_fields == 0 and pa.types.is_primitive(kind) else str(kind).partition("<")[0]
