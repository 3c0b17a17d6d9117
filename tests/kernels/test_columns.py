"""Columns are copied into rows as NumPy does, and a value beyond its limits is noticed wherever it stands."""

import numpy as np
import pytest

from kernels.columns import TILE_ROWS, TILE_VALUES, Columns

WIDE = TILE_VALUES // TILE_ROWS


def table(rows: int, width: int) -> list[np.ndarray]:
    return [np.random.default_rng(column).normal(size=rows) for column in range(width)]


def limits(width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(width, -10.0), np.full(width, 10.0)


@pytest.mark.parametrize("width", [1, 8, WIDE, WIDE + 1])
@pytest.mark.parametrize("rows", [1, TILE_ROWS, TILE_ROWS + 1])
def test_rows_are_those_of_the_columns(rows: int, width: int) -> None:
    columns, found = table(rows + 5, width), np.full((rows, width), np.nan)
    assert Columns(columns).fill(found, 3, *limits(width))
    assert (found == np.stack(columns, axis=1)[3 : 3 + rows]).all()


def test_tiles_follow_each_other() -> None:
    rows = TILE_VALUES + 1
    columns, found = table(rows, 3), np.full((rows, 3), np.nan)
    assert Columns(columns).fill(found, 0, *limits(3))
    assert (found == np.stack(columns, axis=1)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 10.000001, -10.000001])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (TILE_VALUES, 0), (TILE_VALUES, 2)])
def test_a_value_beyond_its_limits_is_noticed(value: float, row: int, column: int) -> None:
    columns = table(TILE_VALUES + 1, 3)
    found = np.empty((TILE_VALUES + 1, 3))
    columns[column][row] = value
    assert not Columns(columns).fill(found, 0, *limits(3))
    assert np.array_equal(found, np.stack(columns, axis=1), equal_nan=True)


def test_limits_are_each_columns_own_and_belong_to_it() -> None:
    columns = [np.array([1.0]), np.array([5.0])]
    assert Columns(columns).fill(np.empty((1, 2)), 0, np.array([1.0, 5.0]), np.array([1.0, 5.0]))
    assert not Columns(columns).fill(np.empty((1, 2)), 0, np.array([5.0, 1.0]), np.array([5.0, 5.0]))


def test_a_column_that_is_not_contiguous_is_copied() -> None:
    found = np.empty((5, 1))
    assert Columns([np.arange(10.0)[::2]]).fill(found, 0, *limits(1))
    assert found[:, 0].tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("start", "rows"), [(-1, 1), (3, 1), (0, 4)])
def test_rows_that_the_columns_do_not_have_are_refused(start: int, rows: int) -> None:
    with pytest.raises(ValueError, match="rows"):
        Columns(table(3, 2)).fill(np.empty((rows, 2)), start, *limits(2))


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="as many rows"):
        Columns([np.zeros(3), np.zeros(2)])
