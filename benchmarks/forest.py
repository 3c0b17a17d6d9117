"""Speed of the forest's kernels on one CPU thread, and of the bundled model, beside other engines.

    just bench forest [--rounds 7] [--seconds 0.2] [--only pylignum,lleaves] [--forests 3] [--data FILE] [--quick]

Method: three forests are trained on the 20,640 rows of California Housing (8 columns, fixed seed) and read by every
engine from the same LightGBM text. Each engine runs in a process of its own, peers in environments of their own with
the versions of benchmarks/peers/*.txt. The engines take turns, one at a time, round after round, so that a machine
which gets slower does so for all: in a round each calls its `predict` with raw scores for at least `--seconds` with
batches of each size, after calls that are not timed. Every call takes the next of 20,000 shuffled rows, float64 and
C-contiguous, because branch predictors and caches learn one row by heart. A figure is the median over the rounds; the
spread is between the first and the third quartile; a ratio is the median of the rounds' own ratios.

Equality is with LightGBM's raw scores, for batches of each size: to the bit, or else the largest error.

What peers compile is kept in the cache, with the time that it took; so a peer is built once, and not in every run.
A peer that cannot be installed or built is reported with the reason. With `--quick` the figures are rough, and the
report goes to the cache.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import lightgbm as lgb
import numpy as np

from app.models.registry.embedded import BUNDLED
from app.training.dataset import Dataset, load_dataset
from benchmarks.pages.forest import page, picture
from benchmarks.peers.process import HERE, Peer, PeerError, Process
from benchmarks.report import CORES, begin, context, parser, ratio, save, spread
from benchmarks.rows import PARAMETERS

FORESTS = ((500, 31), (1000, 127), (300, 255))
"""Trees and leaves of a tree."""
BATCHES = {1: 1000, 32: 3200, 64: 3200, 1000: 5000, 20_000: 20_000}
"""Rows a call, and how many rows of each are compared with LightGBM's scores."""
FRESH_STARTS = 3

MADRONE = Peer("Madrone", "madrone")
LIGHTGBM = Peer("LightGBM, 1 thread", "lightgbm", options={"threads": 1})
PEERS = (
    LIGHTGBM,  # first: the others' scores are compared with its own
    MADRONE,
    Peer(f"LightGBM, {CORES} threads", "lightgbm", options={"threads": CORES}, threads=CORES),
    Peer("lleaves", "lleaves", "lleaves"),
    Peer("TL2cgen", "tl2cgen", "treelite"),
    Peer("Treelite GTIL", "gtil", "treelite"),
    Peer("ONNX Runtime, double", "onnxruntime", "onnxruntime"),
    Peer("pylignum, interpreted", "pylignum", "pylignum", {"compiled": False}),
    Peer("pylignum, compiled", "pylignum", "pylignum", {"compiled": True}),
)
BUNDLED_PARTS = (
    Peer("Madrone's transforms + LightGBM", "bundled", options={"part": "LightGBM"}),
    Peer("Madrone", "bundled", options={"part": "engine"}),
    Peer("Madrone's transforms alone", "bundled", options={"part": "transforms"}),
)
FRESH = {
    "Madrone, kernels cached": (MADRONE, False),
    "Madrone, nothing cached": (MADRONE, True),
    "LightGBM": (LIGHTGBM, False),
}
"""Engines whose first prediction is measured in a new process, and whether the kernel cache is empty."""


@dataclass(frozen=True)
class Settings:
    """Rounds, seconds of a measurement, directory of models and builds, and file of the rows."""

    rounds: int
    seconds: float
    cache: Path
    rows: Path


def begin_comparison(options: argparse.ArgumentParser, forests: int) -> argparse.Namespace:
    """The arguments of a benchmark that compares engines on some forests, whose directories in the cache are made."""
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=float, default=0.2, help="for one engine, batch size and round, at least")
    options.add_argument("--forests", type=int, default=forests, help="how many of the forests are measured")
    arguments = begin(options)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 0.02
    for directory in (arguments.cache / "logs", arguments.cache / "models"):
        directory.mkdir(parents=True, exist_ok=True)
    return arguments


