"""Rows a second from file to file: `madrone score` beside the forest alone, MLflow and a pandas script.

    just bench score [--rounds 5] [--rows 30000000] [--large 100000000] [--quick]

Method: a forest of 500 x 31 on eight features, read by all from one MLflow directory, and rows made from a seed, with
an id. By turns, round after round, each in a process of its own:

- the forest alone scores rows that are in memory, on all cores, without a start and without files; once before and once
  after `madrone score`, since this comparison is of a few percent, and the machine's speed wanders by more;
- `madrone score` goes from Parquet to Parquet, and keeps the id;
- `mlflow models predict` goes from CSV to JSON, since it reads no Parquet, without an id;
- a script reads Parquet by pandas, predicts by LightGBM on all cores, and writes Parquet with the id.

The slower ones have fewer rows. Beside its own rows each scores one row in each round: rows/s are those without the
time of that start, and the whole time is given too. A ratio is the median of the rounds' own ratios. Memory is the
largest resident size of the main process. Predictions are compared with LightGBM's. With `--large`, `madrone score`
scores so many rows once more, for its memory. The report goes to benchmarks/reports/score.md and .json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.process import memory
from benchmarks.report import Report, at_least, at_most, begin, context, parser, ratio, render, save, spread
from benchmarks.rows import NAMES, make_rows, train_model

GROUP_ROWS = 2**19
GROUPS = 8
"""Row groups that differ; larger files repeat them."""

COMPARED_ROWS = 20_000
MOST_BYTES = 1_000_000_000
LOOK_S = 0.02
MADRONE, MLFLOW, SCRIPT = "madrone score", "mlflow models predict", "pandas and LightGBM"
SHARE = {MADRONE: 1.0, SCRIPT: 1 / 30, MLFLOW: 1 / 60}
"""Rows of each contender, of those of the command line."""


class Run(NamedTuple):
    """Seconds of a process from its start to its end, and its largest resident size in bytes."""

    seconds: float
    peak: int


class Contender(NamedTuple):
    """A command line by input and output, and their suffixes."""

    command: Callable[[Path, Path], list[str]]
    suffix: str
    written: str
    predictions: Callable[[Path], Any]


def contenders(model: Path) -> dict[str, Contender]:
    python, text = sys.executable, str(model / "model.lgb")
    return {
        MADRONE: Contender(
            lambda given, out: [
                python, "-m", "app", "score", str(given), "--model", str(model), "--output", str(out)
            ],
            "parquet", "parquet", from_parquet,
        ),
        SCRIPT: Contender(
            lambda given, out: [python, "-m", "benchmarks.peers.scorers.frame", text, str(given), str(out)],
            "parquet", "parquet", from_parquet,
        ),
        MLFLOW: Contender(
            lambda given, out: [
                python, "-m", "mlflow", "models", "predict", "--model-uri", str(model), "--env-manager", "local",
                "--input-path", str(given), "--content-type", "csv", "--output-path", str(out),
            ],
            "csv", "json", lambda path: np.array(json.loads(path.read_text())["predictions"]),
        ),
    }  # fmt: skip


def from_parquet(path: Path) -> Any:
    return pq.read_table(path, columns=["prediction"])["prediction"].to_numpy()


def write_rows(path: Path, count: int) -> None:
    """A file of so many rows; Parquet has an id beside the features."""
    tables = [
        pa.table(dict(zip(NAMES, make_rows(GROUP_ROWS, seed).T.copy(), strict=True)))
        for seed in range(min(GROUPS, -(-count // GROUP_ROWS)))
    ]
    if path.suffix == ".csv":
        # pandas writes 10.0, which MLflow takes as a number of a model of float columns, and 10 it does not.
        pa.concat_tables([tables[0]] * -(-count // len(tables[0])))[:count].to_pandas().to_csv(path, index=False)
    else:
        schema = pa.schema([pa.field("id", pa.int64()), *tables[0].schema])
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, count, GROUP_ROWS):
                rows = tables[start // GROUP_ROWS % GROUPS][: count - start]
                writer.write_table(rows.add_column(0, "id", pa.array(np.arange(start, start + len(rows)))))


def timed(command: list[str], directory: Path) -> tuple[Run, str]:
    """Run a command to its end, and give what it printed (SystemExit: it failed)."""
    root = Path(__file__).parents[1]
    log = directory / "log.txt"
    begun = time.monotonic()
    with log.open("wb") as output:
        environ = os.environ | {"PYTHONPATH": str(root), "DATA_DIR": str(directory.parent)}
        process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=subprocess.STDOUT, env=environ)
        peak = 0  # of `wait4` it would be this process's own, of which a child begins as a copy
        while process.poll() is None:
            peak = max(peak, memory("VmHWM", process.pid))
            time.sleep(LOOK_S)
    seconds, said = time.monotonic() - begun, log.read_text()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{said[-2000:]}")
    return Run(seconds, peak), said


def scored(one: Contender, directory: Path, count: int) -> Run:
    """A run of a contender with so many rows; its output stays until the next."""
    given = directory / f"rows-{count}.{one.suffix}"
    if not given.exists():
        write_rows(given, count)
    out = directory / f"out.{one.written}"
    out.unlink(missing_ok=True)
    return timed(one.command(given, out), directory)[0]


def check(one: Contender, directory: Path, expected: Any) -> float:
    """The largest difference of the first predictions from LightGBM's."""
    found = one.predictions(directory / f"out.{one.written}")[: len(expected)]
    return float(np.max(np.abs(found - expected[: len(found)])))


