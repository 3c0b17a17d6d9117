"""Every step is computed on every target, and a block of rows or a run of steps gives what each row alone does."""

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.plan.operations import ALONE, OPCODES, OPERATIONS, evaluate, evaluate_block, evaluate_run, n_constants
from kernels.plan.plan import Step
from kernels.plan.steps import Standardise
from tests.kernels.plan.by_hand import FORMULAS
from tests.kernels.plan.plans import EVERY_STEP, HARD_ROWS, california

UNKNOWN = 99
CONSTANTS = {OPCODES[type(step)]: step.constants() for step in EVERY_STEP.steps} | {UNKNOWN: (1.0, 2.0)}
every_operation = pytest.mark.parametrize("op", CONSTANTS)


def assert_row_by_row(op: int, a: np.ndarray, b: np.ndarray) -> None:
    constants = np.array(CONSTANTS[op])
    result = np.full(len(a), 7.0)
    evaluate_block(op, a, b, constants, np.empty(len(a)), result)
    expected = [evaluate(op, *operands, constants, 0, len(constants)) for operands in zip(a, b, strict=True)]
    np.testing.assert_array_equal(result, expected)
    assert_step_by_step(op, a, b)


def assert_step_by_step(op: int, a: np.ndarray, b: np.ndarray) -> None:
    width, steps = len(CONSTANTS[op]), 1 if op in ALONE else 5
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


def test_every_step_of_a_plan_is_in_the_table_and_in_the_tests() -> None:
    steps = set(get_args(Step))
    assert steps == set(OPCODES)
    assert len(OPERATIONS) == len(OPCODES)
    # By these the CPU's backend is tested, and CUDA's kernels in the simulator and on a device.
    assert steps == {type(step) for step in EVERY_STEP.steps} == set(FORMULAS)


@every_operation
def test_every_operation_is_computed_by_row_block_and_run(op: int) -> None:
    row = california(1)[0]
    constants = np.array(CONSTANTS[op])
    block, run = np.full(1, 7.0), np.full(1, 7.0)
    one = evaluate(op, row[0], row[1], constants, 0, len(constants))
    evaluate_block(op, row[:1], row[1:2], constants, np.empty(1), block)
    evaluate_run(op, row[0], row[1], constants, np.empty(len(constants)), run)
    assert math.isnan(one) == (op == UNKNOWN)
    np.testing.assert_array_equal([one, one], [block[0], run[0]])


@pytest.mark.parametrize("step", EVERY_STEP.steps, ids=lambda step: step.op)
def test_a_step_has_the_constants_that_its_function_reads(step: Step) -> None:
    operation = OPERATIONS[OPCODES[type(step)]]
    if operation.run is None:
        assert len(step.constants()) == n_constants(operation)


def test_a_step_reads_its_own_stretch_of_the_pool() -> None:
    pool = np.array([9.0, 9.0, 3.0, 2.0, 9.0])
    assert evaluate(OPCODES[Standardise], 7.0, math.nan, pool, 2, 2) == 2.0
