"""Contributions by a GPU, run by numba's simulator, are the CPU's and LightGBM's, in batches of any size."""

from collections.abc import Iterator
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.typing import NDArray

from kernels import explainer
from kernels.backend import Explains, OutOfDeviceMemory, Pipeline
from kernels.cpu.backend import CpuBackend
from kernels.cuda import paths
from kernels.cuda.backend import CudaBackend
from kernels.engine import Engine
from kernels.forest.explanation import tables
from kernels.forest.forest import Forest
from tests.kernels.cuda.simulator import IN_SIMULATOR, simulated_backend, simulator
from tests.kernels.forest.boosters import (
    TRAINED,
    Split,
    divisions,
    hard_rows,
    model_text,
    model_texts,
    scale_of,
    tree_text,
)
from tests.kernels.hardware import PREFERRED
from tests.kernels.plan.plans import EVERY_STEP, california

pytestmark = IN_SIMULATOR


@pytest.fixture(scope="module")
def backend() -> Iterator[CudaBackend]:
    with simulator():
        # Slices of eight rows, by turns in two streams, and threads that stride.
        yield simulated_backend(threads_per_block=2, forest_threads=2, min_blocks=1, max_blocks=2, chunk_rows=8)


def explained(backend: CudaBackend, forest: Forest, rows: NDArray[np.floating]) -> NDArray[np.float64]:
    return backend.explain(Pipeline(None, (forest,)), rows, forest.explainer.paths)


def assert_agrees(
    backend: CudaBackend, forest: Forest, rows: NDArray[np.floating], scale: float | None = None
) -> NDArray[np.float64]:
    """Compare with the CPU, to the last digits of the scale of the scores."""
    found, expected = explained(backend, forest, rows), forest.explainer.contributions(rows)
    scale = max(1e-300, np.abs(expected).sum(axis=-1).max(initial=0)) if scale is None else scale
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) <= 1e-12 * scale
    return found


def text_of(trees: int, leaves: int, *, features: int = 4, outputs: int = 1, chain: bool = False) -> str:
    random = np.random.default_rng(trees + leaves)
    made: list[str] = []
    for _ in range(trees * outputs):
        order = random.permutation(features)
        splits = [Split(int(order[node % features]), random.normal(), 8) for node in range(leaves - 1)]
        divided = divisions("right" if chain else "grown", leaves, random)
        made.append(tree_text(splits, divided, random.normal(size=leaves), random.integers(1, 99, leaves).tolist()))
    return model_text(made, features, outputs, "")


def rows_of(count: int, features: int = 4) -> NDArray[np.float64]:
    random = np.random.default_rng(1)
    rows = random.normal(size=(count, features))
    return np.where(random.random(rows.shape) < 0.1, np.nan, rows)


@pytest.mark.parametrize("parameters", TRAINED.values(), ids=TRAINED.keys())
def test_trained_models_are_explained_as_lightgbm_does(backend: CudaBackend, parameters: dict[str, Any]) -> None:
    random = np.random.default_rng(3)
    X = np.column_stack([rows_of(300), random.integers(0, 40, 300)])
    X[::9, 1] = 0
    target = np.digitize(np.nan_to_num(X[:, 0]) + np.sin(X[:, 4]), [-0.4, 0.4])
    quiet = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3, "num_leaves": 7, "min_data_per_group": 1}
    booster = lgb.train(quiet | parameters, lgb.Dataset(X, target, categorical_feature=[4]), num_boost_round=3)
    X[:4, 4] = [-1, 1.99, np.nan, 1e300]
    forest, rows = Forest.from_booster(booster), X[:10]
    found = assert_agrees(backend, forest, rows)
    by_lightgbm = np.asarray(booster.predict(rows, pred_contrib=True)).reshape(*found.shape[:2], -1)
    scale = np.abs(by_lightgbm.sum(axis=-1)).max()
    np.testing.assert_allclose(found, by_lightgbm[:, :, :-1], rtol=0, atol=1e-9 * scale)
    raw = forest.predict(rows, raw_score=True).reshape(len(rows), -1)
    np.testing.assert_allclose(forest.explainer.base() + found.sum(axis=-1), raw, rtol=0, atol=1e-9 * scale)


@settings(max_examples=8)
@given(text=model_texts(most_nodes=60))
def test_any_model_agrees(backend: CudaBackend, text: str) -> None:
    assume(scale_of(text) < 1e100)
    assert_agrees(backend, Forest.from_model_text(text), hard_rows(text, 6), max(1e-300, scale_of(text)))


def test_a_row_s_bits_do_not_depend_on_its_batch(backend: CudaBackend) -> None:
    forest, rows = Forest.from_model_text(text_of(6, 5)), rows_of(19)
    found = assert_agrees(backend, forest, rows)
    for start, count in ((0, 0), (3, 1), (4, 9)):
        part = explained(backend, forest, rows[start : start + count])
        np.testing.assert_array_equal(part, found[start : start + count])


