"""Explanations: what each feature adds to a raw score."""

import math
import time
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.backend import AnyForest
from kernels.forest.explanation.explainer import ExplanationCost
from kernels.plan.attribution import FeatureGroup, attribute
from kernels.plan.plan import Plan

Space = Literal["raw", "model"]

REPEATS = 3
"""Single rows that are timed, of which the fastest counts."""


class Explanation(NamedTuple):
    """Contributions for a batch; `base + contributions.sum(-1)` are the raw scores.

    Attributes:
        contributions: float64[B, K, G], in units of the raw score.
        base: float64[K], the mean raw score of the training rows.
        groups: G features, or groups of features that only act together.
    """

    contributions: NDArray[np.float64]
    base: NDArray[np.float64]
    groups: tuple[FeatureGroup, ...]


class Explainer:
    """Explains a forest's raw scores by its own features or by a plan's raw ones. Safe to call from several threads.

    Args:
        forest: The trees.
        plan: Transformation of raw features into the forest's; None where these are the raw ones.

    Attributes:
        reason: Why it cannot; None if it can.
    """

    def __init__(self, forest: AnyForest, plan: Plan | None) -> None:
        self._forest = forest.explainer
        names = forest.feature_names if plan is None else plan.outputs
        own = tuple(FeatureGroup(name, (name,)) for name in names)
        self._groups: dict[Space, tuple[FeatureGroup, ...]] = {"model": own, "raw": own}
        self._shares: NDArray[np.float64] | None = None
        if plan is not None:
            self._groups["raw"], self._shares = attribute(plan)
        self._cost: ExplanationCost | None = None

    @property
    def reason(self) -> str | None:
        """Why explanations cannot be given, a sentence; None if they can."""
        return self._forest.reason

    def explain(self, features: NDArray[np.floating], space: Space) -> Explanation:
        """Explain a batch.

        Args:
            features: float[B, O], the forest's.
            space: Features to explain by: the plan's raw ones, or the forest's.

        Raises:
            ValueError: It cannot be explained, see `reason`.
        """
        if self.reason is not None:
            raise ValueError(self.reason)
        was_ready = self._forest.ready
        contributions = self._forest.contributions(features)
        if not was_ready and len(features):
            self._measure_alone(features[:1])
        if space == "raw" and self._shares is not None:
            contributions = contributions @ self._shares
        return Explanation(contributions, self._forest.base(), self._groups[space])

    def leaves(self, features: NDArray[np.floating]) -> NDArray[np.int32]:
        """The leaves that rows come to, int32[B, T], as LightGBM numbers them."""
        return self._forest.leaves(features)

    def measure(self, features: NDArray[np.floating]) -> None:
        """Compile or load the kernels, and measure what explanations cost.

        Args:
            features: float[N, O], N >= 1.
        """
        self.leaves(features[:1])
        if self.reason is None:
            self._cost = self._forest.measure(features)

    def _measure_alone(self, row: NDArray[np.floating]) -> None:
        """Measure a single row once all trees are prepared: those of a large forest are in no cache when it comes."""
        if self._cost is not None:
            times: list[float] = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                self._forest.contributions(row)
                times.append(time.perf_counter() - started)
            self._cost = self._cost._replace(alone=max(self._cost.alone, min(times)))

    def cost(self, rows: int) -> float:
        """Seconds that a batch is expected to take; infinite before `measure`."""
        cost = self._cost
        return math.inf if cost is None else cost.of(rows) + (0.0 if self._forest.ready else cost.first)

    def chunk(self, rows: int, seconds: float) -> int:
        """How many rows of a batch to explain at a time to take so many seconds; at least 1."""
        cost = self._cost
        return rows if cost is None else max(1, min(rows, int(1 + (seconds - cost.alone) / max(cost.each, 1e-9))))
