"""A LightGBM model as a function from features to predictions."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kernels.forest.booster import BoosterForest
from kernels.forest.choice import DEFAULT, Evaluate, measure_choice, sample_rows
from kernels.forest.errors import ForestError, UnsupportedForestError
from kernels.forest.evaluators import sliced
from kernels.forest.evaluators.few import FewRows, RowKernelCall
from kernels.forest.explanation.explainer import KernelExplainer
from kernels.forest.layout import ForestData, ForestLayout, lay_out, read_forest
from kernels.forest.model_text import read_model_text
from kernels.forest.objective import conversion, identity
from kernels.forest.status import ForestStatus, Kernel, RowKernel
from kernels.rows import as_rows, check_columns, writable_rows

if TYPE_CHECKING:
    import lightgbm as lgb

__all__ = ["Forest", "ForestError", "UnsupportedForestError", "load_forest", "make_forest"]


class Forest:
    """The trees of a LightGBM model. Immutable, and safe to call from several threads at once.

    Predictions and raw scores are bit for bit those of `Booster.predict`, in batches of any size: the same
    comparisons, the same float64 additions in the same order, and the same exponential function. Few rows go one by
    one, many go through the bit-sliced kernel. Which kernel takes how many is a default until `measure` is called.
    Make one with `from_booster` or `from_model_text`.

    Attributes:
        feature_names: The F features' names as LightGBM stores them, in column order.
        n_features: F.
        n_outputs: K, the raw scores of one row: the classes of a multi-class model, else 1.
        n_trees: Trees in all.
        objective: As LightGBM writes it, such as `binary sigmoid:1`; empty for a custom one.
        status: Kernels in use.
        predicates: Distinct tests of the nodes, for other backends.
        traversal: Trees as records, for other backends.
        explainer: Contributions of features, and leaves.
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
        self.explainer = KernelExplainer(layout.walk, layout.covers, predicates, self.n_features, self.n_outputs)
        self._sliced = layout.sliced
        self._workspaces: list[NDArray[np.uint64]] = []
        tests = (predicates.columns, predicates.thresholds, predicates.sets)
        self._calls: dict[RowKernel, RowKernelCall] = {
            "quickscorer": ("quickscorer", (*tests, *layout.quick)),
            "traversal": ("traversal", (*tests, *layout.lanes)),
        }
        self._alone: dict[RowKernel, FewRows] = {kernel: FewRows(call) for kernel, call in self._calls.items()}
        self._fixed = kernel is not None
        if kernel is None:
            self._use(*DEFAULT)
        elif kernel == "sliced":
            self._use(None, 0)
        else:
            self._use(kernel, None)

    def measure(self) -> None:
        """Measure which kernels are the fastest on this machine, and use them from now on.

        It takes some 10 ms for a forest of usual size, once the kernels are compiled. Nothing is measured where the
        kernel was given.
        """
        if not self._fixed:
            rows = sample_rows(self.predicates, self.n_features)
            alone: dict[Kernel, Evaluate] = {kernel: few.predict for kernel, few in self._alone.items()}
            self._use(*measure_choice({**alone, "sliced": self._many}, rows, self.n_outputs))

    def _use(self, few_rows: RowKernel | None, many_rows: int | None) -> None:
        """Change the kernels. Calls may be under way: whichever they meet, the bits are the same."""
        self.status = ForestStatus(evaluator="kernels", few_rows=few_rows, many_rows=many_rows)
        self._few = self._alone[few_rows or DEFAULT.few_rows].predict
        self._many_rows = float("inf") if many_rows is None else many_rows

    @property
    def converts(self) -> bool:
        """Whether predictions are other numbers than the sums of leaf values."""
        return self._iterations is not None or self._convert is not identity

    def row_kernel(self) -> RowKernelCall | None:
        """The kernel that takes one row, and its arguments before the rows; None if the bit-sliced kernel does."""
        kernel = self.status.few_rows
        return None if kernel is None or self._many_rows <= 1 else self._calls[kernel]

    @classmethod
    def from_booster(cls, booster: "lgb.Booster", kernel: Kernel | None = None) -> "Forest":
        """Take a trained booster's trees up to its best iteration.

        Args:
            booster: Any kind; see `UnsupportedForestError`.
            kernel: Takes batches of any size, instead of the kernels that are chosen by the number of rows.

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
        check_columns(X, self.n_features)
        count = len(X)
        out = np.empty((count, self.n_outputs))
        if count < self._many_rows:
            self._few(writable_rows(X), out)
        else:
            self._many(X, out)
        return self.finished(out, raw_score)

    def finished(self, scores: NDArray[np.float64], raw_score: bool) -> NDArray[np.float64]:
        """The result of `predict` from sums of leaf values, C-contiguous float64[B, K], which are overwritten."""
        if not raw_score:
            if self._iterations is not None:
                with np.errstate(invalid="ignore"):
                    scores /= self._iterations
            self._convert(scores)
        return scores if self.n_outputs > 1 else scores[:, 0]

    def _many(self, X: NDArray[np.floating], out: NDArray[np.float64]) -> None:
        rows = as_rows(X, self.n_features)
        try:
            workspace = self._workspaces.pop()
        except IndexError:  # as many as threads that ever predicted at once
            workspace = self._sliced.workspace()
        forest, predicates = self._sliced, self.predicates
        sliced.predict(
            rows, predicates.columns, predicates.thresholds, predicates.sets, forest.nodes, forest.groups,
            forest.union_start, forest.members, forest.values, forest.categories, forest.n_categories, workspace, out,
        )  # fmt: skip
        self._workspaces.append(workspace)


def make_forest(data: ForestData) -> Forest | BoosterForest:
    """A `Forest`, or a `BoosterForest` where the kernels do not evaluate the kind of model.

    Raises:
        ForestError: LightGBM refuses its text.
    """
    return Forest(data) if isinstance(data, ForestLayout) else BoosterForest(data)


def load_forest(text: str) -> Forest | BoosterForest:
    """Read LightGBM's native text into a forest.

    Args:
        text: All of it.

    Raises:
        ForestError: The text is damaged or cannot be used.
    """
    return make_forest(read_forest(text))
