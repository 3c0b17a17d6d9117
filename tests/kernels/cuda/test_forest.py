"""Forests on a GPU, run by numba's simulator, give the CPU's scores to the bit; what the backend keeps, and frees."""

from collections.abc import Iterator, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.backend import AnyForest, OutOfDeviceMemory, Pipeline
from kernels.cpu.backend import CpuBackend
from kernels.cuda import layout
from kernels.cuda.backend import CudaBackend
from kernels.cuda.layout import ForestTooLargeError, pack_forests, too_large
from kernels.forest.booster import BoosterForest
from kernels.forest.forest import Forest, load_forest
from kernels.forest.predicates import COUNT
from kernels.plan.program import Program
from tests.kernels.cuda.simulator import IN_SIMULATOR, simulated_backend, simulator
from tests.kernels.forest.boosters import (
    HARD_LEAVES,
    MISSING,
    TRAINED,
    Split,
    assert_same_bits,
    divisions,
    hard_rows,
    model_text,
    model_texts,
    tree_text,
)
from tests.kernels.plan.plans import EVERY_STEP, california

pytestmark = IN_SIMULATOR

SIZES = {
    "a row to a lane": {"threads_per_block": 4, "forest_threads": 4, "min_blocks": 1, "max_blocks": 2},
    "few rows to a block": {"threads_per_block": 2, "forest_threads": 8, "min_blocks": 3, "max_blocks": 3},
    "small chunks": {"threads_per_block": 4, "forest_threads": 4, "min_blocks": 1, "max_blocks": 9, "chunk_rows": 16},
}


@pytest.fixture(scope="module")
def backends() -> Iterator[list[CudaBackend]]:
    with simulator() as patch:
        from kernels.cuda import forest as cuda_forest

        # Tiles of 2 to 16 trees, so that there are several.
        patch.setattr(cuda_forest, "STAGED", 16)
        patch.setattr(cuda_forest, "PLACES", 32)
        yield [simulated_backend(**sizes) for sizes in SIZES.values()]


@pytest.fixture
def backend(backends: list[CudaBackend]) -> CudaBackend:
    return backends[0]


def assert_agrees(backend: CudaBackend, forest: AnyForest, rows: NDArray[np.floating]) -> None:
    outcome = backend.evaluate(Pipeline(None, (forest,)), rows, raw_score=True)
    assert_same_bits(outcome.predictions[0], forest.predict(rows, raw_score=True))
    assert outcome.distance is None


def grown(seed: int, trees: int, leaves: int, outputs: int = 1, values: Sequence[float] | None = None) -> Forest:
    """Trees over four numerical features with thresholds of their own."""
    random = np.random.default_rng(seed)

    def tree() -> str:
        divided = divisions("grown", leaves, random)
        splits = [Split(int(random.integers(4)), random.normal(), int(random.choice([0, 2, 4, 10]))) for _ in divided]
        return tree_text(splits, divided, random.normal(size=leaves) if values is None else values)

    return Forest.from_model_text(model_text([tree() for _ in range(trees * outputs)], 4, outputs, ""))


