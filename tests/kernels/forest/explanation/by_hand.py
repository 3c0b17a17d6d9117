"""SHAP values by their definition, for trees of few features: the oracle where LightGBM's own are not numbers."""

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


class HandTree:
    """A tree as nested tuples: a leaf is its value, a node (feature, threshold, fraction to the left, left, right)."""

    def __init__(self, root: object) -> None:
        self.root = root

    def expected(self, row: NDArray[np.float64], known: frozenset[int], node: object = None) -> float:
        """The mean score of the training rows if only some features are known.

        Algorithm 1 of S. M. Lundberg, G. G. Erion and S.-I. Lee, "Consistent Individualized Feature Attribution for
        Tree Ensembles", 2018.
        """
        node = self.root if node is None else node
        if not isinstance(node, tuple):
            return float(node)  # pyright: ignore[reportArgumentType]
        feature, threshold, fraction, left, right = node
        if feature in known:
            return self.expected(row, known, left if row[feature] <= threshold else right)
        below = ((fraction, left), (1 - fraction, right))
        return sum(share * self.expected(row, known, child) for share, child in below if share > 0)

    def contributions(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shapley values of `expected`: float64[F]."""
        count = len(row)
        found = np.zeros(count)
        for feature in range(count):
            others = [other for other in range(count) if other != feature]
            for size in range(count):
                weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
                for chosen in combinations(others, size):
                    known = frozenset(chosen)
                    gain = self.expected(row, known | {feature}) - self.expected(row, known)
                    found[feature] += weight * gain
        return found
