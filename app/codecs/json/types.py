"""Types of JSON values: those by which msgspec decodes a model's features, and the JSON schema of a row."""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct, defstruct

from app.codecs.categories import holds_numbers, holds_text
from app.codecs.rules import LARGEST_WHOLE, limits_of, span
from app.feature import Category, Feature

ESCAPED = re.compile(r'["\\\x00-\x1f]')
"""Characters that JSON escapes in every text (RFC 8259, section 7)."""

NOTHING = Annotated[int, Meta(ge=1, le=0)]
"""Type that no value has."""

MAX_ENUM = 1000
"""Most categories that a schema lists."""


def json_type(feature: Feature, *, ranged: bool) -> Any:
    """The type by which msgspec decodes a value of the feature.

    Args:
        feature: The feature.
        ranged: Whether values out of range, and fractions of an integer feature, are refused. Otherwise only whole
            numbers that float64 does not tell apart are; the rest is left to a check of the numbers.
    """
    low, high = limits_of(feature)
    kind: Any = None
    match feature.kind:
        case "number" if ranged and (feature.physical_range or feature.single):
            kind = Annotated[float, Meta(ge=low, le=high)]
            kind = kind | bool if low <= 0 and high >= 1 else kind  # msgspec has no type of true alone
        case "number":
            kind = float | bool
        case "integer" if ranged:
            kind = Annotated[int, Meta(ge=math.ceil(low), le=math.floor(high))]
            kind = kind | bool if low <= 0 and high >= 1 else kind
        case "integer":
            kind = Annotated[int, Meta(ge=-int(LARGEST_WHOLE), le=int(LARGEST_WHOLE))] | float | bool
        case "boolean":
            kind = bool | Annotated[int, Meta(ge=0, le=1)]
            kind = kind if ranged else kind | float
        case "category":
            kind = str if holds_text(feature) else bool
            kind = kind | int | float | bool if holds_numbers(feature) else kind
    return kind | None if feature.takes_missing else kind


def feature_struct(
    name: str, features: tuple[Feature, ...], types: Sequence[Any], absent: object, *, others: bool = False
) -> type[Struct]:
    """Struct with a field of the given type for each feature.

    Attributes are `f0`, `f1` ..., since a feature's name can be any text. msgspec takes no names that JSON escapes: the
    struct of such features takes no row that names one, and the second, untyped pass reads these rows.

    Args:
        name: Name of the struct.
        features: The features.
        types: Type of each one's value.
        absent: Value of an optional feature that was left out.
        others: Whether fields that are no features are ignored.
    """
    fields: list[Any] = []
    renamed: dict[str, str] = {}
    unlike = "?" * max([1 + len(feature.name) for feature in features], default=0)
    for index, (feature, kind) in enumerate(zip(features, types, strict=True)):
        field, escaped = f"f{index}", ESCAPED.search(feature.name) is not None
        renamed[field] = f"{unlike}{index}" if escaped else feature.name
        fields.append((field, NOTHING if escaped else kind, *([] if feature.required else [absent])))
    return defstruct(name, fields, rename=renamed, forbid_unknown_fields=not others, kw_only=True, gc=False)


def json_schema(features: tuple[Feature, ...]) -> dict[str, Any]:
    """Schema of a row as a JSON object (JSON Schema 2020-12, as in OpenAPI 3.1)."""
    properties: dict[str, Any] = {}
    for feature in features:
        schema = value_schema(feature)
        text = " ".join(part for part in (feature.description, f"[{feature.unit}]" if feature.unit else "") if part)
        if feature.training_range is not None:
            text = f"{text} Training saw {span(feature.training_range)}.".strip()
        if text := " ".join(part for part in (text, schema.pop("description", "")) if part):
            schema["description"] = text
        properties[feature.name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": [feature.name for feature in features if feature.required],
        "additionalProperties": False,
    }


def value_schema(feature: Feature) -> dict[str, Any]:
    """Schema of a feature's value, with a description where the schema alone does not say all."""
    null = ["null"] if feature.takes_missing else []
    if feature.kind == "boolean":
        return {"type": ["boolean", "number", *null], "enum": [False, True, 0, 1, *([None] if null else [])]}
    if feature.kind != "category":
        return _number_schema(feature, null)
    categories = feature.categories or ()
    kinds = sorted({_json_kind(value) for value in categories} or {"number", "string"})
    if feature.unseen == "refuse" and len(categories) <= MAX_ENUM:
        return {"type": kinds + null, "enum": [*categories, *([None] if null else [])]}
    if holds_numbers(feature) and "boolean" not in kinds:
        kinds = ["boolean", *kinds]  # equal to 0 and 1
    if holds_numbers(feature) and "number" not in kinds:
        kinds = [*kinds, "number"]
    schema: dict[str, Any] = {"type": kinds + null}
    other = "" if feature.unseen == "refuse" else "Any other value counts as missing."
    if len(categories) <= MAX_ENUM:
        schema |= {"anyOf": [{"enum": [*categories, *([None] if null else [])]}, {}], "description": other}
    else:
        first = ", ".join(map(repr, categories[:3]))
        schema["description"] = f"One of {len(categories)} categories, such as {first}. {other}".strip()
    return schema


def _number_schema(feature: Feature, null: list[str]) -> dict[str, Any]:
    """Schema of a number or a whole one; true and false are 1 and 0 where these are in its range."""
    low, high = limits_of(feature)
    booleans = [value for value in (False, True) if low <= value <= high]
    kinds = [feature.kind, *(["boolean"] if booleans else []), *null]
    schema: dict[str, Any] = {"type": kinds if len(kinds) > 1 else feature.kind}
    if len(booleans) == 1:
        schema["not"] = {"const": not booleans[0]}
    if feature.physical_range is not None or feature.single:
        schema["minimum"], schema["maximum"] = map(_as_whole, (low, high))
    return schema


def _as_whole(bound: float) -> float | int:
    return int(bound) if abs(bound) <= LARGEST_WHOLE and bound == int(bound) else bound


def _json_kind(value: Category) -> str:
    return "string" if isinstance(value, str) else "boolean" if isinstance(value, bool) else "number"
