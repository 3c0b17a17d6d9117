"""Measures forests and the bundled pipeline on a GPU against the CPU, against floors of the machine, and against peers.

    just bench gpu [--rounds 7] [--most 10000000]

Method: forests are trained on 50,000 made rows (8 columns, fixed seed) and evaluated on others, float64 and
C-contiguous in the host's memory, in batches of 1 to 10,000,000. A figure is the median of rounds in which the GPU and
one CPU thread take turns; a round repeats a call until 20 ms are over. A GPU's time is the whole call: rows up,
kernels, scores down. The CPU is asked for 1,000,000 rows at most, since its time a row no longer changes there. Scores
of every batch must be the CPU's bit for bit; of the bundled model those rows are counted that take another path, for
its features are rounded after arithmetic whose last digits differ.

Parts: the copies and kernels of one chunk of 65,536 rows, by CUDA's events, one after the other.

Floors, each the time that a batch cannot be faster than:

    transfer = max(8 F B / up, 8 M B / down), where up and down are the measured bandwidths of pinned copies
    memory = B (16 F + 4 V + 8 M) / memory bandwidth, measured by a copy on the device: rows and ranks are written and
        read, scores written; F columns, V columns of ranks, M scores
    issue = B S I / (32 x 4 x multiprocessors x clock): S steps down the trees of a row, measured, of I = 25
        instructions of PTX each; a multiprocessor issues 4 instructions a cycle for 32 threads each

Their sum is no floor, since all can overlap; the share of the floor is the largest of them by the time measured.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from matplotlib.figure import Figure

from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from kernels.backend import Backend, Pipeline
from kernels.cpu.backend import CpuBackend
from kernels.cuda.availability import cuda_unavailable_reason
from kernels.cuda.backend import CudaBackend
from kernels.cuda.buffers import StreamBuffers
from kernels.forest import traversal
from kernels.forest.forest import Forest
from kernels.forest.traversal import AT_LEAF

REPORTS = Path(__file__).parent / "reports"
TRAINED_ROWS = 50_000
MOST_FOR_CPU = 1_000_000
CHUNK = 65_536
STEP_INSTRUCTIONS = 25
ROUND_S = 0.02
SHAPES = ((500, 31), (1000, 127), (300, 255))
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--most", type=int, default=10_000_000, help="rows of the largest batch")
    arguments = parser.parse_args()
    reason = cuda_unavailable_reason()
    if reason is not None:
        raise SystemExit(f"There is no GPU to measure: {reason}")
    backend, cpu = CudaBackend(), CpuBackend()
    backend.warm_up()
    batches = [10**power for power in range(9) if 10**power <= arguments.most]
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": backend.device,
        "cpu": f"{cpu.device}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("madrone", "numba", "numba-cuda", "numpy", "lightgbm")},
        "machine": machine_of(backend._cuda),
        "batches": batches,
        "rounds": arguments.rounds,
        "models": {},
    }
    rows = made_rows(max(batches), seed=2)
    for trees, leaves in SHAPES:
        booster = train(trees, leaves)
        forest = Forest.from_booster(booster)
        forest.measure()
        pipeline = Pipeline(None, (forest,))
        measure(report, f"{trees:,} trees of {leaves} leaves", pipeline, rows, backend, cpu, booster)
    measure(report, "the bundled model, with its transforms", *bundled(max(batches)), backend, cpu)
    picture(report, REPORTS / "gpu.png")
    print(page(report))


def measure(
    report: dict[str, Any],
    name: str,
    pipeline: Pipeline,
    rows: np.ndarray,
    backend: CudaBackend,
    cpu: CpuBackend,
    booster: lgb.Booster | None = None,
) -> None:
    """Measure a model part by part, and write the report after each: a machine may be lent for a short time only.

    Args:
        report: Gets the model; has all that is the same for all of them.
        name: The model's.
        pipeline: The model.
        rows: float64[B, F].
        backend: The GPU.
        cpu: What it is compared with.
        booster: What the peers are given; None for no peers.
    """
    print(name, flush=True)
    model: dict[str, Any] = {}
    report["models"][name] = model
    for found in compared(pipeline, rows, report["batches"], backend, cpu, report["rounds"]):
        model |= found
        save(report)
    features = rows[:1000] if pipeline.program is None else cpu.transform(pipeline.program, rows[:1000])
    model["floors"] = floors(pipeline, report["batches"], steps_of(pipeline, features), report["machine"])
    model["parts_us"] = parts(backend, pipeline, rows[:CHUNK])
    save(report)
    model["peers"] = {} if booster is None else peers(booster, rows, report["batches"])
    save(report)


def save(report: dict[str, Any]) -> None:
    """Write what there is; the page has the models that are measured whole."""
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "gpu.json").write_text(json.dumps(report, indent=2) + "\n")
    (REPORTS / "gpu.md").write_text(page(report))


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
    """Seconds a call by rows, of both backends, and in how many rows their scores differ, after each batch."""
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
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds if batch <= 100_000 else min(rounds, 3)):
            for name, call in calls.items():
                times[name].append(timed(call))
        for name, values in times.items():
            seconds[name][str(batch)] = spread(values)
        yield {"seconds": seconds, "different_rows": different}


def timed(call: Callable[[], object]) -> float:
    """Seconds a call, of as many as fit into a round."""
    count, started = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - started < ROUND_S:
        call()
        count += 1
    return (time.perf_counter() - started) / count


def spread(values: list[float]) -> dict[str, float]:
    if len(values) == 1:
        return {"low": values[0], "median": values[0], "high": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"low": low, "median": middle, "high": high}


def machine_of(cuda: Any, size: int = GIB // 4) -> dict[str, float]:
    """What the floors are computed of: bandwidths in bytes a second, multiprocessors, and the clock in Hz."""
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
    return found | {
        "multiprocessors": float(device.MULTIPROCESSOR_COUNT),
        "clock": 1e3 * float(device.CLOCK_RATE),
    }


def elapsed(cuda: Any, stream: Any, work: Callable[[], object], repeats: int = 9) -> float:
    """Median µs of what some work puts into a stream, after a call that is not timed."""
    times: list[float] = []
    for repeat in range(repeats + 1):
        first, last = cuda.event(), cuda.event()
        first.record(stream)
        work()
        last.record(stream)
        last.synchronize()
        if repeat:
            times.append(1e3 * first.elapsed_time(last))
    return statistics.median(times)


def parts(backend: CudaBackend, pipeline: Pipeline, rows: np.ndarray) -> dict[str, float]:
    """µs of a chunk's copies and launches, one after the other, by the backend's own methods."""
    cuda, program = backend._cuda, pipeline.program
    backend.evaluate(pipeline, rows, raw_score=True)  # has all on the device
    buffers = StreamBuffers(cuda)
    stream = buffers.stream
    width = sum(forest.n_outputs for forest in pipeline.forests)
    host, scores = (
        buffers.pinned("rows", rows.shape, np.float64),
        buffers.pinned("scores", (len(rows), width), np.float64),
    )
    host[:] = rows
    raw = buffers.device("rows", rows.shape, np.float64)
    found = {"rows up": elapsed(cuda, stream, lambda: raw.copy_to_device(host, stream=stream))}
    features = raw
    if program is not None:
        found["transform"] = elapsed(cuda, stream, lambda: backend.launcher.transform(buffers, raw, program))
        features = backend.launcher.transform(buffers, raw, program)
    found["ranks and forest"] = elapsed(cuda, stream, lambda: backend.launcher.evaluate(buffers, features, width, -1))
    result = backend.launcher.evaluate(buffers, features, width, -1)
    found["scores down"] = elapsed(cuda, stream, lambda: result.copy_to_host(scores, stream=stream))
    started = time.perf_counter()
    for _ in range(9):
        np.copyto(host, rows)
    found["rows into pinned memory (host)"] = 1e6 * (time.perf_counter() - started) / 9
    return found


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
    """Of the leaves that rows come to, all trees' summed: found by giving each leaf its depth as its value."""
    predicates = forest.predicates
    lanes = traversal.in_lanes(forest.traversal._replace(values=depth), predicates)
    rows, out = np.ascontiguousarray(features, dtype=np.float64), np.empty((len(features), forest.n_outputs))
    rows.flags.writeable = False
    traversal.predict(predicates.columns, predicates.thresholds, predicates.sets, *lanes, rows, out)
    return float(out.sum(axis=1).mean())


