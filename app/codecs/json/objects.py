"""Rows that are JSON objects of features by name, as a request has one, a batch or a table many."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, cast

import msgspec
import numpy as np

from app.codecs.categories import codes_of
from app.codecs.coding import Coding, UnseenCategory
from app.codecs.faults import Faults
from app.codecs.json.duplicates import ABSENT, NameCount, repeated_names
from app.codecs.json.types import feature_struct, json_type
from app.codecs.rules import (
    BODY,
    MAX_ERRORS,
    NOT_OBJECT,
    Fault,
    FloatArray,
    Rule,
    broken_rule,
    limits_of,
    number_of,
    unknown_field,
    value_fault,
)
from app.errors import FieldError
from app.feature import Feature

REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnseenCategory)
"""Errors of the typed pass, which name no fault: the body is read again."""


class RowReader:
    """Reads rows of one model, each an object of features by name.

    Args:
        features: The model's features.
        ranged: Whether the typed pass refuses values out of range. Those of tables are checked faster as arrays.

    Attributes:
        row_type: Struct of a valid row, with ABSENT in the place of an optional feature that was left out.
        decoder: Decodes one row.
        names: Counts names, to find repeated ones.
        coding: Turns decoded values into numbers.
    """

    def __init__(self, features: tuple[Feature, ...], *, ranged: bool) -> None:
        self._features = features
        self._known = {feature.name for feature in features}
        self._columns = [(feature, limits_of(feature)) for feature in features]
        self.names = NameCount(features)
        self.coding = Coding(features, rounds=ranged)
        types = [json_type(feature, ranged=ranged) for feature in features]
        self.row_type = feature_struct("Features", features, types, ABSENT)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.row_type)

    def array(self, rows: Sequence[msgspec.Struct]) -> FloatArray:
        """float64[B, F] of decoded rows.

        Raises:
            UnseenCategory: A feature refuses a value.
        """
        values = map(msgspec.structs.astuple, rows)
        return to_array(
            values if self.coding.plain else map(self.coding.numbers, values), len(rows), len(self._features)
        )

    def errors(self, value: object) -> tuple[list[float], tuple[FieldError, ...], tuple[str, ...]]:
        """Values, errors and warnings of a row that was parsed without types; with errors, the rest means nothing."""
        if not isinstance(value, dict):
            return [], (FieldError(BODY, NOT_OBJECT),), ()
        given = cast(dict[str, object], value)
        values, faults, unknown = self._check(given)
        errors = [value_fault(self._features[fault.column], fault) for fault in faults]
        errors += map(unknown_field, unknown)
        return values, tuple(errors[:MAX_ERRORS]), () if errors else self._warnings(given)

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
                values.append(number_of(feature, value))
            else:
                faults.append(Fault(column, rule, value))
                values.append(limits[0])
        unknown = [] if given.keys() <= self._known else [name for name in given if name not in self._known]
        return values, faults, unknown

    def _warnings(self, given: dict[str, Any]) -> tuple[str, ...]:
        """Warnings about the values of a valid row that are none of the categories."""
        if not self.coding.has_categories:
            return ()
        unseen = [
            (column, value)
            for column, feature in enumerate(self._features)
            if feature.kind == "category"
            and (value := given.get(feature.name)) is not None
            and value not in codes_of(feature)
        ]
        return self.coding.warnings(unseen)


@lru_cache(maxsize=4)
def table_row_reader(features: tuple[Feature, ...]) -> RowReader:
    """The reader of the rows of a model's tables; kept, since to make one takes a millisecond."""
    return RowReader(features, ranged=False)


def to_array(rows: Iterable[Iterable[float | None]], count: int, width: int) -> FloatArray:
    """float64[count, width] of rows of values; None becomes NaN."""
    return np.fromiter(chain.from_iterable(rows), np.float64, count * width).reshape(count, width)
