"""The forest alone: rows that are in memory, in blocks as `madrone score` has them, on all cores.

    python -m benchmarks.peers.scorers.forest MODEL COUNT

MODEL is LightGBM's text, COUNT the number of rows; the seconds are printed. Compiled kernels are in $DATA_DIR. Blocks
are taken in turn from one table, so that the memory does not depend on COUNT.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.score.inputs import BATCH_ROWS
from app.score.pipeline import CORES
from benchmarks.rows import make_rows
from kernels.cache import cache_kernels
from kernels.engine import Engine
from kernels.forest.forest import Forest

BLOCKS = 16


def main() -> None:
    cache_kernels(Path(os.environ["DATA_DIR"]) / "kernels")
    engine = Engine(Forest.from_model_text(Path(sys.argv[1]).read_text()), device="cpu")
    blocks = [make_rows(BATCH_ROWS, seed) for seed in range(BLOCKS)]
    engine.predict(blocks[0])
    calls = -(-int(sys.argv[2]) // BATCH_ROWS)
    with ThreadPoolExecutor(CORES) as pool:
        begun = time.perf_counter()
        for _ in pool.map(lambda call: engine.predict(blocks[call % BLOCKS]), range(calls)):
            pass
        seconds = time.perf_counter() - begun
    print(seconds * int(sys.argv[2]) / (calls * BATCH_ROWS))


if __name__ == "__main__":
    main()
