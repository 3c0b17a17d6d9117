"""LightGBM's `pred_contrib`, without the expected value."""

from pathlib import Path

import lightgbm as lgb
import numpy as np

from benchmarks.peers.process import Predict

PACKAGES = ("lightgbm",)


def load(text: Path, kept: Path) -> Predict:
    booster = lgb.Booster(model_str=text.read_text())
    return lambda rows: np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))[:, :-1]
