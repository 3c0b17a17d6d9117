"""lleaves with its default settings, which are double precision and blocks of 34 trees; but see `LARGEST_INLINED`."""

import re
from pathlib import Path

import lleaves

from benchmarks.peers.process import Predict

PACKAGES = ("lleaves", "llvmlite")
LARGEST_INLINED = 20_000
"""Leaves of a forest whose trees LLVM inlines into one function, the default, which makes small forests a fifth faster.

With 76,500 leaves LLVM did not finish in 5 minutes and 5 GB; lleaves' documentation offers to compile without.
"""


def build(text: Path, kept: Path) -> None:
    load(text, kept)


def load(text: Path, kept: Path) -> Predict:
    model = lleaves.Model(model_file=str(text))
    leaves = sum(map(int, re.findall(r"^num_leaves=(\d+)", text.read_text(), re.MULTILINE)))
    model.compile(cache=str(kept / "forest.o"), raw_score=True, finline=leaves <= LARGEST_INLINED)
    return lambda rows: model.predict(rows, n_jobs=1)
