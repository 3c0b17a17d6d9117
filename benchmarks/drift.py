"""Drift detection: false alarms, shifts that are found, KS beside scipy's, and what counting costs.

    just bench drift [--nannyml WHEEL] [--starts 3] [--rounds 5] [--seconds 3] [--quick]

Method, judges: samples of the California data, in the bundled model with its own profile. Reshuffles are samples of the
rows that the profile was made of; a false alarm is a feature or the prediction with a PSI of 0.1 or more. Shifts are
made in samples of 500 of all rows, and count as found where every feature that was changed is called moderate or major.

Method, KS: the modified California set that NannyML's wheel ships (`pip download --no-deps nannyml`), which is only
read. A profile of its reference part, and each calendar month of its analysis part against it, beside scipy's
`ks_2samp` of the same two samples. What is compared is the mean over the months. In a single month the bins may miss up
to the share of one, since they know the distributions at their edges only.

Method, cost: services with the bundled model, without a log, one with DRIFT=true and one with DRIFT=false. One row a
request is loaded by wrk, one thread, 16 connections; tables of 100,000 rows as Arrow by the load generator, one
connection. Both in turns, round after round; the ratio is the median of the ratios within each round. Two services
without drift, measured in the same way, tell how far the ratio strays by itself. All are started anew `--starts` times,
since of two equal processes one can be some percent quicker for as long as both run.

Method, scrape: the text of all series of drift, for models of 8 and of 50 features with 20 bins each: processor
time, the median of 20.

The report goes to benchmarks/reports/drift.md and .json; with `--quick` to the cache.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from scipy.stats import ks_2samp

from app.drift.limits import LEAST_ROWS
from app.drift.profile import make_profile
from app.drift.report import ModelDrift, measure, report
from app.drift.series import DriftSeries
from app.drift.tracker import Options, Tracker, WatchedModel
from app.feature import Feature
from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED as BUNDLED_FILES
from app.telemetry.exposition import Exposition
from app.training.dataset import FEATURES, load_dataset
from app.training.split import split_rows
from benchmarks.bodies import FORMATS
from benchmarks.contenders import BUNDLED, Peer, running
from benchmarks.load.plan import Plan, load
from benchmarks.load.wrk import ONE_ROW, by_wrk
from benchmarks.report import Report, Target, at_least, at_most, begin, context, parser, ratio, render, save, spread
from benchmarks.rows import make_rows

Array = NDArray[np.float64]
Predict = Callable[[Array], Array]

SEED = 22
BULK_ROWS = 100_000
QUIET = {"PREDICTION_LOG": "off", "SHUTDOWN_DELAY": "0"}
MODES = {"off": "false", "on": "true", "off again": "false"}
ANALYSIS = "nannyml/datasets/data/california_housing_{}.csv"
SHIFTS: dict[str, tuple[set[str], Callable[[Array], None]]] = {}
"""Features that each shift changes, and how."""


def _times(name: str, column: str, factor: float) -> None:
    def change(rows: Array) -> None:
        rows[:, FEATURES.index(column)] *= factor

    SHIFTS[name] = {column}, change


_times("MedInc times 1.2", "MedInc", 1.2)
_times("AveOccup times 0.9", "AveOccup", 0.9)
_times("income in dollars", "MedInc", 10_000)


def _swap(rows: Array) -> None:
    places = [FEATURES.index("Latitude"), FEATURES.index("Longitude")]
    rows[:, places] = rows[:, places[::-1]]


SHIFTS["swapped coordinates"] = {"Latitude", "Longitude"}, _swap


def judged(model: WatchedModel, rows: Array, prediction: Array) -> ModelDrift:
    tracker = Tracker(model, Options(3600, 0))
    tracker.count(rows, prediction)
    return report(tracker, 3600)


def judge(path: Path | None, samples: int) -> dict[str, Any]:
    """False alarms and shifts that are found."""
    artifact, rows = read_artifact(BUNDLED_FILES / "model"), load_dataset(path).features
    model = WatchedModel(
        version="1", digest=artifact.digest, features=artifact.features, outputs=1, profile=artifact.profile, names=()
    )
    predict: Predict = artifact.engine().predict
    fitted, random = split_rows(len(rows), 0).fit, np.random.default_rng(SEED)
    alarms: dict[str, dict[str, float]] = {}
    for count in (500, 2_000):
        psi: list[float] = []
        for _ in range(samples):
            chosen = rows[random.choice(fitted, count, replace=False)]
            drift = judged(model, chosen, predict(chosen))
            psi += [column.psi or 0.0 for column in (*drift.features, *drift.prediction)]
        found = np.array(psi).reshape(samples, -1)
        alarms[str(count)] = {
            "of_20": int((found[:20] >= 0.1).any(axis=1).sum()),
            "series": found.size,
            "alarms": int((found >= 0.1).sum()),
            "largest_psi": float(found.max()),
        }
    found_shifts: dict[str, dict[str, float]] = {}
    for name, (changed, change) in SHIFTS.items():
        caught, others, least = 0, 0, np.inf
        for _ in range(samples):
            chosen = rows[random.choice(len(rows), LEAST_ROWS, replace=False)]
            change(chosen)
            drift = judged(model, chosen, predict(chosen))
            named = {column.name for column in drift.features if column.level != "stable"}
            caught, others = caught + (changed <= named), others + bool(named - changed)
            least = min(least, *(column.psi or 0.0 for column in drift.features if column.name in changed))
        found_shifts[name] = {"caught": caught, "others": others, "least_psi": float(least)}
    return {"samples": samples, "alarms": alarms, "shifts": found_shifts}


def exact_ks(left: Array, right: Array) -> float:
    """KS of two samples, by scipy."""
    found: Any = ks_2samp(left, right)
    return float(found.statistic)


def monthly_ks(wheel: Path) -> dict[str, dict[str, float]]:
    """Means of the monthly KS by feature, from bins and exact, and the largest difference of a month."""
    with zipfile.ZipFile(wheel) as archive:
        parts = [pd.read_csv(archive.open(ANALYSIS.format(name))) for name in ("reference", "analysis")]
    names = list(FEATURES)
    reference, analysis = parts[0][names].to_numpy(float), parts[1]
    months = pd.to_datetime(analysis["timestamp"]).dt.to_period("M")
    features = tuple(Feature(name=name) for name in names)
    profile = make_profile(features, reference, reference[:, 0], "profile")
    model = WatchedModel(version="1", digest="", features=features, outputs=1, profile=profile, names=())
    ours: list[list[float]] = []
    exact: list[list[float]] = []
    for _, month in analysis.groupby(months):
        rows = month[names].to_numpy(float)
        tracker = Tracker(model, Options(3600, 0))
        copies = -(-LEAST_ROWS // len(rows))  # of a month that is cut short: its shares stay what they are
        tracker.count(np.repeat(rows, copies, axis=0), np.repeat(rows[:, 0], copies))
        assert tracker.counts is not None
        shifts = measure(tracker.counts).features
        assert shifts is not None
        ours.append(shifts.ks.tolist())
        exact.append([exact_ks(reference[:, place], rows[:, place]) for place in range(len(names))])
    left, right = np.array(ours), np.array(exact)
    return {
        name: {
            "bins": float(left[:, place].mean()),
            "exact": float(right[:, place].mean()),
            "largest_difference": float(np.abs(left - right)[:, place].max()),
        }
        for place, name in enumerate(names)
    }


def by_bulk(peer: Peer, request: bytes, seconds: float) -> float:
    """Rows a second of large tables."""
    record = load(Plan(port=peer.port, requests=[request], connections=1, seconds=seconds))
    assert record.ok().all()
    return BULK_ROWS * len(record.due) / record.seconds


def cost(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Throughput with and without drift."""
    table = FORMATS[0].request(make_rows(BULK_ROWS, 3))
    rates: dict[str, dict[str, list[float]]] = {what: {mode: [] for mode in MODES} for what in ("one row", "bulk")}
    for start in range(arguments.starts):
        with ExitStack() as stack:
            peers: dict[str, Peer] = {}
            for mode, drift in list(MODES.items())[:: 1 if start % 2 else -1]:
                place = directory / f"{mode.replace(' ', '-')}-{start}"
                place.mkdir()
                environ = {"DRIFT": drift, "DATA_DIR": str(place / "data")} | QUIET
                peers[mode] = stack.enter_context(running(BUNDLED, place, place, arguments.cache, **environ))
            for number in range(arguments.rounds):
                # Backwards every other time, so that none always follows the same.
                for mode, peer in list(peers.items())[:: 1 if number % 2 else -1]:
                    one = by_wrk(peer, "/predict", 16, max(1, round(arguments.seconds)), ONE_ROW)
                    rates["one row"][mode].append(one.requests_per_s)
                    rates["bulk"][mode].append(by_bulk(peer, table, arguments.seconds))
    return {
        what: {
            "rates": {mode: spread(values) for mode, values in found.items()},
            "on": ratio(found["on"], found["off"]),
            "off_again": ratio(found["off again"], found["off"]),
        }
        for what, found in rates.items()
    }


