"""A step over a block of rows is the row-level function on each of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels import opcodes
from kernels.block import evaluate_block
from kernels.features import evaluate
from tests.kernels.plans import HARD_ROWS, california

CONSTANTS = {
    opcodes.RATIO: (),
    opcodes.PRODUCT: (),
    opcodes.LOG: (1.0,),
    opcodes.CLIP: (0.5, 4.0),
    opcodes.STANDARDISE: (2.0, 0.5),
    opcodes.ROTATION: (0.8, 0.6),
    opcodes.POINT_DISTANCE: (37.8, -122.4),
    opcodes.POLYLINE_DISTANCE: (37.8, -122.5, 36.6, -121.9, 36.6, -121.9, 34.4, 179.0, 32.7, 182.0),
    99: (1.0, 2.0),
}
every_operation = pytest.mark.parametrize("op", CONSTANTS)


def assert_row_by_row(op: int, a: np.ndarray, b: np.ndarray) -> None:
    constants = np.array(CONSTANTS[op])
    result = np.full(len(a), 7.0)
    evaluate_block(op, a, b, constants, np.empty(len(a)), result)
    expected = [evaluate(op, *operands, constants, 0, len(constants)) for operands in zip(a, b, strict=True)]
    np.testing.assert_array_equal(result, expected)


@every_operation
def test_ordinary_rows(op: int) -> None:
    rows = california(131)
    assert_row_by_row(op, rows[:, 0].copy(), rows[:, 1].copy())


@every_operation
def test_nan_infinities_and_denormals(op: int) -> None:
    rows = np.unique(HARD_ROWS[:, :2], axis=0)
    assert_row_by_row(op, rows[:, 0].copy(), rows[:, 1].copy())


@every_operation
@given(rows=arrays(np.float64, st.tuples(st.just(2), st.integers(0, 9)), elements=st.floats()))
def test_any_rows(op: int, rows: np.ndarray) -> None:
    assert_row_by_row(op, *rows)
