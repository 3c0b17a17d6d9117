"""On a real GPU: it agrees with the CPU to float32's last digits, or nearly, and the engine serves by it.

Run with `NUMBA_ENABLE_CUDASIM=0 pytest -m gpu`, since the other tests turn the simulator on.
"""

from collections.abc import Callable

import lightgbm as lgb
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.cost import Cost
from kernels.cpu import CpuBackend
from kernels.cuda import CudaBackend, cuda_unavailable_reason
from kernels.engine import Engine
from kernels.forest import Forest
from kernels.plan import Input, Plan
from kernels.program import Program
from tests.kernels.plans import EVERY_REFERENCE, EVERY_STEP, HARD_ROWS, california, stored

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def backend() -> CudaBackend:
    reason = cuda_unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    backend = CudaBackend()
    backend.warm_up()
    return backend


@pytest.mark.parametrize("count", [0, 1, 127, 129, 300_000])
def test_agrees_with_the_cpu(backend: CudaBackend, count: int) -> None:
    program, rows = EVERY_STEP.program(), california(count)
    np.testing.assert_allclose(
        backend.transform(program, rows), CpuBackend().transform(program, rows), rtol=3e-7, atol=1e-6
    )


def test_nan_infinities_and_denormals_agree(backend: CudaBackend) -> None:
    sane = HARD_ROWS[~np.isin(HARD_ROWS, [1e300])[:, :2].any(axis=1)]
    program = EVERY_STEP.program()
    # Between infinities and NaN there is no last digit to differ in; elsewhere there is.
    np.testing.assert_allclose(
        backend.transform(program, sane), CpuBackend().transform(program, sane), rtol=3e-7, atol=1e-6
    )


def test_batches_of_any_size_one_after_another_agree(backend: CudaBackend) -> None:
    program, bare = EVERY_STEP.program(), Plan(inputs=(Input(name="a"),), outputs=("a",)).program()
    for count in (1000, 3, 40_000, 1, 0, 128, 40_000, 2):
        rows = california(count)
        np.testing.assert_allclose(
            backend.transform(program, rows), CpuBackend().transform(program, rows), rtol=3e-7, atol=1e-6
        )
        np.testing.assert_array_equal(backend.transform(bare, rows[:, :1]), rows[:, :1].astype(np.float32))


@pytest.fixture(scope="module", params=[300, 5003])
def referring(request: pytest.FixtureRequest) -> Program:
    """Reference steps over fewer and over more stored rows than a few tiles."""
    assert EVERY_REFERENCE.references is not None
    references = msgspec.structs.replace(EVERY_REFERENCE.references, rows=request.param)
    plan = msgspec.structs.replace(EVERY_REFERENCE, references=references)
    return plan.program(stored(plan))


def assert_near(got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """To 1e-5 of the column's largest: a sum of float32 terms of both signs is near to them, and not to the sum."""
    largest = np.where(np.isfinite(expected), np.abs(expected), 0).max(axis=0, initial=1e-30)
    np.testing.assert_allclose(got / largest, expected / largest, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 127, 129, 10_000])
def test_reference_steps_agree_with_the_cpu(backend: CudaBackend, referring: Program, count: int) -> None:
    rows = california(count)
    assert_near(backend.transform(referring, rows), CpuBackend().transform(referring, rows))


def test_rows_that_stored_rows_cannot_tell_about_agree(backend: CudaBackend, referring: Program) -> None:
    rows = np.concatenate([HARD_ROWS[~np.isin(HARD_ROWS, [1e300]).any(axis=1)], california(100)])
    expected = CpuBackend().transform(referring, rows)
    assert np.isnan(expected[:-100]).any()
    assert not np.isnan(expected[-100:]).any()
    assert_near(backend.transform(referring, rows), expected)


def test_more_rows_than_the_grid_has_threads_agree(referring: Program) -> None:
    if cuda_unavailable_reason() is not None:
        pytest.skip(str(cuda_unavailable_reason()))
    small, rows = CudaBackend(threads_per_block=64, min_blocks=128, max_blocks=128), california(20_001)
    assert_near(small.transform(referring, rows), CpuBackend().transform(referring, rows))


def test_predictions_differ_only_where_a_feature_is_at_a_threshold(
    backend: CudaBackend, referring: Program, record_property: Callable[[str, object], None]
) -> None:
    rows = california(10_000)
    by_cpu, by_gpu = CpuBackend().transform(referring, rows), backend.transform(referring, rows)
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1, "seed": 1}
    target = np.sin(rows).sum(axis=1) + by_cpu[:, 2]
    booster = lgb.train(settings, lgb.Dataset(by_cpu.astype(np.float64), target), num_boost_round=100)
    paths = [np.asarray(booster.predict(features, pred_leaf=True)) for features in (by_cpu, by_gpu)]
    flipped = (paths[0] != paths[1]).any(axis=1)
    record_property("rows of 10,000 that take another path", int(flipped.sum()))
    forest = Forest.from_booster(booster)
    expected, got = forest.predict(by_cpu), forest.predict(by_gpu)
    np.testing.assert_array_equal(got[~flipped], expected[~flipped])
    assert flipped.mean() < 0.01
    assert np.isclose(got, expected, rtol=1e-4, atol=1e-4).mean() > 0.99


@pytest.fixture(scope="module")
def forest() -> Forest:
    X = np.random.default_rng(1).normal(size=(300, len(EVERY_STEP.outputs)))
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    return Forest.from_booster(lgb.train(settings, lgb.Dataset(X, X[:, 0]), num_boost_round=5))


@pytest.mark.usefixtures("backend")
def test_the_engine_measures_it(forest: Forest) -> None:
    engine = Engine(forest, EVERY_STEP, device="cuda")
    engine.warm_up(california(10))
    assert set(engine.status().backends) == {"cuda", "cpu"}
    assert engine.status().disabled is None
    assert np.isfinite(engine.predict(california(1000))).all()


@pytest.mark.usefixtures("backend")
def test_the_engine_answers_by_it_what_the_cpu_answers(forest: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels.engine.measure", lambda predictors, sample: (Cost(0.0, 0.0), Cost(1.0, 1.0)))
    engine = Engine(forest, EVERY_STEP, device="cuda")
    engine.warm_up(california(10))
    for count in (1, 5000, 17):
        rows = california(count)
        by_gpu = engine.transform(rows)
        np.testing.assert_allclose(by_gpu, CpuBackend().transform(EVERY_STEP.program(), rows), rtol=3e-7, atol=1e-6)
        # From the same features: a last digit may lie on the other side of a threshold.
        np.testing.assert_array_equal(engine.predict(rows), forest.predict(by_gpu))
    assert engine.status().disabled is None