def rows_of(count: int, seed: int = 1) -> NDArray[np.float64]:
    """float64[count, 4], some of it missing or zero."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 4))
    return np.where(random.random(rows.shape) < 0.2, random.choice([np.nan, 0.0, -0.0, np.inf], rows.shape), rows)


@settings(max_examples=20)
@given(text=model_texts(most_nodes=150), which=st.integers(0, 2))
def test_any_model_agrees(backends: list[CudaBackend], text: str, which: int) -> None:
    forest = Forest.from_model_text(text)
    rows = hard_rows(text, 75)
    assert_agrees(backends[which], forest, rows[np.random.default_rng(2).permutation(75)[:20]])


BOOSTERS: dict[str, dict[str, Any]] = {
    **TRAINED,
    "dart": {"boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.0},
    "probabilities": {"objective": "binary"},
}


def each_by_each_backend() -> Iterator[Any]:
    """Each kind of booster by each backend; in the short form each by one of them, and they take turns."""
    for place, (kind, parameters) in enumerate(BOOSTERS.items()):
        for which, size in enumerate(SIZES):
            marks = [] if which == place % len(SIZES) else [pytest.mark.slow]
            yield pytest.param(parameters, which, id=f"{kind}, {size}", marks=marks)


@pytest.mark.parametrize(("parameters", "which"), [*each_by_each_backend()])
def test_trained_models_agree(backends: list[CudaBackend], parameters: dict[str, Any], which: int) -> None:
    random = np.random.default_rng(3)
    X = np.column_stack([rows_of(300), random.integers(0, 40, 300)])
    target = np.digitize(np.nan_to_num(X[:, 0], posinf=0) + np.sin(X[:, 4]), [-0.4, 0.4])
    if parameters.get("objective") == "binary":
        target = target > 0
    quiet = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3, "num_leaves": 7, "min_data_per_group": 1}
    booster = lgb.train(quiet | parameters, lgb.Dataset(X, target, categorical_feature=[4]), num_boost_round=6)
    X[:6, 4] = [-1, 1.99, -0.5, 2.0**31, np.nan, 1e300]
    forest = Forest.from_booster(booster)
    assert_agrees(backends[which], forest, X[:20])
    converted = backends[which].evaluate(Pipeline(None, (forest,)), X[:20])
    assert_same_bits(converted.predictions[0], forest.predict(X[:20]))


@pytest.mark.parametrize("count", [0, 1, 15, 17, 33])
def test_any_number_of_rows_agrees(backends: list[CudaBackend], count: int) -> None:
    forest = grown(4, trees=3, leaves=4)
    for backend in backends:
        assert_agrees(backend, forest, rows_of(count))


def test_the_end_of_arrays_beyond_the_batch_is_not_computed(backend: CudaBackend) -> None:
    program, buffers = EVERY_STEP.program(), backend._memory.stream(0)
    scores = buffers.device("scores", (18, 1), np.float64)
    features = buffers.device("features", (18, program.n_outputs), np.float32)
    scores[:], features[:] = 7, 7
    assert_agrees(backend, grown(22, 2, 4), rows_of(17))
    np.testing.assert_array_equal(
        backend.transform(program, california(17)), CpuBackend().transform(program, california(17))
    )
    assert buffers.device("scores", (18, 1), np.float64)[17, 0] == 7
    assert (buffers.device("features", (18, program.n_outputs), np.float32)[17] == 7).all()


@pytest.mark.parametrize(("trees", "leaves"), [(0, 3), (1, 1), (7, 1), (1, 2), (40, 2), (3, 300)])
def test_any_number_of_trees_and_leaves_agrees(backends: list[CudaBackend], trees: int, leaves: int) -> None:
    for outputs in (1, 3):
        forest = grown(5, trees, leaves, outputs)
        for backend in backends:
            assert_agrees(backend, forest, rows_of(6))


def test_leaves_are_added_in_the_order_of_the_trees(backends: list[CudaBackend]) -> None:
    values = np.random.default_rng(21).normal(size=54)
    forest = Forest.from_model_text(model_text([tree_text([], [], [value]) for value in values], 1))
    fours = np.append(values, [0.0, 0.0]).reshape(-1, 4).sum(axis=1)
    assert fours.cumsum()[-1] != values.cumsum()[-1] == forest.predict(np.zeros((1, 1)), raw_score=True)[0]
    for backend in backends:
        assert_agrees(backend, forest, np.zeros((3, 1)))


@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING.keys())
def test_more_thresholds_than_a_byte_counts_agree(backend: CudaBackend, missing: int) -> None:
    thresholds = np.linspace(-1, 1, 700)
    leaves = len(thresholds) + 1
    divided = divisions("grown", leaves, np.random.default_rng(6))
    text = tree_text([Split(0, float(at), missing) for at in thresholds], divided, np.arange(float(leaves)))
    forest = Forest.from_model_text(model_text([text], 1))
    assert forest.predicates.columns[0, COUNT] >= 700
    near = np.concatenate([thresholds[::100], np.nextafter(thresholds[::100], 2), [np.nan, 0.0, -5.0, 5.0]])
    assert_agrees(backend, forest, near[:, None])


def test_sets_of_categories_agree(backends: list[CudaBackend]) -> None:
    random = np.random.default_rng(7)
    trees = []
    for _ in range(5):
        splits = [Split(feature, 0, 1, random.integers(0, 2**32, 3).tolist()) for feature in (0, 1, 0)]
        splits.append(Split(1, 0.5, MISSING["nan"]))
        trees.append(tree_text(splits, divisions("grown", 5, random), random.choice(HARD_LEAVES, 5).tolist()))
    forest = Forest.from_model_text(model_text(trees, 2))
    rows = random.choice([0, 1, 31, 32, 95, 96, -1, -0.5, 0.7, 95.9, 2.0**31, np.nan, np.inf, 1e300], (30, 2))
    for backend in backends:
        assert_agrees(backend, forest, rows)


def test_several_forests_with_a_program_and_a_distance_agree(backends: list[CudaBackend]) -> None:
    program = EVERY_STEP.program()
    random = np.random.default_rng(8)

    def forest(outputs: int, category: int) -> Forest:
        def tree() -> str:
            splits = [
                Split(category, 0, 1, [int(random.integers(1, 2**32))]),
                *(Split(int(random.integers(program.n_outputs)), random.normal() * 50, 10) for _ in range(4)),
            ]
            return tree_text(splits, divisions("grown", 6, random), random.normal(size=6))

        trees = [tree() for _ in range(4 * outputs)]
        return Forest.from_model_text(model_text(trees, program.n_outputs, outputs, ""))

    forests = forest(1, 1), forest(3, 0), forest(1, 1)
    for backend, count in zip(backends, (5, 4, 17), strict=True):
        rows = california(count)
        features = CpuBackend().transform(program, rows)
        outcome = backend.evaluate(Pipeline(program, forests, 2), rows, raw_score=True)
        for made, prediction in zip(forests, outcome.predictions, strict=True):
            assert_same_bits(prediction, made.predict(features, raw_score=True))
        assert outcome.distance is not None
        assert outcome.distance.dtype == np.float32
        np.testing.assert_array_equal(outcome.distance, features[:, 2])


def test_transforms_and_forests_by_turns_agree(backend: CudaBackend) -> None:
    forest, other, program, rows = grown(9, 2, 4), grown(10, 3, 5), EVERY_STEP.program(), california(5)
    for _ in range(2):
        assert_agrees(backend, forest, rows_of(5))
        np.testing.assert_array_equal(backend.transform(program, rows), CpuBackend().transform(program, rows))
        assert_agrees(backend, other, rows_of(3))


def test_a_float32_batch_in_any_layout_agrees(backend: CudaBackend) -> None:
    forest, rows = grown(11, 3, 5), rows_of(20).astype(np.float32)
    for same in (rows, np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2]):
        assert_agrees(backend, forest, same)


def test_what_does_not_fit_is_refused(backend: CudaBackend) -> None:
    forest, program = grown(12, 2, 3), EVERY_STEP.program()
    with pytest.raises(ValueError, match=r"\(rows, 4\), got \(2, 3\)"):
        backend.evaluate(Pipeline(None, (forest,)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=f"the {program.n_outputs} features"):
        backend.evaluate(Pipeline(program, (forest,)), california(2))
    with pytest.raises(ValueError, match="one of 4 features, got 4"):
        backend.evaluate(Pipeline(None, (forest,), 4), rows_of(2))
    with pytest.raises(ValueError, match="a program or a forest"):
        backend.evaluate(Pipeline(None, ()), rows_of(2))


def test_a_forest_of_lightgbm_s_is_refused(backend: CudaBackend) -> None:
    X = rows_of(60)
    settings = {"verbosity": -1, "num_threads": 1, "linear_tree": True}
    finite = np.nan_to_num(X, posinf=1)
    booster = lgb.train(settings, lgb.Dataset(finite, finite[:, 0], params=settings), num_boost_round=2)
    forest = load_forest(booster.model_to_string())
    assert isinstance(forest, BoosterForest)
    with pytest.raises(TypeError, match=r"only LightGBM evaluates .*linear"):
        backend.evaluate(Pipeline(None, (forest,)), X)


LIMITS = {"MAX_COUNT": "thresholds", "MAX_COLUMNS": "columns", "MAX_SETS": "sets", "MAX_RECORDS": "nodes and leaves"}


@pytest.mark.parametrize(("limit", "what"), LIMITS.items())
def test_forests_beyond_a_limit_are_refused(
    backend: CudaBackend, monkeypatch: pytest.MonkeyPatch, limit: str, what: str
) -> None:
    split = [Split(0, 0, 1, [7]), Split(1, 0.5, 0), Split(1, 1.5, 0)]
    forest = Forest.from_model_text(model_text([tree_text(split, [0, 0, 0], [1, 2, 3, 4])], 2))
    most = {"MAX_COUNT": 3, "MAX_COLUMNS": 4, "MAX_SETS": 2, "MAX_RECORDS": 14}[limit]
    monkeypatch.setattr(layout, limit, most)
    assert too_large((forest, forest)) is None
    pack_forests((forest, forest))
    monkeypatch.setattr(layout, limit, most - 1)
    with pytest.raises(ForestTooLargeError, match=rf"{most} {what}.* {most - 1} at most"):
        backend.evaluate(Pipeline(None, (forest, forest)), np.zeros((1, 2)))


def test_forests_stay_on_the_device(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    forest, other, sent = grown(13, 2, 3), grown(14, 2, 3), []
    to_device = backend._cuda.to_device
    monkeypatch.setattr(backend._cuda, "to_device", lambda array: sent.append(array) or to_device(array))
    both, one, all_new = (forest, other), (forest,), (other,)
    for pipeline, uploaded in ((both, True), (one, True), (both, False), (one, False), (all_new, True), (one, False)):
        sent.clear()
        backend.evaluate(Pipeline(None, pipeline), rows_of(2))
        assert bool(sent) == uploaded


@pytest.mark.parametrize("allocate", ["device_array", "pinned_array"])
def test_a_batch_after_a_larger_one_allocates_nothing(
    backends: list[CudaBackend], monkeypatch: pytest.MonkeyPatch, allocate: str
) -> None:
    backend, forest, program = backends[2], grown(15, 2, 3), EVERY_STEP.program()
    pipeline = Pipeline(None, (forest,), 1)
    backend.evaluate(pipeline, rows_of(40))
    backend.transform(program, california(40))

    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("allocated")

    monkeypatch.setattr(backend._cuda, allocate, fail)
    for count in (40, 33, 1, 16):
        backend.evaluate(pipeline, rows_of(count))
        backend.transform(program, california(count))


class DriverError(Exception):
    """As numba's CudaAPIError, which its simulator has not whole."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code


