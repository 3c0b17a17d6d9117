"""What is computed beside what is measured: one process, four processes, their looks, and a rollout.

Each replica has a load generator of its own, whose Poisson arrivals are as those of a balancer that chooses at random.
One process has a core for itself, and its generator the other one. Four processes and their generators share all cores.
Either way the computation takes the machine as it was in the run that it is compared with: the processor time of a
request, and the pauses of the cores. No latency goes into it.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
from mlflow import MlflowClient

from app.models.refresh.keeper import SOONER
from app.models.registry.publish import ALIAS
from benchmarks.contenders import MODEL_NAME, Peer
from benchmarks.fleet.arrivals import poisson
from benchmarks.fleet.cores import Machine, Work, cold_work, simulate_on
from benchmarks.fleet.costs import Costs, difference, threads_of
from benchmarks.fleet.queues import mean_wait_of_one
from benchmarks.fleet.registry import Looks
from benchmarks.fleet.registry import simulate as look
from benchmarks.fleet.replicas import small
from benchmarks.fleet.scaling import rolled_out
from benchmarks.load.closed_loop import Asked
from benchmarks.load.open_loop import open_plan
from benchmarks.load.plan import Record, running
from benchmarks.peers.process import PeerError
from benchmarks.report import CORES

REPLICAS = 4
SIMULATED = 200_000
USES = (0.3, 0.5, 0.7, 0.85)
"""Shares of the replicas' cores that are aimed at. Above them a queue grows as long as the load lasts."""
FIRST_RATE = 300.0
FIRST_CORE = 0
CONNECTIONS = 512
"""More than are ever busy, so that no request waits for a connection."""
TTL = 5.0
READY_S = 2.0
"""Time for load generators to start, before they begin together."""
POLL_S = 0.02
PATIENCE_S = 60.0
QUANTILES = (0.5, 0.9, 0.99)
LOOK_LINE = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) .*GET /api/2.0/mlflow/registered-models/get\?", re.MULTILINE)


class Seen(NamedTuple):
    """A load on all replicas.

    Attributes:
        records: Record of each generator.
        work: Processor time of a request. Interrupts count as other threads.
        rest: Cores that were busy with something else.
        pauses_per_s: Pauses a second of each core.
        pauses_ms: Their lengths.
    """

    records: list[Record]
    work: Work
    rest: float
    pauses_per_s: float
    pauses_ms: tuple[float, ...]


@contextmanager
def beside(core: int, peers: list[Peer]) -> Generator[None, None, None]:
    """Keep the replicas' threads off a core, until the context ends."""
    everywhere = os.sched_getaffinity(0)

    def allow(cores: set[int]) -> None:
        for peer in peers:
            for thread in peer.worker().threads():
                with suppress(ProcessLookupError):  # it has ended
                    os.sched_setaffinity(thread.id, cores)

    allow(everywhere - {core})
    try:
        yield
    finally:
        allow(everywhere)


def offered(peers: list[Peer], what: Asked, rate: float, seconds: float, *, apart: bool) -> Seen:
    """Offer loads to all replicas at once, `rate` requests a second in all.

    Generators have real-time priority, if that is allowed: their clients are elsewhere, so no replica keeps them from
    sending.
    """
    pids = [peer.worker().pid for peer in peers]
    with ExitStack() as stack:
        if apart:
            stack.enter_context(beside(FIRST_CORE, peers))
        begin = time.monotonic() + READY_S
        plans = [
            open_plan(peer, what, rate / len(peers), seconds, seed, begin=begin, connections=CONNECTIONS)
            for seed, peer in enumerate(peers)
        ]
        started = [stack.enter_context(running(plan)) for plan in plans]
        for one in started:
            with suppress(PermissionError):
                os.sched_setscheduler(one.process.pid, os.SCHED_FIFO, os.sched_param(1))
            if apart:
                os.sched_setaffinity(one.process.pid, {FIRST_CORE})
        time.sleep(max(0.0, begin - time.monotonic()))
        watching = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fleet.pauses", str(core), f"{seconds:g}"], stdout=subprocess.PIPE
            )
            for core in sorted(os.sched_getaffinity(0))
        ]
        machine, used = psutil.cpu_times(), threads_of(*pids)
        time.sleep(seconds)
        machine, used = difference(psutil.cpu_times(), machine), difference(threads_of(*pids), used)
        records = [one.record() for one in started]
        pauses = [pause for one in watching for pause in json.loads(one.communicate()[0])]
    count = sum(len(record.due) for record in records)
    generators = sum(record.cpu_share * record.seconds for record in records)
    work = Work(
        *(1e6 * spent / count for spent in (generators, used.others + machine.irq + machine.softirq, used.loop))
    )
    rest = max(0.0, machine.user + machine.nice + machine.system - generators - sum(used)) / seconds
    return Seen(records, work, rest, len(pauses) / seconds / len(watching), tuple(pauses))


def measured(seen: Seen) -> dict[str, Any]:
    """Figures of the time in which all generators sent requests."""
    start = max(record.due[0] for record in seen.records)
    end = min(record.due[-1] for record in seen.records)
    if start >= end:
        raise PeerError("the load generators did not send at the same time: this machine is too busy")
    taken, late = [], []
    for record in seen.records:
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
        "work_us": list(seen.work),
        "rest": seen.rest,
        "paused": seen.pauses_per_s * 1e-3 * float(np.mean(seen.pauses_ms or 0.0)),
    }


def computed(costs: Costs, seen: Seen, machine: Machine, rate: float) -> dict[str, Any]:
    """Quantiles and mean in ms at so many requests a second for all replicas.

    Beside them the mean by Pollaczek and Khinchine, for event loops with cores of their own, which are never away.
    """
    generator, row = np.random.default_rng(1), costs.row
    hot = Work(*(min(least, taken) for least, taken in zip(row.hot, seen.work, strict=True)))
    loop = hot.loop * generator.choice(np.array(row.loop_us) / np.mean(row.loop_us), SIMULATED)
    requests = small(poisson(rate, SIMULATED, generator), 1e-6 * loop)
    seconds, _ = simulate_on(machine, requests, cold_work(machine, requests, seen.work, hot), hot)
    ms = 1e3 * seconds
    wait = mean_wait_of_one(rate / machine.replicas, 1e-6 * np.array(row.loop_us))
    return {
        "ms": np.quantile(ms, QUANTILES).tolist(),
        "mean_ms": float(ms.mean()),
        "formula_mean_ms": 1e3 * (wait + row.loop_s) + 1e-3 * row.base_us,
    }


def latency(peers: list[Peer], what: Asked, costs: Costs, seconds: float, *, apart: bool) -> list[dict[str, Any]]:
    """Quantiles computed and measured, at growing use of the replicas' cores.

    A rate follows from what a request took at the one before. It takes less at a higher one, so the use that is reached
    is below what was aimed at.
    """
    rows: list[dict[str, Any]] = []
    cores = CORES - 1 if apart else CORES
    work = offered(peers, what, FIRST_RATE, seconds, apart=apart).work
    for use in USES:
        rate = use * cores / (1e-6 * (sum(work) - apart * work.generator))
        seen = offered(peers, what, rate, seconds, apart=apart)
        work, figures = seen.work, measured(seen)
        machine = Machine(cores, len(peers), apart, seen.pauses_per_s, seen.pauses_ms)
        rows.append(
            {
                "replicas": len(peers),
                "use": 1e-6 * figures["per_s"] * (sum(work) - apart * work.generator) / cores,
                "measured": figures,
                "computed": computed(costs, seen, machine, figures["per_s"]),
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
