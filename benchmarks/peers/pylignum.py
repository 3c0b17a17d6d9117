"""pylignum, whose module is `lignum`: trees interpreted, or compiled to native code by the system's C compiler."""

from pathlib import Path

import lignum

from benchmarks.peers.process import Predict

PACKAGES = ("pylignum",)


def build(text: Path, kept: Path, compiled: bool) -> None:
    if compiled:
        lignum.load(str(text)).compile(library=str(kept / "forest.so"), work_dir=str(kept))


def load(text: Path, kept: Path, compiled: bool) -> Predict:
    model = lignum.load(str(text), compiled=str(kept / "forest.so") if compiled else None)
    return lambda rows: model.predict(rows, raw_score=True, n_jobs=1)
