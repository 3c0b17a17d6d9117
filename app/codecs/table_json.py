"""JSON bodies of many rows, in any of three layouts, and results as JSON.

The layouts are `{"rows": [{...}, ...]}`, `{"columns": {"MedInc": [...], ...}}` and `{"data": [[...], ...], "names"?:
[...]}`. A valid body is decoded in a strict, typed pass. One with a fault is read again, value by value, as a list of
objects whatever its layout, so that every fault is named, and by the same rules.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, cast

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from app.codecs.batch_builder import BatchBuilder
from app.codecs.duplicates import RepeatedName, Repeating, has_repeated, parse
from app.codecs.gil_yield import GilYield
from app.codecs.result import Result
from app.codecs.row_json import table_row_reader, to_array, wrong_fields
from app.codecs.rules import (
    BODY,
    INVALID,
    MAX_ERRORS,
    NOT_JSON,
    NOT_OBJECT,
    WRONG_COLUMNS,
    Buffer,
    FloatArray,
    check_rows,
    check_width,
    feature_struct,
    json_type,
    match_columns,
)
from app.errors import FieldError, InvalidInput, MalformedBody
from app.feature import Feature, Kind

MEDIA_TYPE = "application/json"

LAYOUTS = ("rows", "columns", "data")
ENCODED_VALUES = 2048
"""Values encoded in one call, in less than a millisecond."""

Places = list[int | None]
"""Position of each feature's value in a row of `data`; None for one that was left out."""


class Named(msgspec.Struct):
    """Names of the columns of `data`, in a body whose rows cannot be typed before these are known."""

    names: list[str] | UnsetType = UNSET


class Misplaced(Exception):
    """The body is in none of the layouts, or its columns differ in length."""


_NAMES = msgspec.json.Decoder(Named)
_ENCODER = msgspec.json.Encoder()


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode a body in one of the three layouts.

    Returns:
        float64[B, F] in the features' order; a null and an optional feature that was left out are NaN.

    Raises:
        MalformedBody: The body is not JSON.
        TooLarge: The body holds more than `max_rows` rows.
        InvalidInput: The body is in none of the layouts, or its columns or values are not what the model takes.
    """
    if isinstance(body, memoryview):
        body = body.tobytes()
    try:
        builder = _read(body, features, max_rows)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Misplaced, RepeatedName):
        builder = _inspect(parse(body), features, max_rows)
    return builder.matrix()


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as `{"columns": {"prediction": [...], ...}, "model_version": "1"}`."""
    yield_gil = GilYield()
    lead = b'{"columns":{'
    for name in result.names:
        yield lead + _ENCODER.encode(name) + b":["
        lead = b"],"
        for start, stop in result.pieces():
            values = result.columns(start, stop)[name]
            parts: list[bytes] = []
            for first in range(0, stop - start, ENCODED_VALUES):
                parts.append(_ENCODER.encode(values[first : first + ENCODED_VALUES].tolist())[1:-1])
                yield_gil()
            yield (b"," if start else b"") + b",".join(parts)
    yield b']},"model_version":' + _ENCODER.encode(result.model_version) + b"}"


def _read(body: bytes | bytearray, features: tuple[Feature, ...], max_rows: int) -> BatchBuilder:
    """Read a body whose values have the right types and places; for any other, an error that names no fault."""
    table, places = _decode_typed(body, features)
    if _may_repeat(body, table, features) and has_repeated(body):
        raise RepeatedName
    if [table.rows, table.columns, table.data].count(UNSET) != len(LAYOUTS) - 1:
        raise Misplaced
    if table.names is not UNSET and table.data is UNSET:
        raise Misplaced
    if table.rows is not UNSET:
        builder = _builder(features, len(table.rows), max_rows)
        builder.add_rows(table_row_reader(features).array(table.rows))
    elif table.columns is not UNSET:
        columns = msgspec.structs.astuple(table.columns)
        lengths = {len(column) for column in columns if column is not UNSET} or {0}
        if len(lengths) != 1:
            raise Misplaced
        (count,) = lengths
        builder = _builder(features, count, max_rows)
        if count:
            builder.add_columns(
                [None if column is UNSET else np.fromiter(column, np.float64, count) for column in columns]
            )
    else:
        width = len(features) if places is None else len(places) - places.count(None)
        builder = _builder(features, len(table.data), max_rows)
        _add_data(builder, to_array(table.data, len(table.data), width), places)
    return builder


