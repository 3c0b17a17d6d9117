"""On a real GPU: forests agree with the CPU to the bit, features to float32's last digits, and the engine serves by it.

Run with `NUMBA_ENABLE_CUDASIM=0 pytest -m gpu`, since the other tests turn the simulator on.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import lightgbm as lgb
import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.typing import NDArray

from app.telemetry.gpu import GpuPoller
from kernels.backend import OutOfDeviceMemory, Pipeline
from kernels.cost import Cost
from kernels.cpu.backend import CpuBackend
from kernels.cuda.availability import cuda_unavailable_reason
from kernels.cuda.backend import CudaBackend
from kernels.cuda.device_thread import DEVICE
from kernels.engine import Engine
from kernels.forest.forest import Forest
from kernels.plan.plan import Input, Plan
from kernels.plan.program import Program
from tests.kernels.forest.boosters import assert_same_bits, hard_rows, model_texts, scale_of
from tests.kernels.plan.plans import EVERY_REFERENCE, EVERY_STEP, HARD_ROWS, california, stored
from tests.support import ROOT

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
    parameters = {"objective": "regression", "verbosity": -1, "num_threads": 1, "seed": 1}
    target = np.sin(rows).sum(axis=1) + by_cpu[:, 2]
    booster = lgb.train(parameters, lgb.Dataset(by_cpu.astype(np.float64), target), num_boost_round=100)
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
    parameters = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    return Forest.from_booster(lgb.train(parameters, lgb.Dataset(X, X[:, 0]), num_boost_round=5))


@settings(max_examples=200)
@given(text=model_texts())
def test_any_model_gives_the_cpu_s_scores(backend: CudaBackend, text: str) -> None:
    forest, rows = Forest.from_model_text(text), hard_rows(text, 500)
    for count in (500, 3):
        outcome = backend.evaluate(Pipeline(None, (forest,)), rows[-count:], raw_score=True)
        assert_same_bits(outcome.predictions[0], forest.predict(rows[-count:], raw_score=True))


@pytest.fixture(scope="module", params=[(500, 31), (1000, 127), (10, 255)], ids=lambda shape: "{} x {}".format(*shape))
def trained(request: pytest.FixtureRequest) -> Forest:
    """Trees by number and leaves, on features of which some are missing and one is a category."""
    trees, leaves = request.param
    X = forest_rows(20_000)
    parameters = {"objective": "regression", "verbosity": -1, "num_leaves": leaves, "min_data_in_leaf": 5, "seed": 1}
    data = lgb.Dataset(X, np.nansum(np.sin(3 * X[:, :6]), axis=1), categorical_feature=[7])
    return Forest.from_booster(lgb.train(parameters, data, num_boost_round=trees))


def forest_rows(count: int) -> NDArray[np.float64]:
    """float64[count, 8]."""
    random = np.random.default_rng(6)
    X = random.normal(size=(count, 8))
    X[random.random(count) < 0.1, 2] = np.nan
    X[:, 7] = random.integers(-2, 60, count)
    return X


@pytest.mark.parametrize("count", [0, 1, 2, 31, 127, 128, 129, 1000, 4097, 65_536, 65_537, 300_000])
def test_batches_of_any_size_give_the_cpu_s_scores(backend: CudaBackend, trained: Forest, count: int) -> None:
    rows = forest_rows(count)
    outcome = backend.evaluate(Pipeline(None, (trained,), 2), rows, raw_score=True)
    assert_same_bits(outcome.predictions[0], trained.predict(rows, raw_score=True))
    np.testing.assert_array_equal(outcome.distance, rows[:, 2].astype(np.float32))


def test_one_batch_after_another_gives_the_cpu_s_scores(backend: CudaBackend, trained: Forest, forest: Forest) -> None:
    rows, other = forest_rows(100_000), np.random.default_rng(7).normal(size=(50, forest.n_features))
    for count in (100_000, 3, 70_000, 1, 0, 128, 2):
        outcome = backend.evaluate(Pipeline(None, (trained,)), rows[:count], raw_score=True)
        assert_same_bits(outcome.predictions[0], trained.predict(rows[:count], raw_score=True))
        outcome = backend.evaluate(Pipeline(None, (forest, forest)), other, raw_score=True)
        assert_same_bits(outcome.predictions[1], forest.predict(other, raw_score=True))


def assert_explains(backend: CudaBackend, forest: Forest, rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compare with the CPU's contributions, to 1e-12 of the scale of the scores."""
    expected = forest.explainer.contributions(rows)
    found = backend.explain(Pipeline(None, (forest,)), rows, forest.explainer.paths)
    assert found.shape == expected.shape
    scale = max(np.abs(expected).sum(axis=-1).max(initial=0), np.abs(forest.explainer.base()).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)
    return found


