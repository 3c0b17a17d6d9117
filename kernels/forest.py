"""A LightGBM model as a function from features to predictions."""

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from kernels.model_text import END_OF_TREES, ForestError, check_model_text, has_pandas_categories

__all__ = ["Forest", "ForestError"]

THREADS = 1
"""LightGBM's threads for a batch of any size; must be the same in every call of the process.

LightGBM keeps the number in a variable of the process (src/utils/openmp_wrapper.cpp) that each call sets, sizes a
prediction's buffers by it (src/application/predictor.hpp), and reads it again to start the threads that write into
them. Two calls at once with different numbers therefore write past the buffers' end, and the process dies. One is also
the number that costs least for small batches; large ones can be shared out among threads of the caller.
"""


class Forest:
    """The trees of a LightGBM model. Immutable, and safe to call from several threads at once.

    Evaluated by `Booster.predict`. Make one with `from_booster` or `from_model_text`.

    Attributes:
        feature_names: The F features' names as LightGBM stores them, in column order.
        n_features: F.
        n_outputs: K, the raw scores of one row: the classes of a multi-class model, else 1.
        n_trees: Trees in all.
        objective: As LightGBM writes it, such as `binary sigmoid:1`; empty for a custom one.
    """

    def __init__(self, text: str) -> None:
        header = check_model_text(text)
        try:
            # What follows the trees tells of the training; cut short, it can crash LightGBM's parser too.
            self._booster = lgb.Booster(model_str=text[: text.index(END_OF_TREES)] + END_OF_TREES + "\n")
        except lgb.basic.LightGBMError as error:
            raise ForestError(f"LightGBM refuses the booster: {error}") from error
        if has_pandas_categories(text):
            raise ForestError(
                "the booster was trained on pandas categories, whose values only pandas can map to the trees' codes: "
                "train on integer codes with categorical_feature instead"
            )
        self.feature_names = header.feature_names
        self.n_features = len(header.feature_names)
        self.n_outputs = header.n_outputs
        self.n_trees = header.n_trees
        self.objective = header.objective

    @classmethod
    def from_booster(cls, booster: lgb.Booster) -> "Forest":
        """Take a trained booster's trees up to its best iteration.

        Raises:
            ForestError: The booster cannot be used.
        """
        return cls(booster.model_to_string())

    @classmethod
    def from_model_text(cls, text: str) -> "Forest":
        """Read LightGBM's native text, as `Booster.save_model` writes it.

        Raises:
            ForestError: The text is damaged or cannot be used.
        """
        return cls(text)

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
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise ValueError(f"expected an array of shape (rows, {self.n_features}), got {X.shape}")
        if len(X) == 0:
            return np.empty((0, self.n_outputs) if self.n_outputs > 1 else 0)
        # The booster was read from text, so what it returns for a dense array is an array.
        return np.asarray(self._booster.predict(X, raw_score=raw_score, num_threads=THREADS))
