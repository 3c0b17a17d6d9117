"""LightGBM. A process must keep to one number of threads (see kernels/forest/forest.py)."""

from pathlib import Path

import lightgbm as lgb
import numpy as np

from benchmarks.peers.process import Predict


def load(text: Path, kept: Path, threads: int) -> Predict:
    booster = lgb.Booster(model_str=text.read_text())
    return lambda rows: np.asarray(booster.predict(rows, raw_score=True, num_threads=threads))
