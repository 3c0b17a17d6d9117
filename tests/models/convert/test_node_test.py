"""Which way a value goes at a node: LightGBM's own answer is the right one."""

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models.convert.node_test import NodeTest, bitmap

STUMP = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=0
objective=regression
feature_names=a
feature_infos=[0:1]
tree_sizes={size}

{tree}end of trees

parameters:
end of parameters
"""
TREE = """Tree=0
num_leaves=2
num_cat={n_sets}
split_feature=0
split_gain=1
threshold={threshold}
decision_type={decision}
left_child=-1
right_child=-2
leaf_value=1 0
leaf_weight=1 1
leaf_count=1 1
internal_value=0
internal_weight=2
internal_count=2
{sets}is_linear=0
shrinkage=1


"""
VALUES = np.array(
    [-np.inf, -1e300, -33.0, -1.5, -1.0, -0.5, -1e-35, -1e-36, -0.0, 0.0, 5e-324, 1e-36, 1.1e-35, 0.5, 1.0, 2.9, 31.0,
     32.0, 40.0, 64.0, 1e9, 1e300, np.inf, np.nan]
)  # fmt: skip


def lightgbm_says(test: NodeTest) -> list[bool]:
    words = np.frombuffer(test.members, np.uint32)
    sets = f"cat_boundaries=0 {len(words)}\ncat_threshold={' '.join(map(str, words))}\n" if test.categorical else ""
    threshold = "0" if test.categorical else repr(test.threshold)
    tree = TREE.format(n_sets=int(test.categorical), threshold=threshold, decision=test.decision, sets=sets)
    booster = lgb.Booster(model_str=STUMP.format(size=len(tree), tree=tree))
    return [bool(leaf) for leaf in np.asarray(booster.predict(VALUES[:, None]))]


@pytest.mark.parametrize("decision", [0, 2, 4, 6, 8, 10])
@pytest.mark.parametrize("threshold", [-np.inf, -1.0, 0.0, 1e-35, 0.5, 5e-324, 1e300, np.inf])
def test_numbers_go_the_way_that_lightgbm_sends_them(decision: int, threshold: float) -> None:
    test = NodeTest(0, threshold, decision)
    assert test.goes_left(VALUES).tolist() == lightgbm_says(test)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(members=st.sets(st.integers(0, 70), min_size=0))
def test_categories_go_the_way_that_lightgbm_sends_them(members: set[int]) -> None:
    chosen = np.isin(np.arange(max(members, default=0) + 1), list(members))
    test = NodeTest(0, 0.0, 1, bitmap(chosen).tobytes())
    # Beyond 32 bits LightGBM's conversion to int has no defined result.
    small = np.isnan(VALUES) | (np.abs(VALUES) < 2**31)
    assert test.goes_left(VALUES)[small].tolist() == np.array(lightgbm_says(test))[small].tolist()
    assert set(np.flatnonzero(test.goes_left(np.arange(100.0)))) == members