def _decode_typed(body: bytes | bytearray, features: tuple[Feature, ...]) -> tuple[Any, Places | None]:
    """Parts of a body, and, if it has `names`, the position of each feature's value in a row of `data`."""
    kinds = tuple(map(_kind, features))
    table = None
    try:
        table = _decoder(features, kinds).decode(body)
        names = table.names
    except msgspec.ValidationError:
        if (names := _NAMES.decode(body).names) is UNSET:
            raise
    if names is UNSET:
        return table, None
    places = _places(names, features)
    there = sorted((place, feature) for place, feature in zip(places, features, strict=True) if place is not None)
    ordered = tuple(_kind(feature) for _, feature in there)
    if table is None or ordered != kinds:
        table = _decoder(features, ordered).decode(body)
    return table, places


def _may_repeat(body: bytes | bytearray, table: Any, features: tuple[Feature, ...]) -> bool:
    """Whether a decoded body could have a name more than once."""
    parts = [table.rows, table.columns, table.data, table.names]
    names = len(parts) - parts.count(UNSET)
    colons = 0
    if table.columns is not UNSET:
        columns = zip(features, msgspec.structs.astuple(table.columns), strict=True)
        given = [feature.name for feature, column in columns if column is not UNSET]
        names += len(given)
        colons += _colons(given)
    if table.names is not UNSET:
        colons += _colons(table.names)
    rows = [] if table.rows is UNSET else table.rows
    return table_row_reader(features).names.may_repeat(
        body, len(rows), map(msgspec.structs.astuple, rows), names, colons
    )


def _colons(names: list[str]) -> int:
    return sum(name.count(":") for name in names)


def _inspect(value: object, features: tuple[Feature, ...], max_rows: int) -> BatchBuilder:
    """Check a body parsed without types, row by row as dicts by feature name, and collect its faults."""
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
            _places(order, features)
            objects = (_object_of_list(row, order) for row in rows)
            not_object = f"must be a list of {len(order)} values"
    builder = _builder(features, count, max_rows)
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
    if not builder.faults.noted:  # msgspec refuses what Python's parser takes, such as a lone surrogate
        raise MalformedBody(NOT_JSON)
    return builder


def _layout(value: object) -> tuple[str, object, list[str] | None]:
    """Name of a parsed body's layout, the value under that name, and the names of its columns.

    Raises:
        InvalidInput: The body does not have exactly one layout, or other fields.
    """
    if not isinstance(value, dict):
        raise InvalidInput(INVALID, (FieldError(BODY, "must be an object"),))
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


def _builder(features: tuple[Feature, ...], rows: int, max_rows: int) -> BatchBuilder:
    check_rows(rows, max_rows)
    return BatchBuilder(features, rows)


def _add_data(builder: BatchBuilder, values: FloatArray, places: Places | None) -> None:
    if places is None or not len(values):
        builder.add_rows(values)
    elif any(place is not None for place in places):
        builder.add_columns([None if place is None else values[:, place] for place in places])
    else:
        builder.add_rows(np.full((len(values), len(places)), np.nan))


def _places(names: list[str], features: tuple[Feature, ...]) -> Places:
    check_width(len(names), features)
    return match_columns(names, features)


def _kind(feature: Feature) -> tuple[Kind, bool]:
    return feature.kind, feature.required


@lru_cache(maxsize=16)
def _decoder(features: tuple[Feature, ...], kinds: tuple[tuple[Kind, bool], ...]) -> msgspec.json.Decoder[Any]:
    """Decodes a body whose rows of `data`, if it has them, hold values of these kinds.

    A row of `data` is typed by kinds alone, so that few decoders serve all orders of names.
    """
    cells = tuple(json_type(Feature(name="", kind=kind, required=required), ranged=False) for kind, required in kinds)
    columns = [list[json_type(feature, ranged=False)] for feature in features]
    lists = [kind if feature.required else kind | UnsetType for kind, feature in zip(columns, features, strict=True)]
    parts: dict[str, Any] = {
        "rows": list[table_row_reader(features).row_type],
        "columns": feature_struct("Columns", features, lists, UNSET),
        "data": list[tuple[cells]],  # pyright: ignore[reportInvalidTypeArguments]
        "names": list[str],
    }
    fields: list[Any] = [(name, part | UnsetType, UNSET) for name, part in parts.items()]
    return msgspec.json.Decoder(msgspec.defstruct("Table", fields, forbid_unknown_fields=True))
