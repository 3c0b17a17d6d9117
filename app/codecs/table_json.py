"""JSON bodies of many rows to batches and answers back, in any of three layouts.

`{"rows": [{...}, ...]}`, `{"columns": {"MedInc": [...], ...}}` or `{"data": [[...], ...], "names"?: [...]}`. Valid
bodies are read in strict, typed passes; only one that has a fault is read again, value by value, to name it.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, cast

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from app.codecs.batch_builder import BatchBuilder
from app.codecs.duplicates import REPEATED, RepeatedName, Repeating, has_repeated, repeated_names
from app.codecs.gil_yield import GilYield
from app.codecs.objects import cell, cell_type, objects_of, parse, to_array
from app.codecs.result import Result
from app.codecs.rules import (
    BODY,
    MAX_ERRORS,
    Buffer,
    FloatArray,
    check_rows,
    check_width,
    limits_of,
    match_columns,
    printable,
)
from app.errors import FieldError, InvalidInput, MalformedBody
from app.feature import Feature, Kind

MEDIA_TYPE = "application/json"

LAYOUTS = ("rows", "columns", "data")
ENCODED_VALUES = 2048
"""Values that are encoded in one call, in less than a millisecond."""


class Named(msgspec.Struct):
    """What is asked of a body whose data cannot be read before the order of their columns is known."""

    names: list[str] | UnsetType = UNSET


class Misplaced(Exception):
    """What is around the values is not one of the layouts, or columns differ in length."""


_NAMES = msgspec.json.Decoder(Named)
_ENCODER = msgspec.json.Encoder()


def decode(body: Buffer, features: tuple[Feature, ...], max_rows: int) -> FloatArray:
    """Decode a body in one of the three layouts.

    Returns:
        float64[B, F] in the features' order; a null is NaN, and so is what is not required and was left out.

    Raises:
        MalformedBody: It is no JSON.
        TooLarge: It holds more than `max_rows` rows.
        InvalidInput: It is in none of the layouts, or its columns or values are not what the model takes.
    """
    if isinstance(body, memoryview):
        body = body.tobytes()
    try:
        builder = _read(body, features, max_rows)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Misplaced, RepeatedName):
        return _inspect(parse(body), features, max_rows).matrix()
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
    """Read a body that is as it should be; one that is not raises what says no more than that."""
    table, places = _table(body, features)
    if _may_repeat(body, table, features) and has_repeated(body):
        raise RepeatedName
    if [table.rows, table.columns, table.data].count(UNSET) != len(LAYOUTS) - 1:
        raise Misplaced
    if table.names is not UNSET and table.data is UNSET:
        raise Misplaced
    if table.rows is not UNSET:
        builder = _builder(features, len(table.rows), max_rows)
        builder.add_rows(to_array(map(msgspec.structs.astuple, table.rows), len(table.rows), len(features)))
    elif table.columns is not UNSET:
        columns = msgspec.structs.astuple(table.columns)
        count = max((len(column) for column in columns if column is not UNSET), default=0)
        if any(column is not UNSET and len(column) != count for column in columns):
            raise Misplaced
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


def _may_repeat(body: bytes | bytearray, table: Any, features: tuple[Feature, ...]) -> bool:
    """Whether a body that was decoded could have a name more than once."""
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
    return objects_of(features).names.may_repeat(body, len(rows), map(msgspec.structs.astuple, rows), names, colons)


def _colons(names: list[str]) -> int:
    return sum(name.count(":") for name in names)


def _table(body: bytes | bytearray, features: tuple[Feature, ...]) -> tuple[Any, list[int | None] | None]:
    """A body's parts, and where its names say that each feature's values are in a row."""
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
    ordered = tuple(map(_kind, _ordered(features, places)))
    if table is None or ordered != kinds:
        table = _decoder(features, ordered).decode(body)
    return table, places


def _inspect(value: Any, features: tuple[Feature, ...], max_rows: int) -> BatchBuilder:
    """Read a parsed body again, and note all that is wrong with it."""
    layout = _layout(value)
    given = value[layout]
    if layout == "columns":
        if not isinstance(given, dict):
            raise InvalidInput("The body is not valid.", (FieldError("columns", "must be an object of lists by name"),))
        builder = _inspect_columns(cast(dict[str, Any], given), features, max_rows)
    else:
        if not isinstance(given, list):
            raise InvalidInput("The body is not valid.", (FieldError(layout, "must be a list"),))
        rows = cast(list[object], given)
        builder = _builder(features, len(rows), max_rows)
        if layout == "rows":
            objects = objects_of(features)
            _inspect_rows(rows, builder, lambda row, index: objects.inspect(row, index, builder.faults), None)
        else:
            places = _places(value["names"], features) if "names" in value else None
            order = features if places is None else _ordered(features, places)
            _inspect_rows(rows, builder, _reader_of_lists(order, features, builder), places)
    if not builder.faults.noted:  # msgspec saw a fault that this reading does not, such as a lone surrogate
        raise MalformedBody("The body is not valid JSON.")
    return builder


def _layout(value: object) -> str:
    """The layout of a parsed body; raises InvalidInput unless there is just one, and nothing else."""
    if not isinstance(value, dict):
        raise InvalidInput("The body is not valid.", (FieldError(BODY, "must be an object"),))
    given = cast(dict[str, Any], value)
    errors = [FieldError(printable(name), "unknown field") for name in given if name not in (*LAYOUTS, "names")]
    errors += [FieldError(name, REPEATED) for name in (*LAYOUTS, "names") if name in repeated_names(given)]
    layouts = [layout for layout in LAYOUTS if layout in given]
    if len(layouts) != 1:
        errors.append(FieldError(BODY, "must hold exactly one of rows, columns and data"))
    elif "names" in given:
        names = given["names"]
        if layouts != ["data"]:
            errors.append(FieldError("names", "goes with data only"))
        elif not isinstance(names, list) or not all(isinstance(name, str) for name in cast(list[object], names)):
            errors.append(FieldError("names", "must be a list of texts"))
    if errors:
        raise InvalidInput("The body is not valid.", tuple(errors[:MAX_ERRORS]))
    return layouts[0]


def _inspect_rows(
    rows: list[object],
    builder: BatchBuilder,
    read: Callable[[object, int], list[float]],
    places: list[int | None] | None,
) -> None:
    for start in range(0, len(rows), builder.block_rows):
        values: list[list[float]] = []
        for index, row in enumerate(rows[start : start + builder.block_rows], start):
            values.append(read(row, index))
            builder.yield_gil()
        _add_data(builder, np.array(values), places)


def _reader_of_lists(
    order: tuple[Feature, ...], features: tuple[Feature, ...], builder: BatchBuilder
) -> Callable[[object, int], list[float]]:
    """Reads a row of the layout `data`, whose values are of the features in `order`."""
    columns = [features.index(feature) for feature in order]
    message = f"must be lists of {len(order)} values"
    harmless = [limits_of(feature)[0] for feature in order]

    def read(row: object, index: int) -> list[float]:
        if not isinstance(row, list) or len(cast(list[object], row)) != len(order):
            builder.faults.add_row(message, index)
            return harmless
        values = zip(order, columns, cast(list[object], row), strict=True)
        return [cell(feature, column, value, index, builder.faults) for feature, column, value in values]

    return read


def _inspect_columns(given: dict[str, Any], features: tuple[Feature, ...], max_rows: int) -> BatchBuilder:
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
        raise InvalidInput("The columns are not the model's features.", tuple(errors[:MAX_ERRORS]))
    builder = _builder(features, count, max_rows)
    columns: list[FloatArray | None] = []
    for column, feature in enumerate(features):
        if feature.name not in given:
            columns.append(None)
            continue
        values = np.empty(count)
        for row, value in enumerate(given[feature.name]):
            values[row] = cell(feature, column, value, row, builder.faults)
            builder.yield_gil()
        columns.append(values)
    if count:
        builder.add_columns(columns)
    return builder


def _builder(features: tuple[Feature, ...], rows: int, max_rows: int) -> BatchBuilder:
    check_rows(rows, max_rows)
    return BatchBuilder(features, rows)


def _add_data(builder: BatchBuilder, values: FloatArray, places: list[int | None] | None) -> None:
    if places is None or not len(values):
        builder.add_rows(values)
    elif any(place is not None for place in places):
        builder.add_columns([None if place is None else values[:, place] for place in places])
    else:
        builder.add_rows(np.full((len(values), len(places)), np.nan))


def _places(names: list[str], features: tuple[Feature, ...]) -> list[int | None]:
    check_width(len(names), features)
    return match_columns(names, features)


def _ordered(features: tuple[Feature, ...], places: list[int | None]) -> tuple[Feature, ...]:
    """The features that are there, in the body's order."""
    there = [(place, feature) for place, feature in zip(places, features, strict=True) if place is not None]
    return tuple(feature for _, feature in sorted(there, key=lambda item: item[0]))


