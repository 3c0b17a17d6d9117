"""What further workers of a service bring: throughput by kind of request, and memory.

    just bench workers [--workers 1,2] [--rounds 7] [--seconds 2] [--quick]

Method: services of one model, of each number of workers one, are loaded in turns, round after round, by the same
requests in a closed loop; the answers are compared with the booster's. Those that are not asked idle meanwhile. The
speed-up is the median of the ratios within each round. Load generator and service share the cores of this machine, and
both are told by the cores that they had. What is left of the cores with one worker is the room for a speed-up: "at
most" is that of a service which needs as much processor time for a row, and has all cores. One more service has one
worker and may use one core only, as in a container of one: what a worker and a core bring together is told beside it.
The system spreads connections over workers by a hash, so some measurements have more of them at one worker. Memory is
the proportional set size (shared pages are divided by those that share them) of all processes after the rounds.

The report goes to benchmarks/reports/workers.md and .json; with `--quick` to the cache.
"""

import dataclasses
import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.bodies import COLUMNS, FORMATS, OBJECTS, ROW, Wire
from benchmarks.bulk import repeated
from benchmarks.contenders import MADRONE, Peer, register, running
from benchmarks.load.closed_loop import Asked, Case, asked, measure_once
from benchmarks.report import MIB, Report, Target, begin, context, parser, ratio, render, save, spread
from benchmarks.rows import DISTINCT_ROWS, make_rows, train_model

ARROW, CSV = (next(form for form in FORMATS if form.name == name) for name in ("Arrow IPC", "CSV"))
SMALL: tuple[tuple[str, Wire, int, int], ...] = (
    ("one row, JSON", ROW, 1, 32),
    ("100 rows, JSON objects", OBJECTS, 100, 8),
    ("1,000 rows, JSON columns", COLUMNS, 1000, 8),
)
"""Name, form, rows and connections of requests that are small."""

BULK = (("bulk, Arrow", ARROW, 8), ("bulk, CSV", CSV, 8))
BULK_ROWS, QUICK_ROWS = 100_000, 10_000
LEAST_SPEED_UP = 1.8
CORES = os.sched_getaffinity(0)
ONE_CORE = "1, with one core"
"""Name of the service of one worker that may use one core only."""

PATIENT = {"LONGEST_WAIT": "60"}
"""A closed loop has a bounded queue, and nothing of it is to be refused on a busy machine."""


def cases_of(peer: Peer, rows: NDArray[np.float64], expected: NDArray[np.float64], size: int) -> dict[str, Any]:
    """Requests by name, with their rows and connections."""
    cases: dict[str, Any] = {
        name: (asked(peer, wire, rows, expected, batch), Case(name, batch, connections))
        for name, wire, batch, connections in SMALL
    }
    matrix = repeated(rows, size)
    for name, form, connections in BULK:
        cases[name] = (Asked([form.request(matrix)], [b""]), Case(name, size, connections))
    return cases


def measured(peer: Peer, case: tuple[Asked, Case], seconds: float) -> dict[str, float]:
    """Figures of one measurement, with the cores that the service had meanwhile."""
    figures = measure_once(peer, *case, seconds)
    return figures | {"service_cpu": figures["rows_per_s"] / figures["rows_per_cpu_s"]}


def memory(peer: Peer) -> dict[str, float]:
    """Proportional set size of the service, and of its processes that answer, in MiB."""
    sizes = {process.pid: process.memory_full_info().pss / MIB for process in peer.processes()}
    answering = [child.pid for child in psutil.Process(peer.process.pid).children()]
    return {"all_mib": sum(sizes.values()), "worker_mib": float(np.mean([sizes[pid] for pid in answering]))}


@contextmanager
def starting_on(cores: set[int]) -> Generator[None, None, None]:
    """What is started in this context may use these cores only."""
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def compared(found: dict[str, list[dict[str, float]]], first: str) -> dict[str, Any]:
    """Figures of a kind of request by service, and how many times those of the first, or of one core, they are."""

    def times(rounds: list[dict[str, float]], other: str) -> float:
        return ratio((one["rows_per_s"] for one in rounds), (one["rows_per_s"] for one in found[other]))

    return {
        service: {
            "rows_per_s": spread(one["rows_per_s"] for one in rounds),
            "p99_ms": spread(one["p99_ms"] for one in rounds),
            "service_cpu": spread(one["service_cpu"] for one in rounds),
            "generator_cpu": spread(one["generator_cpu"] for one in rounds),
            "speed_up": times(rounds, first),
            "at_most": len(CORES)
            / float(np.median([one["service_cpu"] + one["generator_cpu"] for one in found[first]])),
            "times_one_core": times(rounds, ONE_CORE),
        }
        for service, rounds in found.items()
    }


def targets(report: Report) -> list[str]:
    """Goals, and what was measured."""
    most = max(report["workers"])
    lines: list[str] = []
    for name, figures in report["cases"].items():
        one = figures[str(most)]
        times, at_most, core = one["speed_up"], one["at_most"], one["times_one_core"]
        text = f"{name}: at least {LEAST_SPEED_UP:g} times the rows of one worker with {most}"
        lines += [
            Target(text, f"{times:.2f}, and {at_most:.2f} at most", times >= LEAST_SPEED_UP).line(),
            Target(f"{text}, if that one has one core", f"{core:.2f}", core >= LEAST_SPEED_UP).line(),
        ]
    return lines


def page(report: Report) -> str:
    return render("workers", report, targets=targets(report))


def main() -> None:
    options = parser(__doc__, quick="fewer rounds and rows")
    options.add_argument("--workers", default="1,2", help="numbers of workers, the first of them to compare with")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    arguments = begin(options)
    if arguments.quick:
        arguments.rounds, arguments.seconds = min(arguments.rounds, 2), min(arguments.seconds, 0.5)
    counts = [int(count) for count in arguments.workers.split(",")]
    model = train_model(arguments.cache)
    rows = make_rows(DISTINCT_ROWS, 3)
    expected = np.asarray(lgb.Booster(model_file=model / "model.lgb").predict(rows, num_threads=1))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        register(model, directory)
        peers: dict[str, Peer] = {}
        for service, workers in [(ONE_CORE, 1), *((str(count), count) for count in counts)]:
            contender = dataclasses.replace(
                MADRONE, key=f"workers-{len(peers)}", environ=PATIENT | {"API_WORKERS": str(workers)}
            )
            with starting_on({min(CORES)} if service == ONE_CORE else CORES):
                peers[service] = stack.enter_context(running(contender, model, directory, arguments.cache))
        cases = cases_of(peers[ONE_CORE], rows, expected, QUICK_ROWS if arguments.quick else BULK_ROWS)
        found: dict[str, dict[str, list[dict[str, float]]]] = {
            case: {service: [] for service in peers} for case in cases
        }
        for number in range(arguments.rounds):
            for case, what in cases.items():
                for service in peers if number % 2 == 0 else reversed(peers):
                    found[case][service].append(measured(peers[service], what, arguments.seconds))
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
        sizes = {str(count): memory(peers[str(count)]) for count in counts}
    report = context("workers", "madrone", "granian", "numba") | {
        "workers": counts,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "cases": {case: compared(figures, str(counts[0])) for case, figures in found.items()},
        "memory": sizes,
        "each_further_mib": (sizes[str(max(counts))]["all_mib"] - sizes[str(min(counts))]["all_mib"])
        / max(1, max(counts) - min(counts)),
    }
    save("workers", report, page, arguments.reports)


if __name__ == "__main__":
    main()
