"""Explanations: what each feature adds to a raw score."""

import math
import time
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Pipeline
from kernels.cost import vary
from kernels.dispatch import Dispatcher
from kernels.forest.explanation.explainer import ExplanationCost
from kernels.forest.forest import Forest
from kernels.plan.attribution import FeatureGroup, attribute
from kernels.plan.plan import Plan

Space = Literal["raw", "model"]

REPEATS = 3
"""Batches that are timed, of which the fastest counts."""

GPU_ROWS = 4096
"""Rows of the large batch that a GPU is measured with."""


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

    A batch goes to the GPU where there is one that was measured to be faster for its size, and else to the CPU, as it
    does when the GPU fails.

    Args:
        pipeline: The prediction of raw scores, of one forest.
        plan: The pipeline's plan; None where the forest's features are the raw ones.
        dispatcher: The backends.

    Attributes:
        reason: Why it cannot; None if it can.
    """

    def __init__(self, pipeline: Pipeline, plan: Plan | None, dispatcher: Dispatcher) -> None:
        (forest,) = pipeline.forests
        self._pipeline, self._dispatcher = pipeline, dispatcher
        self._forest = forest.explainer
        # LightGBM explains what only it evaluates.
        self._own = forest.explainer if isinstance(forest, Forest) else None
        names = forest.feature_names if plan is None else plan.outputs
        own = tuple(FeatureGroup(name, (name,)) for name in names)
        self._groups: dict[Space, tuple[FeatureGroup, ...]] = {"model": own, "raw": own}
        self._shares: NDArray[np.float64] | None = None
        if plan is not None:
            self._groups["raw"], self._shares = attribute(plan)
        self._cost: ExplanationCost | None = None
        self._gpu_cost: ExplanationCost | None = None
        self._on_gpu = False

    @property
    def reason(self) -> str | None:
        """Why explanations cannot be given, a sentence; None if they can."""
        return self._forest.reason

    def explain(self, X: NDArray[np.floating], space: Space) -> Explanation:
        """Explain a batch.

        Args:
            X: float[B, F] raw features.
            space: Features to explain by: the plan's raw ones, or the forest's.

        Raises:
            ValueError: It cannot be explained, see `reason`.
        """
        if self.reason is not None:
            raise ValueError(self.reason)
        was_ready = self._forest.ready
        contributions = self._by_gpu(X) if self.on_device(len(X)) else None
        if contributions is None:
            contributions = self._forest.contributions(self._features(X))
        if not was_ready and len(X):
            self._measure_alone(self._features(X[:1]))
        if space == "raw" and self._shares is not None:
            contributions = contributions @ self._shares
        return Explanation(contributions, self._forest.base(), self._groups[space])

    def leaves(self, X: NDArray[np.floating]) -> NDArray[np.int32]:
        """The leaves that rows of raw features come to, int32[B, T], as LightGBM numbers them."""
        return self._forest.leaves(self._features(X))

    def on_device(self, rows: int) -> bool:
        """Whether a batch of this many rows goes to a GPU."""
        cpu, gpu = self._cost, self._gpu_cost
        return cpu is not None and gpu is not None and self._dispatcher.explains and gpu.of(rows) < cpu.of(rows)

    def measure(self, X: NDArray[np.float64]) -> None:
        """Compile or load the kernels, and measure what explanations cost.

        Args:
            X: float64[N, F] raw features, N >= 1.
        """
        self.leaves(X[:1])
        if self.reason is None:
            self._cost = self._forest.measure(self._features(X))
            self._gpu_cost = self._measure_gpu(X)

    def _features(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        program = self._pipeline.program
        return X if program is None else self._dispatcher.cpu.transform(program, X)

    def _by_gpu(self, X: NDArray[np.floating]) -> NDArray[np.float64] | None:
        """Contributions by the GPU; None if it fails."""
        found = None if self._own is None else self._dispatcher.try_explain(self._pipeline, X, self._own.paths)
        self._on_gpu = self._on_gpu or found is not None
        return found

    def _measure_gpu(self, X: NDArray[np.float64]) -> ExplanationCost | None:
        """What explanations by the first trees cost on the GPU, times what there are; None if it does not answer."""
        if self._own is None or not self._dispatcher.explains:
            return None
        paths, times = self._own.measured_part()
        rows, seconds = np.resize(vary(X), (GPU_ROWS, X.shape[1])), list[float]()
        for batch in (rows, *[rows] * REPEATS, *[rows[:1]] * REPEATS):
            started = time.perf_counter()
            if self._dispatcher.try_explain(self._pipeline, batch, paths) is None:
                return None
            seconds.append(times * (time.perf_counter() - started))
        many, alone = min(seconds[1 : REPEATS + 1]), min(seconds[REPEATS + 1 :])
        return ExplanationCost(alone, max(0.0, many - alone) / (GPU_ROWS - 1), max(0.0, seconds[0] - many))

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
        cost, gpu = self._cost, self._gpu_cost
        if cost is None:
            return math.inf
        prepared = 0.0 if self._forest.ready else cost.first
        if gpu is not None and self.on_device(rows):
            return gpu.of(rows) + (0.0 if self._on_gpu else gpu.first) + prepared
        return cost.of(rows) + prepared

    def chunk(self, rows: int, seconds: float) -> int:
        """How many rows of a batch to explain at a time to take so many seconds; at least 1."""
        cost = self._gpu_cost if self.on_device(rows) else self._cost
        return rows if cost is None else max(1, min(rows, int(1 + (seconds - cost.alone) / max(cost.each, 1e-9))))
