"""JSON bodies of one row and of a batch of rows.

A valid body is decoded in one strict, typed pass by msgspec, which stops at the first fault. Only then is the body read
again, value by value, so that the answer can name every fault.
"""

import struct
from functools import partial
from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple
from numpy import float64, ndarray

from app.codecs.filled import check_objects
from app.codecs.json.duplicates import Row, check_json, parse, repeated_names
from app.codecs.json.objects import REFUSED, RowReader, to_array
from app.codecs.json.types import json_schema
from app.codecs.rules import BODY, INVALID, MAX_ERRORS, MISSING, REPEATED, FloatArray, unknown_field
from app.errors import FieldError, InvalidInput
from app.feature import Feature

BATCH_ID_LENGTH = 128

NONE: tuple[str, ...] = ()
"""Warnings of a row that has none."""


class Batch(msgspec.Struct, frozen=True):
    """The valid rows of a batch request, and the errors of its other rows.

    Attributes:
        rows: float64[B, F], the valid rows.
        positions: Index in the request of each of the B rows.
        errors: Errors by index in the request.
        warnings: Warnings about values that count as missing, by index in the request.
        size: Number of rows in the request.
        batch_id: The caller's name for the batch.
    """

    rows: FloatArray
    positions: tuple[int, ...]
    errors: dict[int, tuple[FieldError, ...]]
    size: int
    batch_id: str | None
    warnings: dict[int, tuple[str, ...]] = {}


class BatchFields(msgspec.Struct, forbid_unknown_fields=True):
    """Fields of a batch request beside its rows."""

    batch_id: Annotated[str, Meta(max_length=BATCH_ID_LENGTH)] | UnsetType | None = UNSET


