"""The header of a model text: names and lines that LightGBM reads are read, and others are refused with a reason."""

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forest.errors import ForestError
from kernels.forest.header import read_header
from kernels.forest.model_text import read_model_text
from tests.kernels.forest.boosters import Split, model_text, tree_text

TEXT = model_text([tree_text([Split(1, 0.5, 0)], [0], [1.0, 2.0])], 3)
NAMES = "feature_names=Column_0 Column_1 Column_2"
ROWS = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

ODD = [
    *("a\x0bb", "a\x0cb", "a\x1cb", "a\x1db", "a\x1eb", "a\x85b", "a\u2028b", "a\u2029b", "a\tb", "\t", "a\x01b"),
    *("a\x7fb", "a=b", "=a", "a=", "=a=", "a\\nb", "a\xa0b", "\u3000", "\ufeff", "é", "e\u0301", "😀", "Tree=0", "%"),
    *("x" * 100_000, "tree_sizes=5", "objective=x=y", "end_of_trees", "pandas_categorical:[[]]"),
]


def named(names: str) -> str:
    return TEXT.replace(NAMES, f"feature_names={names}")


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_names_are_those_that_lightgbm_reads(name: str, place: int) -> None:
    text = named(" ".join([*"ab"[:place], name, *"cd"[place:]][:3]))
    assert read_model_text(text).feature_names == tuple(lgb.Booster(model_str=text).feature_name())


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)


@settings(max_examples=3 * settings.default.max_examples)
@given(st.lists(texts | st.sampled_from(["=", " ", "a", "a "]), min_size=1, max_size=4).map(" ".join))
def test_any_names_are_those_that_lightgbm_reads_or_refused(names: str) -> None:
    text = named(names)
    try:
        expected = lgb.Booster(model_str=text).feature_name()
    except lgb.basic.LightGBMError:
        with pytest.raises(ForestError, match="the booster's header"):
            read_model_text(text)
    else:
        assert read_model_text(text).feature_names == tuple(expected)


@pytest.mark.parametrize("blanks", ["Column_0  Column_1 Column_2", " Column_0 Column_1 Column_2 "])
def test_blanks_between_names_may_be_several(blanks: str) -> None:
    assert read_model_text(named(blanks)).feature_names == ("Column_0", "Column_1", "Column_2")


@pytest.mark.parametrize(
    ("line", "instead", "reason"),
    [
        (NAMES, "feature_names=a b", r"names 2 features, and counts 3"),
        (NAMES, "feature_names=", r"names 0 features, and counts 3"),
        (NAMES, "", "is damaged: 'feature_names'"),
        (NAMES, "feature_names=a\rb c d", r"names 1 features, and counts 3"),
        (NAMES, f"{NAMES}\n{NAMES}", "is damaged: feature_names appears twice"),
        ("feature_infos=none none none", "feature_infos=none", "has feature_infos of 1 features, and counts 3"),
        ("feature_infos=none none none", "", "is damaged: 'feature_infos'"),
        ("label_index=0", "", "is damaged: label_index is not one whole number"),
        (
            "label_index=0",
            "label_index=0\nmonotone_constraints=1 0",
            "monotone_constraints is not one for each",
        ),
        ("objective=regression", "objective=regression=sqrt=2", "objective has more than one equals sign"),
        ("objective=regression", "objective=regression\nnew=a=b", "new has more than one equals sign"),
        ("num_class=1", "", "is damaged: num_class is not one whole number"),
    ],
)
def test_lines_that_lightgbm_refuses_are_refused(line: str, instead: str, reason: str) -> None:
    text = TEXT.replace(line, instead, 1)
    if "twice" not in reason:
        with pytest.raises(lgb.basic.LightGBMError):
            lgb.Booster(model_str=text)
    with pytest.raises(ForestError, match=f"^the booster's header .*{reason}"):
        read_model_text(text)


def test_monotone_constraints_are_read() -> None:
    text = TEXT.replace("label_index=0", "label_index=0\nmonotone_constraints=1 0 -1")
    assert lgb.Booster(model_str=text).predict(ROWS).tolist() == [1.0, 2.0]
    assert read_model_text(text).n_trees == 1


def test_an_iteration_has_as_many_trees_as_classes_unless_it_is_said() -> None:
    assert read_model_text(TEXT.replace("num_tree_per_iteration=1\n", "")).n_outputs == 1


def test_a_model_has_at_least_one_output() -> None:
    head = TEXT[: TEXT.index("\nTree=")].replace("num_class=1", "num_class=0").replace("iteration=1", "iteration=0")
    with pytest.raises(ForestError, match="has 0 outputs"):
        read_header(head)