@pytest.mark.parametrize("count", [0, 1, 31, 129, 1000, 20_001])
def test_batches_of_any_size_are_explained_as_by_the_cpu(backend: CudaBackend, trained: Forest, count: int) -> None:
    rows = forest_rows(20_001)[-count:] if count else forest_rows(0)
    found = assert_explains(backend, trained, rows)
    total = trained.explainer.base() + found.sum(axis=-1)
    raw = trained.predict(rows, raw_score=True)
    np.testing.assert_allclose(total[:, 0], raw, rtol=0, atol=1e-9 * np.abs(raw).max(initial=1))
    pipeline, paths = Pipeline(None, (trained,)), trained.explainer.paths
    for part in (slice(0, 1), slice(7, 40)):  # a row's bits do not depend on its batch, nor on when it is asked
        np.testing.assert_array_equal(backend.explain(pipeline, rows[part], paths), found[part])
    np.testing.assert_array_equal(backend.explain(pipeline, rows, paths), found)


@settings(max_examples=50)
@given(text=model_texts(most_nodes=600))
def test_any_model_is_explained_as_by_the_cpu(backend: CudaBackend, text: str) -> None:
    forest, rows = Forest.from_model_text(text), hard_rows(text, 200)
    assume(scale_of(text) < 1e100)
    for count in (200, 3):
        expected = forest.explainer.contributions(rows[-count:])
        found = backend.explain(Pipeline(None, (forest,)), rows[-count:], forest.explainer.paths)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(scale_of(text), 1e-300))