def main() -> None:
    options = parser(__doc__, quick="2 rounds of 0.02 s", data=True)
    options.add_argument("--only", default="", help="parts of the peers' names, separated by commas")
    arguments = begin_comparison(options, len(FORESTS))
    cache = arguments.cache
    dataset = load_dataset(arguments.data)
    settings = Settings(rounds=arguments.rounds, seconds=arguments.seconds, cache=cache, rows=cache / "rows.npy")
    order = np.random.default_rng(1).permutation(len(dataset.features))[: max(BATCHES)]
    np.save(settings.rows, dataset.features[order])
    models: dict[str, Any] = {}
    for trees, leaves in FORESTS[: arguments.forests]:
        name = f"{trees:,} trees of {leaves} leaves"
        text = train(dataset, trees, leaves, cache / "models")
        progress(name)
        models[name] = Comparison(text, settings).run(chosen(arguments.only)) | {"fresh": fresh_starts(text, settings)}
    name = "the bundled model, with its transforms"
    progress(name)
    models[name] = Comparison(BUNDLED / "model", settings).run(BUNDLED_PARTS)
    report = context("forest", "madrone", "lightgbm", "numba", "numpy") | {
        "data_sha256": dataset.sha256,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "models": models,
    }
    save("forest", report, page, arguments.reports, {"forest": picture})


def chosen(only: str) -> tuple[Peer, ...]:
    """LightGBM, Madrone, and the peers whose names contain one of the given parts."""
    parts = only.lower().split(",")
    return PEERS[:2] + tuple(peer for peer in PEERS[2:] if any(part in peer.label.lower() for part in parts))


def train(dataset: Dataset, trees: int, leaves: int, directory: Path) -> Path:
    """File with LightGBM's text of a forest, trained at first use."""
    known = json.dumps([PARAMETERS | {"num_leaves": leaves}, dataset.sha256, version("lightgbm")])
    path = directory / f"{trees}x{leaves}-{digest([known.encode()])}.txt"
    if not path.exists():
        progress(f"Training {trees} trees of {leaves} leaves ...")
        data = lgb.Dataset(dataset.features, dataset.target, feature_name=list(dataset.names))
        lgb.train(PARAMETERS | {"num_leaves": leaves}, data, trees).save_model(path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return path


@dataclass
class Entrant:
    """Engine with a model: the answer to `open`, and for each round µs a row by batch and ms to the first row."""

    peer: Peer
    process: Process
    opened: dict[str, Any]
    largest_error: float | None
    us: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})
    first_ms: list[float] = field(default_factory=list)


