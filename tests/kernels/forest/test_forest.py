"""A forest predicts what its booster does, and refuses a text that is not one without harm to the process."""

import threading
from typing import get_args

import lightgbm as lgb
import numpy as np
import pytest

from kernels.forest import forest as forest_module
from kernels.forest.booster import BoosterForest
from kernels.forest.choice import DEFAULT, KernelChoice
from kernels.forest.evaluators import few, sliced
from kernels.forest.forest import Forest, ForestError, UnsupportedForestError, load_forest
from kernels.forest.status import Kernel
from tests.kernels.forest.boosters import assert_same_bits

N_FEATURES = 4
OBJECTIVES = ("regression", "poisson", "binary", "multiclass", "multiclassova")


def train(objective: str, **parameters: object) -> lgb.Booster:
    random = np.random.default_rng(3)
    X = random.normal(size=(600, N_FEATURES))
    X[:, 3] = random.integers(0, 6, 600)
    X[random.random(X.shape) < 0.05] = np.nan
    score = np.nan_to_num(X[:, 0] + X[:, 1] * (X[:, 3] % 2))
    classes = {"binary": 2, "multiclass": 3, "multiclassova": 3}
    target = np.digitize(score, np.quantile(score, [0.5] if objective == "binary" else [0.3, 0.6]))
    if objective not in classes:
        target = np.exp(score) if objective == "poisson" else score
    settings = {"objective": objective, "num_leaves": 7, "verbosity": -1, "num_threads": 1, "deterministic": True}
    if classes.get(objective, 0) > 2:
        settings["num_class"] = classes[objective]
    data = lgb.Dataset(X, target, categorical_feature=[3], free_raw_data=False)
    return lgb.train(settings | parameters, data, num_boost_round=8)


@pytest.fixture(scope="module")
def boosters() -> dict[str, lgb.Booster]:
    return {objective: train(objective) for objective in OBJECTIVES}


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """float64[B, F], with missing values, infinities, denormals and categories that training has not seen."""
    values = [np.nan, np.inf, -np.inf, 5e-324, -1e-35, 0.0, -0.0, 1e308, 3.0, -2.0, 99.0]
    random = np.random.default_rng(4)
    return np.concatenate([random.normal(size=(300, N_FEATURES)), random.choice(values, (700, N_FEATURES))])


@pytest.mark.parametrize("raw_score", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_predicts_what_the_booster_predicts(
    boosters: dict[str, lgb.Booster], rows: np.ndarray, objective: str, raw_score: bool
) -> None:
    booster = boosters[objective]
    forest = Forest.from_booster(booster)
    expected = booster.predict(rows, raw_score=raw_score, num_threads=1)
    for count in (1, 7, len(rows)):
        got = forest.predict(rows[:count], raw_score)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, expected[:count])


def test_what_the_kernels_do_not_evaluate_is_left_to_lightgbm(rows: np.ndarray) -> None:
    booster = train("regression", linear_tree=True)
    text, finite = booster.model_to_string(), np.where(np.isfinite(rows), rows, np.nan)
    with pytest.raises(UnsupportedForestError, match="linear trees"):
        Forest.from_model_text(text)
    forest = load_forest(text)
    assert isinstance(forest, BoosterForest)
    assert forest.status.evaluator == "lightgbm"
    assert "linear trees" in str(forest.status.reason)
    np.testing.assert_array_equal(forest.predict(finite), booster.predict(finite, num_threads=1))
    np.testing.assert_array_equal(forest.predict(finite, True), booster.predict(finite, raw_score=True, num_threads=1))
    with pytest.raises(ValueError, match=r"\(rows, 4\)"):
        forest.predict(finite[:, 1:])
    assert forest.predict(finite[:0]).shape == (0,)
    assert isinstance(load_forest(train("regression").model_to_string()), Forest)


def test_a_random_forest_is_averaged(rows: np.ndarray) -> None:
    booster = train("regression", boosting="rf", bagging_freq=1, bagging_fraction=0.6)
    np.testing.assert_array_equal(Forest.from_booster(booster).predict(rows), booster.predict(rows, num_threads=1))


