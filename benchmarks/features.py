"""Cost of the feature plans on one CPU thread, step by step, beside peers and beside a floor of the machine.

    just bench features [--data FILE] [--repeats 9]

Method: the full plan of the California Housing model is fitted on split 0 (13,209 stored rows), and 1,000 test rows
are transformed by it, by it without its reference steps, and with one of them at a time. Figures are medians of
interleaved repeats, with the spread between the first and the third quartile.

Peers do the same work with the libraries that one would take: scipy's k-d tree for the 64 nearest rows, and NumPy in
float32 (one BLAS thread) for the Gaussian process.

The floor is the time of the process's arithmetic alone: as many exponentials, square roots, and subtract-and-multiply-
adds as it has, each timed in a loop of its own over numbers that stay in the first cache.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

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
from benchmarks.report import Report, begin, context, parser, render, save, spread
from kernels.cpu.backend import CpuBackend
from kernels.cpu.references import exponential
from kernels.plan.gaussian_process import MATERN32, SQUARED_EXPONENTIAL, ExpansionArrays
from kernels.plan.neighbours import NeighbourArrays
from kernels.plan.program import Program

ROWS = 1000
NEIGHBOURS = 64
NUMBERS, LOOPS = 2048, 500
CALLS = {"full plan, one row": 100, "NumPy process": 100} | dict.fromkeys(
    ("exponential", "square root", "subtract, multiply-add"), LOOPS * NUMBERS
)
"""Rows or operations of a call, where not `ROWS`."""


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
    """Subtraction and multiply-add for each number, as for one column of a squared distance."""
    for repeat in range(repeats):
        value = x[repeat % len(x)]
        for index in range(len(x)):
            gap = value - x[index]
            y[index] += gap * gap


def main() -> None:
    options = parser(__doc__, data=True)
    options.add_argument("--repeats", type=int, default=9)
    arguments = begin(options)
    dataset = load_dataset(arguments.data)
    split = split_rows(len(dataset.target))
    fitted = fit_plan(FULL, dataset.names, dataset.features[split.fit], dataset.target[split.fit])
    program = fitted.plan.program(fitted.table)
    rows = dataset.features[split.test][:ROWS]
    near = next(arrays for arrays in program.references if isinstance(arrays, NeighbourArrays))
    mean = next(arrays for arrays in program.references if isinstance(arrays, ExpansionArrays))
    points = CpuBackend().points(program, rows)
    here = (points[:, near.points[:2]] / near.scales).copy()
    tree = cKDTree(near.coordinates.T)
    work = plans(program, near, mean, rows) | arithmetic()
    work["scipy k-d tree, 64 nearest"] = lambda: tree.query(here, k=NEIGHBOURS)
    work["NumPy process"] = lambda: numpy_process(points[:100], mean)
    got = CpuBackend().transform(program, rows[:100])[:, fitted.plan.outputs.index("process")]
    exact = numpy_process(points[:100], mean, np.float64)
    error, peer_error = (float(np.abs(one - exact).max()) for one in (got, numpy_process(points[:100], mean)))
    assert error < 1e-3, error
    with threadpool_limits(1):
        seconds = measure(work, arguments.repeats)
    figures = {name: quartiles(1e6 / CALLS.get(name, ROWS), times) for name, times in seconds.items()}
    report = context("features", "numba", "numpy", "scipy") | {
        "data_sha256": dataset.sha256,
        "stored_rows": len(near.order),
        **summary(figures, mean, len(near.order)),
        "largest_error": error,
        "largest_error_of_numpy": peer_error,
    }
    save("features", report, page, arguments.reports)


def plans(
    program: Program, near: NeighbourArrays, mean: ExpansionArrays, rows: np.ndarray
) -> dict[str, Callable[[], object]]:
    """Transformations by the full plan, by parts of it, and by the bundled plan."""
    backend, bundled = CpuBackend(), read_artifact(BUNDLED / "model").plan
    assert bundled is not None
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
    return work | {
        "full plan, one row": lambda: [backend.transform(program, rows[index : index + 1]) for index in range(100)]
    }


def arithmetic() -> dict[str, Callable[[], object]]:
    """The loops whose times make the floor."""
    numbers = -np.abs(np.random.default_rng(0).normal(size=NUMBERS)).astype(np.float32)
    out = np.zeros_like(numbers)
    return {
        "exponential": lambda: exponentials(numbers, out, LOOPS),
        "square root": lambda: roots(-numbers, out, LOOPS),
        "subtract, multiply-add": lambda: multiply_adds(-numbers, out, LOOPS),
    }


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
    """Seconds of each call, in turns, after one that is not timed."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, run in work.items():
            started = time.perf_counter()
            run()
            if repeat:
                times[name].append(time.perf_counter() - started)
    return times


def quartiles(factor: float, values: list[float]) -> tuple[float, float, float]:
    found = spread(factor * value for value in values)
    return found["low"], found["median"], found["high"]


def summary(figures: dict[str, tuple[float, float, float]], mean: ExpansionArrays, stored: int) -> dict[str, Any]:
    """The figures in µs, and what follows from them."""
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
        "figures_us": figures,
        "neighbours_us": median["with neighbours"] - stateless,
        "process_us": process,
        "operations_per_stored_row": counts,
        "process_floor_us": floor,
        "process_share_of_floor": floor / process,
    }


def page(report: Report) -> str:
    return render("features", report)


if __name__ == "__main__":
    main()
