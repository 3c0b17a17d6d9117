"""Loads a model of the `madrone` flavor for `mlflow.pyfunc.load_model`, with the predictions of the service.

Every stored model names this module as its `loader_module`, so a renamed module could not load old models.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.models.artifact import read_artifact
from app.models.frame import engine_rows


class PlannedModel:
    """The object that `mlflow.pyfunc` wraps: raw features to predictions."""

    def __init__(self, directory: Path) -> None:
        artifact = read_artifact(directory)
        self._features = artifact.features
        self._engine = artifact.engine()

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> NDArray[np.float64]:
        """Predict a frame with the raw features as columns, in any order.

        Returns:
            float64[B], or float64[B, K] for K classes.
        """
        return self._engine.predict(engine_rows(model_input, self._features))


def _load_pyfunc(path: str) -> PlannedModel:  # pyright: ignore[reportUnusedFunction]
    return PlannedModel(Path(path))