def test_stops_at_the_best_iteration(rows: np.ndarray) -> None:
    booster = train("regression")
    booster.best_iteration = 3
    forest = Forest.from_booster(booster)
    assert forest.n_trees == 3
    np.testing.assert_array_equal(forest.predict(rows), booster.predict(rows, num_threads=1))


def test_features_of_float32_are_widened(boosters: dict[str, lgb.Booster], rows: np.ndarray) -> None:
    forest = Forest.from_booster(boosters["regression"])
    with np.errstate(over="ignore"):
        narrow = rows.astype(np.float32)
    np.testing.assert_array_equal(forest.predict(narrow), forest.predict(narrow.astype(np.float64)))
    np.testing.assert_array_equal(forest.predict(rows[::2, ::-1]), forest.predict(rows[::2, ::-1].copy()))


@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_rows_of_any_layout_are_taken_without_another_compilation(
    boosters: dict[str, lgb.Booster], rows: np.ndarray, kernel: Kernel
) -> None:
    forest = Forest.from_booster(boosters["regression"], kernel)
    expected = forest.predict(rows)
    compiled = [len(function.signatures) for function in (few.predict, sliced.predict)]
    readonly = rows.copy()
    readonly.flags.writeable = False
    unaligned = np.frombuffer(b"-" + rows.tobytes(), dtype=np.uint8)[1:].view(np.float64).reshape(rows.shape)
    swapped = rows.astype(rows.dtype.newbyteorder())
    for X in (readonly, unaligned, swapped, np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2]):
        for count in (1, len(rows)):
            assert_same_bits(forest.predict(X[:count]), expected[:count])
    assert [len(function.signatures) for function in (few.predict, sliced.predict)] == compiled


@pytest.mark.parametrize(
    ("objective", "outputs", "trees"), [("regression", 1, 8), ("binary", 1, 8), ("multiclass", 3, 24)]
)
def test_says_what_it_is(boosters: dict[str, lgb.Booster], objective: str, outputs: int, trees: int) -> None:
    forest = Forest.from_model_text(boosters[objective].model_to_string())
    assert forest.n_features == N_FEATURES
    assert forest.feature_names == ("Column_0", "Column_1", "Column_2", "Column_3")
    assert forest.n_outputs == outputs
    assert forest.n_trees == trees
    assert forest.objective.split()[0] == objective


def test_no_rows_give_no_predictions(boosters: dict[str, lgb.Booster]) -> None:
    nothing = np.empty((0, N_FEATURES))
    assert Forest.from_booster(boosters["regression"]).predict(nothing).shape == (0,)
    assert Forest.from_booster(boosters["multiclass"]).predict(nothing).shape == (0, 3)