def floors(pipeline: Pipeline, batches: list[int], steps: float, machine: dict[str, float]) -> dict[str, Any]:
    """Seconds below which no batch can be, by the formulae above."""
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


def peers(booster: lgb.Booster, rows: np.ndarray, batches: list[int]) -> dict[str, Any]:
    """Seconds a call of other libraries by rows, or why there are none."""
    found: dict[str, Any] = {}
    for name, load in (("FIL (cuML)", fil), ("nvForest", nvforest), ("XGBoost, a forest of its own", xgboost)):
        try:
            found[name] = {"seconds": peer_seconds(load(booster), rows, batches)}
        except Exception as error:  # absent, or of another version: the report says which
            found[name] = {"absent": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return found


def peer_seconds(predict: Callable[[np.ndarray], object], rows: np.ndarray, batches: list[int]) -> dict[str, float]:
    found: dict[str, float] = {}
    for batch in batches:
        part = rows[:batch]
        predict(part)
        found[str(batch)] = statistics.median(timed(lambda part=part: predict(part)) for _ in range(3))
    return found


def fil(booster: lgb.Booster) -> Callable[[np.ndarray], object]:
    import treelite  # pyright: ignore[reportMissingImports]
    from cuml.fil import ForestInference  # pyright: ignore[reportMissingImports]

    model = treelite.frontend.from_lightgbm(booster)
    return ForestInference.load_from_treelite_model(model, is_classifier=False, precision="double").predict


def nvforest(booster: lgb.Booster) -> Callable[[np.ndarray], object]:
    import nvforest  # pyright: ignore[reportMissingImports]
    import treelite  # pyright: ignore[reportMissingImports]

    model = treelite.frontend.from_lightgbm(booster)
    return nvforest.load_from_treelite_model(model, device="gpu", precision="double").predict


def xgboost(booster: lgb.Booster) -> Callable[[np.ndarray], object]:
    """Of as many trees and leaves, on the same rows; its scores are its own."""
    import xgboost as xgb  # pyright: ignore[reportMissingImports]

    rows = made_rows(TRAINED_ROWS, seed=1)
    leaves = max(tree["num_leaves"] for tree in booster.dump_model()["tree_info"])
    parameters = {"device": "cuda", "tree_method": "hist", "grow_policy": "lossguide", "max_leaves": leaves}
    data = xgb.DMatrix(rows, np.nansum(np.sin(2 * rows), axis=1))
    model = xgb.train(parameters | {"max_depth": 0, "eta": 0.05}, data, num_boost_round=booster.num_trees())
    return model.inplace_predict


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    machine = report["machine"]
    lines = [
        "# Forests on a GPU",
        "",
        f"{report['date']}, {report['device']}; {report['cpu']}; Python {report['python']}, "
        + ", ".join(f"{name} {number}" for name, number in report["versions"].items())
        + f". `just bench gpu`: medians of {report['rounds']} rounds, the whole call, both copies in it; the CPU "
        "by one thread.",
        "",
        f"Measured: {machine['up'] / 1e9:.1f} GB/s up and {machine['down'] / 1e9:.1f} GB/s down by pinned copies, "
        f"{machine['memory'] / 1e9:.0f} GB/s in the device's memory; {machine['multiprocessors']:.0f} multiprocessors "
        f"at {machine['clock'] / 1e9:.2f} GHz.",
        "",
    ]
    for name, model in report["models"].items():
        if "peers" not in model:  # its last part
            continue
        lines += [f"## {name[0].upper()}{name[1:]}", ""]
        lines += ["| rows | GPU, rows/s | ± | CPU, rows/s | GPU to CPU | floor | share | rows that differ |"]
        lines += ["| --- " * 8 + "|"]
        lines += [line(batch, model) for batch in map(str, report["batches"])]
        lines += ["", f"A chunk of {CHUNK:,} rows, µs: " + "; ".join(
            f"{part} {value:.4g}" for part, value in model["parts_us"].items()
        ) + f". A row meets {model['floors']['steps_a_row']:.4g} nodes.", ""]  # fmt: skip
        for peer, found in model["peers"].items():
            if "absent" in found:
                lines += [f"{peer} was not measured: {found['absent']}", ""]
            else:
                rates = (f"{int(batch):,} rows: {int(batch) / value:.3g}" for batch, value in found["seconds"].items())
                lines += [f"{peer}, rows/s: " + ", ".join(rates) + ".", ""]
    lines += ["Floors and their formulae: `benchmarks/gpu.py`.", ""]
    return "\n".join(lines)


def line(batch: str, model: dict[str, Any]) -> str:
    rows, gpu, cpu = int(batch), model["seconds"]["gpu"][batch], model["seconds"]["cpu"].get(batch)
    kind = max(("transfer", "memory", "issue"), key=lambda kind: model["floors"][kind][batch])
    floor = model["floors"][kind][batch]
    error = (gpu["high"] - gpu["low"]) / 2 / gpu["median"]
    cells = [
        f"{rows:,}",
        f"{rows / gpu['median']:.3g}",
        f"{error:.0%}",
        f"{rows / cpu['median']:.3g}" if cpu else "",
        f"{cpu['median'] / gpu['median']:.3g}" if cpu else "",
        kind,
        f"{floor / gpu['median']:.1%}",
        f"{model['different_rows'][batch]}",
    ]
    return "| " + " | ".join(cells) + " |"


def picture(report: dict[str, Any], path: Path) -> None:
    """Rows a second by rows a call, a panel for each model."""
    drawing = Figure(figsize=(11, 8.5), layout="constrained")
    for axes, (name, model) in zip(drawing.subplots(2, 2).flat, report["models"].items(), strict=True):
        for label, colour in (("gpu", "#b5442e"), ("cpu", "#2f6f4f")):
            found = model["seconds"][label]
            at = [int(batch) for batch in found]
            axes.plot(
                at, [rows / value["median"] for rows, value in zip(at, found.values(), strict=True)],
                label=label.upper(), color=colour, marker="o", linewidth=2,
            )  # fmt: skip
        for kind, style in (("transfer", ":"), ("memory", "--"), ("issue", "-.")):
            batch, seconds = next(iter(model["floors"][kind].items()))
            axes.axhline(int(batch) / seconds, color="#8c8c8c", linestyle=style, linewidth=1, label=f"bound: {kind}")
        axes.set(xscale="log", yscale="log", title=name[0].upper() + name[1:], xlabel="rows a call", ylabel="rows/s")
        axes.grid(color="#e2e2e2", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    drawing.suptitle(f"{report['device']}; {report['cpu']}, one thread; {report['date']}", fontsize=10)
    drawing.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
