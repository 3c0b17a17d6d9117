"""Measures what the feature plans cost on one CPU thread, step by step, against peers and against the machine.

    just bench features [--data FILE] [--repeats 9]

Method: the full plan of the California Housing model is fitted on split 0 (13,209 stored rows), and 1,000 test rows
are transformed by it, by it without its reference steps, and with one of them at a time. Figures are medians of
interleaved repeats, with the spread between the first and the third quartile.

Peers do the same work with the libraries that one would take: scipy's k-d tree for the 64 nearest rows, and NumPy in
float32 (one BLAS thread) for the Gaussian process.

The floor is the time of the process's arithmetic alone: as many exponentials, square roots, and subtract-and-multiply-
adds as it has, each timed in a loop of its own over numbers that stay in the first cache.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numba import njit
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from app.training.california import FULL
from app.training.dataset import load_dataset
from app.training.fitting import fit_plan
from app.training.split import split_rows
from kernels.cpu.backend import CpuBackend, processor
from kernels.cpu.references import exponential
from kernels.plan.gaussian_process import MATERN32, SQUARED_EXPONENTIAL, ExpansionArrays
from kernels.plan.neighbours import NeighbourArrays

REPORTS = Path(__file__).parent / "reports"
ROWS = 1000
NEIGHBOURS = 64


@njit(fastmath=True, nogil=True)
def exponentials(x, y, repeats):
    for _ in range(repeats):
        for index in range(len(x)):
            y[index] = exponential(x[index])


@njit(fastmath=True, nogil=True)
def roots(x, y, repeats):
    for _ in range(repeats):
        for index in range(len(x)):
            y[index] = np.sqrt(x[index])


@njit(fastmath=True, nogil=True)
def multiply_adds(x, y, repeats):
    """A subtraction and a multiply-add for each number: what a column of a squared distance takes."""
    for repeat in range(repeats):
        value = x[repeat % len(x)]
        for index in range(len(x)):
            gap = value - x[index]
            y[index] += gap * gap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CSV file with the California Housing columns")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    split = split_rows(len(dataset.target))
    fitted = fit_plan(FULL, dataset.names, dataset.features[split.fit], dataset.target[split.fit])
    program = fitted.plan.program(fitted.table)
    rows = dataset.features[split.test][:ROWS]
    near = next(arrays for arrays in program.references if isinstance(arrays, NeighbourArrays))
    mean = next(arrays for arrays in program.references if isinstance(arrays, ExpansionArrays))
    bundled = read_artifact(BUNDLED / "model").plan
    assert bundled is not None
    backend = CpuBackend()
    programs = {
        "full plan": program,
        "stateless steps alone": replace(program, references=()),
        "with neighbours": replace(program, references=(near,)),
        "with the process": replace(program, references=(mean,)),
        "bundled plan": bundled.program(),
    }
    work: dict[str, Callable[[], object]] = {
        name: (lambda chosen=chosen: backend.transform(chosen, rows)) for name, chosen in programs.items()
    }
    work["full plan, one row"] = lambda: [backend.transform(program, rows[index : index + 1]) for index in range(100)]
    points = backend.points(program, rows)
    here = (points[:, near.points[:2]] / near.scales).copy()
    tree = cKDTree(near.coordinates.T)
    work["scipy k-d tree, 64 nearest"] = lambda: tree.query(here, k=NEIGHBOURS)
    work["NumPy process"] = lambda: numpy_process(points[:100], mean)
    feature = fitted.plan.outputs.index("process")
    got = backend.transform(program, rows[:100])[:, feature]
    exact = numpy_process(points[:100], mean, np.float64)
    error = float(np.abs(got - exact).max())
    peer_error = float(np.abs(numpy_process(points[:100], mean) - exact).max())
    assert error < 1e-3, error
    numbers = -np.abs(np.random.default_rng(0).normal(size=2048)).astype(np.float32)
    out = np.zeros_like(numbers)
    loops = {"exponential": exponentials, "square root": roots, "subtract, multiply-add": multiply_adds}
    for name, loop in loops.items():
        x = numbers if name == "exponential" else -numbers
        work[name] = lambda loop=loop, x=x: loop(x, out, 500)
    with threadpool_limits(1):
        seconds = measure(work, arguments.repeats)
    calls = {"full plan, one row": 100, "NumPy process": 100} | dict.fromkeys(loops, 500 * len(numbers))
    figures = {
        name: tuple(1e6 * value / calls.get(name, ROWS) for value in quartiles(times))
        for name, times in seconds.items()
    }
    report = summary(figures, mean, dataset.sha256, len(near.order), (error, peer_error))
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "features.json").write_text(json.dumps(report, indent=2) + "\n")
    (REPORTS / "features.md").write_text(page(report))
    print(page(report))


def numpy_process(points: np.ndarray, arrays: ExpansionArrays, dtype: type = np.float32) -> np.ndarray:
    """The process's mean, float64[B], by whole matrices."""
    here = ((points[:, arrays.points] - arrays.centres) * arrays.scales).astype(dtype)
    total = np.full(len(points), arrays.offset[0])
    for term in range(len(arrays.variances)):
        share = dtype(arrays.variances[term])
        exponent = dtype(0)
        for factor in range(arrays.terms[term], arrays.terms[term + 1]):
            columns = slice(arrays.factors[factor], arrays.factors[factor + 1])
            a, b = here[:, columns], arrays.stored[columns].astype(dtype, copy=False)
            squared = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=0) - 2 * (a @ b), 0)
            shape = arrays.shapes[factor]
            part = squared if shape == SQUARED_EXPONENTIAL else np.sqrt(squared)
            exponent = exponent + part
            if shape == MATERN32:
                share = share * (1 + part)
        total += (share * np.exp(-exponent)).astype(np.float64) @ arrays.weights.astype(np.float64)
    return total