SHORTAGES = {
    "the driver's": DriverError(2, "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"),
    "its code alone": DriverError(2, "no memory"),
    "cuda-core's": RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: the API call failed because ..."),
    "Python's": MemoryError("cannot allocate"),
}


def each_shortage() -> Iterator[Any]:
    """Each error in each place; in the short form the driver's in each, and the others in one."""
    for name, error in SHORTAGES.items():
        for allocate in ("device_array", "pinned_array", "to_device"):
            marks = [] if name == "the driver's" or allocate == "device_array" else [pytest.mark.slow]
            yield pytest.param(error, allocate, id=f"{name}, {allocate}", marks=marks)


@pytest.mark.parametrize(("error", "allocate"), [*each_shortage()])
def test_a_lack_of_memory_is_told_and_got_over(
    backends: list[CudaBackend], monkeypatch: pytest.MonkeyPatch, allocate: str, error: Exception
) -> None:
    backend, forest, small = backends[2], grown(16, 2, 3), grown(17, 2, 3)
    backend.evaluate(Pipeline(None, (small,)), rows_of(40))

    def fail(*arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(backend._cuda, allocate, fail)
        # Longer than all buffers of before, and of forests that are not there yet.
        patch.setattr(backend, "_chunk_rows", 4000)
        with pytest.raises(OutOfDeviceMemory, match="memory") as raised:
            backend.evaluate(Pipeline(None, (forest,)), np.zeros((3000, 4)))
    assert raised.value.__context__ is None
    for stream in backend._memory.streams:
        assert not stream._device
        assert not stream._pinned
        assert not stream._views
    assert_agrees(backend, forest, rows_of(40))
    assert_agrees(backend, small, rows_of(40))


@pytest.mark.usefixtures("backends")
def test_a_lack_of_memory_in_the_second_stream_is_got_over(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, forest, asked = simulated_backend(**SIZES["small chunks"]), grown(18, 2, 3), []
    allocate = fresh._cuda.device_array

    def fail(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        if len(asked) == 5:
            raise MemoryError
        return allocate(*arguments, **options)

    monkeypatch.setattr(fresh._cuda, "device_array", fail)
    with pytest.raises(OutOfDeviceMemory):
        fresh.evaluate(Pipeline(None, (forest,)), rows_of(40))
    assert len(fresh._memory.streams) == 2
    assert_agrees(fresh, forest, rows_of(40))


def test_other_errors_surface_as_they_are(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    error = DriverError(700, "Call to cuMemAlloc results in CUDA_ERROR_ILLEGAL_ADDRESS")

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(backend._cuda, "to_device", fail)
    with pytest.raises(DriverError) as raised:
        backend.evaluate(Pipeline(None, (grown(19, 2, 3),)), rows_of(2))
    assert raised.value is error


def test_chunks_take_a_bounded_share_of_the_device(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    forest, counts = grown(20, 2, 3), []
    monkeypatch.setattr("kernels.cuda.backend.CHUNK_BYTES", 1000)
    evaluate = backend.launcher.evaluate

    def seen(buffers: Any, features: Any, *arguments: Any) -> Any:
        counts.append(features.shape[0])
        return evaluate(buffers, features, *arguments)

    monkeypatch.setattr(backend.launcher, "evaluate", seen)
    assert_agrees(backend, forest, rows_of(60))
    assert len(counts) > 2
    assert max(counts) * 4 * 8 <= 1000


@pytest.mark.usefixtures("backends")
def test_warms_up_all_kernels_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, typed = simulated_backend(**SIZES["a row to a lane"]), []
    evaluate = fresh.launcher.evaluate

    def seen(buffers: Any, features: Any, *arguments: Any) -> Any:
        typed.append(features.dtype)
        return evaluate(buffers, features, *arguments)

    monkeypatch.setattr(fresh.launcher, "evaluate", seen)
    fresh.warm_up()
    assert typed == [np.float32, np.float64]


def test_a_program_without_a_forest_gives_the_distance_alone(backend: CudaBackend) -> None:
    program: Program = EVERY_STEP.program()
    outcome = backend.evaluate(Pipeline(program, (), 1), california(3))
    assert outcome.predictions == ()
    np.testing.assert_array_equal(outcome.distance, CpuBackend().transform(program, california(3))[:, 1])
