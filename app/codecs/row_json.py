"""JSON objects of features by name: one row, a batch of rows, and the rows of the bulk formats that have objects.

A valid body is decoded in one strict, typed pass by msgspec, which stops at the first fault. Only then is the body read
again, value by value, so that the answer can name every fault.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Annotated, Any, cast

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from app.codecs.batch_builder import Faults
from app.codecs.duplicates import ABSENT, NameCount, parse, repeated_names
from app.codecs.rules import (
    BODY,
    INVALID,
    MAX_ERRORS,
    MISSING,
    NOT_JSON,
    NOT_OBJECT,
    REPEATED,
    Fault,
    FloatArray,
    Rule,
    broken_rule,
    feature_struct,
    json_schema,
    json_type,
    limits_of,
    unknown_field,
    value_fault,
)
from app.errors import FieldError, InvalidInput, MalformedBody
from app.feature import Feature

BATCH_ID_LENGTH = 128


class RowReader:
    """Reads rows of one model, each an object of features by name.

    Args:
        features: The model's features.
        ranged: Whether the typed pass refuses values out of range. Those of tables are checked faster as arrays.

    Attributes:
        row_type: Struct of a valid row, with ABSENT in the place of an optional feature that was left out.
        decoder: Decodes one row.
        names: Counts names, to find repeated ones.
    """

    def __init__(self, features: tuple[Feature, ...], *, ranged: bool) -> None:
        self._features = features
        self._known = {feature.name for feature in features}
        self._columns = [(feature, limits_of(feature)) for feature in features]
        self.names = NameCount(features)
        types = [json_type(feature, ranged=ranged) for feature in features]
        self.row_type = feature_struct("Features", features, types, ABSENT)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.row_type)

    def array(self, rows: Sequence[msgspec.Struct]) -> FloatArray:
        """float64[B, F] of decoded rows."""
        return to_array(map(msgspec.structs.astuple, rows), len(rows), len(self._features))

    def errors(self, value: object) -> tuple[list[float], tuple[FieldError, ...]]:
        """Values of a row that was parsed without types, and its errors; with errors, the values mean nothing."""
        if not isinstance(value, dict):
            return [], (FieldError(BODY, NOT_OBJECT),)
        values, faults, unknown = self._check(cast(dict[str, object], value))
        errors = [value_fault(self._features[fault.column], fault) for fault in faults]
        errors += map(unknown_field, unknown)
        return values, tuple(errors[:MAX_ERRORS])

    def inspect(self, value: object, row: int, faults: Faults, not_object: str = NOT_OBJECT) -> list[float]:
        """Count the faults of a row that was parsed without types.

        Args:
            value: The row.
            row: Its index in the batch.
            faults: Faults of the batch.
            not_object: Text of the fault if the row is no object.

        Returns:
            Its values, with a valid number in the place of each faulty one.
        """
        if not isinstance(value, dict):
            faults.add_row(not_object, row)
            return [low for _, (low, _) in self._columns]
        values, found, unknown = self._check(cast(dict[str, object], value))
        for fault in found:
            faults.add(fault.column, fault.rule, row)
        for name in unknown:
            faults.add_unknown(name)
        return values

    def _check(self, given: dict[str, object]) -> tuple[list[float], list[Fault], list[str]]:
        """Values, faults, and names that are no features."""
        repeated = repeated_names(given)
        values: list[float] = []
        faults: list[Fault] = []
        for column, (feature, limits) in enumerate(self._columns):
            value = given.get(feature.name)
            rule: Rule | None
            if repeated and feature.name in repeated:
                rule = "once"
            elif value is None and feature.required and feature.name not in given:
                rule = "given"
            else:
                rule = broken_rule(feature, value, limits)
            if rule is None:
                values.append(math.nan if value is None else float(cast(float, value)))
            else:
                faults.append(Fault(column, rule, value))
                values.append(limits[0])
        unknown = [] if given.keys() <= self._known else [name for name in given if name not in self._known]
        return values, faults, unknown


@lru_cache(maxsize=4)
def table_row_reader(features: tuple[Feature, ...]) -> RowReader:
    """The reader of the rows of a model's tables; kept, since to make one takes a millisecond."""
    return RowReader(features, ranged=False)


