"""Slots of trees: who is whose parent, how deep, and which leaves are below."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.forest.model_text import read_model_text
from kernels.forest.tree_shape import shape_of
from tests.kernels.forest.boosters import Split, divisions, model_text, model_texts, tree_text


def test_a_tree_by_hand() -> None:
    # Node 0 splits into node 1 and leaf 1, node 1 into leaf 0 and leaf 2.
    splits = [Split(0, 0.5, 0), Split(0, 1.5, 0)]
    text = model_text([tree_text([], [], [7.0]), tree_text(splits, [0, 0], [10.0, 20.0, 30.0])], 1)
    shape = shape_of(read_model_text(text).trees)
    assert shape.start.tolist() == [0, 1, 6]
    assert shape.tree.tolist() == [0, 1, 1, 1, 1, 1]
    root, inner, *leaves = range(1, 6)
    assert shape.node.tolist() == [root, inner]
    assert shape.left.tolist() == [inner, leaves[0]]
    assert shape.right.tolist() == [leaves[1], leaves[2]]
    assert shape.parent.tolist() == [-1, -1, root, inner, root, inner]
    assert shape.depth.tolist() == [0, 0, 1, 2, 1, 2]
    assert shape.first_leaf.tolist() == [0, 0, 0, 0, 2, 1]
    assert shape.end_leaf.tolist() == [1, 3, 2, 1, 3, 2]
    assert shape.leaf_start.tolist() == [0, 1, 4]
    assert shape.leaf_value.tolist() == [7.0, 10.0, 30.0, 20.0]


@given(text=model_texts(most_nodes=400))
def test_children_share_out_their_parent_s_leaves(text: str) -> None:
    trees = read_model_text(text).trees
    shape = shape_of(trees)
    np.testing.assert_array_equal(shape.first_leaf[shape.left], shape.first_leaf[shape.node])
    np.testing.assert_array_equal(shape.end_leaf[shape.left], shape.first_leaf[shape.right])
    np.testing.assert_array_equal(shape.end_leaf[shape.right], shape.end_leaf[shape.node])
    roots = shape.start[:-1]
    assert (shape.first_leaf[roots] == 0).all()
    np.testing.assert_array_equal(shape.end_leaf[roots], trees.n_leaves)
    np.testing.assert_array_equal(np.sort(shape.leaf_value), np.sort(trees.leaf_value))


@given(leaves=st.integers(2, 3000), seed=st.integers(0, 9))
def test_chains_of_any_length_are_laid_out(leaves: int, seed: int) -> None:
    divided = divisions("left", leaves, np.random.default_rng(seed))
    chain = tree_text([Split(0, 0.0, 0)] * (leaves - 1), divided, [float(leaf) for leaf in range(leaves)])
    text = model_text([chain], 1)
    assert shape_of(read_model_text(text).trees).depth.max() == leaves - 1
