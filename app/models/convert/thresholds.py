"""Thresholds on a raw column in place of those on what is computed from it.

A step that is monotone in one number keeps the order of its values, also after rounding. So there is a largest float
that goes the same way as all below it, and comparing with that is the node's test exactly.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.models.convert.node_test import NodeTest, goes_left
from app.models.convert.steps_output import StepsOutput

SIGN = np.int64(-(2**63))
EXACT = 2**53
"""Whole numbers up to it are exact in float64."""

PARTS = np.uint64(16)
"""Parts that a range of floats is divided into at a time. The steps cost much for a call, and little for a row."""


class RawTest(NamedTuple):
    """The test of a raw number that goes the ways that a node's test of an output goes.

    Attributes:
        threshold: Largest number that goes the way of small ones.
        swapped: Whether small numbers go right, so that the children must be swapped.
        missing_left: Whether a missing value goes left, before any swap.
    """

    threshold: float
    swapped: bool
    missing_left: bool


def raw_tests(
    tests: list[NodeTest], columns: list[int], dtypes: list[np.dtype[Any]], output: StepsOutput
) -> list[RawTest]:
    """Test of the raw column for each test of an output, none of which asks for categories or takes zero as missing.

    Args:
        tests: Tests of the steps' outputs.
        columns: Raw column of each test.
        dtypes: Type of each raw column of the model, as the pipeline is asked with it.
        output: The steps.

    Raises:
        Exception: A step refuses a value; the exception is its own.
    """
    queries = _Queries(tests, columns, dtypes, output)
    ends = [_ends(dtypes[column]) for column in columns]
    low, high = (np.array(side, np.int64) for side in zip(*ends, strict=True))
    small, large = queries.left(low[:, None])[:, 0], queries.left(high[:, None])[:, 0]
    # Where both ends go the same way, every number does.
    constant = small == large
    low[constant] = high[constant] - 1
    while (span := (high - low).view(np.uint64)).max() > 1:  # the difference is right as an unsigned number
        steps = np.maximum(span // PARTS, 1)[:, None] * np.arange(1, PARTS, dtype=np.uint64)
        offsets = np.minimum(steps, np.maximum(span, 1)[:, None] - 1)
        keys = low[:, None] + offsets.view(np.int64)
        # The keys ascend, so those that go the way of small ones come first.
        n_small = (queries.left(keys) == small[:, None]).sum(axis=1)
        bounds = np.column_stack([low, keys, high])
        each = np.arange(len(low))
        low, high = bounds[each, n_small], bounds[each, n_small + 1]
    thresholds = np.where(constant, np.inf, queries.values(low))
    missing = queries.missing_left()
    return [
        RawTest(float(threshold), not left, bool(left_missing))
        for threshold, left, left_missing in zip(thresholds, small, missing, strict=True)
    ]


class _Queries:
    """The tests asked all at once, each with values of its own."""

    def __init__(
        self, tests: list[NodeTest], columns: list[int], dtypes: list[np.dtype[Any]], output: StepsOutput
    ) -> None:
        self._output = output
        self._dtypes = dtypes
        self._features = np.array([test.feature for test in tests])[:, None]
        self._thresholds = np.array([test.threshold for test in tests])[:, None]
        self._decisions = np.array([test.decision for test in tests], np.int64)[:, None]
        self._of_column = {column: np.flatnonzero(np.array(columns) == column) for column in dict.fromkeys(columns)}
        self._whole = np.array([dtypes[column].kind in "iub" for column in columns])
        # Each column gives its tests' values from the first row on.
        self._places = np.zeros(len(tests), np.intp)
        for places in self._of_column.values():
            self._places[places] = np.arange(len(places))

    def values(self, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """Number of each key, of one or of several for each test."""
        whole = self._whole if keys.ndim == 1 else self._whole[:, None]
        return np.where(whole, keys.astype(np.float64), _floats(keys))

    def left(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each test sends its keys' numbers left, bool[N, M] of int64[N, M]."""
        width = keys.shape[1]
        n = (int(self._places.max()) + 1) * width
        numbers = self.values(keys)
        given: dict[int, object] = {}
        for column, places in self._of_column.items():
            padded = np.full(n, numbers[places[0], 0])
            padded[: len(places) * width] = numbers[places].ravel()
            with np.errstate(over="ignore"):
                given[column] = pd.Series(padded.astype(self._dtypes[column]))
        rows = self._places[:, None] * width + np.arange(width)
        found = self._output.compute(given, n)[rows, self._features]
        return goes_left(found, self._thresholds, self._decisions)

    def missing_left(self) -> NDArray[np.bool_]:
        """Whether each test sends a missing value left, bool[N]."""
        given: dict[int, object] = {}
        for column in self._of_column:
            dtype = self._dtypes[column]
            given[column] = pd.Series(np.full(1, np.nan, dtype if dtype.kind == "f" else np.float64))
        found = self._output.compute(given, 1)[0, self._features]
        return goes_left(found, self._thresholds, self._decisions)[:, 0]


def _ends(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Keys of the least and the greatest number of a column."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return max(int(limits.min), -EXACT), min(int(limits.max), EXACT)
    greatest = int(np.array(float(np.finfo(dtype).max)).view(np.int64))
    return -greatest, greatest


def _floats(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """Float of each key: keys are in the order of the floats, without gaps, and zero is zero's."""
    return np.where(keys < 0, -keys | SIGN, keys).view(np.float64)
