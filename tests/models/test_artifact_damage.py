"""Damaged model files are refused with the place of the damage, and crash nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.models.support import (
    SavedModel,
    changed,
    refusal,
    tiny_booster,
    with_booster,
)
from tests.support import ROOT

Outcomes = Callable[[Iterable[str], Path], list[str]]

READER = """
import json, os, pathlib, sys
import numpy as np
from app.models.artifact import read_artifact
from app.models.refusal import ModelRefused

def predict(directory):
    forest = read_artifact(pathlib.Path(directory)).forest
    rows = np.random.default_rng(7).normal(size=(20, forest.n_features))
    return forest.predict(rows).tolist()

predict(sys.argv[1])  # loads the kernels
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            outcome = "served " + json.dumps(predict(json.loads(line)))
        except ModelRefused as error:
            outcome = f"refused: {error}"
        except Exception as error:
            outcome = f"raised {type(error).__name__}: {error}"
        print(json.dumps(outcome), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        print(json.dumps("the process ended"), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(saved: SavedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """What `read_artifact` makes of each booster text: "refused: …", "served …", "raised …", or "the process ended".

    Each is read in another process, since damage that LightGBM meets in a tree ends the process that it is in; all are
    forked from one, which has imported what they need.
    """
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(saved.directory)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def outcome(text: str, model: Path) -> str:
        assert reader.stdin is not None
        assert reader.stdout is not None
        directory = with_booster(text, model, tmp_path_factory.mktemp("damaged") / "model")
        reader.stdin.write(json.dumps(str(directory)) + "\n")
        reader.stdin.flush()
        # LightGBM writes its own complaints to the same stream.
        return json.loads(next(line for line in reader.stdout if line.startswith('"')))

    with reader:
        yield lambda texts, model: [outcome(text, model) for text in texts]
        reader.kill()


def test_a_booster_cut_anywhere_in_its_trees_is_refused(saved: SavedModel, outcomes: Outcomes) -> None:
    text = saved.booster.model_to_string()
    cuts = np.linspace(0, text.find("end of trees"), 40).astype(int)
    results = outcomes([text[:cut] for cut in cuts], saved.directory)
    assert [result for result in results if not result.startswith("refused: ")] == []


def test_a_booster_cut_after_its_trees_is_refused_or_predicts_the_same(saved: SavedModel, outcomes: Outcomes) -> None:
    text = saved.booster.model_to_string()
    cuts = np.linspace(text.find("end of trees") + len("end of trees\n"), len(text), 12).astype(int)
    *results, whole = outcomes([*(text[:cut] for cut in cuts), text], saved.directory)
    assert whole.startswith("served ")
    assert [result for result in results if not result.startswith("refused: ") and result != whole] == []


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("left_child", "99 99 99 99 99", "tree 0 of the booster has a child that does not exist"),
        ("left_child", "-99 -1 -1 -1 -1", "tree 0 of the booster has a child that does not exist"),
        ("right_child", "0 0 0 0 0", "tree 0 of the booster has a child that does not exist"),
        ("right_child", "1", "tree 0 of the booster has 1 numbers in right_child, not 5"),
        ("right_child", None, "tree 0 of the booster has 0 numbers in right_child, not 5"),
        ("leaf_value", "1 nan 1 1 1 1", "tree 0 of the booster has a leaf value that is not a number"),
        ("leaf_value", "1 1 1", "6 leaves and 3 leaf values"),
        ("leaf_value", "a b c d e f", "tree 0 of the booster is damaged"),
        ("leaf_value", None, "6 leaves and 0 leaf values"),
        ("split_feature", "3 0 0 0 0", "tree 0 of the booster splits on a feature that does not exist"),
        ("split_feature", "-1 0 0 0 0", "tree 0 of the booster splits on a feature that does not exist"),
        ("threshold", "x x x x x", "tree 0 of the booster is damaged"),
        ("threshold", "0", "tree 0 of the booster has 1 numbers in threshold, not 5"),
        ("decision_type", "", "tree 0 of the booster has 0 numbers in decision_type, not 5"),
        ("num_leaves", "1000000000", "1000000000 leaves and 6 leaf values"),
        ("num_leaves", "0", "0 leaves and 6 leaf values"),
        ("num_leaves", "-5", "-5 leaves and 6 leaf values"),
        ("tree_sizes", "1 2 3", "cut or damaged at tree 0 of 3"),
        ("tree_sizes", "-1 -1 -1", "cut or damaged at tree 0 of 3"),
        ("tree_sizes", "999999999 1 1", "cut or damaged at tree 0 of 3"),
        ("tree_sizes", "x", "the booster's header is damaged"),
        ("max_feature_idx", "1", "the booster's header names 3 features, and counts 2"),
        ("max_feature_idx", None, "the booster's header is damaged"),
        ("num_tree_per_iteration", "2", "1 classes, 2 outputs"),
        ("num_tree_per_iteration", "0", "1 classes, 0 outputs"),
    ],
)
def test_a_damaged_booster_is_refused_with_its_place(
    key: str, value: str | None, reason: str, saved: SavedModel, tmp_path: Path
) -> None:
    text = changed(saved.booster.model_to_string(), key, value)
    assert reason in refusal(with_booster(text, saved.directory, tmp_path / "model"))


def test_damage_to_unused_fields_is_refused_or_harmless(saved: SavedModel, outcomes: Outcomes) -> None:
    text = saved.booster.model_to_string()
    damage = [
        (key, "abc") for key in ("internal_value", "internal_weight", "split_gain", "shrinkage", "internal_count")
    ]
    damage += [("leaf_weight", value) for value in ("", "1", "abc")]
    *results, whole = outcomes([*(changed(text, *change) for change in damage), text], saved.directory)
    told = dict(zip(damage, results, strict=True))
    assert {key: it for key, it in told.items() if not it.startswith("refused: ") and it != whole} == {}


def test_damaged_categories_are_refused(saved: SavedModel, outcomes: Outcomes) -> None:
    text = tiny_booster(categorical_feature=[2], min_data_per_group=2, cat_smooth=1).model_to_string()
    damage = [("num_cat", value) for value in (None, "2", "-1", "x", "999999")]
    damage += [("cat_boundaries", value) for value in (None, "", "0", "1 0", "0 99999", "0 -1", "x y")]
    damage += [("cat_threshold", value) for value in (None, "", "x")]
    # The first tree has no categorical split, so that its count is 0 rightly: a later tree's is not.
    damage += [("num_cat=1", "num_cat=0")]
    texts = [*(changed(text, *change) for change in damage[:-1]), text.replace("num_cat=1", "num_cat=0", 1)]
    results = outcomes(texts, saved.directory)
    told = dict(zip(damage, results, strict=True))
    assert {key: it for key, it in told.items() if not it.startswith("refused: ")} == {}


def test_categories_in_a_tree_that_has_none_are_refused(saved: SavedModel, outcomes: Outcomes) -> None:
    text = saved.booster.model_to_string()
    damage = [("num_cat", value) for value in (None, "1", "999999", "1_0")]
    results = outcomes((changed(text, *change) for change in damage), saved.directory)
    told = dict(zip(damage, results, strict=True))
    assert {key: it for key, it in told.items() if not it.startswith("refused: ")} == {}


def test_a_damaged_linear_tree_is_refused(saved: SavedModel, outcomes: Outcomes) -> None:
    text = tiny_booster(linear_tree=True).model_to_string()
    damage = [("leaf_const", value) for value in ("", "1", "abc")]
    damage += [("num_features", value) for value in ("1", "-1 -1 -1 -1 -1 -1", "99999 99999 99999 99999 99999 99999")]
    results = outcomes((changed(text, *change) for change in damage), saved.directory)
    told = dict(zip(damage, results, strict=True))
    assert {key: it for key, it in told.items() if not it.startswith("refused: ")} == {}


def test_a_damaged_header_is_refused(saved: SavedModel, outcomes: Outcomes) -> None:
    text = saved.booster.model_to_string()
    damage = [("objective", value) for value in ("", "nothing known", "multiclass num_class:3", "multiclass")]
    damage += [("num_class", value) for value in (None, "3", "-1", "0", "9" * 30)]
    damage += [("tree_sizes", value) for value in (None, "")]
    results = outcomes((changed(text, *change) for change in damage), saved.directory)
    told = dict(zip(damage, results, strict=True))
    assert {key: it for key, it in told.items() if not it.startswith("refused: ")} == {}


def test_categories_that_are_no_json_are_refused(saved: SavedModel, tmp_path: Path) -> None:
    text = saved.booster.model_to_string().replace("pandas_categorical:null", "pandas_categorical:[[")
    assert "booster" in refusal(with_booster(text, saved.directory, tmp_path / "model"))
