"""What every bulk format has in common: which columns there must be, and how a body that is not so is refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.codecs.duplicates import REPEATED
from app.errors import FieldError, InvalidInput, TooLarge
from app.feature import Feature

FloatArray = NDArray[np.float64]
Buffer = bytes | bytearray | memoryview

BODY = "(body)"
"""Names the body as a whole where an error is not one field's."""

INT64_RANGE = (-(2.0**63), 2.0**63 - 1024)
"""The last float64 below 2**63 is 1024 away from it."""

LARGEST = float(np.finfo(np.float64).max)

MAX_ERRORS = 1000
"""Errors that one answer lists: a body of megabytes can hold more faults than anyone reads."""

MAX_UNKNOWN = 1000
"""Columns beyond the features that are still read by name; a header of millions would hold up everyone."""


def match_columns(
    names: Sequence[str], features: tuple[Feature, ...], kinds: Sequence[Any] | None = None
) -> list[int | None]:
    """Where each feature's column is among `names`, None where one that is not required was left out.

    Args:
        names: The body's columns.
        features: The model's.
        kinds: Types of the columns, in a format that has types by column.

    Raises:
        InvalidInput: Columns are missing, unknown, appear more than once or are of a wrong type; all of them are named.
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
            errors.append(FieldError(feature.name, REPEATED if found else "is missing"))
        elif kinds is not None and not _takes(feature, kind := kinds[found[0]]):
            errors.append(FieldError(feature.name, f"must be a column of {feature.kind} type, not {_kind(kind)}"))
    known = {feature.name for feature in features}
    errors += [unknown_column(name) for name in places if name not in known]
    if errors:
        raise InvalidInput("The columns are not the model's features.", tuple(errors[:MAX_ERRORS]))
    return [places[feature.name][0] if feature.name in places else None for feature in features]


def check_width(columns: int, features: tuple[Feature, ...]) -> None:
    """Raise InvalidInput if there are so many columns that not even their names are worth reading."""
    if columns > (limit := len(features) + MAX_UNKNOWN):
        error = FieldError(BODY, f"must hold at most {limit} columns, and holds {columns}")
        raise InvalidInput("The columns are not the model's features.", (error,))


def check_rows(rows: int, max_rows: int) -> None:
    """Raise TooLarge if the body holds more rows than may be."""
    if rows > max_rows:
        raise TooLarge(f"The body holds more than the {max_rows} rows of MAX_BULK_ROWS.")


def bounds(feature: Feature) -> tuple[float, float] | None:
    """The physical range, or for an integer without one what an int64 holds: in text, integers have no end."""
    return feature.physical_range or (INT64_RANGE if feature.kind == "integer" else None)


def limits_of(feature: Feature) -> tuple[float, float]:
    """Least and greatest value that is taken: finite, whatever else the feature says."""
    low, high = bounds(feature) or (-LARGEST, LARGEST)
    return max(low, -LARGEST), min(high, LARGEST)


def span(bounds: tuple[float, float]) -> str:
    """A range as messages give it."""
    return f"{bounds[0]:.10g} to {bounds[1]:.10g}"


def unknown_column(name: str) -> FieldError:
    """The error of a column that is no feature."""
    return FieldError(printable(name), "unknown column")


def printable(name: str) -> str:
    """A name that the caller made up, short, and without the lone surrogates that JSON escapes can smuggle in."""
    return name[:256].encode(errors="replace").decode()


def _takes(feature: Feature, kind: Any) -> bool:
    if feature.kind == "boolean":
        return pa.types.is_boolean(kind)
    if feature.kind == "integer":
        return pa.types.is_integer(kind)
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _kind(kind: Any) -> str:
    """A type's name; a nested one or one with parameters would spell out what the caller called its parts."""
    return str(kind) if kind.num_fields == 0 and pa.types.is_primitive(kind) else str(kind).partition("<")[0]
