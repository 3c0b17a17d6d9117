"""The benchmark of the forest: what it calls equal, which rows it calls with, and that it outlives its peers."""

from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from benchmarks.forest import BATCHES, PEERS, Comparison, Settings, largest_error
from benchmarks.pages.forest import page
from benchmarks.peers.process import Peer, PeerError, Process, python_of
from benchmarks.peers.worker import Worker

SCORES = np.array([0.1, 0.0, 3.0])


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    cache = tmp_path_factory.mktemp("cache")
    (cache / "logs").mkdir()
    np.save(cache / "rows.npy", np.random.default_rng(0).normal(size=(max(BATCHES), 3)))
    return Settings(rounds=2, seconds=0, cache=cache, rows=cache / "rows.npy")


@pytest.fixture(scope="module")
def model(settings: Settings) -> Path:
    rows = np.load(settings.rows)[:500]
    path = settings.cache / "model.txt"
    lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(rows, rows[:, 0] * rows[:, 1]), 5).save_model(path)
    return path


def test_scores_are_equal_when_every_bit_is() -> None:
    assert largest_error([SCORES[:2].copy(), SCORES.copy()], SCORES) == 0


@pytest.mark.parametrize("other", [np.nextafter(0.1, 1), 0.1 + 1e-6])
def test_a_difference_in_one_batch_size_is_told(other: float) -> None:
    assert largest_error([np.array([other]), SCORES], SCORES) == other - 0.1


def test_zeros_of_different_signs_are_not_equal() -> None:
    assert largest_error([np.array([0.1, -0.0, 3.0])], SCORES) not in (0, None)


def test_features_are_not_compared_with_scores() -> None:
    assert largest_error([np.zeros((3, 8))], SCORES) is None


def test_every_call_takes_the_next_rows() -> None:
    worker = Worker("lightgbm")
    worker.rows = np.arange(5)[:, None]
    seen: list[list[int]] = []
    worker.predict = lambda rows: seen.append(rows[:, 0].tolist())
    worker._call(2, 3)
    assert seen == [[0, 1], [2, 3], [0, 1]]


def test_a_peer_without_an_installer_is_said_to_be_not_installed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(settings.cache))
    with pytest.raises(PeerError, match=r"not installed: .*uv"):
        python_of(Peer("a peer", "lleaves", "lleaves"), settings.cache)


def test_a_worker_tells_what_went_wrong_and_that_it_ended(settings: Settings) -> None:
    process = Process(Peer("a peer", "absent"), settings.cache)
    try:
        with pytest.raises(PeerError, match="first: ModuleNotFoundError"):
            process.ask("first")
        process._kill()
        with pytest.raises(PeerError, match="first: ended with -9"):
            process.ask("first")
    finally:
        process.close()


def test_the_report_is_of_the_engines_that_work_and_names_the_others(
    settings: Settings, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(settings.cache))
    lleaves = next(peer for peer in PEERS if peer.module == "lleaves")
    found = Comparison(model, settings).run((*PEERS[:2], lleaves))
    assert list(found["engines"]) == ["LightGBM, 1 thread", "Madrone"]
    assert all(engine["largest_error"] == 0 for engine in found["engines"].values())
    head = {"machine": "", "versions": {}, "rounds": 2, "seconds": 0.0}
    text = page(head | {"models": {"5 trees": found}})
    assert "| Madrone | " in text
    assert "lleaves was not measured: not installed" in text
