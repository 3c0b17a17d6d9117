"""Closed forms of queueing theory, which the simulation is compared with.

L. Kleinrock, "Queueing Systems", volume 1, 1975: M/G/1 in section 5.6, M/M/m in section 3.5.
"""

import math

import numpy as np
from numpy.typing import NDArray


def mean_wait_of_one(rate: float, services: NDArray[np.float64]) -> float:
    """Mean wait in seconds before one server with Poisson arrivals (M/G/1), by Pollaczek and Khinchine.

    Args:
        rate: Arrivals a second.
        services: float64[N], equally likely times of service in seconds.
    """
    load = rate * float(services.mean())
    return rate * float(np.square(services).mean()) / (2 * (1 - load)) if load < 1 else math.inf


def mean_wait_of_several(rate: float, service: float, servers: int) -> float:
    """Mean wait in seconds before several servers with one queue and exponential times of service (M/M/m), by Erlang.

    Args:
        rate: Arrivals a second.
        service: Mean time of service in seconds.
        servers: Number of servers.
    """
    offered = rate * service
    if offered >= servers:
        return math.inf
    blocked = 1.0  # Erlang's B, server by server
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    waits = servers * blocked / (servers - offered * (1 - blocked))  # Erlang's C
    return waits * service / (servers - offered)
