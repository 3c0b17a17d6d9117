"""Replicas that share cores: what theory says of them, threads that sleep, generators, and pauses."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.fleet.arrivals import poisson
from benchmarks.fleet.cores import Machine, Work, cold_work, simulate_on
from benchmarks.fleet.pauses import LEAST_S
from benchmarks.fleet.queues import mean_wait_of_one, mean_wait_of_several
from benchmarks.fleet.replicas import Requests, small
from tests.support import ROOT

COUNT = 200_000
NOTHING = Work(0.0, 0.0, 0.0)


def steady(rate: float, loop: np.ndarray) -> Requests:
    return small(poisson(rate, len(loop), np.random.default_rng(1)), loop)


def test_many_replicas_on_two_cores_wait_longer_than_with_one_line_and_less_than_on_a_core_each() -> None:
    loop = np.random.default_rng(2).exponential(1e-3, COUNT)
    seconds, work = simulate_on(Machine(2, 200), steady(1_200.0, loop), NOTHING, NOTHING)
    wait = float((seconds - loop).mean())
    # The threads before and after the loop wait for a core as well.
    assert mean_wait_of_several(1_200.0, 1e-3, 2) < wait < 3 * mean_wait_of_several(600.0, 1e-3, 1)
    assert work == pytest.approx((0.0, 0.0, 1e6 * loop.mean()))


def test_one_replica_waits_for_its_loop_however_many_cores_there_are() -> None:
    loop = np.full(COUNT, 1e-3)
    seconds, _ = simulate_on(Machine(4, 1), steady(800.0, loop), NOTHING, NOTHING)
    assert float((seconds - loop).mean()) == pytest.approx(mean_wait_of_one(800.0, loop), rel=0.05)


def test_a_request_takes_longer_in_threads_that_have_slept_and_less_the_more_there_are() -> None:
    cold, hot = Work(40.0, 60.0, 400.0), Work(20.0, 30.0, 100.0)
    loop = np.full(20_000, 100e-6)
    alone, work = simulate_on(Machine(2, 1), small(np.arange(20_000) * 0.01, loop), cold, hot)
    assert work == pytest.approx(cold)
    assert alone == pytest.approx(500e-6)
    _, busy = simulate_on(Machine(2, 1), steady(4_000.0, loop), cold, hot)
    assert hot.loop < busy.loop < 0.6 * cold.loop


def test_the_time_in_threads_that_have_slept_follows_from_the_mean() -> None:
    requests, hot = steady(2_000.0, np.full(30_000, 100e-6)), Work(20.0, 30.0, 100.0)
    _, seen = simulate_on(Machine(2, 4), requests, Work(60.0, 90.0, 300.0), hot)
    assert cold_work(Machine(2, 4), requests, seen, hot) == pytest.approx((60.0, 90.0, 300.0), rel=0.05)


def test_a_generator_takes_a_core_from_a_replica_or_has_its_own() -> None:
    requests, work = small(np.array([0.0, 0.01]), np.array([0.5, 0.1])), Work(2_000.0, 0.0, 0.0)
    shared, _ = simulate_on(Machine(1, 2), requests, work, work, seed=2)
    apart, _ = simulate_on(Machine(1, 2, apart=True), requests, work, work, seed=2)
    assert shared.max() == pytest.approx(0.604, abs=1e-6)
    assert apart.max() < shared.max()


def test_threads_take_turns_on_a_core() -> None:
    requests = small(np.array([0.0, 0.0]), np.array([1.0, 0.1]))
    chosen = [simulate_on(Machine(1, 2), requests, NOTHING, NOTHING, seed=seed)[0] for seed in range(8)]
    assert any(short == pytest.approx(0.2, abs=0.01) and long == pytest.approx(1.1) for long, short in chosen)


def test_requests_wait_for_a_core_that_pauses() -> None:
    loop = np.full(COUNT, 100e-6)
    machine = Machine(1, 1, pauses_per_s=10.0, pauses_ms=(5.0,))
    seconds, _ = simulate_on(machine, steady(500.0, loop), NOTHING, NOTHING)
    assert (seconds > 1e-3).mean() == pytest.approx(10.0 * 4e-3, rel=0.3)
    assert seconds.max() < 0.03


def test_pauses_of_a_core_are_those_in_which_the_most_urgent_thread_sleeps_on() -> None:
    # By a process of its own: this one would keep the priority, and what it starts would have it as well.
    command = [sys.executable, "-m", "benchmarks.fleet.pauses", str(min(os.sched_getaffinity(0))), "0.5"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.02)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
    if not found:
        pytest.skip("real-time priority is not allowed here")
    assert max(found) >= 20
    assert min(found) > 1e3 * LEAST_S
