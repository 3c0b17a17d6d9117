"""The CPU transform equals plain Python's, for every plan, every row and every layout of the batch."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels import cpu
from kernels.backend import Backend
from kernels.cpu import BLOCK_ROWS, CpuBackend
from kernels.plan import Input, Plan
from tests.kernels.plans import EVERY_STEP, HARD_ROWS, assert_rounded, by_hand, california, plans


def test_is_a_backend() -> None:
    assert isinstance(CpuBackend(), Backend)


@settings(max_examples=200)
@given(plan=plans(), data=st.data())
def test_equals_plain_python_for_any_plan_and_row(plan: Plan, data: st.DataObject) -> None:
    rows = data.draw(arrays(np.float64, (data.draw(st.integers(0, 5)), len(plan.inputs)), elements=st.floats()))
    assert_rounded(CpuBackend().transform(plan.program(), rows), by_hand(plan, rows))


def test_every_step_equals_plain_python() -> None:
    rows = california(500)
    assert_rounded(CpuBackend().transform(EVERY_STEP.program(), rows), by_hand(EVERY_STEP, rows))


def test_nan_infinities_and_denormals_come_out_as_in_plain_python() -> None:
    rows = HARD_ROWS[::7]
    assert_rounded(CpuBackend().transform(EVERY_STEP.program(), rows), by_hand(EVERY_STEP, rows))


def test_a_distance_is_nan_exactly_where_a_coordinate_is_not_finite() -> None:
    plan = Plan(inputs=EVERY_STEP.inputs, steps=EVERY_STEP.steps, outputs=("city", "coast"))
    sane = HARD_ROWS[~np.isin(HARD_ROWS, [1e300])[:, :2].any(axis=1)]
    got = CpuBackend().transform(plan.program(), sane)
    nowhere = ~np.isfinite(sane[:, :2]).all(axis=1)
    np.testing.assert_array_equal(np.isnan(got), np.stack([nowhere, nowhere], axis=1))


@pytest.mark.parametrize("count", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS + 5])
def test_rows_do_not_depend_on_the_batch_around_them(count: int) -> None:
    program, rows = EVERY_STEP.program(), california(count)
    got = CpuBackend().transform(program, rows)
    assert got.shape == (count, program.n_outputs)
    for index in range(count):
        np.testing.assert_array_equal(got[index], CpuBackend().transform(program, rows[index : index + 1])[0])


def test_takes_any_float_dtype_and_layout() -> None:
    program = EVERY_STEP.program()
    rows = california(50).astype(np.float32).astype(np.float64)
    expected = CpuBackend().transform(program, rows)
    wide = np.zeros((100, 8))
    wide[::2, ::2] = rows
    frozen = np.frombuffer(rows.tobytes()).reshape(rows.shape)
    for same in (rows.astype(np.float32), np.asfortranarray(rows), wide[::2, ::2], rows[::-1][::-1], frozen):
        np.testing.assert_array_equal(CpuBackend().transform(program, same), expected)


def test_the_caller_s_array_is_left_as_it_was() -> None:
    rows = california(5)
    before = rows.copy()
    CpuBackend().transform(EVERY_STEP.program(), rows)
    assert rows.flags.writeable
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5), (1, 2, 4), ()])
def test_refuses_another_number_of_columns(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected .*\(rows, 4\), got "):
        CpuBackend().transform(EVERY_STEP.program(), np.zeros(shape))


def test_another_plan_or_layout_compiles_nothing() -> None:
    CpuBackend().warm_up()
    compiled = list(cpu._transform.signatures)
    assert len(compiled) == 1
    bare = Plan(inputs=(Input(name="a"),), outputs=("a",))
    CpuBackend().transform(bare.program(), np.ones((3, 1)))
    CpuBackend().transform(bare.program(), np.frombuffer(b"\0" * 8).reshape(1, 1))
    CpuBackend().transform(EVERY_STEP.program(), california(1).astype(np.float32))
    CpuBackend().transform(EVERY_STEP.program(), np.empty((0, 4)))
    assert list(cpu._transform.signatures) == compiled


def test_threads_at_once_get_the_answers_of_one() -> None:
    program, rows = EVERY_STEP.program(), california(2000)
    expected = CpuBackend().transform(program, rows)
    backend, together, right = CpuBackend(), threading.Barrier(4), []

    def work() -> None:
        together.wait()
        right.extend(np.array_equal(backend.transform(program, rows), expected) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 80
