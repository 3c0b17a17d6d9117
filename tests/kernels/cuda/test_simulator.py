"""The CUDA kernels, run by numba's simulator, agree with the CPU: bit for bit but for sums of covariances."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from kernels.backend import Backend
from kernels.cpu.backend import CpuBackend
from kernels.cuda import availability
from kernels.cuda import backend as cuda
from kernels.cuda.pairing import pairs
from kernels.plan import neighbours
from kernels.plan.gaussian_process import MAX_FACTOR_COLUMNS
from kernels.plan.neighbours import MAX_ATTRIBUTES, MAX_COORDINATES, MAX_NEIGHBOURS, MAX_REGRESSIONS
from kernels.plan.plan import Factor, GaussianProcess, Input, Neighbours, Plan, Regression, Term
from kernels.plan.program import Program, pack
from kernels.plan.references import AnyReferenceStep
from tests.kernels.cuda.simulator import IN_SIMULATOR, simulated_backend, simulator
from tests.kernels.plan.plans import EVERY_REFERENCE, EVERY_STEP, HARD_ROWS, california, plans, stored

pytestmark = IN_SIMULATOR


@pytest.fixture(scope="module")
def backend() -> Iterator[cuda.CudaBackend]:
    with simulator() as patch:
        from kernels.cuda import references as cuda_references

        # Of few rows, so that there are many, and neither they nor groups within them are all full.
        patch.setattr(cuda_references, "TILE_ROWS", 8)
        # Two blocks of four threads: batches above eight rows make the threads stride. Chunks of nine rows, by turns.
        yield simulated_backend(threads_per_block=4, min_blocks=1, max_blocks=2, chunk_rows=9)


def test_is_a_backend(backend: cuda.CudaBackend) -> None:
    assert isinstance(backend, Backend)
    assert backend.name == "cuda"
    assert backend.device == "Simulated GPU"


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 30])
def test_every_step_agrees_for_any_batch_size(backend: cuda.CudaBackend, count: int) -> None:
    program, rows = EVERY_STEP.program(), california(count)
    got = backend.transform(program, rows)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, CpuBackend().transform(program, rows))


@pytest.mark.parametrize("stride", [111, pytest.param(37, marks=pytest.mark.slow)])
def test_nan_infinities_and_denormals_agree(backend: cuda.CudaBackend, stride: int) -> None:
    program, rows = EVERY_STEP.program(), HARD_ROWS[::stride]
    np.testing.assert_array_equal(backend.transform(program, rows), CpuBackend().transform(program, rows))


@settings(max_examples=15)
@given(plan=plans())
def test_any_plan_agrees(backend: cuda.CudaBackend, plan: Plan) -> None:
    rows = np.random.default_rng(1).uniform(-89, 89, (5, len(plan.inputs)))
    program = plan.program()
    np.testing.assert_array_equal(backend.transform(program, rows), CpuBackend().transform(program, rows))


def test_a_smaller_batch_and_another_plan_see_nothing_of_the_last(backend: cuda.CudaBackend) -> None:
    bare = Plan(inputs=(Input(name="a"),), outputs=("a",))
    backend.transform(EVERY_STEP.program(), california(20))
    np.testing.assert_array_equal(backend.transform(bare.program(), np.ones((2, 1))), np.ones((2, 1)))
    program, rows = EVERY_STEP.program(), california(2)
    np.testing.assert_array_equal(backend.transform(program, rows), CpuBackend().transform(program, rows))


def test_takes_any_float_dtype_and_layout(backend: cuda.CudaBackend) -> None:
    rows = california(6).astype(np.float32)
    expected = CpuBackend().transform(EVERY_STEP.program(), rows)
    for same in (rows, np.asfortranarray(rows), np.frombuffer(rows.tobytes(), np.float32).reshape(rows.shape)):
        np.testing.assert_array_equal(backend.transform(EVERY_STEP.program(), same), expected)


def test_refuses_another_number_of_columns(backend: cuda.CudaBackend) -> None:
    with pytest.raises(ValueError, match=r"expected .*\(rows, 4\), got "):
        backend.transform(EVERY_STEP.program(), np.zeros((2, 3)))


NAMES = ("a", "b", "c", "d")
STORED = 43


def near(output: str, **changes: Any) -> Neighbours:
    regressions = (
        Regression(output="r", inputs=("c", "d"), scales=(0.5, 2.0), count=9),
        Regression(output="s", inputs=("d",), scales=(1.0,), count=6, ridge=0.01),
    )
    settings = {"inputs": ("a", "b"), "scales": (1.0, 2.0), "counts": (1, 5), "regressions": regressions}
    return Neighbours(output=output, **(settings | {"contrasts": ("d", "a"), "contrast_counts": (2, 7)} | changes))


def process(output: str, *, weights: str = "weights", length: float = 1.0) -> GaussianProcess:
    terms = (
        Term(
            variance=0.7,
            factors=(
                Factor(shape="matern32", inputs=("a", "b"), lengths=(length, 2.0)),
                Factor(shape="exponential", inputs=("c",), lengths=(3.0,)),
            ),
        ),
        Term(variance=0.2, factors=(Factor(shape="squared_exponential", inputs=NAMES, lengths=(1.0, 2.0, 3.0, 4.0)),)),
    )
    return GaussianProcess(output=output, terms=terms, weights=weights)


def program(steps: Sequence[AnyReferenceStep], n_stored: int = STORED, digits: int = 9) -> Program:
    """Of reference steps over four inputs and a product of two; all of their outputs, before and after an input."""
    random = np.random.default_rng(2)
    table = {name: random.normal(size=n_stored).round(digits) for name in (*NAMES, "target", "weights", "others")}
    outputs = [name for step in steps for name in step.outputs]
    return pack(NAMES, (), (*outputs[1:], "c", outputs[0]), steps, table)


def rows_near(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(3).normal(size=(count, len(NAMES)))


def assert_agrees(
    backend: cuda.CudaBackend, program: Program, rows: NDArray[np.floating], means: Sequence[int] = ()
) -> None:
    """Columns `means` are sums of covariances and agree to 1e-5, the others are the same."""
    got, expected = backend.transform(program, rows), CpuBackend().transform(program, rows)
    assert got.dtype == np.float32
    exact = np.ones(program.n_outputs, dtype=bool)
    exact[list(means)] = False
    np.testing.assert_array_equal(got[:, exact], expected[:, exact])
    # The sums have terms of both signs, so what they are near to is their terms and not each other.
    np.testing.assert_allclose(got[:, ~exact], expected[:, ~exact], rtol=1e-5, atol=1e-5)


def means_of(program: Program) -> list[int]:
    return [int(step.columns[0]) for step in program.references if not isinstance(step, neighbours.NeighbourArrays)]


STEPS: dict[str, tuple[AnyReferenceStep, ...]] = {
    "neighbours": (near("n"),),
    "a process": (process("p"),),
    "both": (near("n"), process("p")),
    "two searches and a process": (near("n"), process("p"), near("m", inputs=("d",), scales=(3.0,), counts=(2,))),
    "a search and two processes": (process("p"), near("n"), process("q", weights="others", length=0.5)),
    "a search without regressions": (near("n", regressions=()),),
    "a search without contrasts": (near("n", contrasts=(), contrast_counts=()),),
    "a search without attributes": (near("n", regressions=(), contrasts=(), contrast_counts=()),),
    "a search for the nearest alone": (near("n", counts=(), regressions=(), contrasts=(), contrast_counts=()),),
}


SHORT = ("a process", "a search for the nearest alone")
"""Steps that `just test` tries."""


@pytest.mark.parametrize(
    "steps",
    [pytest.param(steps, id=name, marks=[] if name in SHORT else pytest.mark.slow) for name, steps in STEPS.items()],
)
def test_any_reference_steps_agree(backend: cuda.CudaBackend, steps: tuple[AnyReferenceStep, ...]) -> None:
    made = program(steps)
    assert_agrees(backend, made, rows_near(10), means_of(made))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 21])
def test_reference_steps_agree_for_any_batch_size(backend: cuda.CudaBackend, count: int) -> None:
    made = program(STEPS["both"])
    assert_agrees(backend, made, rows_near(count), means_of(made))


@pytest.mark.parametrize("n_stored", [9, 12, 15, 16, 17, 70])
def test_any_number_of_stored_rows_agrees(backend: cuda.CudaBackend, n_stored: int) -> None:
    made = program(STEPS["both"], n_stored)
    assert_agrees(backend, made, rows_near(5), means_of(made))


def test_reference_steps_on_stateless_ones_agree(backend: cuda.CudaBackend) -> None:
    made = EVERY_REFERENCE.program(stored(EVERY_REFERENCE))
    assert_agrees(backend, made, california(6), means_of(made))


def test_equally_near_rows_are_the_table_s_first(backend: cuda.CudaBackend) -> None:
    step = near("n", counts=(1, 2, 4, 8))
    assert_agrees(backend, program([step], digits=0), np.concatenate([rows_near(6).round(0), np.zeros((2, 4))]))
    alike = {name: np.zeros(STORED) for name in NAMES} | {"target": np.arange(float(STORED))}
    made = pack(NAMES, (), ("n_mean_4", "n_median_8"), [step], alike)
    np.testing.assert_array_equal(backend.transform(made, rows_near(2)), [[1.5, 3.5]] * 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_agrees(backend: cuda.CudaBackend, bad: float) -> None:
    rows = rows_near(9)
    rows[np.arange(5), [0, 1, 2, 3, 0]] = bad
    rows[4] = bad
    made = program(STEPS["both"])
    expected = CpuBackend().transform(made, rows)
    assert np.isnan(expected[:5, means_of(made)]).all()
    assert np.isnan(expected[[0, 1, 4], 0]).all()
    assert np.isfinite(expected[5:]).all()
    assert_agrees(backend, made, rows, means_of(made))


@pytest.mark.parametrize("far", [1e6, -1e12, 1e25, 1e100])
def test_rows_far_from_all_stored_ones_agree(backend: cuda.CudaBackend, far: float) -> None:
    rows = rows_near(4)
    rows[[0, 1, 2], [0, 1, 3]] = far
    made = program(STEPS["both"])
    assert_agrees(backend, made, rows, means_of(made))


def test_a_covariance_that_vanishes_is_zero_however_large_its_polynomial(backend: cuda.CudaBackend) -> None:
    factor = Factor(shape="matern32", inputs=("a",), lengths=(1e-6,))
    steps = [GaussianProcess(output="p", terms=(Term(variance=1.0, factors=(factor,) * 8),), constant=0.0)]
    np.testing.assert_array_equal(backend.transform(program(steps), rows_near(3))[:, -1], np.zeros(3))


def test_the_largest_steps_agree(backend: cuda.CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.cuda import references as cuda_references

    # As they are for a device, but for fewer than two tiles of either.
    monkeypatch.setattr(cuda_references, "TILE_ROWS", 128)
    names = tuple(f"x{index}" for index in range(MAX_COORDINATES))
    shared = {"output": "p", "weights": "weights"}
    factor = Factor(shape="exponential", inputs=names, lengths=(3.0,) * MAX_COORDINATES)
    whole = MAX_FACTOR_COLUMNS // MAX_COORDINATES
    steps = (
        Neighbours(
            output="n",
            inputs=names,
            scales=(1.0,) * MAX_COORDINATES,
            counts=(MAX_NEIGHBOURS - 1, MAX_NEIGHBOURS),
            contrasts=names,
            contrast_counts=(MAX_NEIGHBOURS,),
            regressions=tuple(
                Regression(output=name, inputs=names, scales=(2.0,) * MAX_ATTRIBUTES, count=MAX_NEIGHBOURS)
                for name in names[:MAX_REGRESSIONS]
            ),
        ),
        GaussianProcess(terms=tuple(Term(variance=1.0, factors=(factor,)) for _ in range(whole)), **shared),
    )
    random = np.random.default_rng(4)
    table = {name: random.normal(size=80) for name in (*names, "target", "weights")}
    made = pack(names, (), (*steps[0].outputs, "p"), steps, table)
    assert_agrees(backend, made, random.normal(size=(2, len(names))), means_of(made))


def test_a_step_that_makes_no_feature_is_not_computed(backend: cuda.CudaBackend) -> None:
    table = {name: np.arange(9.0) for name in (*NAMES, "target", "weights")}
    launched = [near("n"), process("p"), near("m"), process("q")]
    made = pack(NAMES, (), ("m_nearest", "a"), launched, table)
    assert_agrees(backend, made, rows_near(5))
    assert len(list(pairs(made))) == 1
    assert len(list(pairs(pack(NAMES, (), ("a",), launched, table)))) == 0


def test_a_search_and_a_process_share_a_launch() -> None:
    launches = {name: len(list(pairs(program(steps)))) for name, steps in STEPS.items()}
    assert launches["both"] == 1
    assert launches["two searches and a process"] == launches["a search and two processes"] == 2


def test_stored_rows_stay_on_the_device(backend: cuda.CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    made, sent = program(STEPS["both"]), []
    to_device: Callable[..., Any] = backend._cuda.to_device
    monkeypatch.setattr(backend._cuda, "to_device", lambda array: sent.append(array) or to_device(array))
    backend.transform(made, rows_near(2))
    assert any(array is made.references[0].target for array in sent)
    sent.clear()
    backend.transform(made, rows_near(3))
    assert sent == []


def test_plans_with_and_without_references_follow_one_another(backend: cuda.CudaBackend) -> None:
    made = program(STEPS["both"])
    assert_agrees(backend, made, rows_near(3), means_of(made))
    assert_agrees(backend, EVERY_STEP.program(), california(3))
    other = program(STEPS["two searches and a process"], n_stored=20)
    assert_agrees(backend, other, rows_near(9), means_of(other))
    assert_agrees(backend, made, rows_near(3), means_of(made))


def test_warms_up(backend: cuda.CudaBackend) -> None:
    backend.warm_up()


def test_a_simulated_gpu_is_not_taken_for_one() -> None:
    assert availability.cuda_unavailable_reason() is not None
    with pytest.raises(availability.CudaUnavailableError, match=r"CUDASIM|numba-cuda"):
        cuda.CudaBackend()
