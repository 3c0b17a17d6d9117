"""Checks of values against the features' rules, block by block."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.codecs.faults import Faults
from app.codecs.rules import FloatArray, Rule, limits_of
from app.feature import Feature

Limits = Callable[[Feature], tuple[float, float]]
"""Gives the least and greatest value that a feature takes."""


class _Rules(NamedTuple):
    """Rules of features as arrays.

    Attributes:
        low: float64[F], least values.
        high: float64[F], greatest values.
        optional: bool[F], whether a value may be missing; None where none may.
        typed: Index and feature of those of integers and booleans.
        single: Index of those that are rounded to float32.
    """

    low: FloatArray
    high: FloatArray
    optional: NDArray[np.bool_] | None
    typed: list[tuple[int, Feature]]
    single: list[int]


@lru_cache(maxsize=16)
def _rules(features: tuple[Feature, ...], limits: Limits) -> _Rules:
    """Rules of features; kept, since to make them takes longer than to check a few rows."""
    ends = np.array([limits(feature) for feature in features], np.float64).reshape(-1, 2)
    optional = np.array([feature.takes_missing for feature in features], np.bool_)
    return _Rules(
        np.ascontiguousarray(ends[:, 0]),
        np.ascontiguousarray(ends[:, 1]),
        optional if optional.any() else None,
        [(index, feature) for index, feature in enumerate(features) if feature.kind in ("integer", "boolean")],
        [index for index, feature in enumerate(features) if feature.single],
    )


class Checks:
    """Checks blocks of values against the features' rules.

    Args:
        features: The columns.
        rows: Most rows of a block.
        kinds: Whether integer and boolean features are checked for other numbers; not needed for typed values.
        faults: Faults found before.
        limits: Gives the least and greatest value of a feature.

    Attributes:
        faults: Faults found so far.
        limits: Least and greatest value of each feature, float64[F].
        single: Columns that are to be rounded to float32.
    """

    def __init__(
        self, features: tuple[Feature, ...], rows: int, *, kinds: bool, faults: Faults | None = None,
        limits: Limits = limits_of,
    ) -> None:  # fmt: skip
        shape = (rows, len(features))
        low, high, optional, typed, self.single = _rules(features, limits)
        # As large as a block: with a single row of limits, NumPy's inner loop would be only F values long.
        self._low, self._high = _repeated(low, rows), _repeated(high, rows)
        self.limits = low, high
        self._all_from, self._all_to = low.max(initial=-math.inf), high.min(initial=math.inf)
        self._optional = None if optional is None else _repeated(optional, rows)
        self._good, self._spare = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
        self._typed = typed if kinds else []
        self.faults = faults or Faults(features)
        self._features = features

    def check(self, block: FloatArray, row: int, *, within: bool = False) -> None:
        """Count the faults of float64[b, F], whose first row is row `row` of the batch.

        Args:
            block: The values.
            row: Row of the batch that the first of them is.
            within: Whether all are known to be within their limits.
        """
        for column, feature in self._typed:
            self.note(column, "kind", _misfits(feature, block[:, column]), row)
        # Two passes in place of four, which most blocks need; a NaN is neither.
        if within or (block.size and block.min() >= self._all_from and block.max() <= self._all_to):
            return
        count = len(block)
        good, spare = self._good[:count], self._spare[:count]
        np.greater_equal(block, self._low[:count], out=good)
        np.less_equal(block, self._high[:count], out=spare)
        np.logical_and(good, spare, out=good)
        if good.all():
            return
        if self._optional is not None:
            np.isnan(block, out=spare)
            np.logical_and(spare, self._optional[:count], out=spare)
            np.logical_or(good, spare, out=good)
            if good.all():
                return
        for column in np.flatnonzero(~good.all(axis=0)).tolist():
            values, bad = block[:, column], ~good[:, column]
            finite = np.isfinite(values)
            self.note(column, "finite", bad & ~finite, row)
            self.note(column, "range", bad & finite, row)

    def note(self, column: int, rule: Rule, bad: NDArray[np.bool_], row: int) -> None:
        """Count rows that break a rule in a column: those of bool[b], whose first is row `row` of the batch."""
        if bad.any():
            self.faults.add_bad(column, rule, bad, row)


def _repeated(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """Values [F] as C-contiguous [rows, F]."""
    if rows == 1:
        return values.reshape(1, -1)
    return np.ascontiguousarray(np.broadcast_to(values, (rows, len(values))))


def _misfits(feature: Feature, values: FloatArray) -> NDArray[np.bool_]:
    """Finite values that are not of the feature's kind, integer or boolean: bool[b]."""
    odd = (values != 0) & (values != 1) if feature.kind == "boolean" else values != np.floor(values)
    return odd & np.isfinite(values)
