"""Speed of the HTTP path, beside a bare echo and other servers of LightGBM models, with one worker each.

    just bench http [--rounds 7] [--seconds 0.6] [--only madrone echo ...] [--cases row batch ...] [--quick]

Method: all servers serve one plain booster of 500 trees of 31 leaves on 8 numbers, without a plan; rows and target are
made from a seed (benchmarks/rows.py). Each is asked for every row of the benchmark first, and its predictions must be
those of `Booster.predict`. Then they take turns, round after round, so that a machine which gets slower does so for
all. A figure is the median over the rounds, a ratio the median of the rounds' own ratios. The load comes from
benchmarks/load/generator.py, in a process of its own on the same machine; it compares what every answer begins with,
up to the first prediction.

Cases: `row` and `batch`, JSON in a closed loop; `latency`, one row in an open loop with Poisson arrivals (fixed seed)
at shares of what each server manages at most; `bulk`, 100,000 and 1,000,000 rows in each format; `beside`, one row at a
modest rate while a million rows are scored; `starts`, from a process's start to its first prediction.

Madrone has its default settings, but for MAX_BATCH_SIZE=1000 and a MAX_BODY_BYTES that a million rows of NDJSON fit in.

Peers get environments of their own in the cache; one that cannot be installed or started is reported with the reason.
The report goes to benchmarks/reports/http.md and .json, with pictures; with `--quick` figures are rough and it goes to
the cache.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED as BUNDLED_MODEL
from benchmarks import bulk, starts
from benchmarks.bodies import ROW
from benchmarks.contenders import BUNDLED, CONTENDERS, MADRONE, Peer, register, running
from benchmarks.load import closed_loop, open_loop
from benchmarks.pages.http import bars, curves, page
from benchmarks.peers.process import HERE, PeerError
from benchmarks.report import begin, context, parser, save
from benchmarks.rows import DISTINCT_ROWS, make_rows, train_model

CASES = ("row", "batch", "latency", "bulk", "beside", "starts")
QUICK_KEYS = ("madrone", "bundled", "echo", "fastapi", "mlflow")
LATENCY_KEYS = ("madrone", "echo", "fastapi", "mlflow")
PACKAGES = ("madrone", "granian", "litestar", "lightgbm", "mlflow", "numba")
BESIDE_S = 8.0
STARTS = 5


class Benchmark:
    """One run, with a directory for the servers' data and logs."""

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self._arguments = arguments
        self._directory = directory
        self._cache: Path = arguments.cache
        self._model = train_model(self._cache)
        self._rows = make_rows(DISTINCT_ROWS, 3)
        booster = lgb.Booster(model_file=self._model / "model.lgb")
        self._expected: dict[str, NDArray[np.float64]] = {
            "": np.asarray(booster.predict(self._rows, num_threads=1)),
            BUNDLED.key: read_artifact(BUNDLED_MODEL / "model").engine().predict(self._rows),
        }
        self.results: dict[str, Any] = {"absent": {}}

    def run(self) -> dict[str, Any]:
        """Measure the chosen cases."""
        cases = self._arguments.cases
        register(self._model, self._directory)
        if {"row", "batch", "latency"} & {*cases}:
            self._loops()
        if {"bulk", "beside", "starts"} & {*cases} and MADRONE.key in self._arguments.only:
            self._madrone_alone()
        return self.results

    def _loops(self) -> None:
        """All servers beside each other, one of them loaded at a time."""
        arguments = self._arguments
        with ExitStack() as stack:
            peers: dict[str, Peer] = {}
            for contender in CONTENDERS:
                if contender.key in arguments.only:
                    print(f"starting {contender.name}", flush=True)
                    try:
                        started = running(contender, self._model, self._directory, self._cache)
                        peers[contender.key] = stack.enter_context(started)
                    except PeerError as error:
                        self._absent(contender.key, error)
            cases = closed_loop.ROW_CASES if "row" in arguments.cases else ()
            cases += closed_loop.BATCH_CASES if "batch" in arguments.cases else ()
            self.results["closed_loop"], absent = closed_loop.measure(
                peers, cases, self._rows, self._expected, arguments.rounds, arguments.seconds
            )
            self.results["absent"] |= absent
            if "latency" in arguments.cases:
                chosen = {key: peers[key] for key in LATENCY_KEYS if key in peers}
                requests = {key: self._one_row(peer, key) for key, peer in chosen.items()}
                self.results["open_loop"] = open_loop.measure(
                    chosen, requests, arguments.rounds, open_loop.TIMES_AS_LONG * arguments.seconds
                )

    def _madrone_alone(self) -> None:
        """Cases of Madrone alone, without other servers beside it."""
        arguments, cases, expected = self._arguments, self._arguments.cases, self._expected[""]
        with running(MADRONE, self._model, self._directory, self._cache) as peer:
            one_row = self._one_row(peer, MADRONE.key)
            if "bulk" in cases:
                sizes = bulk.SIZES[:1] if arguments.quick else bulk.SIZES
                self.results["bulk"], absent = bulk.measure(
                    peer, self._rows, expected, sizes, arguments.rounds, arguments.seconds
                )
                self.results["absent"] |= absent
            if "beside" in cases:
                seconds = 3.0 if arguments.quick else BESIDE_S
                self.results["beside"] = bulk.measure_beside(
                    peer, one_row, self._rows, bulk.SIZES[-1], arguments.rounds, seconds
                )
        if "starts" in cases:
            count = 1 if arguments.quick else STARTS
            self.results["starts"] = starts.measure(self._model, self._directory, self._cache, one_row, count)

    def _one_row(self, peer: Peer, key: str) -> closed_loop.Asked:
        taken = closed_loop.wire(key, "row") or ROW
        return closed_loop.asked(peer, taken, self._rows, self._expected[""], 1)

    def _absent(self, key: str, error: PeerError) -> None:
        print(f"{key}: {error}", file=sys.stderr, flush=True)
        self.results["absent"][key] = str(error)


def peer_versions(keys: list[str]) -> dict[str, str]:
    """Pinned version of each peer."""
    pins = (
        line.split("==")
        for contender in CONTENDERS
        if contender.key in keys and contender.environment
        for line in (HERE / contender.environment).with_suffix(".txt").read_text().splitlines()
        if line.startswith(f"{contender.key}==")
    )
    return dict(pins)


def main() -> None:
    keys = [contender.key for contender in CONTENDERS]
    options = parser(__doc__, quick="short, fewer servers, no million rows, one start")
    options.add_argument("--rounds", type=int, help="measurements of each case and server (7; 1 with --quick)")
    options.add_argument("--seconds", type=float, help="length of one measurement (0.6; 0.4 with --quick)")
    options.add_argument("--only", nargs="+", choices=keys, help="servers")
    options.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    arguments = begin(options)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 7)
    arguments.seconds = arguments.seconds or (0.4 if arguments.quick else 0.6)
    arguments.only = arguments.only or [key for key in keys if key in QUICK_KEYS or not arguments.quick]
    with tempfile.TemporaryDirectory() as directory:
        results = Benchmark(arguments, Path(directory)).run()
    report = context("http", *PACKAGES) | {
        "peers": peer_versions(arguments.only),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "results": results,
    }
    save("http", report, page, arguments.reports, {"http": bars, "http_latency": curves})


if __name__ == "__main__":
    main()
