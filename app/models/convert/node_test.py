"""The test of a tree's node, and which way a value goes, as in LightGBM (include/LightGBM/tree.h)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.forest.trees import CATEGORICAL

DEFAULT_LEFT = 2
ZERO_IS_MISSING = 4
NAN_IS_MISSING = 8
MISSING = ZERO_IS_MISSING | NAN_IS_MISSING
ZERO = float(np.float32(1e-35))
"""Largest magnitude that LightGBM takes as zero (kZeroThreshold), in every row that it predicts."""


class NodeTest(NamedTuple):
    """What a node asks.

    Attributes:
        feature: Index of the feature it asks about.
        threshold: A number goes left up to it; zero for categories.
        decision: LightGBM's bits; see `kernels.forest.trees.Trees`.
        members: For categories, the bitmap of those that go left, uint32 words as bytes.
    """

    feature: int
    threshold: float
    decision: int
    members: bytes = b""

    @property
    def categorical(self) -> bool:
        """Whether it asks for membership of a set of categories."""
        return bool(self.decision & CATEGORICAL)

    def goes_left(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each value goes left, bool[n] of float64[n]."""
        if self.categorical:
            return _is_member(values, np.frombuffer(self.members, np.uint32))
        n = len(values)
        return goes_left(values, np.full(n, self.threshold), np.full(n, self.decision, np.int64))


def goes_left(
    values: NDArray[np.float64], thresholds: NDArray[np.float64], decisions: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each value goes left at the node beside it, none of which asks for categories."""
    kind = decisions & MISSING
    zero = (np.abs(values) <= ZERO) | (np.isnan(values) & (kind != NAN_IS_MISSING))
    there = np.where(zero, 0.0, values)
    missing = np.where(kind == ZERO_IS_MISSING, there == 0, np.isnan(there))
    return np.where(missing, (decisions & DEFAULT_LEFT) != 0, there <= thresholds)


def _is_member(values: NDArray[np.float64], words: NDArray[np.uint32]) -> NDArray[np.bool_]:
    # Truncated toward zero, as the conversion to int does.
    listed = np.isfinite(values) & (values > -1) & (values < 32 * len(words))
    codes = np.where(listed, values, 0.0).astype(np.int64)
    if not len(words):
        return np.zeros(len(values), np.bool_)
    return listed & ((words[codes // 32] >> (codes % 32).astype(np.uint32)) & 1 == 1)


def bitmap(members: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Bitmap of the codes that are members, 32 to a word, at least one word."""
    padded = np.zeros(max(1, -(-len(members) // 32)) * 32, np.uint8)
    padded[: len(members)] = members
    return np.packbits(padded, bitorder="little").view("<u4").astype(np.uint32)
