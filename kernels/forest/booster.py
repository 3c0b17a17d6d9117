"""A LightGBM model of a kind that the kernels do not evaluate, predicted by LightGBM."""

import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kernels.forest.errors import ForestError
from kernels.forest.explanation.explainer import ExplanationCost
from kernels.forest.layout import BoosterText
from kernels.forest.model_text import LINEAR
from kernels.forest.sections import END_OF_TREES, divide
from kernels.forest.status import ForestStatus
from kernels.rows import check_columns

if TYPE_CHECKING:
    import lightgbm as lgb

NOT_EXPLAINED = "LightGBM, which evaluates this model, does not explain linear trees"

THREADS = 1
"""LightGBM's threads for a batch of any size; must be the same in every call of the process.

LightGBM keeps the number in a variable of the process (src/utils/openmp_wrapper.cpp) that each call sets, sizes a
prediction's buffers by it (src/application/predictor.hpp), and reads it again to start the threads that write into
them. Two calls at once with different numbers therefore write past the buffers' end, and the process dies. One is also
the number that costs least for small batches; large ones can be shared out among threads of the caller.
"""


class BoosterForest:
    """The trees of a model that only LightGBM evaluates. Immutable, and safe to call from several threads at once.

    Attributes are those of a `Forest`.

    Args:
        data: The model's text with the fields read from it.

    Raises:
        ForestError: LightGBM refuses it too.
    """

    def __init__(self, data: BoosterText) -> None:
        self._booster = read_booster(data.text)
        self.feature_names = data.feature_names
        self.n_features = len(data.feature_names)
        self.n_outputs = data.n_outputs
        self.n_trees = data.n_trees
        self.objective = data.objective
        self.status = ForestStatus(evaluator="lightgbm", reason=data.reason)
        reason = NOT_EXPLAINED if LINEAR in data.reason else None
        self.explainer = BoosterExplainer(self._booster, self.n_features, self.n_outputs, reason)

    def predict(self, X: NDArray[np.floating], raw_score: bool = False) -> NDArray[np.float64]:
        """Predict a batch: see `Forest.predict`."""
        check_columns(X, self.n_features)
        if len(X) == 0:
            return np.empty((0, self.n_outputs) if self.n_outputs > 1 else 0)
        # The booster was read from text, so what it returns for a dense array is an array.
        return np.asarray(self._booster.predict(X, raw_score=raw_score, num_threads=THREADS))


class BoosterExplainer:
    """Explains a model that only LightGBM evaluates, by its `pred_contrib`: see `ForestExplainer`."""

    ready = True

    def __init__(self, booster: "lgb.Booster", n_features: int, n_outputs: int, reason: str | None) -> None:
        self._booster = booster
        self._shape = (n_outputs, n_features + 1)
        self.reason = reason

    def base(self) -> NDArray[np.float64]:
        """See `ForestExplainer`."""
        return self._explained(np.zeros((1, self._shape[1] - 1)))[0, :, -1]

    def contributions(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """See `ForestExplainer`."""
        return self._explained(X)[:, :, :-1]

    def leaves(self, X: NDArray[np.floating]) -> NDArray[np.int32]:
        """See `ForestExplainer`."""
        if len(X) == 0:
            return np.empty((0, self._booster.num_trees()), dtype=np.int32)
        found = self._booster.predict(X, pred_leaf=True, num_threads=THREADS)
        return np.asarray(found, dtype=np.int32).reshape(len(X), -1)

    def measure(self, rows: NDArray[np.floating]) -> ExplanationCost:
        """See `ForestExplainer`."""
        started = time.perf_counter()
        self.contributions(rows[:1])
        seconds = time.perf_counter() - started
        return ExplanationCost(seconds, seconds, 0.0)

    def _explained(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """float64[B, K, F + 1], the expected value last."""
        if len(X) == 0:
            return np.empty((0, *self._shape))
        found = self._booster.predict(X, pred_contrib=True, num_threads=THREADS)
        return np.asarray(found, dtype=np.float64).reshape(len(X), *self._shape)


def read_booster(text: str) -> "lgb.Booster":
    """LightGBM's own reading of its native text.

    Its import takes half a second and 100 MB, which a process that only serves can do without.

    Raises:
        ForestError: It is incomplete, or LightGBM refuses it.
    """
    import lightgbm as lgb

    sections = divide(text)
    try:
        # The part after the trees describes the training; cut short, it can crash LightGBM's parser.
        return lgb.Booster(model_str=sections.text[: sections.bounds[-1]] + END_OF_TREES + "\n")
    except lgb.basic.LightGBMError as error:
        raise ForestError(f"LightGBM refuses the booster: {error}") from error
