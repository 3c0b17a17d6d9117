"""Replicas behind balancers, request by request.

A replica is one process, with a core for each of its threads. An event loop serves its requests one after the other in
the order of their arrival; a bulk request goes on to a pool of threads. It refuses as the service does:

- A small request is refused while the least wait of the small requests that the loop began within a tenth of a second,
  at least `LEAST_BODIES` of them, was longer than `longest_wait` (app/serving/gate.py). That takes as long as a share
  of its answer.
- A bulk request is refused if it would wait for a thread longer than `longest_wait` and than its own work takes
  (app/serving/admission.py, with the true wait in place of the estimated one).
- A request that has waited for `deadline` is answered with 504, and nothing is computed for it.

In front of it, a balancer answers by itself with 503 where a replica has `most` requests under way: that many
connections it keeps to each.

Requests are handled in the order of arrival, so the begin of each follows from what came before (D. V. Lindley, 1952,
for one server; J. Kiefer and J. Wolfowitz, 1955, for several). No clock ticks.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

ROUND_ROBIN, RANDOM, TWO_CHOICES, LEAST = range(4)
"""How a balancer chooses: in turns; at random; of two at random the one with fewer of its own requests under way
(M. Mitzenmacher, 1996); of all the one with the fewest."""
ANSWERED, REFUSED, LATE, TURNED_AWAY = range(4)
"""Outcomes of a request: 200, 503, 504, and 503 by the balancer."""
WINDOW_S = 0.1
LEAST_BODIES = 20


class Fleet(NamedTuple):
    """Replicas and balancers.

    Attributes:
        replicas: Number of replicas.
        threads: Threads of each for bulk requests.
        policy: How a balancer chooses.
        balancers: Number of balancers, each of which knows of its own requests only.
        longest_wait: LONGEST_WAIT in seconds.
        deadline: REQUEST_TIMEOUT in seconds.
        refusal: Time of a refusal as a share of the time of an answer.
        most: Most requests under way in a replica.
    """

    replicas: int
    threads: int = 2
    policy: int = TWO_CHOICES
    balancers: int = 1
    longest_wait: float = 0.5
    deadline: float = 30.0
    refusal: float = 1.0
    most: int = 1024


class Requests(NamedTuple):
    """Requests in the order of their arrival.

    Attributes:
        arrivals: float64[N], seconds.
        loop: float64[N], seconds of each on the event loop.
        thread: float64[N], seconds of each in a thread; 0 for a small one.
        place: int64[N], the replica of what is no request but stops a replica for its time; -1 for a request.
    """

    arrivals: NDArray[np.float64]
    loop: NDArray[np.float64]
    thread: NDArray[np.float64]
    place: NDArray[np.int64]


def small(arrivals: NDArray[np.float64], loop: NDArray[np.float64]) -> Requests:
    """Requests of which none is a bulk request."""
    count = len(arrivals)
    return Requests(arrivals, loop, np.zeros(count), np.full(count, -1))


class Outcome(NamedTuple):
    """Outcome of all requests.

    Attributes:
        seconds: float64[N], from arrival to answer.
        status: uint8[N], one of the outcomes.
        busy: float64[R], share of the time in which each replica's loop was busy.
    """

    seconds: NDArray[np.float64]
    status: NDArray[np.uint8]
    busy: NDArray[np.float64]


def simulate(fleet: Fleet, requests: Requests, seed: int = 1) -> Outcome:
    """What becomes of the requests in a fleet that is idle at first."""
    limits = fleet.longest_wait, fleet.deadline, fleet.refusal, fleet.most
    seconds, status, work = _simulate(
        requests.arrivals, requests.loop, requests.thread, requests.place, fleet.replicas,
        fleet.threads, fleet.policy, fleet.balancers, limits, seed,
    )  # fmt: skip
    span = requests.arrivals[-1] - requests.arrivals[0] if len(requests.arrivals) > 1 else 1.0
    return Outcome(seconds, status, work / span)


@njit(cache=True)
def _simulate(arrivals, loop, thread, place, replicas, threads, policy, balancers, limits, seed):
    np.random.seed(seed)
    longest_wait, deadline, refusal, most = limits
    count = len(arrivals)
    seconds, status, work = np.empty(count), np.empty(count, np.uint8), np.zeros(replicas)
    loop_free, thread_free = np.zeros(replicas), np.zeros((replicas, threads))
    # The gate of each replica: end of its window, bodies and least wait in it, and the wait that is known.
    window_ends, bodies = np.full(replicas, -np.inf), np.zeros(replicas, np.int64)
    least, known_wait = np.full(replicas, np.inf), np.zeros(replicas)
    under_way, turn = np.zeros((balancers, replicas), np.int64), np.zeros(balancers, np.int64)
    held = np.zeros(replicas, np.int64)
    ends, places, waiting = np.empty(count + 1), np.empty(count + 1, np.int64), 0
    for number in range(count):
        now = arrivals[number]
        while waiting and ends[0] <= now:
            under_way[places[0] // replicas, places[0] % replicas] -= 1
            held[places[0] % replicas] -= 1
            waiting -= 1
            _sink(ends, places, waiting)
        if place[number] >= 0:
            loop_free[place[number]] = max(now, loop_free[place[number]]) + loop[number]
            seconds[number], status[number] = loop[number], ANSWERED
            continue
        balancer = np.random.randint(balancers) if balancers > 1 else 0
        chosen = _choose(policy, under_way[balancer], turn[balancer] + balancer * replicas // balancers)
        turn[balancer] += 1
        if held[chosen] >= most:
            seconds[number], status[number] = 0.0, TURNED_AWAY
            continue
        begin = max(now, loop_free[chosen])
        wait, taken, outcome, is_bulk = begin - now, loop[number], ANSWERED, thread[number] > 0
        idle = _first(thread_free[chosen]) if is_bulk else 0
        if wait > deadline:
            outcome = LATE
        elif is_bulk:
            if thread_free[chosen, idle] - begin > max(longest_wait, thread[number]):
                outcome = REFUSED
        elif begin <= window_ends[chosen] and known_wait[chosen] > longest_wait:
            outcome = REFUSED
        if outcome != ANSWERED:
            taken *= refusal
        elif not is_bulk:
            if begin > window_ends[chosen]:
                is_known = begin <= window_ends[chosen] + WINDOW_S and bodies[chosen] >= LEAST_BODIES
                known_wait[chosen] = least[chosen] if is_known else 0.0
                window_ends[chosen], bodies[chosen], least[chosen] = begin + WINDOW_S, 0, np.inf
            bodies[chosen] += 1
            least[chosen] = min(least[chosen], wait)
        end = begin + taken
        loop_free[chosen] = end
        work[chosen] += taken
        if is_bulk and outcome == ANSWERED:
            end = max(end, thread_free[chosen, idle]) + thread[number]
            thread_free[chosen, idle] = end
        seconds[number], status[number] = end - now, outcome
        under_way[balancer, chosen] += 1
        held[chosen] += 1
        _rise(ends, places, waiting, end, balancer * replicas + chosen)
        waiting += 1
    return seconds, status, work


@njit(cache=True)
def _choose(policy, under_way, turn):
    replicas = len(under_way)
    if policy == ROUND_ROBIN:
        return turn % replicas
    chosen = np.random.randint(replicas)
    if policy == TWO_CHOICES:
        other = np.random.randint(replicas)
        return other if under_way[other] < under_way[chosen] else chosen
    if policy == LEAST:
        for step in range(1, replicas):
            other = (chosen + step) % replicas
            if under_way[other] < under_way[chosen]:
                chosen = other
    return chosen


@njit(cache=True)
def _first(times):
    """Index of the least of a few times."""
    first = 0
    for place in range(1, len(times)):
        if times[place] < times[first]:
            first = place
    return first


@njit(cache=True)
def _rise(ends, places, size, end, place):
    """Add an end to a binary heap of `size` ends."""
    at = size
    while at and ends[(at - 1) // 2] > end:
        ends[at], places[at] = ends[(at - 1) // 2], places[(at - 1) // 2]
        at = (at - 1) // 2
    ends[at], places[at] = end, place


@njit(cache=True)
def _sink(ends, places, size):
    """Remove the first end of a binary heap, of which `size` are left."""
    end, place, at = ends[size], places[size], 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and ends[child + 1] < ends[child]:
            child += 1
        if ends[child] >= end:
            break
        ends[at], places[at] = ends[child], places[child]
        at = child
    ends[at], places[at] = end, place
