"""The CPU transform equals plain Python's and numpy's, for every plan, every row and every layout of the batch."""

import threading
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from kernels.backend import Backend
from kernels.cpu import references, steps
from kernels.cpu.backend import CpuBackend
from kernels.cpu.steps import BLOCK
from kernels.plan.plan import (
    Factor,
    GaussianProcess,
    Input,
    Neighbours,
    Plan,
    PointDistance,
    PolylineDistance,
    References,
    Regression,
    Term,
)
from kernels.plan.program import Program, pack
from kernels.plan.references import AnyReferenceStep
from tests.kernels.plan.by_hand import assert_rounded, by_hand
from tests.kernels.plan.plans import (
    EVERY_REFERENCE,
    EVERY_STEP,
    HARD_ROWS,
    alone,
    california,
    neighbours_of,
    plans,
    processes_of,
    stored,
)


def nearest(*inputs: str, **settings: Any) -> Neighbours:
    return Neighbours(output="n", inputs=inputs, scales=(1.0,) * len(inputs), **settings)


TABLE = stored(EVERY_REFERENCE)
PROGRAMS = [EVERY_STEP.program(), EVERY_REFERENCE.program(TABLE)]
both = pytest.mark.parametrize("program", PROGRAMS, ids=["stateless", "references"])


def test_is_a_backend() -> None:
    assert isinstance(CpuBackend(), Backend)


def too_far(plan: Plan, rows: NDArray[np.float64]) -> bool:
    """Whether some place has so many degrees that their last digits, and not the steps, decide where it is."""
    names = tuple(dict.fromkeys((*plan.input_names, *(step.output for step in plan.steps))))
    columns = dict(zip(names, by_hand(msgspec.structs.replace(plan, outputs=names), rows).T, strict=True))
    places = (step for step in plan.steps if isinstance(step, PointDistance | PolylineDistance))
    degrees = [columns[name] for step in places for name in (step.latitude, step.longitude)]
    return any((np.abs(column[np.isfinite(column)]) > 1e9).any() for column in degrees)


@given(plan=plans(), data=st.data())
def test_equals_plain_python_for_any_plan_and_row(plan: Plan, data: st.DataObject) -> None:
    rows = data.draw(arrays(np.float64, (data.draw(st.integers(0, 5)), len(plan.inputs)), elements=st.floats()))
    assume(not too_far(plan, rows))
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


@settings(max_examples=40)
@given(step=neighbours_of("n", list("abcd")) | processes_of("n", list("abcd")), seed=st.integers(0, 2**32))
def test_equals_numpy_for_any_step_over_stored_rows(step: AnyReferenceStep, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = {name: random.normal(size=100) for name in step.table_names()}
    rows = random.normal(size=(8, len(step.operand_names())))
    rows[4:, 0] = [np.nan, np.inf, -np.inf, 1e9]
    # An attribute can be a coordinate too, and is then one operand.
    names = tuple(dict.fromkeys(step.operand_names()))
    plan = Plan(
        inputs=tuple(Input(name=name) for name in names),
        references=References(rows=100, columns=tuple(columns), steps=(step,)),
        outputs=step.outputs,
    )
    rows, table = rows[:, : len(names)], np.stack(list(columns.values()), axis=1)
    got, expected = CpuBackend().transform(plan.program(table), rows), by_hand(plan, rows, table)
    # Of a Gaussian process of variances and lengths like these, 80 in all and down to 0.05.
    atol = 0.02 if isinstance(step, GaussianProcess) else 1e-5
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=atol)


def test_features_are_those_of_the_plan_s_outputs_in_its_order() -> None:
    rows = california(500)[300:]  # not those that are stored
    got, expected = CpuBackend().transform(PROGRAMS[1], rows), by_hand(EVERY_REFERENCE, rows, TABLE)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert len({column.tobytes() for column in got.T}) == len(EVERY_REFERENCE.outputs)
    turned = Plan(
        inputs=EVERY_REFERENCE.inputs,
        steps=EVERY_REFERENCE.steps,
        references=EVERY_REFERENCE.references,
        outputs=EVERY_REFERENCE.outputs[::-1],
    )
    np.testing.assert_array_equal(CpuBackend().transform(turned.program(TABLE), rows), got[:, ::-1])
    fewer = Plan(
        inputs=EVERY_REFERENCE.inputs,
        steps=EVERY_REFERENCE.steps,
        references=EVERY_REFERENCE.references,
        outputs=("log", "near_nearest"),
    )
    np.testing.assert_array_equal(CpuBackend().transform(fewer.program(TABLE), rows), got[:, [4, 5]])


