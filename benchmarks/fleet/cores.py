"""Replicas and load generators that share the cores of one machine, as those that are measured do.

A replica has two threads, its event loop and one that stands for all others, and a load generator of its own. A request
goes from the generator to the others, to the loop, back to the others, and back to the generator. Each thread does its
jobs in the order in which they come, and sleeps when it has none. The first job after that takes longer: a thread and a
core have to be woken, and caches are cold. So a request takes less of a core the busier its replica is.

Each core has a line, as in Linux. A thread that is woken takes a free core, or else joins the line of the core that it
had last, and no core takes it from there: Linux lets a core that is idle for less than half a millisecond pull nothing.
A thread keeps its core until it sleeps, or until its slice is over while others are in line (with ticks of 4 ms). A
generator takes a core at once, as one with real-time priority does. In a pause, which the hypervisor makes, a core does
nothing.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.fleet.replicas import Requests

SLICE_S = 4e-3
TINY_S = 1e-10
ROLES = (0, 1, 2, 1, 0)
"""Thread of each stage of a request: 0 the generator, 1 the other threads, 2 the event loop."""
SHARES = (0.5, 2 / 3, 1.0, 1 / 3, 0.5)
"""Share of a thread's time that a stage takes. Of Granian's threads two work before the loop, and one of them after."""
LOOP = 2
TRIED = 30_000
ROUNDS = 8


class Work(NamedTuple):
    """Processor time of a request in µs: of its load generator, of the event loop, and of everything else."""

    generator: float
    others: float
    loop: float


class Machine(NamedTuple):
    """Cores, and what runs on them.

    Attributes:
        cores: Number of cores for the replicas.
        replicas: Number of replicas.
        apart: Whether each load generator has a core of its own beside them.
        pauses_per_s: Pauses a second of each core.
        pauses_ms: Their lengths, equally likely.
    """

    cores: int
    replicas: int
    apart: bool = False
    pauses_per_s: float = 0.0
    pauses_ms: tuple[float, ...] = ()


def simulate_on(
    machine: Machine, requests: Requests, cold: Work, hot: Work, seed: int = 1
) -> tuple[NDArray[np.float64], Work]:
    """Seconds from when each request was due to its answer, float64[N], and what a request takes in the mean.

    Args:
        machine: Where they are answered, by a replica that is chosen at random.
        requests: The requests: no bulk, no stalls. Their `loop` is the time in an event loop that does not sleep.
        cold: Time of a request in threads that have slept before each stage.
        hot: The same in threads that never sleep.
        seed: Seed of the choices and pauses.
    """
    generator, count = np.random.default_rng(seed), len(requests.arrivals)
    chosen = generator.integers(0, machine.replicas, count)
    places = machine.cores + machine.replicas * machine.apart
    end = 2 * requests.arrivals[-1]
    pauses = generator.poisson(places * machine.pauses_per_s * end) if machine.pauses_ms else 0
    at, where = np.sort(generator.uniform(0, end, pauses)), generator.integers(0, places, pauses)
    lengths = 1e-3 * generator.choice(np.array(machine.pauses_ms or (0.0,)), pauses)
    busy, woken = (
        np.array([1e-6 * work[role] * share for role, share in zip(ROLES, SHARES, strict=True)]) for work in (hot, cold)
    )
    seconds, spent = _simulate(
        requests.arrivals, chosen, requests.loop, busy, np.maximum(woken - busy, 0.0), at, where, lengths,
        machine.cores, places, machine.replicas,
    )  # fmt: skip
    return seconds, Work(*(1e6 * spent[np.array(ROLES) == role].sum() / count for role in range(3)))


def cold_work(machine: Machine, requests: Requests, seen: Work, hot: Work) -> Work:
    """Time of a request in threads that have slept, such that requests take as much as was `seen` in the mean."""
    few = Requests(*(part[:TRIED] for part in requests))
    cold = seen
    for _ in range(ROUNDS):
        _, taken = simulate_on(machine, few, cold, hot)
        slept = [(one - least) / max(more - least, 1e-9) for one, least, more in zip(taken, hot, cold, strict=True)]
        cold = Work(
            *(
                max(least, more + (wanted - one) / max(share, 0.1))
                for more, wanted, one, least, share in zip(cold, seen, taken, hot, slept, strict=True)
            )
        )
    return cold


@njit(cache=True)
def _simulate(arrivals, chosen, loop, busy, more, at, where, lengths, cores, places, replicas):
    count, threads, stages = len(arrivals), 3 * replicas, len(busy)
    seconds, spent, stage = np.zeros(count), np.zeros(stages), np.zeros(count, np.int64)
    following, heads, tails = np.full(count, -1), np.full(threads, -1), np.full(threads, -1)
    rest = np.zeros(threads)  # of the job that a thread does
    runs, since, turn, ends = np.full(places, -1), np.zeros(places), np.zeros(places), np.full(places, np.inf)
    paused = np.zeros(places)
    lines, first, lined = np.zeros((cores, threads), np.int64), np.zeros(cores, np.int64), np.zeros(cores, np.int64)
    home = np.arange(threads) % cores
    come, pause, left = 0, 0, count
    while left:
        core, job = np.argmin(ends), -1
        due = arrivals[come] if come < count else np.inf
        if pause < len(at) and at[pause] <= min(due, ends[core]):
            core, length = where[pause], lengths[pause]
            paused[core] = max(at[pause], paused[core]) + length
            if runs[core] >= 0:
                since[core] += length
                turn[core] += length
                ends[core] += length
            pause += 1
            continue
        if due <= ends[core]:
            now, job = due, come
            come += 1
        else:
            now, thread = ends[core], runs[core]
            rest[thread] -= now - since[core]
            since[core] = now
            if rest[thread] < TINY_S:
                done = heads[thread]
                heads[thread], following[done] = following[done], -1
                stage[done] += 1
                if stage[done] == stages:
                    seconds[done] = now - arrivals[done]
                    left -= 1
                else:
                    job = done
                if heads[thread] >= 0:
                    rest[thread] = _cost(heads[thread], stage, busy, loop, spent)
            is_over = now - turn[core] > SLICE_S - TINY_S
            if heads[thread] < 0 or (is_over and core < cores and lined[core]):
                if heads[thread] >= 0:
                    lines[core, (first[core] + lined[core]) % threads] = thread
                    lined[core] += 1
                runs[core], ends[core] = -1, np.inf
            else:
                turn[core] = now if is_over else turn[core]
                ends[core] = min(now + rest[thread], turn[core] + SLICE_S)
        if job >= 0:
            thread = 3 * chosen[job] + ROLES[stage[job]]
            if heads[thread] >= 0:
                following[tails[thread]] = job
            else:
                heads[thread] = job
                rest[thread] = _cost(job, stage, busy, loop, spent) + more[stage[job]]
                spent[stage[job]] += more[stage[job]]
                is_generator = thread % 3 == 0
                place = cores + chosen[job] if is_generator and places > cores else _place(runs[:cores], is_generator)
                if place < 0:
                    core = home[thread]
                    lines[core, (first[core] + lined[core]) % threads] = thread
                    lined[core] += 1
                else:
                    if runs[place] >= 0:  # it goes on before all others
                        rest[runs[place]] -= max(0.0, now - since[place])
                        first[place] = (first[place] - 1) % threads
                        lines[place, first[place]] = runs[place]
                        lined[place] += 1
                    if place < cores:
                        home[thread] = place
                    _start(place, thread, now, rest, runs, since, turn, ends, paused)
            tails[thread] = job
        for core in range(cores):
            if lined[core] and runs[core] < 0:
                _start(core, lines[core, first[core]], now, rest, runs, since, turn, ends, paused)
                first[core] = (first[core] + 1) % threads
                lined[core] -= 1
    return seconds, spent


@njit(cache=True)
def _cost(job, stage, busy, loop, spent):
    """Time of a job in a thread that has not slept."""
    cost = loop[job] if stage[job] == LOOP else busy[stage[job]]
    spent[stage[job]] += cost
    return cost


@njit(cache=True)
def _place(runs, is_generator):
    """Core for a thread that was woken: a free one; for a generator one without a generator; -1 if there is none."""
    found = -1
    for core in range(len(runs)):
        if runs[core] < 0:
            return core
        if is_generator and runs[core] % 3:
            found = core
    return found


@njit(cache=True)
def _start(core, thread, now, rest, runs, since, turn, ends, paused):
    begin = max(now, paused[core])
    runs[core], since[core], turn[core] = thread, begin, begin
    ends[core] = begin + min(rest[thread], SLICE_S)
