"""Writes a booster, with any feature plan and class labels, to an MLflow model directory, as the `madrone` flavor."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from numpy.typing import NDArray

from app.drift.profile import Profile
from app.feature import Category
from app.models import pyfunc
from app.models.parts import FLAVOR
from app.models.predictions.interval import Intervals
from kernels.engine import Engine
from kernels.forest.forest import load_forest
from kernels.plan.plan import Plan

BOOSTER_FILE = "model.lgb"
PLAN_FILE = "plan.json"
REFERENCES_FILE = "references.npy"
DIFFICULTY_FILE = "difficulty.lgb"
INTERVALS_FILE = "intervals.json"
LABELS_FILE = "labels.json"
PROFILE_FILE = "profile.json"
EXAMPLE_FILE = "input_example.json"


class ModelParts(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of a model of the madrone flavor.

    Attributes:
        booster: Booster, in LightGBM's native text.
        plan: Feature plan, whose outputs the booster takes; None for a booster that takes the raw features.
        table: float64[N, C], stored rows of the plan, where it has references.
        difficulty: Booster that predicts the absolute error, in native text, where the model has intervals.
        intervals: Calibration of the intervals.
        labels: Label of each class, as of `ModelContent`.
        profile: Reference of drift detection.
    """

    booster: str
    plan: Plan | None = None
    table: NDArray[np.float64] | None = None
    difficulty: str | None = None
    intervals: Intervals | None = None
    labels: tuple[Category, ...] | None = None
    profile: Profile | None = None

    def engine(self) -> Engine:
        """Join the parts, as the service does.

        Raises:
            ForestError: A booster cannot be used.
            EngineError: The parts do not fit.
        """
        difficulty = None if self.difficulty is None else load_forest(self.difficulty)
        return Engine(load_forest(self.booster), self.plan, self.table, difficulty)


def save_model(
    directory: Path, parts: ModelParts, signature: ModelSignature, example: Mapping[str, Category | None] | None
) -> None:
    """Write a model directory.

    Args:
        directory: Model directory; created, and empty if it exists.
        parts: Parts of the model.
        signature: Signature with the raw features as inputs.
        example: One value for each raw feature, None where it is missing; None for a model without an example.

    Raises:
        FileExistsError: The directory is not empty.
        ValueError: Only one of difficulty and intervals is given.
    """
    if (parts.difficulty is None) != (parts.intervals is None):
        raise ValueError("difficulty and intervals need each other")
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty")
    flavor = {"booster": BOOSTER_FILE}
    (directory / BOOSTER_FILE).write_text(parts.booster)
    if parts.plan is not None:
        flavor["plan"] = PLAN_FILE
        (directory / PLAN_FILE).write_bytes(parts.plan.to_json())
    if parts.table is not None:
        flavor["references"] = REFERENCES_FILE
        np.save(directory / REFERENCES_FILE, parts.table, allow_pickle=False)
    if parts.difficulty is not None and parts.intervals is not None:
        flavor |= {"difficulty": DIFFICULTY_FILE, "intervals": INTERVALS_FILE}
        (directory / DIFFICULTY_FILE).write_text(parts.difficulty)
        (directory / INTERVALS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(parts.intervals), indent=2))
    if parts.labels is not None:
        flavor["labels"] = LABELS_FILE
        (directory / LABELS_FILE).write_bytes(msgspec.json.encode(parts.labels))
    if parts.profile is not None:
        flavor["profile"] = PROFILE_FILE
        (directory / PROFILE_FILE).write_bytes(parts.profile.to_json())
    info = None
    if example is not None:
        info = {"artifact_path": EXAMPLE_FILE, "pandas_orient": "split", "type": "dataframe"}
        (directory / EXAMPLE_FILE).write_bytes(
            msgspec.json.encode({"columns": list(example), "data": [list(example.values())]})
        )
    model = Model(signature=signature, saved_input_example_info=info)
    model.add_flavor("python_function", loader_module=pyfunc.__name__, env={"virtualenv": None})
    model.add_flavor(FLAVOR, **flavor)
    model.save(str(directory / MLMODEL_FILE_NAME))
