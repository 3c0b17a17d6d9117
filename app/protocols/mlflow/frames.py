"""Second reading of a scoring request in JSON: the columns of its values, by MLflow's rules, whatever its layout.

The rules are those of `mlflow.pyfunc.scoring_server` and `mlflow.utils.proto_json_utils`, and so of pandas.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from app.codecs.rules import BODY, INVALID, printable
from app.errors import BadRequest, FieldError, InvalidInput
from app.feature import Feature
from app.models.signature import Layout
from app.protocols.mlflow.casts import FAILED
from app.protocols.mlflow.schema import unfit

SPLIT, RECORDS, INSTANCES, INPUTS = "dataframe_split", "dataframe_records", "instances", "inputs"
FORMATS = (SPLIT, RECORDS, INSTANCES, INPUTS)


class Frame(NamedTuple):
    """Columns of JSON values, each made when it is asked for: a few bytes may name many columns of many rows.

    Attributes:
        names: Name of each column, or its place.
        column: Gives the values of the column at a place.
        rows: Number of rows.
    """

    names: Sequence[object]
    column: Callable[[int], Sequence[Any]]
    rows: int


def frame_of(
    body: object, features: tuple[Feature, ...], layout: Layout, check: Callable[[int], None], *, arrays: bool
) -> Frame:
    """Columns of a parsed body.

    Args:
        body: The body.
        features: The model's features.
        layout: How the signature tells columns apart.
        check: Called with a number of rows before these take more memory, or more time, than the body shows.
        arrays: Whether nested lists in the order of the features are taken although these have names.

    Raises:
        BadRequest: The body is in none of the formats.
        InvalidInput: The format does not fit the signature.
        ServiceError: `check` raises it.
    """
    if not isinstance(body, dict):
        raise fault(BODY, f"must be an object with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    fields = cast(dict[str, Any], body)
    formats = [name for name in FORMATS if name in fields]
    if len(formats) != 1:
        raise fault(BODY, f"must hold exactly one of {', '.join(FORMATS[:-1])} and {FORMATS[-1]}")
    (name,) = formats
    given = fields[name]
    if name == SPLIT:
        return _of_split(given)
    if name == RECORDS:
        return _of_records(given)
    if arrays and isinstance(given, list) and given:
        rows = cast(list[Any], given)
        if isinstance(rows[0], list) and layout == "named":
            return _of_array(rows, name, features, layout)
        given = _of_frames(rows, check)
    return _of_inputs(given, name, features, layout, check)


def fault(field: str, message: str) -> BadRequest:
    """Error for a part of the body."""
    return BadRequest(INVALID, (FieldError(field, message),))


def _of_split(given: object) -> Frame:
    if not isinstance(given, dict) or not {"data"} <= given.keys() <= {"columns", "data", "index"}:
        raise fault(SPLIT, "must be an object with data, and optionally columns and index")
    split = cast(dict[str, Any], given)
    data, names, index = split["data"], split.get("columns"), split.get("index")
    if not isinstance(data, list):
        raise fault(f"{SPLIT}.data", "must be a list of rows")
    frame = _of_lists(cast(list[Any], data), f"{SPLIT}.data")
    if index is not None and not (isinstance(index, list) and len(cast(list[Any], index)) == frame.rows):
        raise fault(f"{SPLIT}.index", "must be a list of as many values as there are rows")
    if names is None:
        return frame
    if not isinstance(names, list):
        raise fault(f"{SPLIT}.columns", "must be a list of names")
    named = cast(list[object], names)
    if frame.rows and len(named) != len(frame.names):
        message = f"must hold {len(frame.names)} names, as many as the rows have values, and holds {len(named)}"
        raise fault(f"{SPLIT}.columns", message)
    return frame._replace(names=named)


def _of_records(given: object) -> Frame:
    if not isinstance(given, list):
        raise fault(RECORDS, "must be a list of objects")
    rows = cast(list[Any], given)
    return _of_objects(rows, RECORDS) if rows and isinstance(rows[0], dict) else _of_lists(rows, RECORDS)


def _of_objects(rows: list[Any], field: str) -> Frame:
    """Columns of objects, in the order in which their names appear; a name that a row lacks is missing there."""
    if not all(isinstance(row, dict) for row in rows):
        raise fault(field, "must hold objects only")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Frame(names, lambda place: [row.get(names[place]) for row in rows], len(rows))


def _of_lists(rows: list[Any], field: str) -> Frame:
    """Columns of rows that are lists, of which short ones are filled up; or the column of rows that are values."""
    if not any(isinstance(row, list) for row in rows):
        return Frame([0] if rows else [], lambda _: rows, len(rows))
    if not all(isinstance(row, list) for row in rows):
        raise fault(field, "must hold rows of values")
    width = max(map(len, rows))
    return Frame(range(width), lambda place: [row[place] if place < len(row) else None for row in rows], len(rows))


def _of_inputs(
    given: object, field: str, features: tuple[Feature, ...], layout: Layout, check: Callable[[int], None]
) -> Frame:
    """Columns of `instances` or `inputs`."""
    if isinstance(given, dict):
        if layout != "named":
            raise fault(field, "must be nested lists, since the model's signature has no names")
        return _of_columns(cast(dict[str, Any], given), field, features, check)
    if not isinstance(given, list):
        if given is None and layout != "named":
            raise fault(field, "must be a list")
        _check_array([given], field, features)
        raise unfit(layout, INVALID, FieldError(field, "must be a list"))
    rows = cast(list[Any], given)
    if rows and isinstance(rows[0], dict):
        check(len(rows))
        return _of_instances(rows, field, features, layout)
    if layout != "named":
        return _of_array(rows, field, features, layout)
    if len(features) == 1:
        _check_flat(rows, features[0])
        return Frame([features[0].name], lambda _: rows, len(rows))
    _check_array(rows, field, features)
    raise InvalidInput(INVALID, (FieldError(field, "must hold objects of features by name"),))


def _of_frames(rows: list[Any], check: Callable[[int], None]) -> list[Any]:
    """Rows of objects of which each is a frame: its values are lists of values, or values by the names of rows."""
    found: list[Any] = []
    for row in rows:
        columns = list(row.values()) if isinstance(row, dict) else []
        lists = [list(column.values()) if isinstance(column, dict) else column for column in columns]
        if not lists or not all(isinstance(column, list) and len(column) == len(lists[0]) for column in lists):
            found.append(row)
        else:
            check(len(found) + len(lists[0]))
            found += [dict(zip(row, values, strict=True)) for values in zip(*lists, strict=True)]
    return found


def _of_columns(
    given: dict[str, Any], field: str, features: tuple[Feature, ...], check: Callable[[int], None]
) -> Frame:
    """Columns that are lists by name; a single value is that of every row."""
    lists: dict[str, list[Any]] = {}
    values: dict[str, Any] = {}
    for feature in features:
        value = given.get(feature.name)
        if isinstance(value, list):
            lists[feature.name] = cast(list[Any], value)
            _check_flat(lists[feature.name], feature)
        elif feature.name in given:
            values[feature.name] = value
    lengths = {len(column) for column in lists.values()} or {1}
    if len(lengths) > 1:
        required = {len(lists[feature.name]) for feature in features if feature.required and feature.name in lists}
        of_lengths = FieldError(field, "must hold lists of as many values")
        raise (BadRequest if field == INSTANCES and len(required) > 1 else InvalidInput)(INVALID, (of_lengths,))
    (count,) = lengths
    check(count)
    names = [*lists, *values]
    columns = [*lists.values(), *([value] * count for value in values.values())]
    return Frame(names, columns.__getitem__, count)


def _of_instances(rows: list[Any], field: str, features: tuple[Feature, ...], layout: Layout) -> Frame:
    """Columns of objects. Those of `instances` must agree in the required features that they have."""
    frame = _of_objects(rows, field)
    known = {feature.name: feature for feature in features if layout == "named"}
    for place, name in enumerate(frame.names):
        feature = known.get(cast(str, name))
        if feature is None and (layout == "named" or field != INSTANCES):
            continue  # nothing is to be checked: columns of as many names as rows would take hours
        column = frame.column(place)
        required = feature is None or feature.required
        if field == INSTANCES and required and None in column and not all(name in row for row in rows):
            raise fault(printable(cast(str, name)), "is missing in some rows")
        if feature is not None:
            _check_flat(column, feature)
    if layout in ("tensor", "unsigned"):
        raise unfit(layout, INVALID, FieldError(field, "must be nested lists, since the signature has no names"))
    return frame


def _of_array(rows: list[Any], field: str, features: tuple[Feature, ...], layout: Layout) -> Frame:
    """Columns of a nested list [B, F]."""
    width = len(features)
    is_matrix = all(isinstance(row, list) and len(cast(list[Any], row)) == width for row in rows)
    flat = is_matrix and not any(isinstance(value, list) for row in rows for value in row)
    if not rows or not flat:
        _check_array(rows, field, features)
        message = FieldError(field, f"must be nested lists of the shape [rows, {width}]")
        raise unfit(layout, INVALID, message)
    columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True))
    if layout == "unsigned" and not (
        all(type(value) in (int, float, bool) for row in rows for value in row)
        and any(type(value) is float for row in rows for value in row)
    ):
        columns = [_singles(column) for column in columns]
    return Frame([feature.name for feature in features], columns.__getitem__, len(rows))


def _singles(column: Sequence[Any]) -> Sequence[Any]:
    """Values rounded to float32, as LightGBM reads an array of any dtype but float64; as they are where they cannot."""
    try:
        with np.errstate(over="ignore"):
            return np.fromiter(column, np.object_, len(column)).astype(np.float32).tolist()
    except FAILED:
        return column


def _check_flat(values: Sequence[Any], feature: Feature) -> None:
    """Raise an error if a column holds lists."""
    if any(isinstance(value, list) for value in values):
        if feature.kind in ("boolean", "category"):
            raise fault(feature.name, "must hold values, and no lists")
        _check_array(list(values), feature.name, (feature,))
        raise InvalidInput(INVALID, (FieldError(feature.name, "must hold values, and no lists"),))


def _check_array(values: list[Any], field: str, features: tuple[Feature, ...]) -> None:
    """Raise BadRequest unless NumPy makes an array of nested lists, of the type of the first column."""
    first = features[0]
    if first.kind == "category":
        return
    dtype = {"integer": np.int64, "boolean": np.bool_}.get(first.kind, np.float64)
    try:
        with np.errstate(over="ignore"):
            np.array(values, dtype)
    except FAILED:
        raise fault(field, "must be nested lists of the same lengths, with values of the signature's types") from None
