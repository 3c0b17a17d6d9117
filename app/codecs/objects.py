"""Rows as objects of features by name, in JSON: what the JSON and NDJSON formats share."""

import json
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, cast

import msgspec
import numpy as np

from app.codecs.batch_builder import Faults
from app.codecs.duplicates import ABSENT, RowNames, make_object, repeated_names
from app.codecs.rules import INT64_RANGE, FloatArray, limits_of
from app.errors import MalformedBody
from app.feature import Feature

_INT64 = Annotated[int, msgspec.Meta(ge=math.ceil(INT64_RANGE[0]), le=math.floor(INT64_RANGE[1]))]
_TYPES: dict[str, Any] = {"number": float, "integer": _INT64, "boolean": bool}


class Objects:
    """Reads rows of one model, each an object.

    Types are checked here, what values there may be is left to whoever has them as arrays.

    Args:
        features: What the model takes.

    Attributes:
        row_type: A decoded row.
        row: Decodes one.
        names: Tells whether a row could have a name more than once.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self._features = features
        self._limits = [limits_of(feature) for feature in features]
        self._known = {feature.name for feature in features}
        self.names = RowNames(features)
        fields = [f"f{index}" for index in range(len(features))]
        self.row_type = msgspec.defstruct(
            "Features",
            [
                (field, kind) if feature.required else (field, kind, ABSENT)
                for field, feature, kind in zip(fields, features, map(cell_type, features), strict=True)
            ],
            rename=dict(zip(fields, (feature.name for feature in features), strict=True)),
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        self.row: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.row_type)

    def harmless(self) -> list[float]:
        """A row without fault, to stand for one that cannot be read."""
        return [low for low, _ in self._limits]

    def keeps(self, values: Sequence[float]) -> bool:
        """Whether a row of values is one that its arrays' checks will not find a fault in."""
        return all(
            low <= value <= high or (math.isnan(value) and not feature.required)
            for value, feature, (low, high) in zip(values, self._features, self._limits, strict=True)
        )

    def array(self, rows: Sequence[msgspec.Struct]) -> FloatArray:
        """float64[B, F] of decoded rows."""
        return to_array(map(msgspec.structs.astuple, rows), len(rows), len(self._features))

    def inspect(self, value: object, row: int, faults: Faults) -> list[float]:
        """Note every fault of a row that was parsed without types; a value that is none is NaN."""
        if not isinstance(value, dict):
            faults.add_row("must be objects of features by name", row)
            return self.harmless()
        given = cast(dict[str, object], value)
        repeated = repeated_names(given)
        values: list[float] = []
        for column, feature in enumerate(self._features):
            if feature.name in repeated:
                faults.add(column, "once", row)
                values.append(self._limits[column][0])
            elif feature.required and feature.name not in given:
                faults.add(column, "given", row)
                values.append(math.nan)
            else:
                values.append(cell(feature, column, given.get(feature.name), row, faults))
        for name in given.keys() - self._known:
            faults.add_unknown(name)
        return values


@lru_cache(maxsize=4)
def objects_of(features: tuple[Feature, ...]) -> Objects:
    """The reader of a model's rows: compiling one takes a millisecond."""
    return Objects(features)


def cell_type(feature: Feature) -> Any:
    """What msgspec takes for one value of a feature."""
    kind = _TYPES[feature.kind]
    return kind if feature.required else kind | None


def cell(feature: Feature, column: int, value: object, row: int, faults: Faults) -> float:
    """A value that Python's JSON parser made as float64.

    A null is NaN, and so is, noted as a fault, a value of a wrong type. What that parser takes for NaN is no value in
    JSON, and becomes infinite, to be refused even where a null is not.
    """
    if value is None:
        return math.nan
    if feature.kind == "boolean":
        fits = isinstance(value, bool)
    else:
        fits = isinstance(value, int | float if feature.kind == "number" else int) and not isinstance(value, bool)
    if not fits:
        faults.add(column, "kind", row)
        return math.nan
    try:
        number = float(cast(float, value))
    except OverflowError:
        return math.inf
    return math.inf if math.isnan(number) else number


def to_array(rows: Iterable[Iterable[float | None]], count: int, width: int) -> FloatArray:
    """float64[count, width] of rows of values; None is NaN."""
    return np.fromiter(chain.from_iterable(rows), np.float64, count * width).reshape(count, width)


def parse(text: bytes | bytearray, what: str = "The body") -> Any:
    """Parse JSON leniently: NaN, Infinity and repeated names are let through, to be named as the field's fault.

    Raises:
        MalformedBody: It is no JSON.
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=make_object)
    except (ValueError, RecursionError):
        raise MalformedBody(f"{what} is not valid JSON.") from None
