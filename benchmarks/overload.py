"""Behaviour of Madrone under several times the load that it can answer.

    just bench overload [--rows 1 100 1000] [--times 5 20] [--seconds 60] [--connections 1024] [--quick]

Method: the model and the server are those of `just bench http`. For each number of rows (one as /predict, more as JSON
objects to /predict/batch), first the peak: the largest number of requests a second in a closed loop, over a growing
number of connections. Then each multiple of the peak is offered in an open loop, Poisson arrivals with a fixed seed,
over a bounded number of connections, once over connections that are kept and once with a fresh one for each request.
A request that finds none free for a second is given up. No more are offered than MOST_PER_S, about what the load
generator can send. Beside it, before, meanwhile and afterwards: a single row 50 times a second from another process,
and GET /health/live and /metrics twice a second, with the worker's resident memory and descriptors.

Goodput counts right answers with status 200 while load is offered. Latencies count from the sending, because the
question is how long the server takes to answer or to refuse; they include the transfer of the body, and that of a
fresh connection. The service has recovered when ten single rows in a row are answered, with a median of at most 1.5
times that before the load.

The report goes to benchmarks/reports/overload.md, .json and .png; with `--quick` to the cache.
"""

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import lightgbm as lgb
import numpy as np

from benchmarks.bodies import OBJECTS, ROW
from benchmarks.contenders import MADRONE, Peer, register, running
from benchmarks.load.closed_loop import Asked, Case, asked, measure_once
from benchmarks.load.open_loop import poisson
from benchmarks.load.plan import Plan, Record
from benchmarks.load.plan import running as loading
from benchmarks.pages.overload import page, picture, pictured
from benchmarks.report import begin, context, parser, save
from benchmarks.rows import DISTINCT_ROWS, make_rows, train_model

CONNECTIONS = (1, 2, 4, 8, 16)
"""Numbers of connections tried for the peak."""
GIVE_UP_S = 1.0
PATIENCE_S = 40.0
PROBE_RATE = 50.0
PROBE_CONNECTIONS = 64
LOOK_S = 0.5
IN_A_ROW = 10
AS_FAST = 1.5
MOST_PER_S = 20_000.0
STATUSES = (200, 503, 504)
PACKAGES = ("madrone", "granian", "litestar", "numba")


@dataclass(frozen=True)
class Look:
    """Monotonic time in s, resident bytes and descriptors of the worker, ms of two pages (None: no status 200)."""

    at: float
    rss: int
    descriptors: int
    live_ms: float | None
    metrics_ms: float | None


def peak(peer: Peer, what: Asked, rows: int, seconds: float) -> dict[str, float]:
    """Requests a second in a closed loop, by connections."""
    form = "row" if rows == 1 else "objects"
    return {
        str(count): measure_once(peer, what, Case(form, rows, count), seconds)["requests_per_s"]
        for count in CONNECTIONS
    }


def look(peer: Peer) -> Look:
    at, worker = time.monotonic(), peer.worker()
    return Look(
        at, worker.memory_info().rss, worker.num_fds(), timed(f"{peer.url}/health/live"), timed(f"{peer.url}/metrics")
    )


def timed(url: str) -> float | None:
    started = time.monotonic()
    try:
        status = httpx.get(url, timeout=10, trust_env=False).status_code
    except httpx.TransportError:
        return None
    return 1e3 * (time.monotonic() - started) if status == 200 else None


def offer(
    peer: Peer, what: Asked, single: Asked, rate: float, fresh: bool, arguments: argparse.Namespace
) -> tuple[Record, Record, list[Look]]:
    """Records of the load and of the single rows beside it, and looks at the service meanwhile."""
    before, after = arguments.before, arguments.after
    whole = before + arguments.seconds + after
    arrivals = np.arange(1, int(PROBE_RATE * whole) + 1) / PROBE_RATE
    probe = Plan(
        port=peer.port, requests=single.requests, starts=single.starts, connections=PROBE_CONNECTIONS,
        arrivals=arrivals.tolist(), patience=PATIENCE_S,
    )  # fmt: skip
    load = Plan(
        port=peer.port, requests=what.requests, starts=what.starts, connections=arguments.connections,
        arrivals=poisson(rate, arguments.seconds), patience=PATIENCE_S, give_up=GIVE_UP_S, fresh=fresh,
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
        "descriptors": max(one.descriptors for one in looks),
        "generator_cpu": load.cpu_share,
    }


def cuts(values: np.ndarray) -> list[float] | None:
    """Median and 0.99 quantile."""
    return np.quantile(values, [0.5, 0.99], method="higher").tolist() if len(values) else None


def recovery(probe: Record, end: float, idle_ms: float) -> float | None:
    """Seconds from the end of the load until single rows are as fast as before; None if that never happens."""
    after = np.flatnonzero(probe.due > end)
    taken = np.where(probe.ok(), 1e3 * (probe.answered - probe.due), np.inf)
    for first in range(len(after) - IN_A_ROW + 1):
        chosen = after[first : first + IN_A_ROW]
        if np.isfinite(taken[chosen]).all() and np.median(taken[chosen]) <= AS_FAST * idle_ms:
            return float(probe.answered[chosen[0]] - end)
    return None


def measure(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    model = train_model(arguments.cache)
    register(model, directory)
    rows = make_rows(DISTINCT_ROWS, 3)
    expected = np.asarray(lgb.Booster(model_file=model / "model.lgb").predict(rows, num_threads=1))
    peaks: dict[str, dict[str, float]] = {}
    loads: list[dict[str, Any]] = []
    with running(MADRONE, model, directory, arguments.cache, MAX_BATCH_SIZE=str(max(arguments.rows))) as peer:
        single = asked(peer, ROW, rows, expected, 1)
        for count in arguments.rows:
            what = single if count == 1 else asked(peer, OBJECTS, rows, expected, count)
            peaks[str(count)] = tried = peak(peer, what, count, arguments.before)
            top = max(tried.values())
            print(f"{count} rows: at most {top:.0f} requests/s", flush=True)
            for times, fresh in product(arguments.times, (False, True)):
                rate = min(times * top, MOST_PER_S)
                found = summarise(*offer(peer, what, single, rate, fresh, arguments), top)
                loads.append({"rows": count, "times": times, "fresh": fresh} | found)
                print(f"{times:g} times, fresh: {fresh}: {found['goodput_per_s']:.0f}/s", flush=True)
    for load in loads:
        if load is not pictured(loads):
            del load["goodput_by_second"], load["looks"]
    return {"peaks_by_connections": peaks, "loads": loads}


def main() -> None:
    options = parser(__doc__, quick="6 s of load")
    options.add_argument("--rows", type=int, nargs="+", default=[1, 100, 1000], help="of a request")
    options.add_argument("--times", type=float, nargs="+", default=[5.0, 20.0], help="the peak are offered")
    options.add_argument("--seconds", type=float, default=60.0, help="of each load")
    options.add_argument("--connections", type=int, default=1024)
    arguments = begin(options)
    arguments.seconds = 6.0 if arguments.quick else arguments.seconds
    arguments.before, arguments.after = (1.0, 3.0) if arguments.quick else (3.0, 10.0)
    with tempfile.TemporaryDirectory() as directory:
        results = measure(arguments, Path(directory))
    report = context("overload", *PACKAGES) | {
        "seconds": arguments.seconds,
        "connections": arguments.connections,
        "results": results,
    }
    save("overload", report, page, arguments.reports, {"overload": picture})


if __name__ == "__main__":
    main()
