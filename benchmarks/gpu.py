"""Speed of forests, of their explanations and of the bundled model on a GPU, beside the CPU and floors of the machine.

    just bench gpu [--rounds 7] [--most 10000000]

Method: forests are trained on 50,000 made rows (8 columns, fixed seed) and evaluated on others, float64 and
C-contiguous in the host's memory, in batches of 1 to 10,000,000. A figure is the median of rounds in which the GPU and
one CPU thread take turns; a round repeats a call until 20 ms are over. A GPU's time is the whole call: rows up,
kernels, scores down. The CPU is asked for 1,000,000 rows at most, since its time a row no longer changes there. Scores
of every batch must be the CPU's bit for bit; of the bundled model those rows are counted that take another path, for
its features are rounded after arithmetic whose last digits differ.

Explanations are of batches of 1 to 100,000, measured in the same way, and of the CPU for 1,000 rows at most. Those rows
are counted whose contributions differ from the CPU's by more than 1e-9 of the largest score: none, but of the bundled
model those that take another path. The largest difference of all others is given relative to that score.

Floors, each the time that a batch cannot be faster than:

    transfer = max(8 F B / up, 8 M B / down), where up and down are the measured bandwidths of pinned copies
    memory = B (16 F + 4 V + 8 M) / memory bandwidth, measured by a copy on the device: rows and ranks are written and
        read, scores written; F columns, V columns of ranks, M scores
    issue = B S I / (32 x 4 x multiprocessors x clock): S steps down the trees of a row, measured, of I = 25
        instructions of PTX each; a multiprocessor issues 4 instructions a cycle for 32 threads each

Their sum is no floor, since all can overlap; the share of the floor is the largest of them by the time measured.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import lightgbm as lgb
import numpy as np

from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from benchmarks.pages.gpu import page, picture
from benchmarks.report import CORES, REPORTS, Report, begin, context, parser, save, spread
from kernels.backend import Backend, Explains, Pipeline
from kernels.cpu.backend import CpuBackend
from kernels.cuda.availability import cuda_unavailable_reason
from kernels.cuda.backend import CudaBackend
from kernels.forest.evaluators import traversal
from kernels.forest.evaluators.few import FewRows
from kernels.forest.evaluators.traversal import AT_LEAF
from kernels.forest.forest import Forest
from kernels.rows import writable_rows

TRAINED_ROWS = 50_000
MOST_FOR_CPU = 1_000_000
MOST_EXPLAINED = 100_000
MOST_EXPLAINED_BY_CPU = 1000
CLOSE = 1e-9
STEP_INSTRUCTIONS = 25
ROUND_S = 0.02
SHAPES = ((500, 31), (1000, 127), (300, 255))
GIB = 2**30


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--most", type=int, default=10_000_000, help="rows of the largest batch")
    arguments = begin(options)
    reason = cuda_unavailable_reason()
    if reason is not None:
        raise SystemExit(f"There is no GPU to measure: {reason}")
    from numba import cuda

    backend, cpu = CudaBackend(), CpuBackend()
    backend.warm_up()
    batches = [10**power for power in range(9) if 10**power <= arguments.most]
    report = context("gpu", "madrone", "numba", "numba-cuda", "numpy", "lightgbm") | {
        "machine": f"{backend.device}; {cpu.device}, {CORES} cores",
        "measured": machine_of(cuda),
        "batches": batches,
        "rounds": arguments.rounds,
        "models": {},
    }
    run = Run(report, backend, cpu, arguments.reports)
    rows = made_rows(max(batches), seed=2)
    for trees, leaves in SHAPES:
        forest = Forest.from_booster(train(trees, leaves))
        forest.measure()
        run.measure(f"{trees:,} trees of {leaves} leaves", Pipeline(None, (forest,)), rows)
    run.measure("the bundled model, with its transforms", *bundled(max(batches)))
    save("gpu", report, page, arguments.reports, {"gpu": picture})


@dataclass
class Run:
    """One run, whose report is written after each part: a machine may be lent for a short time only."""

    report: Report
    backend: CudaBackend
    cpu: CpuBackend
    directory: Path = REPORTS

    def measure(self, name: str, pipeline: Pipeline, rows: np.ndarray) -> None:
        """Measure a model on rows float64[B, F]."""
        batches = self.report["batches"]
        model: dict[str, Any] = {}
        self.report["models"][name] = model
        for found in compared(pipeline, rows, batches, self.backend, self.cpu, self.report["rounds"]):
            model |= found
            self._save()
        features = rows[:1000] if pipeline.program is None else self.cpu.transform(pipeline.program, rows[:1000])
        model["floors"] = floors(pipeline, batches, steps_of(pipeline, features), self.report["measured"])
        self._save()
        model["explained"] = explained(pipeline, rows, batches, self.backend, self.cpu, self.report["rounds"])
        self._save()

    def _save(self) -> None:
        save("gpu", self.report, page, self.directory, quiet=True)


def made_rows(count: int, seed: int) -> np.ndarray:
    """float64[count, 8]; every tenth value of a column is missing."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 8))
    rows[random.random(count) < 0.1, 2] = np.nan
    return rows


