"""The benchmark of explanations: both engines of this environment explain alike, and the page tells what was missed."""

from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from benchmarks.explain import own_figures, page
from benchmarks.peers.explainers import lightgbm as lightgbm_explainer
from benchmarks.peers.explainers import madrone as madrone_explainer


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(500, 3))


@pytest.fixture(scope="module")
def model(rows: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.txt"
    lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(rows, rows[:, 0] * rows[:, 1]), 5).save_model(path)
    return path


def test_engines_explain_alike(model: Path, rows: np.ndarray) -> None:
    found = [engine.load(model, model.parent)(rows[:50]) for engine in (lightgbm_explainer, madrone_explainer)]
    assert found[0].shape == (50, 3)
    np.testing.assert_allclose(*found, rtol=0, atol=1e-12)


def test_memory_and_sums_are_measured(model: Path, rows: np.ndarray) -> None:
    figures = own_figures(model, rows)
    assert figures["memory_bytes"] > 5 * 29 * 192
    assert figures["prepare_s"] > 0
    assert figures["sum_error"] < 1e-12


def test_the_page_judges_each_target_and_names_missing_peers() -> None:
    def engine(us: float, times: float) -> dict[str, object]:
        spread = {"median": us, "low": us, "high": us}
        batches = ("1", "1000")
        return {
            "us_a_row": dict.fromkeys(batches, spread),
            "times_madrones": dict.fromkeys(batches, times),
            "difference": 1e-15,
            "first_s": 0.1,
            "versions": {"lightgbm": "4"},
        }

    model = {
        "engines": {"LightGBM": engine(3800, 50), "Madrone": engine(76, 1)},
        "failed": {"woodelf-explainer": "not installed: no network"},
        "memory_bytes": 200 * 2**20,
        "prepare_s": 0.01,
        "sum_error": 1e-15,
    }
    head = {"machine": "", "versions": {}, "rounds": 2, "seconds": 0.0}
    text = page(head | {"models": {"500 trees of 31 leaves": model}})
    assert "woodelf-explainer was not measured: not installed: no network" in text
    assert "1,000 rows at most 80 µs a row: 76.0 µs. Held." in text
    assert "below 100 MiB: 200.0 MiB. Missed." in text
    assert "20 times LightGBM's speed: Not measured." in text
