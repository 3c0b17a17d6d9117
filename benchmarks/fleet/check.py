"""What is computed beside what is measured: one process, four processes, their looks, and a rollout.

All processes, the load generators and the registry share the cores of this machine, so the computation has them share
these cores, too. Each replica has a load generator of its own, whose Poisson arrivals are as those of a balancer that
chooses at random.
"""

import re
import time
from contextlib import ExitStack
from typing import Any

import httpx
import msgspec
import numpy as np
from mlflow import MlflowClient

from app.models.refresh.keeper import SOONER
from app.models.registry.publish import ALIAS
from benchmarks.contenders import MODEL_NAME, Peer
from benchmarks.fleet.cores import simulate_on
from benchmarks.fleet.costs import Costs, probe
from benchmarks.fleet.queues import mean_wait_of_one
from benchmarks.fleet.registry import Looks
from benchmarks.fleet.registry import simulate as look
from benchmarks.fleet.scaling import rolled_out
from benchmarks.fleet.traffic import Mix, requests_of
from benchmarks.load.closed_loop import Asked
from benchmarks.load.open_loop import open_plan
from benchmarks.load.plan import Record, running
from benchmarks.peers.process import PeerError
from benchmarks.report import CORES

REPLICAS = 4
SIMULATED = 300_000
TTL = 5.0
READY_S = 2.0
"""Time for load generators to start, before they begin together."""
POLL_S = 0.02
PATIENCE_S = 60.0
QUANTILES = (0.5, 0.9, 0.99)
LOOK_LINE = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) .*GET /api/2.0/mlflow/registered-models/get\?", re.MULTILINE)


def computed(costs: Costs, rate: float, replicas: int) -> dict[str, Any]:
    """Quantiles and mean in ms at so many requests a second for all replicas, on shared cores.

    Beside them the mean by Pollaczek and Khinchine, for a core to each and no stalls.
    """
    generator, row = np.random.default_rng(1), costs.row
    requests = requests_of(costs, rate, SIMULATED, replicas, Mix(), generator, shared=True)
    ms = 1e3 * simulate_on(CORES, replicas, requests)[requests.place < 0] + 1e-3 * row.base_us
    wait = mean_wait_of_one(rate / replicas, 1e-6 * np.array(row.loop_us))
    return {
        "ms": np.quantile(ms, QUANTILES).tolist(),
        "mean_ms": float(ms.mean()),
        "formula_mean_ms": 1e3 * (wait + row.loop_s) + 1e-3 * row.base_us,
    }


def as_noisy(costs: Costs, peer: Peer, what: Asked, seconds: float) -> Costs:
    """The costs with the delays and stalls that the machine has now, which other work on it changes."""
    row = costs.row
    delays = probe(peer, what, row.saturation_per_s, seconds)
    base = max(0.0, delays.middle_us - 1e6 * row.loop_s)
    row = msgspec.structs.replace(row, base_us=base, stalls_per_s=delays.stalls_per_s, stalls_ms=delays.stalls_ms)
    return msgspec.structs.replace(costs, row=row)


def offered(peers: list[Peer], what: Asked, rate: float, seconds: float) -> list[Record]:
    """Records of loads that are offered to all replicas at once, `rate` requests a second in all."""
    with ExitStack() as stack:
        begin = time.monotonic() + READY_S
        plans = [
            open_plan(peer, what, rate / len(peers), seconds, seed, begin=begin) for seed, peer in enumerate(peers)
        ]
        return [started.record() for started in [stack.enter_context(running(plan)) for plan in plans]]


def measured(records: list[Record]) -> dict[str, Any]:
    """Figures of the time in which all generators sent requests."""
    start = max(record.due[0] for record in records)
    end = min(record.due[-1] for record in records)
    if start >= end:
        raise PeerError("the load generators did not send at the same time: this machine is too busy")
    taken, late = [], []
    for record in records:
        within = (record.due >= start) & (record.due <= end)
        assert record.ok()[within].all()
        taken.append(1e3 * (record.answered - record.due)[within])
        late.append(1e3 * (record.sent - record.due)[within])
    ms = np.concatenate(taken)
    return {
        "requests": len(ms),
        "per_s": len(ms) / (end - start),
        "ms": np.quantile(ms, QUANTILES).tolist(),
        "mean_ms": float(ms.mean()),
        "sent_late_ms": np.quantile(np.concatenate(late), QUANTILES).tolist(),
        "generator_cpu": sum(record.cpu_share for record in records),
    }


