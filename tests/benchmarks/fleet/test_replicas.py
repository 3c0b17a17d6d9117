"""The simulation of replicas: what theory says of it, how balancers choose, and how replicas refuse."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.fleet.arrivals import Bursts, in_bursts, poisson
from benchmarks.fleet.queues import mean_wait_of_one, mean_wait_of_several
from benchmarks.fleet.replicas import (
    ANSWERED,
    LATE,
    LEAST,
    RANDOM,
    REFUSED,
    ROUND_ROBIN,
    TURNED_AWAY,
    TWO_CHOICES,
    Fleet,
    Requests,
    simulate,
    small,
)

COUNT = 300_000


def steady(rate: float, count: int = COUNT, seed: int = 1) -> NDArray[np.float64]:
    return poisson(rate, count, np.random.default_rng(seed))


def bulk(arrivals: NDArray[np.float64], loop: NDArray[np.float64], thread: NDArray[np.float64]) -> Requests:
    return small(arrivals, loop)._replace(thread=thread)


@pytest.mark.parametrize("load", [0.3, 0.8])
@pytest.mark.parametrize("services", [[1e-3], [0.5e-3, 0.5e-3, 4e-3]])
def test_one_replica_waits_as_pollaczek_and_khinchine_say(load: float, services: list[float]) -> None:
    possible = np.array(services)
    rate = load / float(possible.mean())
    loop = np.random.default_rng(2).choice(possible, COUNT)
    found = simulate(Fleet(1), small(steady(rate), loop))
    assert float((found.seconds - loop).mean()) == pytest.approx(mean_wait_of_one(rate, possible), rel=0.05)
    assert float(found.busy[0]) == pytest.approx(load, rel=0.01)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_pool_of_threads_waits_as_erlang_says(threads: int) -> None:
    service, rate, count = 1e-3, 0.8 * threads / 1e-3, 4 * COUNT
    thread = np.random.default_rng(2).exponential(service, count)
    found = simulate(Fleet(1, threads=threads, longest_wait=np.inf), bulk(steady(rate, count), np.zeros(count), thread))
    wait = float((found.seconds - thread).mean())
    assert wait == pytest.approx(mean_wait_of_several(rate, service, threads), rel=0.05)


def test_the_closed_forms_are_those_of_the_books() -> None:
    assert mean_wait_of_one(0.5, np.array([1.0])) == pytest.approx(0.5)  # M/D/1: half of M/M/1's
    assert mean_wait_of_several(0.5, 1.0, 1) == pytest.approx(1.0)
    assert mean_wait_of_several(1.5, 1.0, 2) == pytest.approx(1.2857, rel=1e-4)  # Erlang's C is 0.6429
    assert mean_wait_of_one(1.0, np.array([1.0])) == mean_wait_of_several(2.0, 1.0, 2) == np.inf


def waits(policy: int, balancers: int = 1, load: float = 0.9) -> float:
    """Mean wait before ten replicas, in times of service."""
    loop = np.ones(COUNT)
    fleet = Fleet(10, policy=policy, balancers=balancers, longest_wait=np.inf, deadline=np.inf)
    return float((simulate(fleet, small(steady(10 * load), loop)).seconds - loop).mean())


def test_balancers_that_know_more_have_requests_wait_less() -> None:
    at_random = waits(RANDOM)
    assert at_random == pytest.approx(mean_wait_of_one(0.9, np.ones(1)), rel=0.15)
    assert waits(LEAST) < waits(TWO_CHOICES) < 0.5 * at_random
    assert waits(ROUND_ROBIN) < 0.5 * at_random


def test_balancers_that_know_of_their_own_requests_only_have_them_wait_longer() -> None:
    at_random = waits(RANDOM)
    assert 2 * waits(ROUND_ROBIN) < waits(ROUND_ROBIN, balancers=100) < at_random
    assert waits(TWO_CHOICES) < waits(TWO_CHOICES, balancers=5) < at_random


def test_small_requests_are_refused_while_all_of_them_wait_long() -> None:
    times = np.arange(20_000) * 0.5e-3  # twice as many as can be answered, for ten seconds
    found = simulate(Fleet(1, most=10**6, refusal=0.0), small(times, np.full(20_000, 1e-3)))
    assert (found.status == REFUSED).sum() > 5_000
    assert 0.5 < found.seconds[found.status == ANSWERED].max() < 0.8
    calm = simulate(Fleet(1), small(times, np.full(20_000, 0.4e-3)))
    assert set(calm.status) == {ANSWERED}


def test_bulk_requests_are_refused_by_the_wait_for_a_thread() -> None:
    times = np.arange(3_000) * 0.05
    found = simulate(Fleet(1, threads=2), bulk(times, np.zeros(3_000), np.full(3_000, 0.2)))
    answered = found.status == ANSWERED
    assert answered[100:].mean() == pytest.approx(0.5, abs=0.01)
    assert found.seconds[answered].max() <= 0.5 + 0.2 + 1e-9
    own = simulate(Fleet(1, threads=1), bulk(np.array([0.0, 0.1, 0.2]), np.zeros(3), np.array([2.0, 2.0, 2.0])))
    assert own.status.tolist() == [ANSWERED, ANSWERED, REFUSED]  # the third would wait longer than its own two seconds


def test_nothing_is_computed_after_the_deadline_and_no_more_are_held_than_there_are_connections() -> None:
    times, loop = np.array([0.0, 0.1, 0.2, 3.0]), np.array([2.0, 2.0, 2.0, 1.0])
    assert simulate(Fleet(1, deadline=2.5, refusal=0.0), small(times, loop)).status.tolist() == [0, 0, LATE, 0]
    assert simulate(Fleet(1, most=2), small(times, loop)).status.tolist() == [0, 0, TURNED_AWAY, 0]


def test_a_stall_stops_one_replica_for_its_time() -> None:
    times = np.array([0.0, 0.0, 0.1, 0.1])
    requests = small(times, np.array([0.5, 0.0, 0.01, 0.01]))._replace(place=np.array([1, -1, -1, -1]))
    found = simulate(Fleet(2, policy=ROUND_ROBIN), requests)
    assert found.seconds[1:].tolist() == pytest.approx([0.0, 0.41, 0.01])


def test_bursts_come_as_often_and_are_as_strong_as_asked_for() -> None:
    bursts = Bursts(times=4.0, share=0.2, seconds=0.5)
    arrivals = in_bursts(2_000.0, COUNT, bursts, np.random.default_rng(1))
    assert COUNT / arrivals[-1] == pytest.approx(2_000.0, rel=0.15)
    rates = 10 * np.histogram(arrivals, np.arange(0, arrivals[-1], 0.1))[0]
    strong = rates > 2_000.0 * (bursts.calm + bursts.peak) / 2
    assert strong.mean() == pytest.approx(0.2, abs=0.07)
    assert np.median(rates[strong]) / np.median(rates[~strong]) == pytest.approx(4.0, rel=0.1)
