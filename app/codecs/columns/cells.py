"""Cells of a CSV body: text that becomes numbers, booleans and codes of categories."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from app.codecs import categories
from app.codecs.batch_builder import BatchBuilder
from app.codecs.categories import Codes
from app.codecs.rules import LARGEST_WHOLE, FloatArray
from app.feature import Feature

compute: Any = pyarrow.compute
"""Typed as Any: its functions are generated at import, where no type checker sees them."""

TRUE, FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
WORDS = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)
NUMBER = r"^(?i:[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan(\([0-9a-z_]*\))?|inf|infinity))$"
"""Cells that Arrow converts to numbers."""

LONGEST_WHOLE = 300
"""Digits of a whole number that a category may have."""


def arrow_type(feature: Feature) -> Any:
    """Type to which Arrow converts a column: text where a category may be a text or a boolean."""
    if feature.kind == "boolean":
        return pa.bool_()
    if feature.kind == "category":
        values = feature.categories or ("",)
        if not categories.is_exact(feature) or any(isinstance(value, str | bool) for value in values):
            return pa.string()
    return pa.float64()


def holds_empty(features: tuple[Feature, ...]) -> bool:
    """Whether the empty text is a category of some feature."""
    return any("" in (feature.categories or ()) for feature in features)


def is_doubtful(batch: Any, features: tuple[Feature, ...], places: list[int | None]) -> bool:
    """Whether a record batch has an integer that may have been rounded to an end of the range of integers."""
    for feature, place in zip(features, places, strict=True):
        if feature.kind == "integer" and place is not None:
            ends = compute.min_max(batch.column(place))
            if ends["max"].as_py() == LARGEST_WHOLE or ends["min"].as_py() == -LARGEST_WHOLE:
                return True
    return False


def numbers_of(batch: Any, features: tuple[Feature, ...], places: list[int | None], builder: BatchBuilder) -> Any:
    """A record batch of text with numbers in place of text, but for categories; empty and faulty cells are null.

    Args:
        batch: The record batch.
        features: The model's features.
        places: Position of each feature's column.
        builder: The batch whose next rows these are; faulty cells are counted there.
    """
    columns = list(batch.columns)
    for column, (feature, place) in enumerate(zip(features, places, strict=True)):
        if place is not None and feature.kind != "category":
            values, bad = _numbers(feature, columns[place])
            if bad.any():
                builder.faults.add_bad(column, "kind", bad, builder.rows)
            columns[place] = pa.array(values)
    return pa.record_batch(columns, names=batch.schema.names)


def codes(feature: Feature, cells: Any) -> Codes:
    """Codes of a column of text or numbers; a cell that cannot be a category's value is infinite.

    A cell that is a category's text is that category; else it may be a number or boolean that is one.
    """
    if not pa.types.is_string(cells.type):
        return categories.codes(feature, cells)
    if not categories.holds_numbers(feature):
        if "" not in (feature.categories or ()):  # but a category of another feature
            cells = compute.if_else(compute.equal(cells, ""), None, cells)
        return categories.codes(feature, cells)
    encoded = cells.dictionary_encode()
    found = [_category(feature, text) for text in encoded.dictionary.to_pylist()]
    unseen = np.array([unseen for _, unseen in found], np.bool_)
    return Codes(np.array([code for code, _ in found], np.float64), unseen).taken(*categories.places_of(encoded))


def _category(feature: Feature, text: str) -> tuple[float, bool]:
    """Code of a cell, and whether it is there but no category."""
    if (code := categories.codes_of(feature).get(text)) is not None:
        return code, False
    cell = text.strip(" \t")
    if not cell:
        return math.nan, False
    value = WORDS.get(cell, _exact(cell))
    if value is None:
        return (math.nan, True) if categories.holds_text(feature) else (math.inf, False)
    if isinstance(value, float) and not math.isfinite(value):
        return (math.nan, False) if math.isnan(value) else (math.inf, False)
    code = categories.code(feature, value)
    return code, math.isnan(code)


def _exact(cell: str) -> int | float | None:
    """A cell's number, exact where it is a whole one; None where it is none."""
    digits = cell[cell.startswith(("-", "+")) :]
    if digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_WHOLE:
        return int(cell)
    if not compute.match_substring_regex(pa.scalar(cell), NUMBER).as_py():
        return None
    return pa.scalar(cell).cast(pa.float64()).as_py()


def _numbers(feature: Feature, cells: Any) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Values of a column of text, float64[b], and which cells are no number, bool[b]; empty and faulty ones are NaN."""
    text = compute.utf8_trim(cells, " \t")
    text = compute.if_else(compute.equal(text, ""), None, text)
    for word, digit in ((TRUE, "1"), (FALSE, "0")):
        text = compute.if_else(compute.is_in(text, pa.array(word)), digit, text)
    fits = compute.match_substring_regex(text, NUMBER)
    bad = compute.invert(fits).fill_null(False).to_numpy(zero_copy_only=False)
    text = compute.if_else(fits, text, None)
    values = text.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False, writable=True)
    if feature.kind == "integer":
        _keep_exact(values, text)
    return values, bad


def _keep_exact(values: FloatArray, text: Any) -> None:
    """Keep whole numbers beyond 2^53 out of range, which float64 may round to 2^53; values are changed in place."""
    at_end = np.flatnonzero(np.abs(values) == LARGEST_WHOLE)
    for row in at_end.tolist():
        if abs(Decimal(text[row].as_py())) != int(LARGEST_WHOLE):
            values[row] = math.copysign(LARGEST_WHOLE + 2, values[row])