def measure(model: Path, directory: Path, rows: int, rounds: int) -> Report:
    """All contenders, round by round."""
    entered = contenders(model)
    booster = lgb.Booster(model_file=str(model / "model.lgb"))
    expected = booster.predict(make_rows(GROUP_ROWS, 0)[:COMPARED_ROWS])
    counts = {name: max(1000, int(rows * SHARE[name])) for name in entered}
    found: dict[str, Any] = {
        name: {"rows": counts[name], "rate": [], "start_s": [], "whole_s": [], "peak": [], "difference": 0.0}
        for name in entered
    }
    forest: list[float] = []

    def forest_alone() -> float:
        module = "benchmarks.peers.scorers.forest"
        _, said = timed([sys.executable, "-m", module, str(model / "model.lgb"), str(rows)], directory)
        return rows / float(said.split()[-1])

    for one in entered.values():  # kernels are compiled, files are read from the disk once
        scored(one, directory, 1)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        before = forest_alone()
        for name, one in entered.items():
            figures = found[name]
            start = scored(one, directory, 1)
            run = scored(one, directory, counts[name])
            figures["rate"].append((counts[name] - 1) / (run.seconds - start.seconds))
            figures["start_s"].append(start.seconds)
            figures["whole_s"].append(run.seconds)
            figures["peak"].append(run.peak)
            figures["difference"] = max(figures["difference"], check(one, directory, expected))
            if name == MADRONE:
                forest.append((before + forest_alone()) / 2)
    return {"forest": forest, "contenders": found}


def page(report: Report) -> str:
    found, rate = report["contenders"], report["contenders"][MADRONE]["rate"]
    table = {
        name: {
            "rows": one["rows"],
            "rate": spread(one["rate"]),
            "whole": spread(one["rows"] / seconds for seconds in one["whole_s"]),
            "start": spread(one["start_s"]),
            "peak": max(one["peak"]),
            "difference": one["difference"],
            "ratio": None if name == MADRONE else ratio(rate, one["rate"]),
        }
        for name, one in found.items()
    }
    large = report.get("large")
    targets = [
        at_least("From Parquet to Parquet, at least 70 % of the forest alone", 100 * ratio(rate, report["forest"]), 70,
                 "{:.0f} %"),
        at_least("At least 10 times mlflow models predict", table[MLFLOW]["ratio"], 10, "{:.0f} times"),
        at_least("At least 5 times pandas and LightGBM", table[SCRIPT]["ratio"], 5, "{:.0f} times"),
        at_most("Memory for 100,000,000 rows at most 1 GB",
                large["peak"] / 1e6 if large and large["rows"] >= 1e8 else None, MOST_BYTES / 1e6, "{:.0f} MB"),
    ]  # fmt: skip
    return render("score", report, forest_rate=spread(report["forest"]), table=table, targets=targets)


def main() -> None:
    options = parser(__doc__, quick="two rounds of a tenth of the rows")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--rows", type=int, default=30_000_000)
    options.add_argument("--large", type=int, help="rows of one more run of madrone score, for its memory")
    arguments = begin(options)
    rows, rounds = (arguments.rows // 10, 2) if arguments.quick else (arguments.rows, arguments.rounds)
    model = train_model(arguments.cache)
    report = context("score", "madrone", "lightgbm", "mlflow", "pandas", "pyarrow", "numba", "numpy")
    with tempfile.TemporaryDirectory(dir=arguments.cache) as made:
        directory = Path(made)
        report |= {"rounds": rounds} | measure(model, directory, rows, rounds)
        if arguments.large:
            run = scored(contenders(model)[MADRONE], directory, arguments.large)
            report["large"] = {"rows": arguments.large, "seconds": run.seconds, "peak": run.peak}
    save("score", report, page, arguments.reports)


if __name__ == "__main__":
    main()