def test_a_step_that_no_feature_is_of_changes_nothing() -> None:
    plan = Plan(
        inputs=EVERY_REFERENCE.inputs,
        steps=EVERY_REFERENCE.steps,
        references=References(
            rows=300,
            columns=("lat", "target", "weights"),
            steps=(
                Neighbours(output="n", inputs=("lat",), scales=(1.0,), counts=(64,)),
                GaussianProcess(output="g", terms=(term("exponential", "lat"),)),
            ),
        ),
        outputs=("rooms", "coast"),
    )
    bare = Plan(inputs=plan.inputs, steps=plan.steps, outputs=plan.outputs)
    rows = california(5)
    np.testing.assert_array_equal(
        CpuBackend().transform(plan.program(np.ones((300, 3))), rows), CpuBackend().transform(bare.program(), rows)
    )


def test_rows_do_not_find_stored_rows_of_the_label_that_they_exclude() -> None:
    random = np.random.default_rng(8)
    columns = {name: random.normal(size=400) for name in ("a", "b", "target")}
    labels = random.integers(0, 5, 400).astype(np.int32)
    step = nearest("a", "b", counts=(1, 20))
    rows = np.stack([columns["a"], columns["b"]], axis=1)
    got = CpuBackend().transform(alone(step, columns), rows, labels, labels)
    for label in range(5):
        others = {name: column[labels != label] for name, column in columns.items()}
        expected = CpuBackend().transform(alone(step, others), rows[labels == label])
        np.testing.assert_array_equal(got[labels == label], expected)
    assert (got[:, 0] > 0).all()
    every = CpuBackend().transform(alone(step, columns), rows, labels, np.full(400, -1, np.int32))
    np.testing.assert_array_equal(every, CpuBackend().transform(alone(step, columns), rows))
    assert (every[:, 0] == 0).all()


LINE = {name: np.arange(4.0) for name in ("a", "target")}
NONE = np.full(2, -1, np.int32)


@pytest.mark.parametrize("program", [alone(nearest("a"), LINE), PROGRAMS[0]], ids=["references", "stateless"])
@pytest.mark.parametrize(
    ("labels", "excluded"),
    [(None, NONE), (np.zeros(4, np.int32), NONE[:1]), (np.zeros(4, np.int32), np.repeat(NONE, 2))],
    ids=["no labels", "too few", "too many"],
)
def test_refuses_excluded_labels_that_no_row_has_or_no_stored_row(program: Program, labels: Any, excluded: Any) -> None:
    with pytest.raises(ValueError, match="excluded labels must be as many as rows, and go with labels"):
        CpuBackend().transform(program, np.ones((2, program.n_inputs)), labels, excluded)


@pytest.mark.parametrize("count", [0, 3, 5])
@pytest.mark.parametrize("excluded", [None, NONE])
def test_refuses_labels_that_are_not_as_many_as_the_stored_rows(count: int, excluded: Any) -> None:
    with pytest.raises(ValueError, match=f"there must be 4 labels of stored rows, got {count}"):
        CpuBackend().transform(alone(nearest("a"), LINE), np.ones((2, 1)), np.zeros(count, np.int32), excluded)


def test_labels_that_nothing_excludes_change_nothing() -> None:
    program, rows = alone(nearest("a"), LINE), np.array([[0.4], [2.0]])
    got = CpuBackend().transform(program, rows, np.arange(4, dtype=np.int32))
    np.testing.assert_array_equal(got, CpuBackend().transform(program, rows))


def test_points_are_what_reference_steps_read_of_a_row_in_float64() -> None:
    rows = california(50)
    names = ("lat", "rotated", "lon", "standard")  # of the first step: coordinates, then attributes
    plan = Plan(inputs=EVERY_STEP.inputs, steps=EVERY_STEP.steps, outputs=names)
    got = CpuBackend().points(PROGRAMS[1], rows)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, by_hand(plan, rows), rtol=1e-14)
    np.testing.assert_array_equal(got[:, 0], rows[:, 0])
    assert CpuBackend().points(PROGRAMS[0], rows).shape == (50, 0)
    assert CpuBackend().points(PROGRAMS[1], rows[:0]).shape == (0, 4)


