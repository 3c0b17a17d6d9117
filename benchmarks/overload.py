"""Offers Madrone several times what it can answer, and looks at what becomes of it.

    just bench overload [--rows 1000] [--times 5] [--seconds 60] [--connections 1024] [--set NAME=VALUE ...] [--quick]

Method: the model and the server are those of `just bench http`. First, in a closed loop with more and more connections,
the most requests of so many rows (JSON objects) that are answered in a second: the peak. Then so many times the peak
are offered in an open loop, Poisson arrivals with a fixed seed; over a bounded number of connections, and a request
that finds none free for a second is given up. Beside it, before, meanwhile and afterwards: a single row 50 times a
second from another process, and GET /health/live and /metrics twice a second, with the worker's resident memory.

Goodput is what was answered with 200, and rightly, while load was offered. Latencies are counted from the sending, for
what is asked here is how long the server takes to answer, or to say no; the time includes the transfer of the body. The
service has recovered when ten single rows after each other are answered, and take at the median no more than 1.5 times
what they took before the load.

The report goes to benchmarks/reports/overload.md, .json and .png; with `--quick` to the cache.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import lightgbm as lgb
import numpy as np
from matplotlib.figure import Figure

from benchmarks.bodies import OBJECTS, ROW
from benchmarks.contenders import MADRONE, Peer, register, running
from benchmarks.http import REPORTS
from benchmarks.load.closed_loop import Asked, Case, asked, measure_once
from benchmarks.load.open_loop import poisson
from benchmarks.load.plan import Plan, Record
from benchmarks.load.plan import running as loading
from benchmarks.pages.forest import table, versions
from benchmarks.pages.http import Target, at_least, at_most
from benchmarks.rows import DISTINCT_ROWS, make_rows, train_model
from kernels.cache import cache_kernels
from kernels.cpu.backend import processor

CONNECTIONS = (1, 2, 4, 8, 16)
"""Tried for the peak."""
GIVE_UP_S = 1.0
PATIENCE_S = 40.0
PROBE_RATE = 50.0
PROBE_CONNECTIONS = 64
LOOK_S = 0.5
IN_A_ROW = 10
AS_FAST = 1.5
MIB = 2**20
STATUSES = (200, 503, 504)
PACKAGES = ("madrone", "granian", "litestar", "numba")


@dataclass(frozen=True)
class Look:
    """What was seen of the service at a time.

    Attributes:
        at: Monotonic seconds.
        rss: Resident bytes of the worker.
        live_ms: ms that /health/live took; None where it was not answered with 200.
        metrics_ms: ms that /metrics took, likewise.
    """

    at: float
    rss: int
    live_ms: float | None
    metrics_ms: float | None


def peak(peer: Peer, what: Asked, rows: int, seconds: float) -> dict[str, float]:
    """Requests a second in a closed loop, by connections."""
    return {
        str(count): measure_once(peer, what, Case("objects", rows, count), seconds)["requests_per_s"]
        for count in CONNECTIONS
    }


def look(peer: Peer) -> Look:
    at, rss = time.monotonic(), peer.worker().memory_info().rss
    return Look(at, rss, timed(f"{peer.url}/health/live"), timed(f"{peer.url}/metrics"))


def timed(url: str) -> float | None:
    started = time.monotonic()
    try:
        status = httpx.get(url, timeout=10, trust_env=False).status_code
    except httpx.TransportError:
        return None
    return 1e3 * (time.monotonic() - started) if status == 200 else None


def constant(rate: float, seconds: float) -> list[float]:
    """Arrivals at equal distances."""
    return (np.arange(1, int(rate * seconds) + 1) / rate).tolist()


def offer(
    peer: Peer, dear: Asked, single: Asked, rate: float, arguments: argparse.Namespace
) -> tuple[Record, Record, list[Look]]:
    """Load it, and give what came of the load, of the single rows beside it, and what was seen meanwhile."""
    before, after = arguments.before, arguments.after
    whole = before + arguments.seconds + after
    probe = Plan(
        port=peer.port, requests=single.requests, starts=single.starts, connections=PROBE_CONNECTIONS,
        arrivals=constant(PROBE_RATE, whole), patience=PATIENCE_S,
    )  # fmt: skip
    load = Plan(
        port=peer.port, requests=dear.requests, starts=dear.starts, connections=arguments.connections,
        arrivals=poisson(rate, arguments.seconds), patience=PATIENCE_S, give_up=GIVE_UP_S,
    )  # fmt: skip
    looks: list[Look] = []
    with loading(probe) as probing:
        time.sleep(before)
        with loading(load) as running_load:
            while probing.process.poll() is None:
                looks.append(look(peer))
                time.sleep(LOOK_S)
            return running_load.record(), probing.record(), looks


def summarise(load: Record, probe: Record, looks: list[Look], top: float) -> dict[str, Any]:
    """The figures of the report."""
    start, end = float(load.due[0]), float(load.due[-1])
    span = end - start
    ok = load.ok()
    within = ok & (load.answered <= end)
    taken = 1e3 * (load.answered - load.sent)
    sent = ~np.isnan(load.sent)
    statuses = {str(status): int((load.status == status).sum()) for status in STATUSES}
    statuses["another"] = int((~np.isin(load.status, (*STATUSES, 0))).sum())
    statuses["none"] = int((sent & (load.status == 0)).sum())
    statuses["never sent"] = int((~sent).sum())
    before = probe.ok() & (probe.due < start)
    during = (probe.due >= start) & (probe.due <= end)
    idle = 1e3 * (probe.answered - probe.due)[before]
    beside = 1e3 * (probe.answered - probe.due)[during & probe.ok()]
    seen = [one for one in looks if start <= one.at <= end]
    return {
        "offered_per_s": len(load.due) / span,
        "peak_per_s": top,
        "goodput_per_s": float(within.sum() / span),
        "goodput_by_second": np.histogram(load.answered[ok], np.arange(start, end, 1.0))[0].tolist(),
        "statuses": statuses,
        "wrong": int((~ok & (load.status == 200)).sum()),
        "admitted_ms": cuts(taken[ok]),
        "refused_ms": cuts(taken[load.status == 503]),
        "single": {
            "idle_ms": cuts(idle),
            "beside_ms": cuts(beside),
            "asked": int(during.sum()),
            "answered": int((during & probe.ok()).sum()),
            "refused": int((during & (probe.status == 503)).sum()),
        },
        "recovery_s": recovery(probe, end, float(np.median(idle))),
        "looks": [asdict(one) | {"at": one.at - start} for one in looks],
        "live_failed": sum(one.live_ms is None for one in seen),
        "metrics_failed": sum(one.metrics_ms is None for one in seen),
        "live_ms": cuts(np.array([one.live_ms for one in seen if one.live_ms is not None])),
        "metrics_ms": cuts(np.array([one.metrics_ms for one in seen if one.metrics_ms is not None])),
        "rss": {"before": looks[0].rss, "most": max(one.rss for one in looks), "after": looks[-1].rss},
        "generator_cpu": load.cpu_share,
    }


def cuts(values: np.ndarray) -> list[float] | None:
    """Median and 0.99 quantile."""
    return np.quantile(values, [0.5, 0.99], method="higher").tolist() if len(values) else None


def recovery(probe: Record, end: float, idle_ms: float) -> float | None:
    """Seconds from the end of the load until single rows are as fast as before; None if they never were."""
    after = np.flatnonzero(probe.due > end)
    taken = np.where(probe.ok(), 1e3 * (probe.answered - probe.due), np.inf)
    for first in range(len(after) - IN_A_ROW + 1):
        chosen = after[first : first + IN_A_ROW]
        if np.isfinite(taken[chosen]).all() and np.median(taken[chosen]) <= AS_FAST * idle_ms:
            return float(probe.answered[chosen[0]] - end)
    return None


def targets(results: dict[str, Any]) -> list[Target]:
    refused = results["refused_ms"]
    share = 100 * results["goodput_per_s"] / results["peak_per_s"]
    unanswered = results["live_failed"] + results["metrics_failed"]
    recovered = results["recovery_s"]
    return [
        at_least("Goodput, at least 90 % of the peak", share, 90, "{:.0f} %"),
        at_most("A refusal's median, at most 5 ms", refused and refused[0], 5, "{:.2f} ms"),
        at_most("A refusal's p99, at most 5 ms", refused and refused[1], 5, "{:.2f} ms"),
        Target("/health/live and /metrics are answered meanwhile", f"{unanswered} were not", unanswered == 0),
        Target(
            "As fast as before within 1 s of the end",
            "never" if recovered is None else f"{recovered:.2f} s",
            recovered is not None and recovered <= 1,
        ),
    ]


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    results = report["results"]
    statuses, single, rss = results["statuses"], results["single"], results["rss"]
    lines = [
        "# Overload",
        "",
        f"{report['date']}, {report['machine']}, Python {report['python']}, {versions(report['versions'])}",
        "",
        f"`{report['command']}`: requests of {report['rows']:,} rows as JSON objects. At most "
        f"{results['peak_per_s']:.0f} of them are answered in a second; {results['offered_per_s']:.0f} a second were "
        f"offered for {report['seconds']:g} s, Poisson, over at most {report['connections']} connections. The load "
        f"generator shares the machine with the server, and took {results['generator_cpu']:.0%} of a core.",
        "",
        *(target.line() for target in targets(results)),
        "",
        *table(["answer", "requests"], [[name, f"{count:,}"] for name, count in statuses.items()]),
        *table(
            ["ms", "p50", "p99"],
            [
                [name, *(f"{value:.2f}" for value in found)]
                for name, found in (
                    ("200, from the sending", results["admitted_ms"]),
                    ("503, from the sending", results["refused_ms"]),
                    ("one row before", single["idle_ms"]),
                    ("one row meanwhile, where answered", single["beside_ms"]),
                    ("/health/live meanwhile", results["live_ms"]),
                    ("/metrics meanwhile", results["metrics_ms"]),
                )
                if found
            ],
        ),
        f"Of {single['asked']:,} single rows meanwhile {single['answered']:,} were answered and {single['refused']:,} "
        f"refused. The worker held {rss['before'] / MIB:.0f} MiB before, {rss['most'] / MIB:.0f} at most and "
        f'{rss["after"] / MIB:.0f} in the end. "None" is a connection that broke or a request that was not answered '
        f'within {PATIENCE_S:g} s of the end; "never sent" found no connection for {GIVE_UP_S:g} s.',
    ]
    return "\n".join(lines) + "\n"


def picture(report: dict[str, Any], path: Path) -> None:
    """Goodput by second against the peak, and memory, along the time."""
    results = report["results"]
    drawing = Figure(figsize=(9, 5.6), layout="constrained")
    upper, lower = drawing.subplots(2, 1, sharex=True)
    by_second = results["goodput_by_second"]
    upper.stairs(by_second, color="#b5442e", linewidth=2, label="answered with 200")
    upper.axhline(results["peak_per_s"], color="#8c8c8c", linestyle="--", label="peak without overload")
    upper.set_ylabel("requests/s")
    upper.set_ylim(0, 1.35 * max(*by_second, results["peak_per_s"]))
    upper.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)
    looks = results["looks"]
    lower.plot([one["at"] for one in looks], [one["rss"] / MIB for one in looks], color="#3a78b5", linewidth=2)
    lower.set_ylim(0, 1.2 * max(one["rss"] for one in looks) / MIB)
    lower.set(xlabel="s from the start of the load", ylabel="worker, MiB")
    for axes in (upper, lower):
        axes.axvline(report["seconds"], color="#c8c8c8", linewidth=1)
        axes.grid(color="#e2e2e2", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    drawing.suptitle(
        f"{results['offered_per_s']:.0f} requests/s of {report['rows']:,} rows offered; the load ends at the line\n"
        f"{report['machine']}; {report['date']}",
        fontsize=10,
    )
    drawing.savefig(path, dpi=130)


def measure(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    model = train_model(arguments.cache)
    register(model, directory)
    rows = make_rows(DISTINCT_ROWS, 3)
    expected = np.asarray(lgb.Booster(model_file=model / "model.lgb").predict(rows, num_threads=1))
    given = {"MAX_BATCH_SIZE": str(arguments.rows)} | dict(arguments.set)
    with running(MADRONE, model, directory, arguments.cache, **given) as peer:
        dear = asked(peer, OBJECTS, rows, expected, arguments.rows)
        single = asked(peer, ROW, rows, expected, 1)
        tried = peak(peer, dear, arguments.rows, arguments.before)
        print({count: round(rate, 1) for count, rate in tried.items()}, flush=True)
        top = max(tried.values())
        load, probe, looks = offer(peer, dear, single, arguments.times * top, arguments)
    return summarise(load, probe, looks, top) | {"peak_by_connections": tried}


def setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="of a request")
    parser.add_argument("--times", type=float, default=5.0, help="the peak are offered")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--connections", type=int, default=1024)
    parser.add_argument("--set", type=setting, action="append", default=[], help="a setting of the server")
    parser.add_argument("--cache", type=Path, default=Path(".madrone/bench"), help="model and kernels")
    parser.add_argument("--quick", action="store_true", help="6 s of load; the report goes to the cache")
    parser.add_argument("--reports", type=Path, help="where the report goes")
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.resolve()
    arguments.seconds = 6.0 if arguments.quick else arguments.seconds
    arguments.before, arguments.after = (1.0, 3.0) if arguments.quick else (3.0, 10.0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without ending what was started
    cache_kernels(arguments.cache / "kernels")
    with tempfile.TemporaryDirectory() as directory:
        results = measure(arguments, Path(directory))
    options = [f"--rows {arguments.rows}", f"--times {arguments.times:g}", f"--seconds {arguments.seconds:g}"]
    options += [f"--connections {arguments.connections}", *(f"--set {'='.join(one)}" for one in arguments.set)]
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "command": f"just bench overload {' '.join(options)}",
        "rows": arguments.rows,
        "seconds": arguments.seconds,
        "connections": arguments.connections,
        "results": results,
    }
    reports = arguments.reports or (arguments.cache / "reports" if arguments.quick else REPORTS)
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "overload.json").write_text(json.dumps(report, indent=2) + "\n")
    (reports / "overload.md").write_text(page(report))
    picture(report, reports / "overload.png")
    print(page(report))


if __name__ == "__main__":
    main()
