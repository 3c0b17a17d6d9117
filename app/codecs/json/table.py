"""JSON bodies of many rows, in any of three layouts, and results as JSON.

The layouts are `{"rows": [{...}, ...]}`, `{"columns": {"MedInc": [...], ...}}` and `{"data": [[...], ...], "names"?:
[...]}`. A valid body is decoded in a strict, typed pass. One with a fault is read again, value by value, as a list of
objects whatever its layout, so that every fault is named, and by the same rules.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from app.codecs.batch_builder import BatchBuilder
from app.codecs.filled import check_objects
from app.codecs.gil_yield import GilYield
from app.codecs.json.duplicates import RepeatedName, check_json, has_repeated, parse
from app.codecs.json.layouts import LAYOUTS, inspect
from app.codecs.json.objects import REFUSED, table_row_reader, to_array
from app.codecs.json.types import feature_struct, json_type
from app.codecs.result import Result
from app.codecs.rules import (
    Buffer,
    FloatArray,
    check_rows,
    match_columns,
)
from app.feature import Feature

MEDIA_TYPE = "application/json"

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
    check_objects(body, features)
    try:
        builder = _read(body, features, max_rows)
    except (*REFUSED, Misplaced, RepeatedName):
        builder = inspect(parse(body), features, max_rows, len(body))
        if not builder.faults.noted:
            check_json(body)
    return builder.matrix()


def encode(result: Result) -> Iterator[Buffer]:
    """Encode as `{"columns": {"prediction": [...], ...}, "model_version": "1"}`."""
    yield_gil = GilYield()
    lead = b'{"columns":{'
    for name in result.names:
        yield lead + _ENCODER.encode(name) + b":["
        lead = b"],"
        for start, stop in result.pieces():
            values = result.column(name, start, stop)
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
    coding = table_row_reader(features).coding
    if table.rows is not UNSET:
        builder = _builder(features, len(table.rows), max_rows, len(body))
        builder.add_rows(table_row_reader(features).array(table.rows))
    elif table.columns is not UNSET:
        columns = msgspec.structs.astuple(table.columns)
        lengths = {len(column) for column in columns if column is not UNSET} or {0}
        if len(lengths) != 1:
            raise Misplaced
        (count,) = lengths
        builder = _builder(features, count, max_rows, len(body))
        if count:
            builder.add_columns(
                [
                    None if column is UNSET else coding.column(index, column, count)
                    for index, column in enumerate(columns)
                ]
            )
    else:
        builder = _builder(features, len(table.data), max_rows, len(body))
        _add_data(builder, table.data, places, features)
    return builder


def _decode_typed(body: bytes | bytearray, features: tuple[Feature, ...]) -> tuple[Any, Places | None]:
    """Parts of a body, and, if it has `names`, the position of each feature's value in a row of `data`."""
    kinds = _types(features)
    table = None
    try:
        table = _decoder(features, kinds).decode(body)
        names = table.names
    except msgspec.ValidationError:
        if (names := _NAMES.decode(body).names) is UNSET:
            raise
    if names is UNSET:
        return table, None
    places: Places = match_columns(names, features)
    there = sorted((place, feature) for place, feature in zip(places, features, strict=True) if place is not None)
    ordered = _types(tuple(feature for _, feature in there))
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
    if table_row_reader(features).names.texts and table.rows is UNSET:
        lists = table.data if table.columns is UNSET else msgspec.structs.astuple(table.columns)
        colons += sum(_colons(values) for values in lists or () if values is not UNSET)
    rows = [] if table.rows is UNSET else table.rows
    return table_row_reader(features).names.may_repeat(
        body, len(rows), map(msgspec.structs.astuple, rows), names, colons
    )


def _colons(values: Iterable[Any]) -> int:
    """Colons inside texts."""
    return sum(value.count(":") for value in values if isinstance(value, str))


def _builder(features: tuple[Feature, ...], rows: int, max_rows: int, size: int) -> BatchBuilder:
    check_rows(rows, max_rows)
    return BatchBuilder(features, rows, kinds=True, size=size)


def _add_data(
    builder: BatchBuilder, data: list[tuple[Any, ...]], places: Places | None, features: tuple[Feature, ...]
) -> None:
    count, coding = len(data), table_row_reader(features).coding
    width = len(features) if places is None else len(places) - places.count(None)
    if not width:
        builder.add_rows(np.full((count, len(features)), np.nan))
    elif coding.has_categories and data:
        columns = list(zip(*data, strict=True))
        order = range(len(features)) if places is None else places
        builder.add_columns(
            [
                None if place is None else coding.column(index, columns[place], count)
                for index, place in enumerate(order)
            ]
        )
    else:
        values = to_array(data, count, width)
        if places is None or not count:
            builder.add_rows(values)
        else:
            builder.add_columns([None if place is None else values[:, place] for place in places])


@lru_cache(maxsize=16)
def _types(features: tuple[Feature, ...]) -> tuple[Any, ...]:
    """Type of each feature's values."""
    return tuple(json_type(feature, ranged=False) for feature in features)


@lru_cache(maxsize=16)
def _decoder(features: tuple[Feature, ...], cells: tuple[Any, ...]) -> msgspec.json.Decoder[Any]:
    """Decodes a body whose rows of `data`, if it has them, hold values of the types `cells`.

    Few decoders serve all orders of names, since most features are of one type.
    """
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
