"""A forest over few rows in one compiled call, by either of the kernels for few rows."""

from functools import partial
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from kernels.addresses import AddressTable, array_at
from kernels.forest.choice import Evaluate
from kernels.forest.evaluators import quickscorer, traversal
from kernels.forest.status import RowKernel

QUICKSCORER, TRAVERSAL = range(2)
"""The first word of a kernel in a table; its arguments before the rows follow."""

RowKernelCall = tuple[RowKernel, tuple[NDArray[Any] | int, ...]]
"""A kernel for few rows, and its arguments before the rows."""

_int32s = array_at(types.int32, 1)
_int32_rows = array_at(types.int32, 2)
_uint32s = array_at(types.uint32, 1)
_uint64s = array_at(types.uint64, 1)
_uint64_rows = array_at(types.uint64, 2)
_float64s = array_at(types.float64, 1)


def add_kernel(table: AddressTable, call: RowKernelCall) -> None:
    """Append a kernel and its arguments to a table."""
    kernel, arguments = call
    table.add(TRAVERSAL if kernel == "traversal" else QUICKSCORER, *arguments)


class FewRows:
    """A kernel made ready to be called. Safe to use from several threads at once.

    Attributes:
        predict: Raw scores float64[B, K], the second argument, of rows float64[B, F]; both are C-contiguous and
            writable. To be called only as long as this object lives, which keeps the arrays.
    """

    def __init__(self, call: RowKernelCall) -> None:
        self._addresses = AddressTable()
        add_kernel(self._addresses, call)
        self.predict: Evaluate = partial(predict, self._addresses.words(), 0)


@njit(nogil=True, cache=True, error_model="numpy")
def predict(table, place, rows, out):
    """Raw scores by the kernel that stands in a table from a word on.

    Args:
        table: int64.
        place: int64, the kernel's first word.
        rows: float64[B, F].
        out: float64[B, K], written.

    Returns the word after the kernel's last one.
    """
    columns = _int32_rows(table, place + 1)
    thresholds = _float64s(table, place + 4)
    sets = _uint32s(table, place + 7)
    if table[place] == TRAVERSAL:
        words, starts = _uint64s(table, place + 10), _uint32s(table, place + 13)
        n_places, n_trees = table[place + 16], table[place + 17]
        work = np.empty(traversal.work_words(n_places, n_trees), dtype=np.uint64)
        traversal.predict(columns, thresholds, sets, words, starts, n_places, n_trees, work, rows, out)
        return place + 18
    checkpoints = _uint64_rows(table, place + 16)
    work = np.empty(checkpoints.shape[1] + 2 * columns.shape[0], dtype=np.uint64)
    quickscorer.predict(
        columns, thresholds, sets, _int32s(table, place + 10), _uint64_rows(table, place + 13), checkpoints,
        _int32s(table, place + 19), table[place + 22], _int32s(table, place + 23), _float64s(table, place + 26), work,
        rows, out,
    )  # fmt: skip
    return place + 29