@pytest.mark.parametrize("shape", [(2, 3), (2, 5), (4,), (1, 2, 4)])
def test_refuses_another_number_of_columns(boosters: dict[str, lgb.Booster], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected .*\(rows, 4\), got "):
        Forest.from_booster(boosters["regression"]).predict(np.zeros(shape))


def test_a_stump_of_one_leaf_is_a_tree() -> None:
    data = lgb.Dataset(np.zeros((50, 2)), np.full(50, 2.5), free_raw_data=False)
    booster = lgb.train({"objective": "regression", "verbosity": -1, "num_threads": 1}, data, num_boost_round=2)
    np.testing.assert_array_equal(
        Forest.from_booster(booster).predict(np.ones((3, 2))), booster.predict(np.ones((3, 2)))
    )


@pytest.mark.parametrize("linear", [False, True], ids=["kernels", "lightgbm"])
def test_calls_at_once_do_not_disturb_one_another(rows: np.ndarray, linear: bool) -> None:
    # LightGBM with different numbers of threads writes past its buffers, which ends the process (see booster_forest).
    forest = load_forest(train("regression", linear_tree=linear).model_to_string())
    large = np.tile(rows, (3, 1))
    large[~np.isfinite(large)] = np.nan
    expected, right, together = forest.predict(large), [], threading.Barrier(4)

    def work(batch: np.ndarray, times: int) -> None:
        together.wait()
        right.append(all(np.array_equal(forest.predict(batch), expected[: len(batch)]) for _ in range(times)))

    loads = [(large[:4], 3000), (large[:4], 3000), (large, 60), (large, 60)]
    threads = [threading.Thread(target=work, args=load) for load in loads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


def test_refuses_a_text_that_is_cut_anywhere(boosters: dict[str, lgb.Booster], capfd: pytest.CaptureFixture) -> None:
    text = boosters["regression"].model_to_string()
    end = text.index("end of trees")
    for length in [*range(0, end, 97), end]:
        with pytest.raises(ForestError):
            Forest.from_model_text(text[:length])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_leaves=7", "num_leaves=8"),
        ("leaf_value=", "leaf_value=x"),
        ("leaf_weight=", "leaf_weight=x"),
        ("internal_value=", "internal_value=x"),
        ("split_gain=", "split_gain=1_0 "),
        ("split_feature=", "split_feature=9 "),
        ("left_child=", "left_child=0 "),
        ("threshold=", "threshold=1 "),
        ("decision_type=", "decision_type=1 "),
        ("max_feature_idx=3", "max_feature_idx=1"),
        ("max_feature_idx=3", "max_feature_idx="),
        ("objective=regression", "objective="),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=3"),
        ("num_class=1", "num_class=7"),
        ("num_class=1", "num_class=-1"),
        ("num_cat=0", "num_rat=0"),
        ("num_leaves=7", "num_leaves=\u0667"),
        ("shrinkage=", "shrinkage=\0"),
    ],
)
def test_refuses_damaged_numbers_before_lightgbm_dies_of_them(
    boosters: dict[str, lgb.Booster], old: str, new: str
) -> None:
    lines = boosters["regression"].model_to_string().split("\n")
    at = next(index for index, line in enumerate(lines) if line.startswith(old))
    damaged = lines[at].replace(old, new)
    if len(damaged) > len(lines[at]) and at > lines.index("Tree=0"):
        # The header counts each tree's bytes: what is put in must come out elsewhere in the line.
        damaged = damaged[: len(lines[at])]
    lines[at] = damaged
    with pytest.raises(ForestError):
        Forest.from_model_text("\n".join(lines))


def test_a_kernel_can_be_chosen(boosters: dict[str, lgb.Booster]) -> None:
    booster = boosters["regression"]
    assert Forest.from_booster(booster, "sliced").status.many_rows == 0
    assert Forest.from_booster(booster, "traversal").status.few_rows == "traversal"
    assert Forest.from_booster(booster, "quickscorer").status.many_rows is None


def test_which_kernels_are_used_is_a_default_until_measured(
    boosters: dict[str, lgb.Booster], rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.thread_time_ns", lambda: pytest.fail("a constructor measures nothing"))
    forest = Forest.from_booster(boosters["regression"])
    assert (forest.status.few_rows, forest.status.many_rows) == DEFAULT
    expected = forest.predict(rows)
    for choice in (KernelChoice("traversal", 10), KernelChoice("quickscorer", None), KernelChoice("traversal", 1)):
        monkeypatch.setattr(forest_module, "measure_choice", lambda *_, choice=choice: choice)
        forest.measure()
        assert (forest.status.few_rows, forest.status.many_rows) == choice
        assert_same_bits(forest.predict(rows), expected)
        used: list[str] = []
        with monkeypatch.context() as patch:
            for name in ("_few", "_many"):
                own = getattr(forest, name)
                patch.setattr(
                    forest, name, lambda rows, out, name=name, own=own, used=used: (used.append(name), own(rows, out))
                )
            for count in (1, 9, 10, 600):
                forest.predict(rows[:count])
        many = choice.many_rows
        assert used == ["_many" if many is not None and count >= many else "_few" for count in (1, 9, 10, 600)]


def test_a_kernel_that_was_given_is_not_measured(
    boosters: dict[str, lgb.Booster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forest_module, "measure_choice", lambda *_: pytest.fail("nothing is to be measured"))
    forest = Forest.from_booster(boosters["regression"], "traversal")
    forest.measure()
    assert (forest.status.few_rows, forest.status.many_rows) == ("traversal", None)


def test_measuring_twice_gives_kernels_of_the_same_bits(boosters: dict[str, lgb.Booster], rows: np.ndarray) -> None:
    forest = Forest.from_booster(boosters["multiclass"])
    expected = forest.predict(rows)
    for _ in range(2):
        forest.measure()
        assert forest.status.few_rows in ("quickscorer", "traversal")
        assert_same_bits(forest.predict(rows), expected)