def test_tables_in_rounds_and_one_slice_after_another_give_the_same(
    backend: CudaBackend, trained: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = forest_rows(5000)
    at_once = assert_explains(backend, trained, rows)
    monkeypatch.setattr("kernels.cuda.paths.TABLE_BYTES", 2**18)
    small = CudaBackend(threads_per_block=64, min_blocks=128, max_blocks=128, chunk_rows=700)
    np.testing.assert_array_equal(assert_explains(small, trained, rows), at_once)


def test_the_engine_explains_by_it(backend: CudaBackend, trained: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, rows = Engine(trained, device="cuda"), forest_rows(20_000)
    engine.warm_up(rows[:10], {backend.device: Cost((1,), (1e-9,)), CpuBackend().device: Cost((1,), (1.0,))})
    monkeypatch.setattr(engine._explainer, "on_device", lambda rows: True)
    found, expected = engine.explain(rows).contributions, trained.explainer.contributions(rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).sum(axis=-1).max())
    assert np.isfinite(engine.explain_cost(20_000))
    assert engine.status().disabled is None


def test_a_program_and_two_forests_agree_with_their_features(backend: CudaBackend, forest: Forest) -> None:
    program = EVERY_STEP.program()
    for count in (1, 1000, 150_000):
        rows = california(count)
        features = backend.transform(program, rows)
        outcome = backend.evaluate(Pipeline(program, (forest, forest), 1), rows, raw_score=True)
        for prediction in outcome.predictions:
            assert_same_bits(prediction, forest.predict(features, raw_score=True))
        np.testing.assert_array_equal(outcome.distance, features[:, 1])


def test_threads_that_evaluate_at_once_get_their_own(backend: CudaBackend, trained: Forest) -> None:
    rows = forest_rows(80_000)
    parts = [rows[start : start + 10_000] for start in range(0, len(rows), 10_000)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = pool.map(lambda part: backend.evaluate(Pipeline(None, (trained,)), part, raw_score=True), parts)
        got = np.concatenate([outcome.predictions[0] for outcome in outcomes])
    assert_same_bits(got, trained.predict(rows, raw_score=True))


@pytest.mark.usefixtures("backend")
def test_a_full_device_is_told_and_got_over(forest: Forest) -> None:
    from numba import cuda

    fresh, pipeline, held = CudaBackend(), Pipeline(EVERY_STEP.program(), (forest,)), []
    fresh.evaluate(pipeline, california(10))
    rows, size = california(65_536), 2**36
    while size >= 2**20:
        try:
            held.append(cuda.device_array(size, np.uint8))
        except cuda.cudadrv.driver.CudaAPIError:
            size //= 2
    with pytest.raises(OutOfDeviceMemory):
        fresh.evaluate(pipeline, rows)
    held.clear()
    features = fresh.transform(EVERY_STEP.program(), rows)
    got = fresh.evaluate(pipeline, rows, raw_score=True).predictions[0]
    assert_same_bits(got, forest.predict(features, raw_score=True))


@pytest.mark.usefixtures("backend")
def test_the_engine_measures_it(forest: Forest) -> None:
    engine = Engine(forest, EVERY_STEP, device="cuda")
    engine.warm_up(california(10))
    assert set(engine.status().backends) == {"cuda", "cpu"}
    assert engine.status().disabled is None
    assert np.isfinite(engine.predict(california(1000))).all()


def test_the_engine_answers_by_it(backend: CudaBackend, forest: Forest) -> None:
    engine = Engine(forest, EVERY_STEP, device="cuda")
    engine.warm_up(california(10), {backend.device: Cost((1,), (1e-9,)), CpuBackend().device: Cost((1,), (1.0,))})
    for count in (1, 5000, 17):
        rows = california(count)
        # From the same features: a last digit may lie on the other side of a threshold.
        expected = forest.predict(backend.transform(EVERY_STEP.program(), rows))
        np.testing.assert_array_equal(engine.predict(rows), expected)
        np.testing.assert_array_equal(engine.evaluate(rows).prediction, expected)
    assert engine.status().disabled is None


def test_its_uuid_is_one_that_nvml_knows(backend: CudaBackend) -> None:
    poller = GpuPoller()
    poller.poll()
    assert backend.uuid in {device.uuid for device in poller.status.devices}


def test_kernels_are_compiled_for_the_types_they_are_launched_with(
    backend: CudaBackend, referring: Program, forest: Forest
) -> None:
    from kernels.cuda import contributions, references, steps
    from kernels.cuda import forest as forest_kernels

    backend.warm_up(Pipeline(referring, ()))
    backend.transform(referring, california(100))
    backend.evaluate(Pipeline(None, (forest,)), np.zeros((100, forest.n_features)))
    backend.explain(Pipeline(None, (forest,)), np.zeros((100, forest.n_features)), forest.explainer.paths)
    for module in (steps, references, forest_kernels, contributions):
        for name, signatures in module.SIGNATURES.items():
            expected = len(signatures) if isinstance(signatures, list) else 1
            assert len(getattr(module, name).overloads) == expected


@pytest.mark.usefixtures("backend")
def test_engines_that_are_gone_leave_no_memory_behind(forest: Forest) -> None:
    from numba import cuda

    rows, free = california(70_000), []
    for _ in range(6):
        engine = Engine(forest, EVERY_STEP, device="cuda")
        engine.warm_up(rows[:10])
        engine.predict(rows)
        thread = threading.Thread(target=[engine].clear)
        del engine
        thread.start()
        thread.join()
        del thread
        free.append(DEVICE.run(lambda: cuda.current_context().get_memory_info().free))
    assert max(free[1:]) - min(free[1:]) < 2**21  # the driver takes whole pages of 2 MiB


DYING = """
import sys
import numpy as np
from numba import cuda
from kernels.cost import Cost
from kernels.engine import Engine
from kernels.forest.forest import Forest

forest, rows = Forest.from_model_text(sys.stdin.read()), np.random.default_rng(0).normal(size=(5000, 8))
engine = Engine(forest, device="cuda")
(backend, cpu) = engine._dispatcher.backends
engine.warm_up(rows[:10], {backend.device: Cost((1,), (1e-9,)), cpu.device: Cost((1,), (1.0,))})

@cuda.jit
def wild(array):
    array[2**40 + cuda.grid(1)] = 1.0

def work():
    wild[128, 128](cuda.to_device(np.zeros(4)))
    cuda.synchronize()

try:
    backend._run(work)
except Exception as error:
    print(error)
assert np.array_equal(engine.predict(rows), forest.predict(rows))
following = Engine(forest)
following.warm_up(rows[:10])
for status in (engine.status(), following.status()):
    assert set(status.backends) == {"cpu"}, status
    assert status.disabled == "cuda", status
"""


@pytest.mark.usefixtures("backend")
def test_a_dead_context_stays_dead_and_the_process_ends_well() -> None:
    X = forest_rows(500)
    parameters = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    text = lgb.train(parameters, lgb.Dataset(X, X[:, 0]), num_boost_round=5).model_to_string()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DYING],
        input=text,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Traceback") == 1  # the log's, of the failure
