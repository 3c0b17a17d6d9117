"""Worker with one engine, in a process and an environment of its own; requests on stdin, answers on stdout, in JSON.

    python -m benchmarks.peers.worker lleaves

A request is a method of `Worker` with its arguments; the answer its result, or what went wrong.

An engine is a module of this folder. `load(text, kept, **options)` makes it ready from LightGBM's text, or from what
`build(text, kept, **options)` left in the folder `kept`, and returns a function from rows float64[B, F] to raw scores
float64[B]. PACKAGES names the distributions whose versions the report states beside the project's own.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
HASHED_BYTES = 1 << 22
FIRST_BATCH = 1000
WARM_ROWS = 1000


class Worker:
    """One engine with one model.

    Args:
        name: The engine's file in this folder.
    """

    def __init__(self, name: str) -> None:
        started = time.perf_counter()
        self.engine: Any = import_module(f"benchmarks.peers.{name}")
        self.import_seconds = time.perf_counter() - started
        self.at = 0
        self.first_batch = FIRST_BATCH

    def open(
        self, model: str, rows: str, kept: str, options: dict[str, Any], first_batch: int = FIRST_BATCH
    ) -> dict[str, Any]:
        """Build the engine's form of the model at first use, and predict for the first time.

        Args:
            model: LightGBM's text.
            rows: A .npy file, float64[N, F].
            kept: A folder for what is built.
            options: Further arguments of the engine's `build` and `load`.
            first_batch: Rows of the first batch.
        """
        self.first_batch = first_batch
        self.rows = np.load(rows)
        stamp = Path(kept) / "build.json"
        if not stamp.exists():
            for half_built in Path(kept).iterdir():
                half_built.unlink()
            before = os.times()
            if hasattr(self.engine, "build"):
                self.engine.build(Path(model), Path(kept), **options)
            # Of the CPU, a compiler's too, for a build is timed only once, however busy the machine is.
            stamp.write_text(json.dumps(sum(os.times()[:4]) - sum(before[:4])))
        self.load: Callable[[], Callable] = lambda: self.engine.load(Path(model), Path(kept), **options)
        return {
            "import_seconds": self.import_seconds,
            "build_seconds": json.loads(stamp.read_text()),
            "first_seconds": self.first(),
            "versions": {package: version(package) for package in getattr(self.engine, "PACKAGES", ())},
        }

    def first(self) -> tuple[float, float]:
        """Seconds to load the model and predict one row, and then to predict a batch."""
        started = time.perf_counter()
        self.predict = self.load()
        self.predict(self.rows[:1])
        row = time.perf_counter()
        self.predict(self.rows[: self.first_batch])
        return row - started, time.perf_counter() - row

    def scores(self, batch: int, count: int, path: str) -> None:
        """Write the predictions for the first `count` rows, made in batches, to a .npy file."""
        parts = [self.predict(self.rows[at : at + batch]) for at in range(0, count, batch)]
        np.save(path, np.concatenate(parts))

    def time(self, batch: int, seconds: float, most_calls: int = 100) -> float:
        """Seconds a row in calls of `batch` rows, each call with other rows, for at least so many seconds.

        Another engine has used the cores until now, so some calls come first that are not timed.
        """
        calls = max(1, min(most_calls, 1000 // batch))  # a look at the clock costs something too
        self._call(min(batch, WARM_ROWS), calls)
        rows, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds or not rows:
            self._call(batch, calls)
            rows += calls * batch
        return spent / rows

    def threads(self, seconds: float) -> tuple[float, float, float]:
        """Seconds for all rows in one thread, and in two with half of them each; and the speed-up of hashing in two.

        Hashing needs little memory and releases Python's lock, so its speed-up is the machine's. Every measurement
        takes at least so many seconds, because a waiting thread takes a while to wake.
        """

        def work(rows: np.ndarray, times: int) -> None:
            for _ in range(times):
                self.predict(rows)

        def hashing(size: int, times: int) -> None:
            for _ in range(times):
                hashlib.sha256(bytes(size)).digest()

        one, two = _shared(work, self.rows, np.array_split(self.rows, THREADS), seconds)
        alone, shared = _shared(hashing, HASHED_BYTES, [HASHED_BYTES // THREADS] * THREADS, seconds)
        return one, two, alone / shared

    def _call(self, batch: int, calls: int) -> None:
        predict, rows, at = self.predict, self.rows, self.at
        for _ in range(calls):
            if at + batch > len(rows):
                at = 0
            predict(rows[at : at + batch])
            at += batch
        self.at = at


def _shared(work: Callable[[Any, int], None], whole: Any, parts: list[Any], seconds: float) -> tuple[float, float]:
    """Seconds for the whole in one thread, and for its parts in a thread each."""
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, parts, [1] * len(parts)))
        started = time.perf_counter()
        work(whole, 1)
        times = max(1, int(seconds / (time.perf_counter() - started)))
        started = time.perf_counter()
        work(whole, times)
        middle = time.perf_counter()
        list(pool.map(work, parts, [times] * len(parts)))
        return (middle - started) / times, (time.perf_counter() - middle) / times


def main() -> None:
    # Libraries print to stdout, from C too, so the answers go by a copy of it.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        worker: Worker | None = None
        for line in sys.stdin:
            request = json.loads(line)
            try:
                worker = worker or Worker(sys.argv[1])
                answer = {"result": getattr(worker, request["do"])(**request["with"])}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
