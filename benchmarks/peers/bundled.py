"""The bundled model on the CPU: its transforms alone, with Madrone's forest, and with LightGBM behind them."""

from pathlib import Path
from typing import Literal

import lightgbm as lgb
import numpy as np

from app.models.artifact import read_artifact
from benchmarks.peers.process import Predict
from kernels.engine import Engine

Part = Literal["transforms", "engine", "LightGBM"]


def load(model: Path, kept: Path, part: Part) -> Predict:
    artifact = read_artifact(model)
    engine = Engine(artifact.forest, artifact.plan, artifact.table, device="cpu")
    if part == "transforms":
        return engine.transform
    if part == "engine":
        return lambda rows: engine.predict(rows, raw_score=True)
    booster = lgb.Booster(model_file=model / "model.lgb")
    return lambda rows: np.asarray(booster.predict(engine.transform(rows), raw_score=True, num_threads=1))
