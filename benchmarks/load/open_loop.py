"""Latency under load: one row in an open loop, at shares of each server's largest throughput."""

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Peer
from benchmarks.load.closed_loop import PAUSE_S, Asked, Case, measure_once
from benchmarks.load.plan import Plan, Record, load

SHARES = (0.10, 0.25, 0.50, 0.75, 0.90)
CONNECTIONS = 64
SATURATION_CONNECTIONS = 16
SEED = 20_640
TIMES_AS_LONG = 2
"""Length over that of a throughput measurement; quantiles need many requests."""
QUANTILES = (0.5, 0.9, 0.99, 0.999)


def poisson(rate: float, seconds: float, seed: int = SEED) -> list[float]:
    """Arrivals of a Poisson process, seconds from the start, ascending."""
    generator = np.random.default_rng(seed)
    times = np.cumsum(generator.exponential(1 / rate, max(10, int(2 * rate * seconds) + 50)))
    return times[times < seconds].tolist() or [float(times[0])]


def open_plan(peer: Peer, what: Asked, rate: float, seconds: float, seed: int = SEED, **more: Any) -> Plan:
    """Plan of an open loop with Poisson arrivals at a rate in requests/s."""
    return Plan(
        port=peer.port, requests=what.requests, starts=what.starts, arrivals=poisson(rate, seconds, seed),
        **{"connections": CONNECTIONS} | more,
    )  # fmt: skip


def latencies(record: Record) -> NDArray[np.float64]:
    """float64[N] ms from when each request was due; infinite without a right answer."""
    taken = 1e3 * (record.answered - record.due)
    return np.where(record.ok(), taken, np.inf)


def saturation(peer: Peer, what: Asked, seconds: float) -> float:
    """Requests a second in a closed loop, the median of three."""
    case = Case("row", 1, SATURATION_CONNECTIONS)
    return statistics.median(measure_once(peer, what, case, seconds)["requests_per_s"] for _ in range(3))


def quantiles(values: NDArray[np.float64]) -> list[float | None]:
    """Latency in ms at each of `QUANTILES`; None with fewer than five values beyond, or with missing answers."""
    if not len(values):
        return [None] * len(QUANTILES)
    cuts = np.quantile(values, QUANTILES, method="higher").tolist()
    return [
        cut if np.isfinite(cut) and (1 - at) * len(values) > 4.999 else None
        for at, cut in zip(QUANTILES, cuts, strict=True)
    ]


def measure(
    peers: dict[str, Peer], requests: dict[str, Asked], rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Saturation of each server, and by share the quantiles of the latencies, over all rounds and in each."""
    top = {key: saturation(peers[key], what, seconds) for key, what in requests.items()}
    seen: dict[tuple[str, float], list[NDArray[np.float64]]] = {}
    busy: dict[tuple[str, float], list[float]] = {}
    for number in range(rounds):
        for share in SHARES:
            for key, what in requests.items():
                time.sleep(PAUSE_S)
                record = load(open_plan(peers[key], what, share * top[key], seconds, SEED + number))
                seen.setdefault((key, share), []).append(latencies(record))
                busy.setdefault((key, share), []).append(record.cpu_share)
        print(f"open loop: round {number + 1} of {rounds}", flush=True)
    return {
        key: {
            "saturation": top[key],
            "shares": {
                str(share): {
                    "requests": sum(map(len, seen[key, share])),
                    "quantiles_ms": quantiles(np.concatenate(seen[key, share])),
                    "rounds": [np.quantile(part, [0.5, 0.99], method="higher").tolist() for part in seen[key, share]],
                    "generator_cpu": float(np.median(busy[key, share])),
                }
                for share in SHARES
            },
        }
        for key in requests
    }
