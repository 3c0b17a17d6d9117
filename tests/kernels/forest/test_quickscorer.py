"""Trees share words, and no tree is divided that fits into one."""

import numpy as np
import pytest

from kernels.forest.evaluators.quickscorer import WORD, QuickScorer, quick_scorer
from kernels.forest.model_text import read_model_text
from kernels.forest.predicates import collect
from kernels.forest.tree_shape import shape_of
from tests.kernels.forest.boosters import Split, divisions, model_text, tree_text


def laid_out(*leaves: int) -> QuickScorer:
    """Trees of so many leaves, whose values count through all trees, and whose thresholds are all different."""
    random = np.random.default_rng(0)
    values = np.split(np.arange(1.0, sum(leaves) + 1), np.cumsum(leaves)[:-1])
    texts = []
    for own in values:
        divided = divisions("right", len(own), random)
        texts.append(tree_text([Split(0, random.normal(), 0) for _ in divided], divided, own.tolist()))
    trees = read_model_text(model_text(texts, 1)).trees
    return quick_scorer(shape_of(trees), collect(trees))


@pytest.mark.parametrize(
    ("leaves", "starts", "words"),
    [
        ((31, 31, 31), [0, 31, 64], 2),
        ((32, 32, 1), [0, 32, 64], 2),
        ((64, 64), [0, 64], 2),
        ((65, 31, 33), [0, 65, 128], 3),
        ((1, 65, 63), [0, 64, 129], 3),
        ((130, 2, 60, 3), [0, 130, 132, 192], 4),
        ((1,) * 65, [*range(65)], 2),
    ],
)
def test_trees_share_words(leaves: tuple[int, ...], starts: list[int], words: int) -> None:
    found = laid_out(*leaves)
    assert found.leaf_start.tolist() == starts
    assert found.checkpoints.shape[1] == words
    assert found.values.shape == (words * WORD,)
    bits = np.concatenate([start + np.arange(count) for start, count in zip(starts, leaves, strict=True)])
    np.testing.assert_array_equal(found.values[bits], np.arange(1.0, sum(leaves) + 1))


def test_a_checkpoint_is_what_the_exclusions_before_it_leave() -> None:
    found = laid_out(*(31,) * 40)
    stride = 1 << found.spacing
    assert len(found.checkpoints) == len(found.exclusions) // stride > 10
    left = np.full(found.checkpoints.shape[1], ~np.uint64(0))
    for number, (word, kept) in enumerate(found.exclusions.tolist(), 1):
        left[word] &= np.uint64(kept)
        if number % stride == 0:
            np.testing.assert_array_equal(found.checkpoints[number // stride - 1], left)