def test_points_that_no_reference_step_reads_can_be_asked_for() -> None:
    steps: Any = EVERY_STEP.steps
    program = pack(EVERY_STEP.input_names, steps, ("lon",), points=("coast", "people", "coast"))
    rows = california(20)
    got = CpuBackend().points(program, rows)
    plan = Plan(inputs=EVERY_STEP.inputs, steps=EVERY_STEP.steps, outputs=("coast", "people"))
    np.testing.assert_allclose(got, by_hand(plan, rows), rtol=1e-14)
    np.testing.assert_array_equal(CpuBackend().transform(program, rows)[:, 0], rows[:, 1].astype(np.float32))


def test_points_of_another_number_of_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected .*\(rows, 4\), got \(2, 3\)"):
        CpuBackend().points(PROGRAMS[1], np.zeros((2, 3)))


def term(shape: Any, *inputs: str) -> Term:
    return Term(variance=1.0, factors=(Factor(shape=shape, inputs=inputs, lengths=(1.0,) * len(inputs)),))


@both
@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_rows_do_not_depend_on_the_batch_around_them(count: int, program: Program) -> None:
    rows = california(count)
    rows[1::7, 0] = np.nan
    got = CpuBackend().transform(program, rows)
    assert got.shape == (count, program.n_outputs)
    for index in range(count):
        np.testing.assert_array_equal(got[index], CpuBackend().transform(program, rows[index : index + 1])[0])


@both
def test_takes_any_float_dtype_and_layout(program: Program) -> None:
    rows = california(50).astype(np.float32).astype(np.float64)
    expected = CpuBackend().transform(program, rows)
    wide = np.zeros((100, 8))
    wide[::2, ::2] = rows
    frozen = np.frombuffer(rows.tobytes()).reshape(rows.shape)
    for same in (rows.astype(np.float32), np.asfortranarray(rows), wide[::2, ::2], rows[::-1][::-1], frozen):
        np.testing.assert_array_equal(CpuBackend().transform(program, same), expected)


@both
def test_the_caller_s_array_is_left_as_it_was(program: Program) -> None:
    rows = california(5)
    before = rows.copy()
    CpuBackend().transform(program, rows)
    assert rows.flags.writeable
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5), (1, 2, 4), ()])
def test_refuses_another_number_of_columns(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected .*\(rows, 4\), got "):
        CpuBackend().transform(EVERY_STEP.program(), np.zeros(shape))


def test_another_plan_or_layout_compiles_nothing() -> None:
    kernels = (steps.transform, references.neighbours, references.expansion)
    for program in PROGRAMS:
        CpuBackend().transform(program, california(1))
    compiled = [list(kernel.signatures) for kernel in kernels]
    assert [len(signatures) for signatures in compiled] == [1, 1, 1]
    bare = Plan(inputs=(Input(name="a"),), outputs=("a",))
    CpuBackend().transform(bare.program(), np.ones((3, 1)))
    CpuBackend().transform(bare.program(), np.frombuffer(b"\0" * 8).reshape(1, 1))
    for program in PROGRAMS:
        CpuBackend().transform(program, california(1).astype(np.float32))
        CpuBackend().transform(program, np.empty((0, 4)))
    # Attributes or none, one stored row or several blocks, one coordinate, factor and term or more.
    for count in (1, 65, 300):
        columns = {name: np.arange(count) + 0.5 for name in ("a", "b", "target", "weights")}
        for step in (
            nearest("a"),
            nearest("a", "b", counts=(1,)),
            nearest("a", contrasts=("b", "a"), contrast_counts=(1,)),
            nearest("b", regressions=(Regression(output="r", inputs=("a",), scales=(1.0,), count=1),)),
            GaussianProcess(output="g", terms=(term("exponential", "a"),)),
            GaussianProcess(output="g", terms=(term("matern32", "a", "b"), term("squared_exponential", "b"))),
        ):
            program = alone(step, columns)
            CpuBackend().transform(program, np.ones((2, program.n_inputs)))
            labels, excluded = np.zeros(count, dtype=np.int32), np.zeros(2, dtype=np.int32)
            CpuBackend().transform(program, np.ones((2, program.n_inputs)), labels, excluded)
    assert [list(kernel.signatures) for kernel in kernels] == compiled


@both
def test_threads_at_once_get_the_answers_of_one(program: Program) -> None:
    rows = california(1000)
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
