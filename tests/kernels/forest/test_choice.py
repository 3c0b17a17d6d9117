"""The choice of kernels is the same whatever the noise, and follows clear gains."""

from collections.abc import Callable

import lightgbm as lgb
import numpy as np
import pytest

from kernels.forest.choice import DEFAULT, MOST_ROWS, KernelChoice, measure_choice, sample_rows
from kernels.forest.forest import Forest
from kernels.forest.status import Kernel

ROWS = np.zeros((MOST_ROWS, 2))


class Machine:
    """A clock that kernels move: each takes so many ns a call and a row, and something now and then disturbs it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, noise: float = 0.0, seed: int = 0) -> None:
        self.now = 0
        self.calls = 0
        self._noise, self._random = noise, np.random.default_rng(seed)
        monkeypatch.setattr("time.thread_time_ns", lambda: self.now)

    def kernel(self, call: float, row: float) -> Callable[[np.ndarray, np.ndarray], None]:
        def evaluate(rows: np.ndarray, out: np.ndarray) -> None:
            assert len(out) == len(rows)
            self.calls += 1
            self.now += int((call + row * len(rows)) * (1 + self._noise * self._random.exponential()))

        return evaluate

    def choice(self, quickscorer: float, traversal: float, sliced: tuple[float, float]) -> KernelChoice:
        """What is chosen where a row takes so long by the first two, and a call and a row by the third."""
        kernels: dict[Kernel, Callable[[np.ndarray, np.ndarray], None]] = {
            "quickscorer": self.kernel(0, quickscorer),
            "traversal": self.kernel(0, traversal),
            "sliced": self.kernel(*sliced),
        }
        return measure_choice(kernels, ROWS, 1)


CASES = [
    # ns a row by either kernel; ns a call and a row by the bit-sliced one.
    (8_000, 9_000, (200_000, 1_000), KernelChoice("quickscorer", 32)),
    (8_000, 5_000, (150_000, 1_000), KernelChoice("traversal", 32)),
    (8_000, 7_800, (200_000, 1_000), KernelChoice("quickscorer", 32)),  # no clear gain
    (8_000, 9_000, (50_000, 1_000), KernelChoice("quickscorer", 16)),
    (8_000, 9_000, (1_000, 100), KernelChoice("quickscorer", 1)),
    (8_000, 9_000, (700_000, 1_000), KernelChoice("quickscorer", 128)),
    (8_000, 9_000, (3_000_000, 1_000), KernelChoice("quickscorer", 512)),
    (8_000, 9_000, (9_000_000, 1_000), KernelChoice("quickscorer", None)),
    (8_000, 9_000, (0, 9_000), KernelChoice("quickscorer", 32)),
]


@pytest.mark.parametrize(("quickscorer", "traversal", "sliced", "expected"), CASES)
def test_the_default_is_left_for_a_clear_gain(
    monkeypatch: pytest.MonkeyPatch,
    quickscorer: float,
    traversal: float,
    sliced: tuple[float, float],
    expected: KernelChoice,
) -> None:
    assert Machine(monkeypatch).choice(quickscorer, traversal, sliced) == expected
    for seed in range(20):
        assert Machine(monkeypatch, 0.1, seed).choice(quickscorer, traversal, sliced) == expected


def test_slow_kernels_are_measured_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    assert machine.choice(1e8, 2e8, (1e9, 1e7)) == KernelChoice("quickscorer", 16)
    assert machine.calls < 200
    assert machine.now < 120e9


def test_the_default_is_one_of_what_can_be_chosen() -> None:
    assert DEFAULT.few_rows in ("quickscorer", "traversal")
    assert DEFAULT.many_rows == 2 ** (DEFAULT.many_rows or 0).bit_length() // 2


def test_rows_to_measure_with_go_many_ways() -> None:
    X = np.random.default_rng(0).normal(size=(300, 4))
    X[::9, 1] = np.nan
    settings = {"objective": "regression", "num_leaves": 7, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    booster = lgb.train(settings, lgb.Dataset(X, np.nansum(X, axis=1)), num_boost_round=5)
    forest = Forest.from_booster(booster)
    sample = sample_rows(forest.predicates, forest.n_features)
    np.testing.assert_array_equal(sample, sample_rows(forest.predicates, forest.n_features))
    leaves = np.asarray(booster.predict(sample, pred_leaf=True, num_threads=1))
    # Not all: some leaves are behind both a missing value and its absence.
    assert min(len(np.unique(column)) for column in leaves.T) >= 5
