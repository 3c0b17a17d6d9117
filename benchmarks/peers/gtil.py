"""Treelite's own reference runtime, GTIL."""

from pathlib import Path

import treelite

from benchmarks.peers.process import Predict

PACKAGES = ("treelite",)


def load(text: Path, kept: Path) -> Predict:
    model = treelite.frontend.load_lightgbm_model(text)
    return lambda rows: treelite.gtil.predict(model, rows, nthread=1, pred_margin=True).reshape(-1)
