"""A step over a block of rows, or a run of steps on one row, is the row-level function on each of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.cpu.steps import evaluate_block, evaluate_run, run_length
from kernels.plan import opcodes
from kernels.plan.features import evaluate
from tests.kernels.plan.plans import HARD_ROWS, california

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
    assert_step_by_step(op, a, b)


def assert_step_by_step(op: int, a: np.ndarray, b: np.ndarray) -> None:
    width, steps = len(CONSTANTS[op]), 1 if op == opcodes.POLYLINE_DISTANCE else 5
    constants = np.concatenate([np.array(CONSTANTS[op]) + 0.25 * step for step in range(steps)])
    for operands in zip(a, b, strict=True):
        results = np.full(steps, 7.0)
        evaluate_run(op, *operands, constants, np.empty(len(constants)), results)
        expected = [evaluate(op, *operands, constants, step * width, width) for step in range(steps)]
        np.testing.assert_array_equal(results, expected)


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


KINDS = (opcodes.ROTATION, opcodes.CLIP, opcodes.POLYLINE_DISTANCE)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(KINDS), st.tuples(st.integers(0, 1), st.integers(0, 1)), st.integers(1, 2)),
        min_size=1,
        max_size=9,
    ),
    apart=st.sets(st.integers(0, 8)),
)
def test_a_run_is_steps_of_a_kind_that_read_the_same_with_constants_side_by_side(
    steps: list[tuple[int, tuple[int, int], int]], apart: set[int]
) -> None:
    opcode, operands, lengths = zip(*steps, strict=True)
    gaps = [index in apart for index in range(len(steps))]
    offsets = np.cumsum([0, *lengths[:-1]]) + np.cumsum(gaps)
    packed = [np.array(values, dtype=np.int32) for values in (opcode, operands, offsets, lengths)]
    for step, kind in enumerate(steps):
        same = [other == kind and other[0] != opcodes.POLYLINE_DISTANCE for other in steps[step + 1 :]]
        joined = [alike and not gap for alike, gap in zip(same, gaps[step + 1 :], strict=True)]
        expected = 1 + next((index for index, is_joined in enumerate(joined) if not is_joined), len(joined))
        assert run_length(step, *packed) == expected
