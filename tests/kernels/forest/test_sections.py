"""Texts of every version of LightGBM that 4.7 reads, also changed on their way, and the first iterations of a text."""

import re
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.forest import header, sections
from kernels.forest.booster import read_booster
from kernels.forest.errors import ForestError
from kernels.forest.forest import load_forest
from kernels.forest.model_text import read_model_text
from kernels.forest.sections import divide, first_iterations
from tests.kernels.forest.boosters import old

QUIET = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3, "min_data_per_group": 1, "num_leaves": 6}
CLASSES = {"objective": "multiclass", "num_class": 3}
RANDOM_FOREST = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "regression": {},
    "binary": {"objective": "binary"},
    "classes": CLASSES,
    "forest": RANDOM_FOREST,
    "forest of classes": CLASSES | RANDOM_FOREST,
    "dart": {"boosting": "dart"},
    "linear": {"linear_tree": True},
}
ROWS = np.random.default_rng(0).normal(size=(300, 3))
ROWS[:, 2] = np.arange(300) % 7
ROWS[::9, 0] = np.nan


def train(kind: str, rounds: int = 4, names: Any = "auto") -> lgb.Booster:
    target = np.digitize(np.nan_to_num(ROWS[:, 0]) + ROWS[:, 2] % 2, [0, 1])
    label = target > 0 if kind == "binary" else target
    data = lgb.Dataset(ROWS, label, feature_name=names, categorical_feature=[2])
    return lgb.train(QUIET | KINDS[kind], data, num_boost_round=rounds)


VERSIONS = ("3.3", "2.2", "2.1", "2.0.12", "2.0.7")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear"])
@pytest.mark.parametrize("version", VERSIONS)
def test_texts_of_old_versions_predict_as_lightgbm_does(version: str, kind: str) -> None:
    booster = train(kind)
    text = old(booster.model_to_string(), version)
    assert ("end of trees" in text) == (version in ("3.3", "2.2"))
    assert ("tree_sizes" in text) == (version != "2.0.7")
    judge = lgb.Booster(model_str=text)
    np.testing.assert_array_equal(judge.predict(ROWS), booster.predict(ROWS))
    np.testing.assert_array_equal(load_forest(text).predict(ROWS), judge.predict(ROWS, num_threads=1))
    np.testing.assert_array_equal(read_booster(text).predict(ROWS), judge.predict(ROWS))
    assert read_model_text(text).categorical == (2,)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["binary", "classes"])
def test_an_old_text_that_is_cut_anywhere_is_refused(version: str, kind: str) -> None:
    text = old(train(kind).model_to_string(), version)
    end = divide(text).bounds[-1]
    for length in [*range(0, end, 41), *range(end - 9, end + 1)]:
        with pytest.raises(ForestError):
            read_model_text(text[:length])


def test_a_text_whose_trees_are_not_counted_must_be_an_old_one() -> None:
    text = old(train("binary").model_to_string(), "2.0.7")
    newer = text.replace("tree\n", "tree\nversion=v2\n", 1)
    with pytest.raises(ForestError, match="does not count its trees"):
        read_model_text(newer)


def test_a_text_older_than_those_that_lightgbm_reads_is_refused() -> None:
    text = re.sub("num_cat=.*\n", "", old(train("binary").model_to_string(), "2.0.7"))
    with pytest.raises(lgb.basic.LightGBMError, match="num_cat"):
        lgb.Booster(model_str=text)
    with pytest.raises(ForestError, match=r"^tree 0 of the booster is damaged: it has no num_cat, and LightGBM itself"):
        load_forest(text)


def test_more_trees_than_a_model_may_have_are_refused_uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = old(train("binary").model_to_string(), "2.0.7")
    monkeypatch.setattr(sections, "MAX_TREES", 4)
    assert read_model_text(text).n_trees == 4
    monkeypatch.setattr(sections, "MAX_TREES", 3)
    with pytest.raises(ForestError, match="the booster has 4 trees, and at most 3 are read"):
        read_model_text(text)
    assert header.MAX_TREES == 1_000_000


CHANGES = {
    "a byte-order mark": lambda text: "\ufeff" + text,
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "both": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "lines of an old Macintosh": lambda text: text.replace("\n", "\r"),
}


@pytest.mark.parametrize(
    ("version", "kind"), [("4", "classes"), ("4", "linear"), ("2.1", "classes"), ("2.0.7", "classes")]
)
@pytest.mark.parametrize("change", CHANGES)
def test_a_text_changed_on_its_way_predicts_the_same(change: str, version: str, kind: str) -> None:
    text = train(kind, names=["größe", "a\u2028b", "區"]).model_to_string()
    text = text if version == "4" else old(text, version)
    expected = lgb.Booster(model_str=text).predict(ROWS)
    changed = load_forest(CHANGES[change](text))
    assert changed.feature_names == ("größe", "a\u2028b", "區")
    np.testing.assert_array_equal(changed.predict(ROWS), expected)


def test_lines_of_windows_do_not_hide_categories() -> None:
    text = train("regression").model_to_string().replace("pandas_categorical:null", 'pandas_categorical:[["a", "b"]]')
    model = read_model_text(text.replace("\n", "\r\n"))
    assert (model.categorical, model.pandas_categories) == ((2,), (("a", "b"),))


def first(booster: lgb.Booster, count: int) -> NDArray[np.float64]:
    return np.asarray(booster.predict(ROWS, num_iteration=count, num_threads=1))


@pytest.mark.parametrize(
    ("version", "kind"), [*(("4", kind) for kind in KINDS), *((version, "classes") for version in VERSIONS)]
)
def test_first_iterations_predict_as_lightgbm_with_as_many(kind: str, version: str) -> None:
    booster = train(kind, rounds=5)
    text = booster.model_to_string() if version == "4" else old(booster.model_to_string(), version)
    for count in range(1, 8):
        cut = first_iterations(text, count)
        assert read_model_text(cut).n_trees == min(count, 5) * booster.num_model_per_iteration()
        np.testing.assert_array_equal(load_forest(cut).predict(ROWS), first(booster, count))
        assert divide(cut).rest == divide(text).rest


def test_first_iterations_of_todays_text_are_what_lightgbm_writes_of_them() -> None:
    booster = train("classes", rounds=5)
    cut = first_iterations("\ufeff" + booster.model_to_string().replace("\n", "\r\n"), 2)
    end = cut.index("end of trees")
    assert cut[:end] == booster.model_to_string(num_iteration=2)[:end]


def test_a_cut_to_no_iteration_is_refused() -> None:
    with pytest.raises(ValueError, match="0 iterations"):
        first_iterations(train("binary").model_to_string(), 0)


def test_a_cut_of_a_damaged_text_is_refused() -> None:
    text = train("binary").model_to_string()
    with pytest.raises(ForestError):
        first_iterations(text[: text.index("end of trees")], 1)