def scrape(features: int) -> dict[str, float]:
    """Milliseconds of processor time of a scrape of drift's own series, and their number."""
    rows = np.random.default_rng(SEED).normal(size=(5_000, features))
    watched = tuple(Feature(name=f"feature_{place}") for place in range(features))
    profile = make_profile(watched, rows, rows[:, 0], "training")
    model = WatchedModel(version="12", digest="", features=watched, outputs=1, profile=profile, names=())
    tracker = Tracker(model, Options(3600, 0))
    tracker.count(rows, rows[:, 0])
    registry = CollectorRegistry()
    series = DriftSeries(lambda: [tracker])
    registry.register(series)
    exposition = Exposition(registry)

    def milliseconds(work: Callable[[], object]) -> float:
        taken: list[float] = []
        for _ in range(20):
            begun = time.thread_time()
            work()
            taken.append((time.thread_time() - begun) * 1e3)
        return statistics.median(taken)

    return {
        "series": sum(len(family.samples) for family in series.collect()),
        "collect_ms": milliseconds(lambda: list(series.collect())),
        "text_ms": milliseconds(exposition.text),
    }


def targets(found: Report) -> list[Target]:
    judges, months, costs = found["judges"], found["monthly_ks"], found["cost"]
    alarms = sum(one["of_20"] for one in judges["alarms"].values())
    caught = 100 * min(one["caught"] for one in judges["shifts"].values()) / judges["samples"]
    difference = months and max(abs(one["bins"] - one["exact"]) for one in months.values())
    return [
        at_most("No alarm on 20 reshuffles of 500 and of 2,000 rows", alarms, 0, "{} alarms"),
        at_least("Every shift is found in 500 rows", caught, 99, "in {:.1f} % of the samples at least"),
        at_most("KS of the months, on average, within 0.03 of scipy's", difference, 0.03, "{:.4f} at most"),
        at_least("One row keeps 97 % of its throughput", costs and 100 * costs["one row"]["on"], 97, "{:.1f} %"),
        at_least("Bulk keeps 97 % of its throughput", costs and 100 * costs["bulk"]["on"], 97, "{:.1f} %"),
        at_most("A scrape of 50 features takes at most 10 ms", found["scrape"]["50"]["text_ms"], 10, "{:.1f} ms"),
    ]