class JsonCodec:
    """Decodes the bodies of one row and of a batch for one model.

    Args:
        features: The model's features, in the engine's order.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self._features = features
        self._reader = RowReader(features, ranged=True)
        self._decode_row = self._reader.decoder.decode
        self._may_repeat_in_one = self._reader.names.may_repeat_in_one
        self._plain = self._reader.coding.plain
        self._one_row = (1, len(features))
        self._pack = struct.Struct(f"{len(features)}d").pack
        rows: Any = list[self._reader.row_type]
        batch = msgspec.defstruct("BatchRequest", [("predictions", rows)], bases=(BatchFields,), kw_only=True)
        self._batch_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch)

    def decode_row(self, body: bytes | bytearray) -> tuple[FloatArray, tuple[str, ...]]:
        """Decode one object of features by name.

        Returns:
            float64[1, F], and warnings about values that count as missing.

        Raises:
            MalformedBody: The body is not JSON.
            InvalidInput: Fields are unknown, missing, repeated, of a wrong type or out of range; all of them are named.
        """
        return self.decode_valid_row(body) or self._read_again(body)

    def decode_valid_row(self, body: bytes | bytearray) -> tuple[FloatArray, tuple[str, ...]] | None:
        """`decode_row` in one pass, which takes nearly all valid bodies; None for any other."""
        try:
            values = astuple(self._decode_row(body))
            if self._may_repeat_in_one(body, values):
                return None
            numbers, unseen = (values, NONE) if self._plain else self._numbers(values)
        except REFUSED:
            return None
        try:  # the fastest way to a small array, and read-only as the kernels want it
            return ndarray(self._one_row, float64, self._pack(*numbers)), unseen
        except struct.error:  # a value is None
            return to_array((numbers,), *self._one_row), unseen

    def decode_batch(self, body: bytes | bytearray, max_rows: int) -> Batch:
        """Decode `{"predictions": [{...}, ...], "batch_id"?}`; an invalid row leaves the other rows valid.

        Raises:
            MalformedBody: The body is not JSON.
            InvalidInput: The body has other fields than these, no rows, or more than `max_rows`.
        """
        try:
            check_objects(body, self._features)
            request = self._batch_decoder.decode(body)
            rows = request.predictions
            _check_size(len(rows), max_rows)
            colons = request.batch_id.count(":") if request.batch_id else 0
            values = partial(map, astuple, rows)
            if self._reader.names.may_repeat(body, len(rows), values(), 1 + (request.batch_id is not UNSET), colons):
                return self._check_batch(body, max_rows)
            if self._plain:
                array, warnings = self._reader.array(rows), dict[int, tuple[str, ...]]()
            else:
                numbers = list(map(self._numbers, values()))
                array = to_array((row for row, _ in numbers), len(rows), len(self._features))
                warnings = {index: unseen for index, (_, unseen) in enumerate(numbers) if unseen}
        except REFUSED:
            return self._check_batch(body, max_rows)
        return Batch(
            rows=array,
            positions=tuple(range(len(rows))),
            errors={},
            warnings=warnings,
            size=len(rows),
            batch_id=None if request.batch_id is UNSET else request.batch_id,
        )

    def json_schema(self) -> dict[str, Any]:
        """Schema of a row."""
        return json_schema(self._features)

    def _numbers(self, values: Row) -> tuple[Row, tuple[str, ...]]:
        """Numbers of a decoded row, and warnings about its values that count as missing."""
        unseen: list[tuple[int, Any]] = []
        numbers = self._reader.coding.numbers(values, unseen)
        return numbers, self._reader.coding.warnings(unseen) if unseen else ()

    def check_row(self, value: object) -> tuple[FloatArray, tuple[str, ...]]:
        """`decode_row` for a row that was parsed by `duplicates.parse`.

        Raises:
            InvalidInput: As `decode_row` does.
        """
        values, errors, unseen = self._reader.errors(value)
        if errors:
            raise InvalidInput("Some features are not valid.", errors)
        return to_array((values,), *self._one_row), unseen

    def _read_again(self, body: bytes | bytearray) -> tuple[FloatArray, tuple[str, ...]]:
        """Decode a row without types, to name every fault, or to take what the typed pass does not."""
        row = self.check_row(parse(body))
        check_json(body)
        return row

    def _check_batch(self, body: bytes | bytearray, max_rows: int) -> Batch:
        """Decode a batch without types."""
        value = parse(body)
        if not isinstance(value, dict):
            raise InvalidInput(INVALID, (FieldError(BODY, "must be an object with predictions, a list of rows"),))
        fields = cast(dict[str, Any], value)
        rows, batch_id = fields.get("predictions"), fields.get("batch_id")
        errors = wrong_fields(fields, ("predictions", "batch_id"))
        if not isinstance(rows, list):
            errors.append(FieldError("predictions", "must be a list" if "predictions" in fields else MISSING))
        if batch_id is not None and not (isinstance(batch_id, str) and len(batch_id) <= BATCH_ID_LENGTH):
            errors.append(FieldError("batch_id", f"must be text of at most {BATCH_ID_LENGTH} characters"))
        if errors or not isinstance(rows, list):
            raise InvalidInput(INVALID, tuple(errors[:MAX_ERRORS]))
        given = cast(list[object], rows)
        _check_size(len(given), max_rows)
        valid: list[list[float]] = []
        positions: list[int] = []
        faults: dict[int, tuple[FieldError, ...]] = {}
        warnings: dict[int, tuple[str, ...]] = {}
        for index, row in enumerate(given):
            values, row_errors, unseen = self._reader.errors(row)
            if row_errors:
                faults[index] = row_errors
                continue
            valid.append(values)
            positions.append(index)
            if unseen:
                warnings[index] = unseen
        if not faults:
            check_json(body)
        return Batch(
            rows=to_array(valid, len(valid), len(self._features)),
            positions=tuple(positions),
            errors=faults,
            warnings=warnings,
            size=len(given),
            batch_id=batch_id,
        )


def wrong_fields(fields: dict[str, Any], known: tuple[str, ...]) -> list[FieldError]:
    """Errors for the fields of an object that are not known, or appear more than once."""
    repeated = repeated_names(fields)
    errors = [unknown_field(name) for name in fields if name not in known]
    return errors + [FieldError(name, REPEATED) for name in known if name in repeated]


def _check_size(size: int, max_rows: int) -> None:
    if not 1 <= size <= max_rows:
        message = f"must hold 1 to {max_rows} rows, and holds {size}"
        raise InvalidInput("The batch has a size that is not served.", (FieldError("predictions", message),))