def to_array(rows: Iterable[Iterable[float | None]], count: int, width: int) -> FloatArray:
    """float64[count, width] of rows of values; None becomes NaN."""
    return np.fromiter(chain.from_iterable(rows), np.float64, count * width).reshape(count, width)


class Batch(msgspec.Struct, frozen=True):
    """The valid rows of a batch request, and the errors of its other rows.

    Attributes:
        rows: float64[B, F], the valid rows.
        positions: Index in the request of each of the B rows.
        errors: Errors by index in the request.
        size: Number of rows in the request.
        batch_id: The caller's name for the batch.
    """

    rows: FloatArray
    positions: tuple[int, ...]
    errors: dict[int, tuple[FieldError, ...]]
    size: int
    batch_id: str | None


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
        self._one_row = (1, len(features))
        self._pack = struct.Struct(f"{len(features)}d").pack
        rows: Any = list[self._reader.row_type]
        batch = msgspec.defstruct("BatchRequest", [("predictions", rows)], bases=(BatchFields,), kw_only=True)
        self._batch_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch)

    def decode_row(self, body: bytes | bytearray) -> FloatArray:
        """Decode one object of features by name.

        Returns:
            float64[1, F].

        Raises:
            MalformedBody: The body is not JSON.
            InvalidInput: Fields are unknown, missing, repeated, of a wrong type or out of range; all of them are named.
        """
        try:
            row = self._decode_row(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._row_error(body) or MalformedBody(NOT_JSON) from None
        values = msgspec.structs.astuple(row)
        if self._may_repeat_in_one(body, values) and (error := self._row_error(body)):
            raise error
        try:  # the fastest way to a small array, and read-only as the kernels want it
            return np.ndarray(self._one_row, np.float64, self._pack(*values))
        except struct.error:  # a value is None
            return to_array((values,), *self._one_row)

    def decode_batch(self, body: bytes | bytearray, max_rows: int) -> Batch:
        """Decode `{"predictions": [{...}, ...], "batch_id"?}`; an invalid row leaves the other rows valid.

        Raises:
            MalformedBody: The body is not JSON.
            InvalidInput: The body has other fields than these, no rows, or more than `max_rows`.
        """
        try:
            request = self._batch_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            checked = self._check_batch(parse(body), max_rows)
            if not checked.errors:
                raise MalformedBody(NOT_JSON) from None
            return checked
        rows = request.predictions
        _check_size(len(rows), max_rows)
        colons = request.batch_id.count(":") if request.batch_id else 0
        values = partial(map, msgspec.structs.astuple, rows)
        if self._reader.names.may_repeat(body, len(rows), values(), 1 + (request.batch_id is not UNSET), colons):
            checked = self._check_batch(parse(body), max_rows)
            if checked.errors:
                return checked
        return Batch(
            rows=self._reader.array(rows),
            positions=tuple(range(len(rows))),
            errors={},
            size=len(rows),
            batch_id=None if request.batch_id is UNSET else request.batch_id,
        )

    def json_schema(self) -> dict[str, Any]:
        """Schema of a row."""
        return json_schema(self._features)

    def _row_error(self, body: bytes | bytearray) -> InvalidInput | None:
        """The error for a body that was refused, with every fault; None where no fault is found."""
        _, errors = self._reader.errors(parse(body))
        return InvalidInput("Some features are not valid.", errors) if errors else None

    def _check_batch(self, value: object, max_rows: int) -> Batch:
        """Check a batch that was parsed without types."""
        if not isinstance(value, dict):
            raise InvalidInput(INVALID, (FieldError(BODY, "must be an object"),))
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
        for index, row in enumerate(given):
            values, row_errors = self._reader.errors(row)
            if row_errors:
                faults[index] = row_errors
            else:
                valid.append(values)
                positions.append(index)
        return Batch(
            rows=to_array(valid, len(valid), len(self._features)),
            positions=tuple(positions),
            errors=faults,
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
