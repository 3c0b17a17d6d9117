"""Woodelf (Nadel 2025), path-dependent."""

from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
from woodelf import WoodelfExplainer

from benchmarks.peers.process import Predict

PACKAGES = ("woodelf-explainer", "lightgbm")


def load(text: Path, kept: Path) -> Predict:
    booster = lgb.Booster(model_str=text.read_text())
    explainer = WoodelfExplainer(booster, feature_perturbation="tree_path_dependent")
    names = booster.feature_name()
    return lambda rows: np.asarray(explainer.shap_values(pd.DataFrame(rows, columns=names), verbose=False))