def test_paths_of_many_features_take_more_points(backend: CudaBackend) -> None:
    assert_agrees(backend, Forest.from_model_text(text_of(1, 14, features=13, chain=True)), rows_of(4, 13))


def test_trees_of_one_leaf_contribute_nothing(backend: CudaBackend) -> None:
    leaf, node = tree_text([], [], [1.5]), tree_text([Split(1, 0.0, 0)], [0], [1.0, 2.0], [3, 1])
    assert not explained(backend, Forest.from_model_text(model_text([leaf, leaf], 2)), np.ones((3, 2))).any()
    forest = Forest.from_model_text(model_text([leaf, node, leaf], 2))
    found = assert_agrees(backend, forest, np.ones((3, 2)))
    assert found[:, 0].tolist() == [[0, 0.75]] * 3


def test_the_tables_of_trees_are_made_in_rounds(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    text, rows = text_of(5, 6, outputs=2), rows_of(3)
    at_once = explained(backend, Forest.from_model_text(text), rows)
    monkeypatch.setattr(paths, "TABLE_BYTES", 1)
    # Nor does the CPU keep any.
    monkeypatch.setattr(tables, "MAX_BYTES", 1)
    forest = Forest.from_model_text(text)
    assert len(paths.pack_paths(forest, forest.explainer.paths)[1].rounds) == 10
    np.testing.assert_array_equal(assert_agrees(backend, forest, rows), at_once)


def test_the_memory_that_rows_work_in_is_bounded(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    forest, rows = Forest.from_model_text(text_of(8, 4)), rows_of(6)
    _, division = paths.pack_paths(forest, forest.explainer.paths)
    assert division.n_parts == 8
    part = division.n_nodes + 8 * division.n_edges + 8 * division.n_used
    most = paths.WARP * 2 * part
    monkeypatch.setattr(paths, "WORK_BYTES", most)
    fresh = Forest.from_model_text(text_of(8, 4))
    _, division = paths.pack_paths(fresh, fresh.explainer.paths)
    assert division.n_parts == 2
    assert 0 < division.slice_rows(32) * (32 + 8 * 4 + 2 * part) <= most
    assert_agrees(backend, fresh, rows)
    monkeypatch.setattr(paths, "WORK_BYTES", part)
    with pytest.raises(OutOfDeviceMemory, match="one row"):
        explained(backend, fresh, rows)


def test_the_largest_tree_that_is_explained_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = Forest.from_model_text(text_of(3, 40, outputs=3))
    _, division = paths.pack_paths(forest, forest.explainer.paths)
    assert division.n_parts == 9
    monkeypatch.setattr(paths, "WORK_BYTES", 1)
    _, division = paths.pack_paths(forest, forest.explainer.paths)
    assert division.n_parts == 3  # each output has one


def test_features_of_a_program_are_explained(backend: CudaBackend) -> None:
    program, random = EVERY_STEP.program(), np.random.default_rng(8)
    features = CpuBackend().transform(program, california(9))
    splits = [Split(int(column), float(features[0, column]), 8) for column in random.permutation(features.shape[1])[:4]]
    text = model_text([tree_text(splits, [0, 0, 1, 2], random.normal(size=5))], features.shape[1])
    forest = Forest.from_model_text(text)
    found = backend.explain(Pipeline(program, (forest,)), california(9), forest.explainer.paths)
    np.testing.assert_allclose(found, forest.explainer.contributions(features), rtol=0, atol=1e-12)


def test_paths_stay_on_the_device(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    forest, other, sent = Forest.from_model_text(text_of(2, 3)), Forest.from_model_text(text_of(2, 3)), []
    to_device = backend._cuda.to_device
    monkeypatch.setattr(backend._cuda, "to_device", lambda array: sent.append(array) or to_device(array))
    for explains, uploaded in ((forest, True), (forest, False), (other, True)):
        sent.clear()
        explained(backend, explains, rows_of(2))
        assert bool(sent) == uploaded


def test_an_engine_measures_the_device_and_explains_by_it(
    backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainer, "GPU_ROWS", 3)
    monkeypatch.setattr(explainer, "REPEATS", 1)
    assert isinstance(backend, Explains)
    forest = Forest.from_model_text(text_of(3, 4))
    engine = Engine(forest, backends=[backend, CpuBackend()])
    devices = {backend.device: next(iter(PREFERRED.values())), CpuBackend().device: next(iter(PREFERRED.values()))}
    engine.warm_up(rows_of(3), devices)
    assert not engine.explains_on_device(10)  # numba's simulator takes longer than the CPU
    monkeypatch.setattr(engine._explainer, "on_device", lambda rows: True)
    found = engine.explain(rows_of(5))
    np.testing.assert_allclose(found.contributions, forest.explainer.contributions(rows_of(5)), rtol=0, atol=1e-12)
    assert engine.status().disabled is None