def train(trees: int, leaves: int) -> lgb.Booster:
    rows = made_rows(TRAINED_ROWS, seed=1)
    parameters = {"objective": "regression", "learning_rate": 0.05, "num_leaves": leaves, "seed": 1, "verbose": -1}
    return lgb.train(parameters, lgb.Dataset(rows, np.nansum(np.sin(2 * rows), axis=1)), num_boost_round=trees)


def bundled(count: int) -> tuple[Pipeline, np.ndarray]:
    """The bundled model, and rows like its input example."""
    artifact = read_artifact(BUNDLED / "model")
    sample = np.asarray(artifact.sample(), dtype=np.float64)
    program = None if artifact.plan is None else artifact.plan.program(artifact.table)
    forest = artifact.forest
    if not isinstance(forest, Forest):
        raise SystemExit("the bundled model is one that only LightGBM evaluates")
    rows = np.resize(sample, (count, sample.shape[1]))
    return Pipeline(program, (forest,)), rows * np.random.default_rng(3).uniform(0.9, 1.1, rows.shape)


def compared(
    pipeline: Pipeline, rows: np.ndarray, batches: list[int], gpu: Backend, cpu: Backend, rounds: int
) -> Iterator[dict[str, Any]]:
    """Seconds of a call of both backends, and numbers of rows whose scores differ, by rows; after each batch."""
    seconds: dict[str, dict[str, dict[str, float]]] = {"gpu": {}, "cpu": {}}
    different: dict[str, int] = {}
    for batch in batches:
        part = rows[:batch]
        small = part[:MOST_FOR_CPU]
        got = gpu.evaluate(pipeline, part, raw_score=True).predictions[0]
        expected = cpu.evaluate(pipeline, small, raw_score=True).predictions[0]
        bits = got[: len(small)].view(np.uint64) != expected.view(np.uint64)
        different[str(batch)] = int(bits.reshape(len(small), -1).any(axis=1).sum())
        calls: dict[str, Callable[[], object]] = {"gpu": lambda part=part: gpu.evaluate(pipeline, part, raw_score=True)}
        if batch <= MOST_FOR_CPU:
            calls["cpu"] = lambda part=part: cpu.evaluate(pipeline, part, raw_score=True)
        for name, found in by_turns(calls, rounds if batch <= 100_000 else min(rounds, 3)).items():
            seconds[name][str(batch)] = found
        yield {"seconds": seconds, "different_rows": different}


def explained(
    pipeline: Pipeline, rows: np.ndarray, batches: list[int], gpu: Explains, cpu: Backend, rounds: int
) -> dict[str, Any]:
    """Seconds of an explanation by the GPU and by the CPU, by rows, and how much contributions differ."""
    (forest,), program = pipeline.forests, pipeline.program
    assert isinstance(forest, Forest)
    paths = forest.explainer.paths

    def by_gpu(count: int) -> np.ndarray:
        return gpu.explain(pipeline, rows[:count], paths)

    def by_cpu(count: int) -> np.ndarray:
        return forest.explainer.contributions(rows[:count] if program is None else cpu.transform(program, rows[:count]))

    found, expected = by_gpu(MOST_EXPLAINED_BY_CPU), by_cpu(MOST_EXPLAINED_BY_CPU)
    seconds: dict[str, dict[str, dict[str, float]]] = {"gpu": {}, "cpu": {}}
    for batch in (batch for batch in batches if batch <= MOST_EXPLAINED):
        calls: dict[str, Callable[[], object]] = {"gpu": partial(by_gpu, batch)}
        if batch <= MOST_EXPLAINED_BY_CPU:
            calls["cpu"] = partial(by_cpu, batch)
        for name, times in by_turns(calls, min(rounds, 3)).items():
            seconds[name][str(batch)] = times
    scale = np.abs(forest.explainer.base() + expected.sum(axis=-1)).max()
    apart = np.abs(found - expected).reshape(len(found), -1).max(axis=1) / scale
    near = apart <= CLOSE
    differences = {"different_rows": int((~near).sum()), "difference": float(apart[near].max(initial=0))}
    return {"seconds": seconds, "compared_rows": len(near), **differences}


