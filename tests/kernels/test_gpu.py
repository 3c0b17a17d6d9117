"""On a real GPU: it agrees with the CPU to float32's last digits, and the engine serves by it.

Run with `NUMBA_ENABLE_CUDASIM=0 pytest -m gpu`, since the other tests turn the simulator on.
"""

import lightgbm as lgb
import numpy as np
import pytest

from kernels.cost import Cost
from kernels.cpu import CpuBackend
from kernels.cuda import CudaBackend, cuda_unavailable_reason
from kernels.engine import Engine
from kernels.forest import Forest
from kernels.plan import Input, Plan
from tests.kernels.plans import EVERY_STEP, HARD_ROWS, california

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
