"""Batches built block by block; each block is checked against the features' rules while it is in the CPU's cache."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.block_checks import Checks, Limits
from app.codecs.faults import Faults
from app.codecs.filled import check_filled
from app.codecs.gil_yield import GilYield
from app.codecs.rules import LARGEST_WHOLE, FloatArray, check_rows, limits_of
from app.feature import Feature
from kernels.columns import Columns
from kernels.rows import FLOAT64

MOST_FAULTS = 10_000
"""Faults after which the rest of a body is not read: a faulty row can take fifty times as long as a valid one."""
BLOCK_VALUES = 2**15
"""Values in a block: with its limits and results it fits into a CPU's L2 cache, of about 1 MiB."""
MANY_ROWS = 512
"""Rows from which on it pays to copy columns by a kernel, which takes a microsecond for each to find its address."""
WIDE_ROWS, WIDE_VALUES = 128, 2**20
"""Rows of a block of a table of thousands of columns, unless these are more values: each column of a block takes some
microseconds, so that single rows would take as long as 100."""


class BatchBuilder:
    """Collects and checks the rows of a batch.

    Args:
        features: The columns, in the model's order.
        max_rows: Most rows allowed.
        capacity: Most valid rows that the body has room for; memory is kept for these only.
        kinds: Whether integer and boolean features are checked for other numbers.
        faults: Faults found before.
        limits: Gives the least and greatest value of a feature.
        size: Bytes of the body, where its rows may lack columns: the `add` methods raise TooLarge for too many.
        pauses: Whether it pauses between pieces of work, for the event loop of this process.

    Attributes:
        features: The columns.
        block_rows: Rows of a block.
        rows: Number of rows added.
        faults: Faults found so far.
        yield_gil: Called between pieces of work.
    """

    def __init__(
        self,
        features: tuple[Feature, ...],
        max_rows: int,
        capacity: int | None = None,
        *,
        kinds: bool = False,
        faults: Faults | None = None,
        limits: Limits = limits_of,
        size: int | None = None,
        pauses: bool = True,
    ) -> None:
        self.block_rows = block_rows(features)
        self.rows = 0
        self.yield_gil: Callable[[], None] = GilYield() if pauses else lambda: None
        self.features = features
        self._max_rows = max_rows
        self._size = size
        self._capacity = max_rows if capacity is None else min(max_rows, capacity)
        self._matrix = np.empty((self._capacity, len(features)))
        rows = max(1, min(self.block_rows, max_rows))
        self._checks = Checks(features, rows, kinds=kinds, faults=faults, limits=limits)
        self.faults = self._checks.faults

    def add_columns(self, columns: Sequence[NDArray[np.generic] | None]) -> None:
        """Add rows by column.

        Args:
            columns: Values [b] of each feature in the model's order, codes where it is a category. None is a column of
                missing values; at least one column is not None.
        """
        count = max(len(column) for column in columns if column is not None)
        if count >= MANY_ROWS and (plain := _plain(columns)):
            self._add_plain(plain, count)
            return
        for start in range(0, count, self.block_rows):
            parts = [None if column is None else column[start : start + self.block_rows] for column in columns]
            block = self._next(next(len(part) for part in parts if part is not None))
            with np.errstate(all="ignore"):  # casting a signaling NaN warns
                for index, part in enumerate(parts):
                    block[:, index] = np.nan if part is None else part
                    if part is not None and is_long(part.dtype) and self.features[index].kind == "integer":
                        keep_beyond(block[:, index], part)
            self._end(block)

    def _add_plain(self, columns: Columns, count: int) -> None:
        """Add rows by columns of float64[count]."""
        for start in range(0, count, self.block_rows):
            block = self._next(min(self.block_rows, count - start))
            self._end(block, within=columns.fill(block, start, *self._checks.limits))

    def add_rows(self, rows: NDArray[np.generic]) -> None:
        """Add rows [b, F], features in the model's order, with codes in the columns of categories."""
        exact = [index for index, feature in enumerate(self.features) if feature.kind == "integer"]
        exact = exact if is_long(rows.dtype) else []
        for start in range(0, len(rows), self.block_rows):
            part = rows[start : start + self.block_rows]
            block = self._next(len(part))
            with np.errstate(all="ignore"):
                block[:] = part
            for index in exact:
                keep_beyond(block[:, index], part[:, index])
            self._end(block)

    def note_unseen(self, column: int, unseen: NDArray[np.bool_], row: int) -> None:
        """Count values that are no categories, bool[b] from row `row` of the batch, if their feature refuses them."""
        if self.features[column].unseen == "refuse":
            self._checks.note(column, "category", unseen, row)

    def matrix(self) -> FloatArray:
        """All rows, float64[B, F].

        Raises:
            InvalidInput: Rows have faults.
        """
        self.faults.check(self.rows)
        return self._matrix[: self.rows]

    def _next(self, count: int) -> FloatArray:
        check_rows(self.rows + count, self._max_rows)
        if self._size is not None:
            check_filled(self.rows + count, len(self.features), self._size)
        if self.rows + count > self._capacity:
            return np.empty((count, len(self.features)))
        return self._matrix[self.rows : self.rows + count]

    def _end(self, block: FloatArray, *, within: bool = False) -> None:
        self._checks.check(block, self.rows, within=within)
        for column in self._checks.single:
            _round(block[:, column])
        self.rows += len(block)
        if self.faults.noted > MOST_FAULTS:
            self.faults.check(self.rows)
        self.yield_gil()


def block_rows(features: tuple[Feature, ...]) -> int:
    """Rows of a block."""
    columns = max(1, len(features))
    return max(1, BLOCK_VALUES // columns, min(WIDE_ROWS, WIDE_VALUES // columns))


def _plain(columns: Sequence[NDArray[np.generic] | None]) -> Columns | None:
    """Columns that a kernel can copy: all are there, float64 and contiguous."""
    plain: list[Any] = [one for one in columns if one is not None and one.dtype == FLOAT64 and one.flags.c_contiguous]
    return Columns(plain) if len(plain) == len(columns) else None


def is_long(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is of whole numbers that float64 may round."""
    return dtype.kind in "iu" and dtype.itemsize == 8


def keep_beyond(values: FloatArray, whole: NDArray[Any]) -> None:
    """Keep integers beyond 2^53 out of range, which float64 may round to 2^53.

    Args:
        values: float64[b], changed in place.
        whole: The same column, int64[b] or uint64[b].
    """
    at_end = np.flatnonzero(np.abs(values) == LARGEST_WHOLE)
    for row in at_end[[abs(int(number)) != LARGEST_WHOLE for number in whole[at_end].tolist()]].tolist():
        values[row] = math.copysign(LARGEST_WHOLE + 2, values[row])


def _round(values: FloatArray) -> None:
    """Round values to float32 in place. Faulty ones, of which there may be any, stay or become infinite."""
    with np.errstate(over="ignore"):
        values[:] = values.astype(np.float32)
