"""Second reading of a JSON table in which the first found a fault: value by value, as objects whatever its layout."""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np

from app.codecs.batch_builder import BatchBuilder
from app.codecs.json.duplicates import Repeating
from app.codecs.json.objects import table_row_reader
from app.codecs.json.row import wrong_fields
from app.codecs.rules import BODY, INVALID, MAX_ERRORS, NOT_OBJECT, WRONG_COLUMNS, check_rows, match_columns
from app.errors import FieldError, InvalidInput
from app.feature import Feature

LAYOUTS = ("rows", "columns", "data")


def inspect(value: object, features: tuple[Feature, ...], max_rows: int, size: int) -> BatchBuilder:
    """Check a body that was parsed without types, row by row as dicts by feature name, and collect its faults.

    Args:
        value: The body.
        features: The model's features.
        max_rows: Most rows allowed.
        size: Bytes of the body.
    """
    layout, given, names = _layout(value)
    not_object = NOT_OBJECT
    if layout == "columns":
        count, objects = _objects_of_columns(given, features)
    elif not isinstance(given, list):
        raise InvalidInput(INVALID, (FieldError(layout, "must be a list"),))
    else:
        rows = cast(list[object], given)
        count, objects = len(rows), rows
        if layout == "data":
            order = [feature.name for feature in features] if names is None else names
            match_columns(order, features)
            objects = (_object_of_list(row, order) for row in rows)
            not_object = f"must be a list of {len(order)} values"
    check_rows(count, max_rows)
    builder = BatchBuilder(features, count, size=size)
    reader = table_row_reader(features)
    values: list[list[float]] = []
    for index, row in enumerate(objects):
        values.append(reader.inspect(row, index, builder.faults, not_object))
        builder.yield_gil()
        if len(values) == builder.block_rows:
            builder.add_rows(np.array(values))
            values = []
    if values:
        builder.add_rows(np.array(values))
    return builder


def _layout(value: object) -> tuple[str, object, list[str] | None]:
    """Name of a parsed body's layout, the value under that name, and the names of its columns.

    Raises:
        InvalidInput: The body does not have exactly one layout, or other fields.
    """
    if not isinstance(value, dict):
        raise InvalidInput(INVALID, (FieldError(BODY, "must be an object with rows, columns or data"),))
    fields = cast(dict[str, Any], value)
    errors = wrong_fields(fields, (*LAYOUTS, "names"))
    layouts = [layout for layout in LAYOUTS if layout in fields]
    names = fields.get("names")
    if len(layouts) != 1:
        errors.append(FieldError(BODY, "must hold exactly one of rows, columns and data"))
    elif "names" in fields:
        if layouts != ["data"]:
            errors.append(FieldError("names", "is allowed only together with data"))
        elif not isinstance(names, list) or not all(isinstance(name, str) for name in cast(list[object], names)):
            errors.append(FieldError("names", "must be a list of strings"))
    if errors:
        raise InvalidInput(INVALID, tuple(errors[:MAX_ERRORS]))
    return layouts[0], fields[layouts[0]], names


def _object_of_list(row: object, names: list[str]) -> dict[str, object] | None:
    """A row of `data` by name; None if it is not a list of so many values."""
    if not isinstance(row, list) or len(values := cast(list[object], row)) != len(names):
        return None
    return dict(zip(names, values, strict=True))


def _objects_of_columns(columns: object, features: tuple[Feature, ...]) -> tuple[int, Iterable[object]]:
    """Number of rows in parsed columns, and the rows by name."""
    if not isinstance(columns, dict):
        raise InvalidInput(INVALID, (FieldError("columns", "must be an object of lists by name"),))
    given = cast(dict[str, Any], columns)
    match_columns(given.names if isinstance(given, Repeating) else list(given), features)
    errors = [FieldError(name, "must be a list") for name, column in given.items() if not isinstance(column, list)]
    lengths = {name: len(column) for name, column in given.items() if isinstance(column, list)}
    count = next(iter(lengths.values()), 0)
    errors += [
        FieldError(name, f"must hold as many values as the first column, {count}, and holds {length}")
        for name, length in lengths.items()
        if length != count
    ]
    if errors:
        raise InvalidInput(WRONG_COLUMNS, tuple(errors[:MAX_ERRORS]))
    return count, (dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True))
