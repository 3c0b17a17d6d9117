"""Loads a model of the `madrone` flavor for `mlflow.pyfunc.load_model`, which answers as the service does.

Every stored model names this module as its `loader_module`, so it keeps its name: old models would not load.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.models.artifact import read_artifact


class PlannedModel:
    """What `mlflow.pyfunc` wraps: raw features in, predictions out."""

    def __init__(self, directory: Path) -> None:
        artifact = read_artifact(directory)
        self._names = [feature.name for feature in artifact.features]
        self._engine = artifact.engine()

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> NDArray[np.float64]:
        """Predict a frame that has the raw features as columns, in any order.

        Returns:
            float64[B], or float64[B, K] for K classes.
        """
        return self._engine.predict(model_input[self._names].to_numpy(dtype=np.float64))


def _load_pyfunc(path: str) -> PlannedModel:  # pyright: ignore[reportUnusedFunction]
    return PlannedModel(Path(path))