def latency(peers: list[Peer], what: Asked, costs: Costs, shares: list[float], seconds: float) -> list[dict[str, Any]]:
    """Quantiles computed and measured, at shares of what one process can answer."""
    rows: list[dict[str, Any]] = []
    for share in shares:
        rate = share * costs.row.saturation_per_s
        seen = measured(offered(peers, what, rate, seconds))
        rows.append(
            {
                "replicas": len(peers),
                "share": share,
                "measured": seen,
                "computed": computed(costs, seen["per_s"], len(peers)),
            }
        )
        print(f"{len(peers)} processes, {rate:,.0f} requests/s", flush=True)
    return rows


def settle(peers: list[Peer]) -> None:
    """Wait until each replica, which serves the model of an earlier process at first, has looked into the registry."""
    deadline = time.monotonic() + PATIENCE_S
    with httpx.Client(timeout=30, trust_env=False) as asking:
        for peer in peers:
            while asking.get(f"{peer.url}/health/model").json()["last_refresh"] is None:
                if time.monotonic() > deadline:
                    raise PeerError(f"a replica has not looked into the registry within {PATIENCE_S} s")
                time.sleep(POLL_S)


def looks(registry: Peer, costs: Costs, seconds: int) -> dict[str, Any]:
    """Looks a second of running replicas in the registry's log, and as computed."""
    assert registry.log is not None
    before = len(registry.log.read_text())
    time.sleep(seconds)
    seen = LOOK_LINE.findall(registry.log.read_text()[before:])
    by_second = np.array([seen.count(second) for second in set(seen)])
    plan = Looks(REPLICAS, TTL, SOONER, starts_within=TTL, before=costs.look.warm_seconds, answer=costs.look.registry_s)
    expected = look(plan, 100 * seconds).by_second[seconds:]
    return {
        "seconds": seconds,
        "measured": {"mean": len(seen) / seconds, "peak": int(by_second.max(initial=0))},
        "computed": {"mean": float(expected.mean()), "peak": int(expected.max()), "formula": plan.mean},
    }


def rollout(peers: list[Peer], registry: Peer, versions: tuple[str, str], costs: Costs, moves: int) -> dict[str, Any]:
    """Seconds from a move of the alias until each replica serves the other version, and as computed."""
    client, taken = MlflowClient(registry.url, registry.url), list[float]()
    with httpx.Client(timeout=30, trust_env=False) as asking:
        for move in range(moves):
            version = versions[(move + 1) % 2]
            time.sleep(np.random.default_rng(move).uniform(0, TTL))
            client.set_registered_model_alias(MODEL_NAME, ALIAS, version)
            begun, waiting = time.monotonic(), [*peers]
            while waiting and time.monotonic() < begun + PATIENCE_S:
                for peer in [*waiting]:
                    model = asking.get(f"{peer.url}/predict/model/info").json()
                    if model["version"] == version:
                        taken.append(time.monotonic() - begun)
                        waiting.remove(peer)
                time.sleep(POLL_S)
            print(f"move {move + 1} of {moves}", flush=True)
    looking = costs.look
    told = look(
        Looks(
            50 * REPLICAS, TTL, SOONER, starts_within=TTL, before=looking.warm_seconds, answer=0.0,
            changes=(10 * TTL, 20 * TTL, 30 * TTL),
        ),
        int(40 * TTL),
    ).told  # fmt: skip
    expected = rolled_out(told, 0.0, looking.swap_s)
    return {
        "replicas": len(taken),
        "measured": {"mean": float(np.mean(taken)), "most": max(taken)},
        "computed": {"mean": float(expected.mean()), "most": float(expected.max())},
    }
