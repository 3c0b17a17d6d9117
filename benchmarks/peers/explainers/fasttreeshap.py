"""FastTreeSHAP (Yang 2021) in its fork that is kept up; it chooses between its two algorithms by memory."""

from pathlib import Path

import fasttreeshap_fixed as fasttreeshap
import lightgbm as lgb
import numpy as np

from benchmarks.peers.process import Predict

PACKAGES = ("fasttreeshap-fixed", "lightgbm")


def load(text: Path, kept: Path) -> Predict:
    booster = lgb.Booster(model_str=text.read_text())
    explainer = fasttreeshap.TreeExplainer(booster, algorithm="auto", n_jobs=1)
    return lambda rows: np.asarray(explainer.shap_values(rows, check_additivity=False))
