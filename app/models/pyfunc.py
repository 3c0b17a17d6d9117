"""The `madrone` flavor: a booster with its feature plan, written to and read from an MLflow model directory.

`mlflow.pyfunc.load_model` finds `_load_pyfunc` here (MLflow's contract for a `loader_module`), so that a model with
a plan answers outside the service exactly as it does inside.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from numpy.typing import NDArray

from app.models.artifact import FLAVOR, read_artifact
from kernels.plan import Plan

BOOSTER_FILE = "model.lgb"
PLAN_FILE = "plan.json"
EXAMPLE_FILE = "input_example.json"


def save_model(
    directory: Path, booster_text: str, plan: Plan, signature: ModelSignature, example: dict[str, float]
) -> None:
    """Write a model directory.

    Args:
        directory: Is created, and must be empty if it exists.
        booster_text: The booster in LightGBM's native text.
        plan: The feature plan whose outputs the booster was trained on.
        signature: Raw features in, prediction out.
        example: One value for each raw feature.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty")
    (directory / BOOSTER_FILE).write_text(booster_text)
    (directory / PLAN_FILE).write_bytes(plan.to_json())
    (directory / EXAMPLE_FILE).write_bytes(
        msgspec.json.encode({"columns": list(example), "data": [list(example.values())]})
    )
    model = Model(
        signature=signature,
        saved_input_example_info={"artifact_path": EXAMPLE_FILE, "pandas_orient": "split", "type": "dataframe"},
    )
    model.add_flavor("python_function", loader_module=__name__, env={"virtualenv": None})
    model.add_flavor(FLAVOR, booster=BOOSTER_FILE, plan=PLAN_FILE)
    model.save(str(directory / MLMODEL_FILE_NAME))


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
