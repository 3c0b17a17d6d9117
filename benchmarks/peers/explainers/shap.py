"""shap's TreeExplainer, path-dependent. For a LightGBM model it asks LightGBM."""

from pathlib import Path

import lightgbm as lgb
import numpy as np
import shap

from benchmarks.peers.process import Predict

PACKAGES = ("shap", "lightgbm")


def load(text: Path, kept: Path) -> Predict:
    booster = lgb.Booster(model_str=text.read_text())
    explainer = shap.TreeExplainer(booster, feature_perturbation="tree_path_dependent")
    return lambda rows: np.asarray(explainer.shap_values(rows, check_additivity=False))
