"""lleaves with its default settings, which are double precision and blocks of 34 trees; but see `inline`."""

from pathlib import Path

import lleaves

from benchmarks.peers.process import Predict

PACKAGES = ("lleaves", "llvmlite")
LARGEST_INLINED = 20_000


def build(text: Path, kept: Path) -> None:
    load(text, kept)


def load(text: Path, kept: Path) -> Predict:
    model = lleaves.Model(model_file=str(text))
    model.compile(cache=str(kept / "forest.o"), raw_score=True, finline=inline(text))
    return lambda rows: model.predict(rows, n_jobs=1)


def inline(text: Path) -> bool:
    """Whether LLVM may inline all trees into one function, which is the default.

    It makes the code of a small forest a fifth faster. On a forest of 76,500 leaves LLVM was not done after 5 minutes
    and 5 GB, so larger ones are compiled without, as lleaves' documentation offers.
    """
    leaves = sum(
        int(line.partition("=")[2]) for line in text.read_text().splitlines() if line.startswith("num_leaves=")
    )
    return leaves <= LARGEST_INLINED
