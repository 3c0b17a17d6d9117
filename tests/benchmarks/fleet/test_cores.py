"""Replicas that share cores: what theory says of them, and stalls."""

import numpy as np
import pytest

from benchmarks.fleet.arrivals import poisson
from benchmarks.fleet.cores import simulate_on
from benchmarks.fleet.queues import mean_wait_of_one, mean_wait_of_several
from benchmarks.fleet.replicas import small

COUNT = 300_000


def test_many_replicas_on_two_cores_wait_as_erlang_says() -> None:
    loop = np.random.default_rng(2).exponential(1e-3, COUNT)
    requests = small(poisson(1_600.0, COUNT, np.random.default_rng(1)), loop)
    wait = float((simulate_on(2, 200, requests) - loop).mean())
    assert wait == pytest.approx(mean_wait_of_several(1_600.0, 1e-3, 2), rel=0.08)


def test_one_replica_waits_for_its_loop_however_many_cores_there_are() -> None:
    loop = np.full(COUNT, 1e-3)
    requests = small(poisson(800.0, COUNT, np.random.default_rng(1)), loop, beside=0.5e-3)
    wait = float((simulate_on(2, 1, requests) - loop).mean())
    assert wait == pytest.approx(mean_wait_of_one(800.0, loop), rel=0.05)


def test_a_stall_stops_its_replica_and_no_core() -> None:
    times = np.concatenate([[0.0], 0.1 + 0.001 * np.arange(20)])
    requests = small(times, np.array([0.5] + 20 * [0.001]))._replace(place=np.array([0] + 20 * [-1]))
    found = simulate_on(1, 2, requests)[1:]
    chosen = np.random.default_rng(1).integers(0, 2, 21)[1:]
    assert set(chosen.tolist()) == {0, 1}
    assert (found[chosen == 0] > 0.3).all()
    assert (found[chosen == 1] < 0.03).all()


def test_what_other_threads_do_keeps_a_core_busy() -> None:
    requests = small(np.array([0.0, 0.0]), np.array([1.0, 1.0]), beside=2.0)
    assert sorted(simulate_on(1, 1, requests)) == [1.0, 4.0]
    assert sorted(simulate_on(2, 1, requests)) == [1.0, 2.0]
