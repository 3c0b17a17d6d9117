"""Time and memory that it takes to read a large model text, beside LightGBM.

    just bench texts [--rounds 5] [--quick]

Method: for each size, a forest of `TRAINED` trees is trained on rows made from a seed, and its trees are repeated up to
the number wanted; thresholds are bounds of LightGBM's bins, of which more trees have no more. Each reading is in a new
process, by turns: Madrone reads the text and lays it out for its kernels on one thread, LightGBM makes a Booster of it
on all cores. Imports and reading the file do not count for time. Memory is the process's peak (VmHWM), and its part
above what the process took before, text included. Processor time is given too, for it depends less on what else the
machine does. The report goes to benchmarks/reports/texts.md and .json.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import lightgbm as lgb

from benchmarks.peers.process import memory
from benchmarks.report import MIB, Report, begin, context, parser, render, save, spread
from benchmarks.rows import NAMES, PARAMETERS, TRAINED_ROWS, make_rows, make_target
from kernels.forest.layout import read_forest
from kernels.forest.sections import divide

FORESTS = ((5000, 31), (5000, 255), (9000, 255))
"""Trees, and leaves of a tree; the text of the last has more than 200 MB."""

QUICK = ((500, 31),)
TRAINED = 100
READERS = {"Madrone": "kernels", "LightGBM": "lightgbm"}


def write_text(trees: int, leaves: int, directory: Path) -> Path:
    """A model text, kept in the cache."""
    path = directory / f"texts-{trees}x{leaves}.txt"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        rows = make_rows(TRAINED_ROWS, 1)
        data = lgb.Dataset(rows, make_target(rows, 2), feature_name=list(NAMES))
        booster = lgb.train(PARAMETERS | {"num_leaves": leaves}, data, min(TRAINED, trees))
        path.with_suffix(".part").write_text(repeated(booster.model_to_string(), trees))
        path.with_suffix(".part").rename(path)
    return path


def repeated(text: str, trees: int) -> str:
    """A text whose trees are repeated until there are so many."""
    sections = divide(text)
    bodies = [block.partition("\n")[2] for block in sections.blocks()]
    blocks = [f"Tree={index}\n{bodies[index % len(bodies)]}" for index in range(trees)]
    head, _, after = sections.head.partition("tree_sizes=")
    sizes = " ".join(str(len(block)) for block in blocks)
    return f"{head}tree_sizes={sizes}\n{after.partition(chr(10))[2]}{''.join(blocks)}{sections.rest}"


def read(path: Path, by: str) -> dict[str, float]:
    """Read a text in this process: seconds, processor seconds, and peak memory in bytes."""
    text = path.read_text()
    before, started, processor = memory("VmRSS"), time.perf_counter(), time.process_time()
    # Kept until memory is read.
    kept = read_forest(text) if by == "kernels" else lgb.Booster(model_str=text)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    peak = memory("VmHWM")
    del kept
    return {"seconds": seconds, "processor": processor, "peak": peak, "above": peak - before}


def measure(path: Path, rounds: int) -> dict[str, object]:
    """Readings of a text by each reader in turn, each in a process of its own."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in READERS}
    for _ in range(rounds):
        for name, by in READERS.items():
            command = [sys.executable, "-m", "benchmarks.texts", "--read", str(path), "--by", by]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    figures = {name: {key: spread([one[key] for one in all_]) for key in all_[0]} for name, all_ in found.items()}
    return {"bytes": path.stat().st_size, "readers": figures}


def page(report: Report) -> str:
    return render("texts", report)


def main() -> None:
    options = parser(__doc__, quick="one round of a small forest")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--read", type=Path, help="read this text in this process, and print the figures")
    options.add_argument("--by", choices=READERS.values(), default="kernels", help="what reads it")
    arguments = begin(options)
    if arguments.read:
        print(json.dumps(read(arguments.read, arguments.by)))
        return
    rounds = 1 if arguments.quick else arguments.rounds
    forests = {}
    for trees, leaves in QUICK if arguments.quick else FORESTS:
        path = write_text(trees, leaves, arguments.cache / "models")
        forests[f"{trees:,} trees of {leaves} leaves"] = measure(path, rounds)
        print(f"{path.name}, {path.stat().st_size // MIB} MiB", file=sys.stderr)
    report = context("texts", "lightgbm", "numpy") | {"rounds": rounds, "forests": forests}
    save("texts", report, page, arguments.reports)


if __name__ == "__main__":
    main()
