"""Speed of explanations on one CPU thread, beside LightGBM's `pred_contrib` and other engines.

    just bench explain [--rounds 7] [--seconds 0.2] [--forests 2] [--data FILE] [--quick]

Method: forests are trained on California Housing (8 columns, fixed seed) and read by every engine from the same
LightGBM text, each in a process of its own; peers in environments of their own, with the versions of
benchmarks/peers/*.txt. The engines take turns, one at a time, round after round: in a round each explains batches of
each size for at least `--seconds`, each call with other rows. A figure is the median over the rounds, the spread
between the first and the third quartile, and a ratio the median of the rounds' own ratios.

An engine of which 1,000 rows take long explains fewer in a call; its time is proportional to them. All explain by path-
dependent SHAP values; the largest difference from LightGBM's is given relative to the largest score.

A peer that cannot be installed, fails, or takes more than three minutes for a measurement is reported with the reason.
With `--quick` the figures are rough, and the report goes to the cache.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from app.training.dataset import load_dataset
from benchmarks.forest import begin_comparison, progress, train
from benchmarks.peers.process import Peer, PeerError, Process
from benchmarks.report import MIB, Report, at_least, at_most, context, parser, ratio, render, save, spread
from kernels.engine import Engine
from kernels.forest.forest import Forest

FORESTS = ((500, 31), (1000, 127))
"""Trees and leaves of a tree."""
BATCHES = (1, 1000, 20_000)
COMPARED_ROWS = 100
"""Rows of which contributions are compared with LightGBM's."""
KEPT_ROWS = 20_000
PATIENCE_S = 180
"""Seconds after which an engine is left out that has not yet explained a batch as often as it was asked to."""


@dataclass(frozen=True)
class Explainer:
    """An engine under test.

    Attributes:
        peer: Its module and environment.
        batches: Rows of a batch, and how many of them are explained in a call.
    """

    peer: Peer
    batches: dict[int, int]


MADRONE = Explainer(Peer("Madrone", "explainers.madrone"), {1: 1, 1000: 1000, 20_000: 20_000})
LIGHTGBM = Explainer(Peer("LightGBM", "explainers.lightgbm"), {1: 1, 1000: 100})
EXPLAINERS = (
    LIGHTGBM,  # first: the others' contributions are compared with its own
    MADRONE,
    Explainer(Peer("shap.TreeExplainer", "explainers.shap", "shap"), {1: 1, 1000: 100}),
    Explainer(Peer("fasttreeshap-fixed", "explainers.fasttreeshap", "fasttreeshap"), {1: 1, 1000: 100}),
    Explainer(Peer("woodelf-explainer", "explainers.woodelf", "woodelf"), {1000: 1000, 20_000: 20_000}),
)


@dataclass
class Entrant:
    """Engine with a model: the answer to `open`, its contributions, and for each round µs a row by batch."""

    explainer: Explainer
    process: Process
    opened: dict[str, Any]
    contributions: np.ndarray
    us: dict[int, list[float]] = field(default_factory=dict)


def main() -> None:
    options = parser(__doc__, quick="2 rounds of 0.02 s of the first forest", data=True)
    arguments = begin_comparison(options, len(FORESTS))
    cache, rounds, seconds = arguments.cache, arguments.rounds, arguments.seconds
    dataset = load_dataset(arguments.data)
    rows = dataset.features[np.random.default_rng(1).permutation(len(dataset.features))[:KEPT_ROWS]]
    np.save(cache / "explained_rows.npy", rows)
    models: dict[str, Any] = {}
    for trees, leaves in FORESTS[: 1 if arguments.quick else arguments.forests]:
        name = f"{trees:,} trees of {leaves} leaves"
        text = train(dataset, trees, leaves, cache / "models")
        progress(name)
        models[name] = compare(text, cache, EXPLAINERS, rounds, seconds) | own_figures(text, rows)
    report = context("explain", "madrone", "lightgbm", "numba", "numpy") | {
        "data_sha256": dataset.sha256,
        "rounds": rounds,
        "seconds": seconds,
        "models": models,
    }
    save("explain", report, page, arguments.reports)


