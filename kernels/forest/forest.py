"""A LightGBM model as a function from features to predictions."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kernels.forest import quickscorer, sliced, traversal
from kernels.forest.booster import BoosterForest
from kernels.forest.layout import ForestData, ForestLayout, lay_out, read_forest
from kernels.forest.model_text import ForestError, UnsupportedForestError, read_model_text
from kernels.forest.objective import conversion
from kernels.forest.predicates import CATEGORIES, COUNT, FEATURE, FIRST, KIND, Predicates
from kernels.forest.status import ForestStatus, Kernel, RowKernel
from kernels.rows import as_rows

if TYPE_CHECKING:
    import lightgbm as lgb

__all__ = ["Forest", "ForestError", "UnsupportedForestError", "load_forest", "make_forest"]

Evaluate = Callable[[NDArray[np.float64], NDArray[np.float64]], object]
"""Rows float64[B, F] to raw scores float64[B, K], the second argument."""

SAMPLE_ROWS = 512
FEW_ROWS = 16
ALONE = 64
"""Rows that are timed one by one: the same one again and again would teach a processor its way."""

REPEATS = 5
LONG_S = 0.5
"""Rounds that have taken so long are enough, however few."""


class Forest:
    """The trees of a LightGBM model. Immutable, and safe to call from several threads at once.

    Predictions and raw scores are bit for bit those of `Booster.predict`, in batches of any size: the same
    comparisons, the same float64 additions in the same order, and the same exponential function. Few rows go one by
    one, many go through the bit-sliced kernel; from how many on is measured here, once, as is which kernel takes the
    few. Make one with `from_booster` or `from_model_text`.

    Attributes:
        feature_names: The F features' names as LightGBM stores them, in column order.
        n_features: F.
        n_outputs: K, the raw scores of one row: the classes of a multi-class model, else 1.
        n_trees: Trees in all.
        objective: As LightGBM writes it, such as `binary sigmoid:1`; empty for a custom one.
        status: How it is evaluated.
        predicates: What its nodes ask, for a backend of its own kernels.
        traversal: Its trees, likewise.
    """

    def __init__(self, layout: ForestLayout, kernel: Kernel | None = None) -> None:
        self._convert = conversion(layout.objective)
        self.feature_names = layout.feature_names
        self.n_features = len(layout.feature_names)
        self.n_outputs = layout.n_outputs
        self.n_trees = layout.n_trees
        self.objective = layout.objective
        self._iterations = layout.n_trees // layout.n_outputs if layout.average else None
        self.predicates = predicates = layout.predicates
        self.traversal = layout.walk
        self._sliced = layout.sliced
        self._workspaces: list[NDArray[np.uint64]] = []
        tests = (predicates.columns, predicates.thresholds, predicates.sets)
        rows_alone: dict[RowKernel, Evaluate] = {
            "quickscorer": partial(quickscorer.predict, *tests, *layout.quick),
            "traversal": partial(traversal.predict, *tests, *layout.lanes),
        }
        if kernel is None:
            self.status = self._measure(rows_alone)
        elif kernel == "sliced":
            self.status = ForestStatus(evaluator="kernels", many_rows=0)
        else:
            self.status = ForestStatus(evaluator="kernels", few_rows=kernel)
        self._few = rows_alone[self.status.few_rows or "quickscorer"]
        self._many_rows = float("inf") if self.status.many_rows is None else self.status.many_rows

    @classmethod
    def from_booster(cls, booster: "lgb.Booster", kernel: Kernel | None = None) -> "Forest":
        """Take a trained booster's trees up to its best iteration.

        Args:
            booster: Any kind; see `UnsupportedForestError`.
            kernel: Takes batches of any size, in the place of the ones that are measured to be the fastest.

        Raises:
            ForestError: The booster cannot be used.
            UnsupportedForestError: It is of a kind that only LightGBM evaluates.
        """
        return cls.from_model_text(booster.model_to_string(), kernel)

    @classmethod
    def from_model_text(cls, text: str, kernel: Kernel | None = None) -> "Forest":
        """Read LightGBM's native text, as `Booster.save_model` writes it.

        Args:
            text: All of it.
            kernel: As for `from_booster`.

        Raises:
            ForestError: The text is damaged or cannot be used.
            UnsupportedForestError: It is of a kind that only LightGBM evaluates.
        """
        return cls(lay_out(read_model_text(text)), kernel)

    def predict(self, X: NDArray[np.floating], raw_score: bool = False) -> NDArray[np.float64]:
        """Predict a batch.

        Args:
            X: float64[B, F] or float32[B, F]; NaN is a missing value.
            raw_score: The sum of the leaf values, without the objective's transformation.

        Returns:
            float64[B], or float64[B, K] for K > 1 outputs.

        Raises:
            ValueError: X has not F columns.
        """
        rows = as_rows(X, self.n_features)
        count = len(rows)
        out = np.empty((count, self.n_outputs))
        (self._few if count < self._many_rows else self._many)(rows, out)
        return self.finished(out, raw_score)

    def finished(self, scores: NDArray[np.float64], raw_score: bool) -> NDArray[np.float64]:
        """What `predict` returns, of the sums of the leaf values, C-contiguous float64[B, K], which it overwrites."""
        if not raw_score:
            if self._iterations is not None:
                with np.errstate(invalid="ignore"):
                    scores /= self._iterations
            self._convert(scores)
        return scores if self.n_outputs > 1 else scores[:, 0]

    def _many(self, rows: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        try:
            workspace = self._workspaces.pop()
        except IndexError:  # as many as there are threads at once, no more
            workspace = self._sliced.workspace()
        forest, predicates = self._sliced, self.predicates
        sliced.predict(
            rows, predicates.columns, predicates.thresholds, predicates.sets, forest.nodes, forest.groups,
            forest.union_start, forest.members, forest.values, forest.categories, forest.n_categories, workspace, out,
        )  # fmt: skip
        self._workspaces.append(workspace)

    def _measure(self, kernels: dict[RowKernel, Evaluate]) -> ForestStatus:
        """Choose the kernel for few rows, by rows alone, and from how many on the bit-sliced one is faster."""
        rows = sample_rows(self.predicates, self.n_features, SAMPLE_ROWS)
        few, many = rows[:FEW_ROWS], rows
        alone = [rows[index : index + 1] for index in range(ALONE)]
        seconds: dict[RowKernel, float] = {
            name: _fastest(kernel, alone, self.n_outputs) for name, kernel in kernels.items()
        }
        name: RowKernel = min(seconds, key=lambda kernel: seconds[kernel])
        own = _fastest(kernels[name], [few], self.n_outputs) / len(few)
        small = _fastest(self._many, [few], self.n_outputs)
        large = _fastest(self._many, [many], self.n_outputs)
        per_row = (large - small) / (len(many) - len(few))
        gain = own - per_row
        # Rows at which gain * rows has paid for what the first rows cost.
        threshold = None if gain <= 0 else max(1, int(np.ceil((small - len(few) * per_row) / gain)))
        return ForestStatus(evaluator="kernels", few_rows=name, many_rows=threshold)


def make_forest(data: ForestData) -> Forest | BoosterForest:
    """A `Forest`, or what answers through LightGBM where the kernels cannot.

    Raises:
        ForestError: LightGBM refuses its text.
    """
    return Forest(data) if isinstance(data, ForestLayout) else BoosterForest(data)


def load_forest(text: str) -> Forest | BoosterForest:
    """Read LightGBM's native text and make what answers by it.

    Args:
        text: All of it.

    Raises:
        ForestError: The text is damaged or cannot be used.
    """
    return make_forest(read_forest(text))


def sample_rows(predicates: Predicates, n_features: int, count: int) -> NDArray[np.float64]:
    """Rows that go all ways through the trees: float64[count, F], each value near a threshold of its feature."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(count, n_features))
    for column in predicates.columns:
        values = predicates.thresholds[column[FIRST] : column[FIRST] + column[COUNT]]
        if len(values):
            chosen = random.choice(values, count)
            rows[:, column[FEATURE]] = chosen if column[KIND] == CATEGORIES else np.nextafter(chosen, np.inf)
    rows.flags.writeable = False
    return rows


def _fastest(evaluate: Evaluate, batches: list[NDArray[np.float64]], n_outputs: int) -> float:
    """Seconds of the fastest of some rounds of calls: what slows one down is not the kernel."""
    out = np.empty((len(batches[0]), n_outputs))
    evaluate(batches[0], out)
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < LONG_S:
        started = time.perf_counter()
        for batch in batches:
            evaluate(batch, out)
        times.append(time.perf_counter() - started)
    return min(times)