def measure(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, in turns, after a call that is not timed."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, run in work.items():
            started = time.perf_counter()
            run()
            if repeat:
                times[name].append(time.perf_counter() - started)
    return times


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def summary(figures: dict, mean: ExpansionArrays, sha256: str, stored: int, errors: tuple[float, float]) -> dict:
    """Everything that the page shows, in µs."""
    median = {name: value[1] for name, value in figures.items()}
    stateless = median["stateless steps alone"]
    process = median["with the process"] - stateless
    counts = {
        "exponential": len(mean.variances),
        "square root": int(np.count_nonzero(mean.shapes != SQUARED_EXPONENTIAL)),
        "subtract, multiply-add": len(mean.points),
    }
    floor = stored * sum(count * median[name] for name, count in counts.items())
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("numba", "numpy", "scipy")},
        "data_sha256": sha256,
        "stored_rows": stored,
        "figures_us": figures,
        "neighbours_us": median["with neighbours"] - stateless,
        "process_us": process,
        "operations_per_stored_row": counts,
        "process_floor_us": floor,
        "process_share_of_floor": floor / process,
        "largest_error": errors[0],
        "largest_error_of_numpy": errors[1],
    }


def page(report: dict) -> str:
    """The report in Markdown."""
    figures = report["figures_us"]

    def line(name: str, label: str, note: str = "") -> str:
        low, middle, high = figures[name]
        return f"| {label} | {middle:.4g} | {low:.4g} to {high:.4g} | {note} |"

    counts = report["operations_per_stored_row"]
    tree = figures["scipy k-d tree, 64 nearest"][1] / report["neighbours_us"]
    numpy = figures["NumPy process"][1] / report["process_us"]
    return "\n".join(
        [
            "# The cost of the feature plans",
            "",
            f"{report['date']}, {report['machine']}; "
            + ", ".join(f"{name} {number}" for name, number in report["versions"].items())
            + f". `just bench features`: one thread, {report['stored_rows']} stored rows.",
            "",
            "| what | µs a row | quartiles | |",
            "| --- | --- | --- | --- |",
            line("full plan", f"full plan, batches of {ROWS}"),
            line("full plan, one row", "full plan, one row alone"),
            line("stateless steps alone", "its stateless steps"),
            f"| its neighbours, two regressions among them | {report['neighbours_us']:.4g} | | by difference |",
            f"| its Gaussian process | {report['process_us']:.4g} | | by difference |",
            line("bundled plan", "bundled plan (stateless)"),
            line(
                "scipy k-d tree, 64 nearest",
                "scipy's k-d tree, the 64 nearest alone",
                f"{tree:.2f} times our neighbours, which do more",
            ),
            line("NumPy process", "the process by NumPy, float32", f"{numpy:.1f} times ours"),
            "",
            f"For each stored row the process has {counts['exponential']} exponentials, {counts['square root']} square "
            f"roots and {counts['subtract, multiply-add']} subtract-and-multiply-adds. Alone, in the first cache, they "
            f"take {1e3 * figures['exponential'][1]:.3f}, {1e3 * figures['square root'][1]:.3f} and "
            f"{1e3 * figures['subtract, multiply-add'][1]:.3f} ns, which makes a floor of "
            f"{report['process_floor_us']:.3g} µs a row: the process runs at "
            f"{report['process_share_of_floor']:.0%} of it. Its largest difference from float64 is "
            f"{report['largest_error']:.1e}; NumPy's in float32, which takes distances apart into products, "
            f"{report['largest_error_of_numpy']:.1e}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
