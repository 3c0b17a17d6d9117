"""Replicas that share a few cores, as those that are measured on one machine do.

A core that is free takes the request that came first among those whose replica's event loop is free. It is busy for the
request's time on the loop, and then for what other threads and the load generator do for it. A stall stops a replica
and takes no core.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.fleet.replicas import Requests


def simulate_on(cores: int, replicas: int, requests: Requests, seed: int = 1) -> NDArray[np.float64]:
    """float64[N] seconds from arrival to answer, where a balancer chooses at random and nothing is refused.

    Args:
        cores: Number of cores.
        replicas: Number of replicas.
        requests: The requests; none of them is a bulk request.
        seed: Seed of the choices.
    """
    chosen = np.random.default_rng(seed).integers(0, replicas, len(requests.arrivals))
    is_stall = requests.place >= 0
    chosen[is_stall] = requests.place[is_stall]
    following, heads = _lines(chosen, is_stall, replicas)
    return _simulate(
        requests.arrivals, requests.loop, chosen, is_stall, following, heads, requests.beside, cores, replicas
    )


def _lines(
    chosen: NDArray[np.int64], is_stall: NDArray[np.bool_], replicas: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[N], the request after each one in the line of its replica; and int64[R], the first of each; N for none."""
    count = len(chosen)
    following, heads = np.full(count, count), np.full(replicas, count)
    for replica in range(replicas):
        places = np.flatnonzero((chosen == replica) & ~is_stall)
        following[places[:-1]] = places[1:]
        heads[replica] = places[0] if len(places) else count
    return following, heads


@njit(cache=True)
def _simulate(arrivals, loop, chosen, is_stall, following, heads, beside, cores, replicas):
    count = len(arrivals)
    seconds, loop_free, core_free = np.zeros(count), np.zeros(replicas), np.zeros(cores)
    now, come, left = 0.0, 0, count - is_stall.sum()
    while left:
        while come < count and arrivals[come] <= now:
            if is_stall[come]:
                loop_free[chosen[come]] = max(now, loop_free[chosen[come]]) + loop[come]
            come += 1
        core = 0
        for other in range(1, cores):
            if core_free[other] < core_free[core]:
                core = other
        first, wakes = count, arrivals[come] if come < count else np.inf
        for replica in range(replicas):
            if heads[replica] < come:
                if loop_free[replica] <= now:
                    first = min(first, heads[replica])
                else:
                    wakes = min(wakes, loop_free[replica])
        if first < count and core_free[core] <= now:
            replica = chosen[first]
            loop_free[replica] = now + loop[first]
            core_free[core] = loop_free[replica] + beside
            seconds[first] = loop_free[replica] - arrivals[first]
            heads[replica] = following[first]
            left -= 1
        else:
            now = min(wakes, core_free[core]) if first < count else wakes
    return seconds
