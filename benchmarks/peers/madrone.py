"""Madrone's forest. The environment says where its compiled kernels are kept (kernels/cache.py)."""

from pathlib import Path

from benchmarks.peers.process import Predict
from kernels.forest.forest import Forest


def load(text: Path, kept: Path) -> Predict:
    forest = Forest.from_model_text(text.read_text())
    forest.measure()
    return lambda rows: forest.predict(rows, raw_score=True)