def by_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of calls that take turns, by name."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(timed(call))
    return {name: spread(values) for name, values in times.items()}


def timed(call: Callable[[], object]) -> float:
    """Seconds a call, of as many as fit into a round."""
    count, started = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - started < ROUND_S:
        call()
        count += 1
    return (time.perf_counter() - started) / count


def machine_of(cuda: Any, size: int = GIB // 4) -> dict[str, float]:
    """Bandwidths in bytes/s, number of multiprocessors, and clock in Hz, from which the floors follow."""
    device = cuda.get_current_device()
    host = cuda.pinned_array(size, np.uint8)
    here, there = cuda.device_array(size, np.uint8), cuda.device_array(size, np.uint8)
    host[:] = 0
    stream = cuda.stream()
    copies: dict[str, Callable[[], object]] = {
        "up": lambda: here.copy_to_device(host, stream=stream),
        "down": lambda: here.copy_to_host(host, stream=stream),
        "memory": lambda: there.copy_to_device(here, stream=stream),
    }
    found = {name: size / (1e-6 * max(1e-3, elapsed(cuda, stream, copy))) for name, copy in copies.items()}
    found["memory"] *= 2  # read and written
    return found | {"multiprocessors": float(device.MULTIPROCESSOR_COUNT), "clock": 1e3 * float(device.CLOCK_RATE)}


def elapsed(cuda: Any, stream: Any, work: Callable[[], object], repeats: int = 9) -> float:
    """Median µs of work in a stream, after a call that is not timed."""
    times: list[float] = []
    for repeat in range(repeats + 1):
        first, last = cuda.event(), cuda.event()
        first.record(stream)
        work()
        last.record(stream)
        last.synchronize()
        if repeat:
            times.append(1e3 * first.elapsed_time(last))
    return median(times)


def steps_of(pipeline: Pipeline, features: np.ndarray) -> float:
    """Mean number of nodes that a row meets, in all trees of all forests.

    Args:
        pipeline: The forests.
        features: float[B, O], as the forests take them.
    """
    total = 0
    for forest in pipeline.forests:
        assert isinstance(forest, Forest)
        records, roots = forest.traversal.records, forest.traversal.roots[: forest.n_trees]
        depth, level = np.zeros(len(records)), roots[records[roots] & AT_LEAF == 0].astype(np.int64)
        while len(level):
            children = (records[level] >> np.uint64(32)).astype(np.int64)
            for child in (children, children + 1):
                depth[child] = depth[level] + 1
            level = np.concatenate([children, children + 1])
            level = level[records[level] & AT_LEAF == 0]
        total += _mean_depth(forest, depth, features)
    return total


def _mean_depth(forest: Forest, depth: np.ndarray, features: np.ndarray) -> float:
    """Mean over rows of the depths of their leaves, summed over trees: a prediction with depths as leaf values."""
    predicates = forest.predicates
    lanes = traversal.in_lanes(forest.traversal._replace(values=depth), predicates)
    out = np.empty((len(features), forest.n_outputs))
    few = FewRows(("traversal", (predicates.columns, predicates.thresholds, predicates.sets, *lanes)))
    few.predict(writable_rows(features), out)
    return float(out.sum(axis=1).mean())


def floors(pipeline: Pipeline, batches: list[int], steps: float, machine: dict[str, float]) -> dict[str, Any]:
    """Lower bounds of each batch in seconds, by the formulae above."""
    forests = [forest for forest in pipeline.forests if isinstance(forest, Forest)]
    raw = forests[0].n_features if pipeline.program is None else pipeline.program.n_inputs
    scores = sum(forest.n_outputs for forest in forests)
    columns = sum(len(forest.predicates.columns) for forest in forests)
    issued = 32 * 4 * machine["multiprocessors"] * machine["clock"]
    one = {
        "transfer": max(8 * raw / machine["up"], 8 * scores / machine["down"]),
        "memory": (16 * raw + 4 * columns + 8 * scores) / machine["memory"],
        "issue": steps * STEP_INSTRUCTIONS / issued,
    }
    return {
        "steps_a_row": steps,
        **{name: {str(batch): seconds * batch for batch in batches} for name, seconds in one.items()},
    }


if __name__ == "__main__":
    main()
