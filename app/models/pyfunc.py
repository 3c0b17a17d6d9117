"""Loads a model of the `madrone` flavor for `mlflow.pyfunc.load_model`, with the service's predictions or labels.

Every stored model names this module as its `loader_module`, so a renamed module could not load old models.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.codecs.classes import class_indices
from app.models.artifact import read_artifact
from app.models.frame import engine_rows


class PlannedModel:
    """The object that `mlflow.pyfunc` wraps: raw features to predictions."""

    def __init__(self, directory: Path) -> None:
        artifact = read_artifact(directory)
        self._features = artifact.features
        self._labels = artifact.labels
        self._engine = artifact.engine()

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> NDArray[Any]:
        """Predict a frame with the raw features as columns, in any order.

        Returns:
            The label of each row [B] for a model with class labels, as MLflow answers for a classifier; else
            float64[B], or float64[B, K] for K classes.
        """
        prediction = self._engine.predict(engine_rows(model_input, self._features))
        if self._labels is None:
            return prediction
        return np.array(self._labels)[class_indices(prediction, self._labels)]


def _load_pyfunc(path: str) -> PlannedModel:  # pyright: ignore[reportUnusedFunction]
    return PlannedModel(Path(path))