class Comparison:
    """All engines with one model, in a process each. The first one's scores are the reference."""

    def __init__(self, model: Path, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        self.entrants: dict[str, Entrant] = {}
        self.failed: dict[str, str] = {}
        self.threads: list[tuple[float, float, float]] = []
        self._reference: np.ndarray | None = None

    def run(self, peers: tuple[Peer, ...]) -> dict[str, Any]:
        """Measure all engines, and return the figures for the report."""
        with ExitStack() as stack:
            for peer in peers:
                with self._or_without(peer):
                    self._enter(peer, stack)
            for number in range(self.settings.rounds):
                progress(f"  round {number + 1} of {self.settings.rounds}")
                self._round()
        return self._summary()

    def _enter(self, peer: Peer, stack: ExitStack) -> None:
        progress(f"  {peer.label}")
        process = Process(peer, self.settings.cache)
        stack.callback(process.close)
        opened = process.ask("open", **opening(peer, self.model, self.settings))
        scores = [scored(process, batch, self.settings) for batch in BATCHES]
        if self._reference is None:
            self._reference = scores[-1]
        self.entrants[peer.label] = Entrant(peer, process, opened, largest_error(scores, self._reference))

    def _round(self) -> None:
        seconds = self.settings.seconds
        for batch in BATCHES:
            for entrant in [*self.entrants.values()]:
                with self._or_without(entrant.peer):
                    entrant.us[batch].append(1e6 * entrant.process.ask("time", batch=batch, seconds=seconds))
        for entrant in [*self.entrants.values()]:
            with self._or_without(entrant.peer):
                entrant.first_ms.append(1e3 * entrant.process.ask("first")[0])
        self.threads.append(self.entrants[MADRONE.label].process.ask("threads", seconds=seconds))

    @contextmanager
    def _or_without(self, peer: Peer) -> Iterator[None]:
        """Go on without a peer that fails; an engine of the project's own environment must not."""
        try:
            yield
        except PeerError as error:
            if peer.environment is None:
                raise
            progress(f"  {peer.label}: {error}")
            self.failed[peer.label] = str(error)
            self.entrants.pop(peer.label, None)

    def _summary(self) -> dict[str, Any]:
        own = self.entrants[MADRONE.label].us
        rows = max(BATCHES)
        return {
            "engines": {
                label: {
                    "us_a_row": {str(batch): spread(values) for batch, values in entrant.us.items()},
                    "times_madrones": {str(batch): ratio(entrant.us[batch], own[batch]) for batch in BATCHES},
                    "largest_error": entrant.largest_error,
                    "build_s": entrant.opened["build_seconds"],
                    "first_ms": spread(entrant.first_ms),
                    "versions": entrant.opened["versions"],
                }
                for label, entrant in self.entrants.items()
            },
            "threads_us_a_row": [spread([1e6 * pair[count] / rows for pair in self.threads]) for count in (0, 1)],
            "threads_speedup": median(one / two for one, two, _ in self.threads),
            "hashing_speedup": median(gain for _, _, gain in self.threads),
            "failed": self.failed,
        }


def opening(peer: Peer, model: Path, settings: Settings) -> dict[str, Any]:
    """Arguments of a worker's `open`. Builds are kept apart by model, adapter, options and versions."""
    files = [(HERE / peer.module).with_suffix(".py")]
    files += [(HERE / peer.environment).with_suffix(".txt")] if peer.environment else []
    files += [model] if model.is_file() else []
    options = json.dumps(peer.options).encode()
    kept = settings.cache / "built" / f"{peer.module}-{digest([options, *(path.read_bytes() for path in files)])}"
    kept.mkdir(parents=True, exist_ok=True)
    return {"model": str(model), "rows": str(settings.rows), "kept": str(kept), "options": peer.options}


def scored(process: Process, batch: int, settings: Settings) -> np.ndarray:
    path = settings.cache / "scores.npy"
    process.ask("scores", batch=batch, count=BATCHES[batch], path=str(path))
    return np.load(path)


def largest_error(scores: list[np.ndarray], reference: np.ndarray) -> float | None:
    """Largest difference in batches of all sizes; 0 only if every bit is equal; None if rows have several values."""
    if any(found.ndim != 1 for found in scores):
        return None
    if all(found.tobytes() == reference[: len(found)].tobytes() for found in scores):
        return 0.0
    return max(float(np.abs(found - reference[: len(found)]).max()) for found in scores) or sys.float_info.min


def fresh_starts(model: Path, settings: Settings) -> dict[str, dict[str, Any]]:
    """Seconds from the start of a process to its first prediction, and of the parts of that time."""
    found: dict[str, list[tuple[float, float, float, float]]] = {label: [] for label in FRESH}
    for number in range(min(FRESH_STARTS, settings.rounds)):
        progress(f"  new processes, {number + 1}")
        for label, (peer, cold) in FRESH.items():
            with tempfile.TemporaryDirectory() as empty:
                started = time.perf_counter()
                process = Process(peer, settings.cache, {"NUMBA_CACHE_DIR": empty} if cold else None)
                try:
                    answer = process.ask("open", **opening(peer, model, settings))
                finally:
                    process.close()
                row, batch = answer["first_seconds"]
                found[label].append((time.perf_counter() - started - batch, answer["import_seconds"], row, batch))
    parts = ("process_s", "import_s", "first_row_s", "first_batch_s")
    return {
        label: {part: spread(values) for part, values in zip(parts, zip(*starts, strict=True), strict=True)}
        for label, starts in found.items()
    }


def digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