def compare(text: Path, cache: Path, explainers: tuple[Explainer, ...], rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all engines with a model. The first one's contributions are the reference."""
    entrants: dict[str, Entrant] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        for explainer in explainers:
            label = explainer.peer.label
            progress(f"  {label}")
            try:
                process = Process(explainer.peer, cache, patience_s=PATIENCE_S)
                stack.callback(process.close)
                entrants[label] = enter(explainer, process, text, cache)
            except PeerError as error:
                if explainer.peer.environment is None:
                    raise
                progress(f"  {label}: {error}")
                failed[label] = str(error)
        for number in range(rounds):
            progress(f"  round {number + 1} of {rounds}")
            for batch in BATCHES:
                for label, entrant in [*entrants.items()]:
                    try:
                        if (count := entrant.explainer.batches.get(batch)) is not None:
                            took = entrant.process.ask("time", batch=count, seconds=seconds, most_calls=10)
                            entrant.us.setdefault(batch, []).append(1e6 * took)
                    except PeerError as error:
                        failed[label] = str(error)
                        del entrants[label]
    reference = entrants[explainers[0].peer.label].contributions
    scale = float(np.abs(reference.sum(axis=1)).max())
    own = entrants[MADRONE.peer.label].us
    return {
        "engines": {
            label: {
                "us_a_row": {str(batch): spread(values) for batch, values in entrant.us.items()},
                "times_madrones": {str(batch): ratio(values, own[batch]) for batch, values in entrant.us.items()},
                "difference": float(np.abs(entrant.contributions - reference).max()) / scale,
                "first_s": entrant.opened["first_seconds"][0],
                "versions": entrant.opened["versions"],
            }
            for label, entrant in entrants.items()
        },
        "failed": failed,
    }


def enter(explainer: Explainer, process: Process, text: Path, cache: Path) -> Entrant:
    """Have an engine load a model and explain the first rows."""
    kept = cache / "explained" / explainer.peer.module
    kept.mkdir(parents=True, exist_ok=True)
    rows, found = cache / "explained_rows.npy", cache / "contributions.npy"
    opened = process.ask("open", model=str(text), rows=str(rows), kept=str(kept), options={}, first_batch=10)
    process.ask("scores", batch=COMPARED_ROWS, count=COMPARED_ROWS, path=str(found))
    return Entrant(explainer, process, opened, np.load(found))


def own_figures(text: Path, rows: np.ndarray) -> dict[str, float]:
    """What only Madrone's explanations have: memory, time to prepare, and how well they add up."""
    forest = Forest.from_model_text(text.read_text())
    engine = Engine(forest, device="cpu")
    engine.explain(rows[:1])  # compiled
    fresh = Forest.from_model_text(text.read_text())
    started = time.perf_counter()
    fresh.explainer.base()
    prepared = time.perf_counter() - started
    found = engine.explain(rows[:1000])
    raw = np.asarray(lgb.Booster(model_str=text.read_text()).predict(rows[:1000], raw_score=True, num_threads=1))
    total = found.base[0] + found.contributions[:, 0].sum(axis=-1)
    return {
        "memory_bytes": fresh.explainer.memory(),
        "prepare_s": prepared,
        "sum_error": float(np.abs(total - raw).max() / np.abs(raw).max()),
    }


def page(report: Report) -> str:
    small = report["models"].get("500 trees of 31 leaves")
    large = report["models"].get("1,000 trees of 127 leaves")

    def us(model: dict[str, Any] | None, batch: str) -> float | None:
        return None if model is None else model["engines"]["Madrone"]["us_a_row"][batch]["median"]

    def against_lightgbm(model: dict[str, Any] | None, batch: str) -> float | None:
        return None if model is None else model["engines"]["LightGBM"]["times_madrones"][batch]

    differences = [model["engines"]["Madrone"]["difference"] for model in report["models"].values()]
    sums = [model["sum_error"] for model in report["models"].values()]
    memory = None if small is None else small["memory_bytes"] / MIB
    targets = [
        at_most("500 trees of 31 leaves, one row at most 200 µs", us(small, "1"), 200, "{:.1f} µs"),
        at_most("500 trees of 31 leaves, 1,000 rows at most 80 µs a row", us(small, "1000"), 80, "{:.1f} µs"),
        at_least("500 trees of 31 leaves, one row at least 18 times LightGBM's speed",
                 against_lightgbm(small, "1"), 18, "{:.1f} times"),
        at_least("500 trees of 31 leaves, 1,000 rows at least 50 times LightGBM's speed",
                 against_lightgbm(small, "1000"), 50, "{:.1f} times"),
        at_least("1,000 trees of 127 leaves, 1,000 rows at least 20 times LightGBM's speed",
                 against_lightgbm(large, "1000"), 20, "{:.1f} times"),
        at_most("Memory of 500 trees of 31 leaves below 100 MiB", memory, 100, "{:.1f} MiB"),
        at_most("Difference from LightGBM at most 1e-9 of the largest score", max(differences), 1e-9, "{:.1e}"),
        at_most("A row's sum is the raw score to 1e-9 of the largest score", max(sums), 1e-9, "{:.1e}"),
    ]  # fmt: skip
    return render("explain", report, BATCHES=[str(batch) for batch in BATCHES], targets=targets)


if __name__ == "__main__":
    main()