def page(found: Report) -> str:
    return render("drift", found, targets=targets(found))


def main() -> None:
    options = parser(__doc__, quick="20 samples, one start, 2 rounds of 1 s", data=True)
    options.add_argument("--nannyml", type=Path, help="NannyML's wheel, whose data is read")
    options.add_argument("--samples", type=int, default=500, help="for each rate of alarms")
    options.add_argument("--rounds", type=int, default=5, help="of the cost for each start; 0 for the judges alone")
    options.add_argument("--starts", type=int, default=3, help="how often the services are started anew")
    options.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    arguments = begin(options)
    if arguments.quick:
        arguments.samples, arguments.starts, arguments.rounds, arguments.seconds = 20, 1, 2, 1.0
    costs = None
    if shutil.which("wrk") is None:
        print("wrk is not installed, so the cost of drift is not measured.", file=sys.stderr)
    elif arguments.rounds:
        with tempfile.TemporaryDirectory() as name:
            costs = cost(arguments, Path(name))
    found = context("drift", "madrone", "granian", "scipy") | {
        "judges": judge(arguments.data, arguments.samples),
        "monthly_ks": arguments.nannyml and monthly_ks(arguments.nannyml),
        "cost": costs,
        "rounds": arguments.rounds,
        "starts": arguments.starts,
        "seconds": arguments.seconds,
        "scrape": {str(features): scrape(features) for features in (8, 50)},
    }
    save("drift", found, page, arguments.reports)


if __name__ == "__main__":
    main()
