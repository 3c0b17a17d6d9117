"""TL2cgen: the forest as C, compiled by gcc, called through its own Predictor."""

from pathlib import Path

import tl2cgen
import treelite

from benchmarks.peers.process import Predict

PACKAGES = ("tl2cgen", "treelite")
TREES_A_FILE = 5
"""gcc's time grows faster than a file: 500 trees of 31 leaves take 22 s of CPU in 8 files, and 14 s in 50."""


def build(text: Path, kept: Path) -> None:
    model = treelite.frontend.load_lightgbm_model(text)
    parameters = {"parallel_comp": model.num_tree // TREES_A_FILE}
    tl2cgen.export_lib(model, "gcc", kept / "forest.so", params=parameters, nthread=1)


def load(text: Path, kept: Path) -> Predict:
    predictor = tl2cgen.Predictor(kept / "forest.so", nthread=1)
    return lambda rows: predictor.predict(tl2cgen.DMatrix(rows, dtype="float64"), pred_margin=True).reshape(-1)
