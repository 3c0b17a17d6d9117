"""A compiled function finds arrays in a table, and they live as long as it."""

import copy
import gc
import pickle

import numpy as np
import pytest
from numba import njit, types

from kernels.addresses import ARRAY_WORDS, AddressTable, array_at

_numbers = array_at(types.float64, 1)
_rows = array_at(types.int32, 2)


@njit
def found(table):
    numbers, rows = _numbers(table, 1), _rows(table, 1 + ARRAY_WORDS)
    return numbers.sum(), len(numbers), rows.shape, rows[-1, 0], rows[0, -1], table[0]


def test_arrays_are_found_when_their_owners_are_gone() -> None:
    table = AddressTable()
    table.add(7, np.arange(5.0), np.arange(6, dtype=np.int32).reshape(2, 3))
    gc.collect()
    [np.full(size, 99.0) for size in range(1, 2000)]  # what was freed is written over
    assert found(table.words()) == (10.0, 5, (2, 3), 3, 2, 7)


def test_an_array_of_another_layout_is_laid_out_anew() -> None:
    table = AddressTable()
    table.add(0, np.arange(10.0)[::2], np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)))
    assert found(table.words()) == (20.0, 5, (2, 3), 3, 2, 0)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_table_has_no_copy(copied) -> None:
    with pytest.raises(TypeError, match="no copy"):
        copied(AddressTable())
