"""Models to calibrate, and rows that they were not fitted on. The error grows with the feature `age`."""

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.calibration.report import CalibrationReport
from app.calibration.run import Order, calibrate_model
from app.config.settings import Settings
from app.models.process.worker import ModelWorker
from tests.models.support import NAMES, PARAMETERS, save_booster

TARGET = "price"


def frame(seed: int, count: int = 900, kind: str = "number") -> pd.DataFrame:
    """Rows with the target: a number, or 0 and 1."""
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(random.normal(size=(count, len(NAMES))), columns=list(NAMES))
    rows["age"] = random.integers(0, 6, count).astype(float)
    rows[TARGET] = 2 * rows["income"] - rows["rooms"] + (0.1 + 0.3 * rows["age"]) * random.normal(size=count)
    if kind == "class":
        rows[TARGET] = (rows[TARGET] > 0.5).astype(int)
    return rows


def boosted(rows: pd.DataFrame, rounds: int = 30, **changes: Any) -> lgb.Booster:
    """A booster fitted on rows."""
    parameters = PARAMETERS | changes
    data = lgb.Dataset(rows[list(NAMES)].to_numpy(), rows[TARGET], feature_name=list(NAMES), params=parameters)
    return lgb.train(parameters, data, num_boost_round=rounds)


def saved(booster: lgb.Booster, directory: Path) -> Path:
    return save_booster(booster, directory)


def predicted(booster: lgb.Booster, rows: pd.DataFrame) -> NDArray[np.float64]:
    return np.asarray(booster.predict(rows[list(NAMES)].to_numpy(), num_threads=1))


def calibrated(model: Path, rows: pd.DataFrame, folder: Path, **changes: Any) -> CalibrationReport:
    """Calibrate a model, in this process, on rows written to `folder`; to `folder`/out, unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / "rows.parquet")
    settings = Settings(data_dir=folder / "data", model_path=str(model), model_name="houses")
    order = Order(**({"data": folder / "rows.parquet", "output": folder / "out"} | changes))
    return calibrate_model(settings, ModelWorker(settings), order)
