"""Replicas, looks, rollouts and growth of fleets of any size, computed from the costs of one replica.

A fleet of more than `SIMULATED_REPLICAS` is computed as one of that many with its share of the requests: with so many,
each replica sees the same whatever the number of the others is (the limit of N. Vvedenskaya, R. Dobrushin and
F. Karpelevich, 1996, for two choices). `same_in_larger_fleets` shows it.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.models.refresh.keeper import SOONER
from benchmarks.fleet.arrivals import Bursts, Crowd, day
from benchmarks.fleet.costs import Costs
from benchmarks.fleet.registry import Looks, even_peak, herd_peak
from benchmarks.fleet.registry import simulate as look
from benchmarks.fleet.replicas import ANSWERED, RANDOM, ROUND_ROBIN, TWO_CHOICES, Fleet, simulate
from benchmarks.fleet.scaling import Scaler, in_waves, rolled_out, scaled, use_before
from benchmarks.fleet.traffic import Mix, answers, requests_of

Row = dict[str, Any]

RATES = (1_000, 10_000, 100_000, 1_000_000)
MIXES = {
    "one row, steady": Mix(),
    "one row, in bursts": Mix(bursts=Bursts()),
    "with bulk, steady": Mix(bulk=0.01),
    "with bulk, in bursts": Mix(bulk=0.01, bursts=Bursts()),
}
POLICIES = {"in turns": ROUND_ROBIN, "at random": RANDOM, "of two the less busy": TWO_CHOICES}
FLEETS = (4, 100, 1_000, 10_000)
TTLS = (60.0, 3_600.0)
SIMULATED_REPLICAS = 32
SEEN_S = 60.0
"""Length of a simulation with bursts, of `IN_BURSTS` replicas."""
IN_BURSTS = 8
REQUESTS = 600_000
PER_BALANCER = 50_000
"""Requests a second of one balancer."""
ANSWERED_SHARE = 0.999
MOST_BUSY = 0.95
"""Share of the time in which event loops may be busy: beyond it a little more load is too much."""
QUANTILES = (0.5, 0.99, 0.999)
STARTS_WITHIN_S = 10.0
DELIVERY_S = 0.002
"""Seconds of an MLflow server for each webhook that it delivers: ten at a time, 20 ms each."""
OUTAGE_S = 1_800.0
CROWDS = (1.5, 2.0, 3.0, 5.0)
RAMPS = (10, 60, 300, 900)
TARGETS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
PENDING_S = {"a machine is there": 10.0, "a machine has to start": 120.0}
SURGE = 0.25
DRAIN_S = 26.0
"""Longest orderly end of a replica with the default settings."""


def seen(costs: Costs, rate: float, replicas: int, mix: Mix, policy: int = TWO_CHOICES, balancers: int = 0) -> Row:
    """Figures of a fleet; of its share where it is larger than what is simulated."""
    simulated = min(replicas, IN_BURSTS if mix.bursts else SIMULATED_REPLICAS)
    share = rate * simulated / replicas
    count = max(REQUESTS, int(SEEN_S * share)) if mix.bursts else REQUESTS
    requests = requests_of(costs, share, count, simulated, mix, np.random.default_rng(1))
    fleet = Fleet(simulated, policy=policy, balancers=balancers or math.ceil(rate / PER_BALANCER))
    found = simulate(fleet, requests)
    ms, status = answers(found, requests, costs, bulk=False)
    bulk_ms, _ = answers(found, requests, costs, bulk=True)
    right = ms[status == ANSWERED]
    return {
        "replicas": replicas,
        "use": float(found.busy.mean()),
        "ms": np.quantile(right, QUANTILES).tolist() if len(right) else [math.inf] * len(QUANTILES),
        "bulk_p99_ms": float(np.quantile(bulk_ms, 0.99)) if len(bulk_ms) else None,
        "answered": float((status == ANSWERED).mean()),
    }


def fewest(costs: Costs, rate: float, mix: Mix, p99_ms: float) -> Row | None:
    """Figures of the smallest fleet in which 99 % of the requests with one row take at most so long.

    None if there is none of up to eight times what the work alone needs.
    """
    per_request = (1 - mix.bulk) * costs.row.loop_s + mix.bulk * 1e-6 * costs.bulk.loop_us
    least = math.ceil(rate * per_request / MOST_BUSY)
    low, high, best = least, 8 * least, None
    while low <= high:
        middle = (low + high) // 2
        figures = seen(costs, rate, middle, mix)
        if figures["ms"][1] <= p99_ms and figures["answered"] >= ANSWERED_SHARE:
            best, high = figures, middle - max(1, middle // 100)
        else:
            low = middle + max(1, middle // 200)
    return best


def replicas(costs: Costs, p99_ms: float) -> list[Row]:
    """The smallest fleet for each rate and kind of traffic."""
    rows: list[Row] = []
    for name, mix in MIXES.items():
        for rate in RATES:
            rows.append({"traffic": name, "rate": rate, "fleet": fewest(costs, rate, mix, p99_ms)})
            print(f"{name}, {rate:,} requests/s", flush=True)
    return rows


def by_use(costs: Costs) -> list[Row]:
    """Figures of 32 replicas at growing use, by how balancers choose; and of other fleets at the same use."""
    top = 1 / costs.row.loop_s
    rows: list[Row] = []
    for name, policy in POLICIES.items():
        for balancers in (1, 20):
            for use in (0.5, 0.7, 0.8, 0.9, 0.95):
                figures = seen(costs, use * top * 32, 32, Mix(), policy, balancers)
                rows.append({"policy": name, "balancers": balancers, "offered": use} | figures)
    return rows


def by_size(costs: Costs, use: float = 0.8) -> list[Row]:
    """p99 in ms of fleets of several sizes at the same use, none of them cut down."""
    top, rows = 1 / costs.row.loop_s, list[Row]()
    for count in (1, 2, 8, 32, 128, 512):
        requests = requests_of(costs, use * top * count, REQUESTS, count, Mix(), np.random.default_rng(1))
        ms, _ = answers(simulate(Fleet(count), requests), requests, costs, bulk=False)
        rows.append({"replicas": count, "ms": np.quantile(ms, QUANTILES).tolist()})
    return rows


def looks_of(costs: Costs, count: int, ttl: float) -> Looks:
    """Replicas that start within ten seconds, and start the model process for each look."""
    look_costs = costs.look
    before = look_costs.seconds - look_costs.warm_seconds
    return Looks(count, ttl, SOONER, STARTS_WITHIN_S, before=before, answer=look_costs.registry_s)


def looks(costs: Costs) -> list[Row]:
    """Looks a second of fleets of several sizes, simulated and by formula; without figures where the registry is full.

    There is no formula where the registry cannot answer all replicas at once in time, so that they ask again.
    """
    rows: list[Row] = []
    for count in FLEETS:
        for ttl in TTLS:
            plan = looks_of(costs, count, ttl)
            figures: Row = {"replicas": count, "ttl": ttl, "busy": plan.busy}
            rows.append(figures)
            if plan.busy >= 1:
                continue
            in_time = count * plan.answer <= plan.timeout
            cases = {
                "together": (plan._replace(jitter=0.0), 3.5, 4.5, 4),
                "first": (plan, 0.5, 1.5, 1),
            }
            for name, (case, start, end, number) in cases.items():
                seen = look(case, int(end * ttl)).by_second[int(start * ttl) :]
                figures[name] = {"simulated": int(seen.max()), "formula": herd_peak(case, number) if in_time else None}
            later = look(plan._replace(starts_within=ttl), int(3 * ttl)).by_second[int(ttl) :]
            figures["mean"] = {"simulated": float(later.mean()), "formula": plan.mean}
            figures["spread"] = {"simulated": int(later.max()), "formula": even_peak(plan.mean, 2 * ttl)}
    return rows


def half_and_all(times: NDArray[np.float64], count: int) -> list[float | None]:
    """The times by which half and all of so many replicas are done; None where they are not in what is simulated."""
    times = np.sort(times)
    return [float(times[done - 1]) if done <= len(times) else None for done in (math.ceil(count / 2), count)]


def outages(costs: Costs, ttl: float = 3_600.0) -> list[Row]:
    """What replicas ask while the registry is away, and when it is back."""
    rows: list[Row] = []
    for count in FLEETS:
        start, end = 1.5 * ttl, 1.5 * ttl + OUTAGE_S
        plan = looks_of(costs, count, ttl)._replace(starts_within=ttl, outages=[(start, end)], changes=[end])
        found = look(plan, int(end + ttl))
        away = found.by_second[int(start) : int(end)]
        back = found.by_second[int(end) : int(end) + 80]
        rows.append({
            "replicas": count, "most_away": int(away.max()), "mean_away": float(away[-300:].mean()),
            "most_back": int(back.max()),
            "known_s": half_and_all(found.told, count),
        })  # fmt: skip
    return rows


def rollouts(costs: Costs) -> list[Row]:
    """Seconds until half of the replicas, and all, answer with a new version."""
    rows: list[Row] = []
    for count in FLEETS:
        for name, ttl, delivery in (
            *((f"a look every {ttl:,.0f} s", ttl, None) for ttl in TTLS),
            ("a webhook to each", TTLS[-1], max(0.1, DELIVERY_S * count)),
        ):
            plan = looks_of(costs, count, ttl)._replace(starts_within=ttl, changes=[2 * ttl], delivery=delivery)
            told = look(plan, int(3.5 * ttl)).told if plan.busy < 1 else np.empty(0)
            ends = rolled_out(told, costs.start.download, costs.start.load)
            rows.append({
                "replicas": count, "told_by": name, "known_s": half_and_all(told, count),
                "answers_s": half_and_all(ends, count),
            })  # fmt: skip
        waves = in_waves(count, SURGE, costs.start.kernels, DRAIN_S)
        rows.append(
            {
                "replicas": count,
                "told_by": "new pods, a quarter at a time",
                "known_s": None,
                "answers_s": [waves / 2, waves],
            }
        )
    return rows


def room(costs: Costs) -> list[Row]:
    """Largest use of a fleet that outlasts a crowd, by its size and ramp and by what a new replica has to wait for."""
    rows: list[Row] = []
    for name, pending in PENDING_S.items():
        for kind, start in (("kernels", costs.start.kernels), ("empty", costs.start.empty)):
            scaler = Scaler(0.6, pending=pending, start=start)
            uses = [[use_before(times, ramp, scaler.reaction) for ramp in RAMPS] for times in CROWDS]
            rows.append({"machine": name, "start": kind, "reaction_s": scaler.reaction, "uses": uses})
    return rows


def days(costs: Costs, mean: float = 100_000.0) -> list[Row]:
    """A day with a flash crowd, by what the autoscaler aims at."""
    per_replica, rows = 1 / costs.row.loop_s, list[Row]()
    crowd = Crowd()
    for target in TARGETS:
        for name, pending in PENDING_S.items():
            scaler = Scaler(target, pending=pending, start=costs.start.kernels)
            rates = day(mean, crowd)
            course = scaled(rates, per_replica, scaler)
            rows.append({
                "target": target, "machine": name, "most": int(course.ready.max()), "least": int(course.ready.min()),
                "replica_hours": float(course.ready.sum() / 3600), "longest_wait_s": float(course.wait.max()),
                "lost": float(course.lost.sum() / rates.sum()),
            })  # fmt: skip
    return rows