def _kind(feature: Feature) -> tuple[Kind, bool]:
    return feature.kind, feature.required


@lru_cache(maxsize=16)
def _decoder(features: tuple[Feature, ...], kinds: tuple[tuple[Kind, bool], ...]) -> msgspec.json.Decoder[Any]:
    """Decodes a body whose rows of `data`, if it has them, hold values of these kinds."""
    row: Any = tuple[tuple(cell_type(Feature(name="", kind=kind, required=required)) for kind, required in kinds)]  # pyright: ignore[reportInvalidTypeArguments]
    parts = {"rows": list[objects_of(features).row_type], "columns": _columns(features), "data": list[row]}
    fields: list[Any] = [(name, part | UnsetType, UNSET) for name, part in (parts | {"names": list[str]}).items()]
    return msgspec.json.Decoder(msgspec.defstruct("Table", fields, forbid_unknown_fields=True))


def _columns(features: tuple[Feature, ...]) -> type[msgspec.Struct]:
    """Lists by name. A column that is required must be there, and no other than the features'."""
    fields: list[Any] = []
    for index, feature in enumerate(features):
        column = list[cell_type(feature)]
        fields.append((f"f{index}", column) if feature.required else (f"f{index}", column | UnsetType, UNSET))
    names = {f"f{index}": feature.name for index, feature in enumerate(features)}
    return msgspec.defstruct("Columns", fields, rename=names, forbid_unknown_fields=True, kw_only=True)
