"""Large model texts made of a small one, and what it takes to read them."""

import tracemalloc

import lightgbm as lgb
import numpy as np
import pytest

from benchmarks.texts import READERS, read, repeated
from kernels.forest.layout import read_forest
from kernels.forest.model_text import read_model_text

ROWS = np.random.default_rng(0).normal(size=(2000, 8))


@pytest.fixture(scope="module")
def text() -> str:
    settings = {"verbosity": -1, "num_leaves": 127, "num_threads": 1, "min_data_in_leaf": 3}
    return lgb.train(settings, lgb.Dataset(ROWS, ROWS[:, 0] * ROWS[:, 1]), 3).model_to_string()


def test_repeated_trees_add_up(text: str) -> None:
    booster = lgb.Booster(model_str=repeated(text, 8))
    assert booster.num_trees() == read_model_text(repeated(text, 8)).n_trees == 8
    once, first = (lgb.Booster(model_str=text).predict(ROWS, num_iteration=count) for count in (3, 2))
    np.testing.assert_allclose(booster.predict(ROWS), 2 * np.asarray(once) + np.asarray(first))
    assert repeated(text, 3) == text


def test_memory_for_a_text_is_a_few_times_its_size(text: str) -> None:
    peaks: list[float] = []
    for trees in (50, 200):
        large = repeated(text, trees)
        tracemalloc.start()
        try:
            layout = read_forest(large)
            peaks.append(tracemalloc.get_traced_memory()[1] / len(large))
        finally:
            tracemalloc.stop()
        assert layout.n_trees == trees
    assert max(peaks) < 6
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize("by", READERS.values())
def test_a_reading_is_measured(text: str, by: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("texts") / "model.txt"
    path.write_text(repeated(text, 50))
    found = read(path, by)
    assert found["seconds"] > 0
    assert found["peak"] >= found["above"]
    assert found["peak"] > 2**20
