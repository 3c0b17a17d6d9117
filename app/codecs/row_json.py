"""JSON bodies to batches, by a schema compiled from the model's features.

A valid body is decoded in one strict msgspec pass, which stops at the first fault. Only then is the body read again,
value by value, so that the answer can name every field that is wrong.
"""

import math
import struct
from functools import partial
from typing import Annotated, Any, cast

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from app.codecs.duplicates import ABSENT, REPEATED, RowNames, repeated_names
from app.codecs.objects import parse, to_array
from app.codecs.rules import BODY, MAX_ERRORS, FloatArray, bounds, printable, span
from app.errors import FieldError, InvalidInput
from app.feature import Feature

BATCH_ID_LENGTH = 128


class BatchFields(msgspec.Struct, forbid_unknown_fields=True):
    """What a batch has beside its rows."""

    batch_id: Annotated[str, Meta(max_length=BATCH_ID_LENGTH)] | UnsetType | None = UNSET


class Batch(msgspec.Struct, frozen=True):
    """The rows of a batch request that are valid, and the errors of those that are not.

    Attributes:
        rows: float64[B, F], the valid rows.
        positions: Index in the request of each of the B rows.
        errors: Errors by index in the request.
        size: Rows in the request, valid or not.
        batch_id: The caller's name for the batch.
    """

    rows: FloatArray
    positions: tuple[int, ...]
    errors: dict[int, tuple[FieldError, ...]]
    size: int
    batch_id: str | None


class JsonCodec:
    """Decodes requests for one model.

    Args:
        features: What the model takes, in the engine's order.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self._features = features
        self._by_name = {feature.name: feature for feature in features}
        self._names = RowNames(features)
        self._one_row = (1, len(features))
        self._pack = struct.Struct(f"{len(features)}d").pack
        fields = [f"f{index}" for index in range(len(features))]
        row = msgspec.defstruct(
            "Features",
            [_field(field, feature) for field, feature in zip(fields, features, strict=True)],
            rename=dict(zip(fields, (feature.name for feature in features), strict=True)),
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        batch = msgspec.defstruct("BatchRequest", [("predictions", list[row])], bases=(BatchFields,), kw_only=True)
        self._row_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._batch_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch)

    def decode_row(self, body: bytes | bytearray) -> FloatArray:
        """Decode one object of features by name.

        Returns:
            float64[1, F].

        Raises:
            MalformedBody: It is not JSON.
            InvalidInput: Fields are unknown, missing, repeated, of a wrong type or out of range; all of them are named.
        """
        try:
            row = self._row_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            _, errors = self._check_row(parse(body))
            raise InvalidInput("Some features are not valid.", errors or (FieldError(BODY, str(error)),)) from None
        values = msgspec.structs.astuple(row)
        if self._names.may_repeat_in_one(body, values):
            _, errors = self._check_row(parse(body))
            if errors:
                raise InvalidInput("Some features are not valid.", errors)
        try:  # the fastest way to an array of a few values, and read-only as the kernels want it
            return np.ndarray(self._one_row, np.float64, self._pack(*values))
        except struct.error:  # there is a None among them
            return to_array((values,), *self._one_row)

    def decode_batch(self, body: bytes | bytearray, max_rows: int) -> Batch:
        """Decode `{"predictions": [{...}, ...], "batch_id"?}`; a bad row spoils itself alone.

        Raises:
            MalformedBody: It is not JSON.
            InvalidInput: What is around the rows is wrong, or there are none, or more than `max_rows`.
        """
        try:
            request = self._batch_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._check_batch(parse(body), max_rows, error)
        rows = request.predictions
        _check_size(len(rows), max_rows)
        colons = request.batch_id.count(":") if request.batch_id else 0
        values = partial(map, msgspec.structs.astuple, rows)
        if self._names.may_repeat(body, len(rows), values(), 1 + (request.batch_id is not UNSET), colons):
            checked = self._check_batch(parse(body), max_rows, None)
            if checked.errors:
                return checked
        return _whole(to_array(values(), len(rows), len(self._features)), request.batch_id)

    def json_schema(self) -> dict[str, Any]:
        """The row's schema (JSON Schema 2020-12, as OpenAPI 3.1 takes it)."""
        properties: dict[str, Any] = {}
        for feature in self._features:
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
            "required": [feature.name for feature in self._features if feature.required],
            "additionalProperties": False,
        }

    def _check_batch(self, value: object, max_rows: int, error: Exception | None) -> Batch:
        """Read a parsed batch again, whose `error` must be found, if there was one."""
        if not isinstance(value, dict):
            raise InvalidInput("The body is not valid.", (FieldError(BODY, "must be an object"),))
        errors = [
            FieldError(printable(name), "unknown field") for name in value if name not in ("predictions", "batch_id")
        ]
        repeated = repeated_names(value)
        errors += [FieldError(name, REPEATED) for name in ("predictions", "batch_id") if name in repeated]
        rows, batch_id = value.get("predictions"), value.get("batch_id")
        if not isinstance(rows, list):
            errors.append(FieldError("predictions", "must be a list" if "predictions" in value else "is missing"))
        if batch_id is not None and not (isinstance(batch_id, str) and len(batch_id) <= BATCH_ID_LENGTH):
            errors.append(FieldError("batch_id", f"must be text of at most {BATCH_ID_LENGTH} characters"))
        if errors or not isinstance(rows, list):
            raise InvalidInput("The body is not valid.", tuple(errors[:MAX_ERRORS]))
        _check_size(len(rows), max_rows)
        valid: list[list[float]] = []
        positions: list[int] = []
        faults: dict[int, tuple[FieldError, ...]] = {}
        for index, row in enumerate(rows):
            values, row_errors = self._check_row(row)
            if row_errors:
                faults[index] = row_errors
            else:
                valid.append(values)
                positions.append(index)
        if error is not None and not faults:  # msgspec saw a fault that this reading does not, such as a lone surrogate
            raise InvalidInput("The body is not valid.", (FieldError(BODY, str(error)),))
        return Batch(
            rows=np.array(valid, dtype=np.float64).reshape(len(valid), len(self._features)),
            positions=tuple(positions),
            errors=faults,
            size=len(rows),
            batch_id=batch_id,
        )

    def _check_row(self, value: Any) -> tuple[list[float], tuple[FieldError, ...]]:
        """Check a parsed row; gives its values (meaningless if there are errors) and every error."""
        if not isinstance(value, dict):
            return [], (FieldError(BODY, "must be an object of features by name"),)
        errors: list[FieldError] = []
        values: list[float] = []
        repeated = repeated_names(value)
        for feature in self._features:
            given = value.get(feature.name)
            if feature.name in repeated:
                errors.append(FieldError(feature.name, REPEATED))
            elif given is None and not feature.required:
                values.append(math.nan)
            elif feature.name not in value:
                errors.append(FieldError(feature.name, "is missing"))
            elif message := _fault(feature, given):
                errors.append(FieldError(feature.name, message))
            else:
                values.append(float(cast(float, given)))
        errors += [FieldError(printable(name), "unknown field") for name in value if name not in self._by_name]
        return values, tuple(errors[:MAX_ERRORS])


