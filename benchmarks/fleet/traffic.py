"""Requests of a simulation: when they come, what each costs by the measured costs, and the stalls among them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet.arrivals import Bursts, in_bursts, poisson
from benchmarks.fleet.costs import Costs
from benchmarks.fleet.replicas import Outcome, Requests


class Mix(NamedTuple):
    """Kind of traffic.

    Attributes:
        bulk: Share of the requests that are bulk requests; the others have one row.
        bursts: Bursts of the arrivals; None for a steady rate.
    """

    bulk: float = 0.0
    bursts: Bursts | None = None


def requests_of(
    costs: Costs, rate: float, count: int, replicas: int, mix: Mix, generator: np.random.Generator
) -> Requests:
    """Requests in order, with the stalls of each replica among them.

    Args:
        costs: Measured costs, from which each request draws its own.
        rate: Requests a second for all replicas.
        count: Number of requests.
        replicas: Number of replicas.
        mix: Kind of traffic.
        generator: Draws them.
    """
    row, bulk = costs.row, costs.bulk
    come = poisson(rate, count, generator) if mix.bursts is None else in_bursts(rate, count, mix.bursts, generator)
    is_bulk = generator.random(count) < mix.bulk
    loop = 1e-6 * np.where(is_bulk, bulk.loop_us, generator.choice(np.array(row.loop_us), count))
    thread = np.where(is_bulk, 1e-6 * bulk.thread_us, 0.0)
    stalls = generator.poisson(row.stalls_per_s * replicas * come[-1]) if row.stalls_ms else 0
    lengths = 1e-3 * generator.choice(np.array(row.stalls_ms or [0.0]), stalls)
    at = np.concatenate([come, generator.uniform(0, come[-1], stalls)])
    order = np.argsort(at, kind="stable")
    return Requests(
        at[order],
        np.concatenate([loop, lengths])[order],
        np.concatenate([thread, np.zeros(stalls)])[order],
        np.concatenate([np.full(count, -1), generator.integers(0, replicas, stalls)])[order],
    )


def answers(found: Outcome, requests: Requests, costs: Costs, *, bulk: bool) -> tuple[NDArray[np.float64], NDArray]:
    """float64[N] ms from sending to answer, and uint8[N] outcomes, of the bulk requests or of all others."""
    chosen = (requests.place < 0) & ((requests.thread > 0) == bulk)
    return 1e3 * found.seconds[chosen] + 1e-3 * costs.row.base_us, found.status[chosen]