def _field(field: str, feature: Feature) -> Any:
    """A field of the row's struct, as `msgspec.defstruct` takes it."""
    annotation = _annotation(feature)
    return (field, annotation) if feature.required else (field, annotation | None, ABSENT)


def _annotation(feature: Feature) -> Any:
    limits = bounds(feature)
    if feature.kind == "boolean":
        return bool
    if feature.kind == "integer" and limits is not None:
        return Annotated[int, Meta(ge=math.ceil(limits[0]), le=math.floor(limits[1]))]
    return float if limits is None else Annotated[float, Meta(ge=limits[0], le=limits[1])]


def _fault(feature: Feature, value: object) -> str | None:
    """What is wrong with a value that Python's JSON parser made, in the terms of the msgspec schema."""
    if feature.kind == "boolean":
        return None if isinstance(value, bool) else f"must be true or false, not {_json_type(value)}"
    if feature.kind == "integer" and (isinstance(value, bool) or not isinstance(value, int)):
        return f"must be a whole number, not {_json_type(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {_json_type(value)}"
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        return "must be a finite number"
    limits = bounds(feature)
    if limits is not None and not limits[0] <= value <= limits[1]:
        return f"must be in the range {span(limits)}"
    return None


def _json_type(value: object) -> str:
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


def _whole(rows: FloatArray, batch_id: str | UnsetType | None) -> Batch:
    """A batch all of whose rows are valid."""
    named = None if batch_id is UNSET else batch_id
    return Batch(rows=rows, positions=tuple(range(len(rows))), errors={}, size=len(rows), batch_id=named)


def _check_size(size: int, max_rows: int) -> None:
    if not 1 <= size <= max_rows:
        message = f"must hold 1 to {max_rows} rows, and holds {size}"
        raise InvalidInput("The batch has a size that is not served.", (FieldError("predictions", message),))
