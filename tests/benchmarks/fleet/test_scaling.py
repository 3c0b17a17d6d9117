"""Times of a fleet: an autoscaler under a growing load, rollouts, and rolling updates."""

import numpy as np
import pytest

from benchmarks.fleet.arrivals import DAY_S, Crowd, crowded, day
from benchmarks.fleet.scaling import Scaler, in_waves, rolled_out, scaled, use_before

PER_REPLICA = 1_000.0
SCALER = Scaler(0.6, pending=20.0, start=10.0)


def test_a_steady_load_changes_nothing() -> None:
    course = scaled(np.full(2_000, 30_000.0), PER_REPLICA, SCALER)
    assert set(course.ready.tolist()) == {50}
    assert course.wait.max() == course.lost.sum() == 0


@pytest.mark.parametrize("times", [1.5, 3.0])
def test_the_formula_says_from_which_use_on_a_crowd_has_to_wait(times: float) -> None:
    crowd = Crowd(times, start=1_000.0, ramp=SCALER.reaction, stays=600.0)
    rates = 60_000.0 * crowded(np.arange(4_000.0), crowd)
    safe = use_before(times, crowd.ramp, SCALER.reaction)
    assert safe == pytest.approx(1 / times)
    assert scaled(rates, PER_REPLICA, SCALER._replace(target=0.98 * safe)).wait.max() == 0
    sudden = 60_000.0 * crowded(np.arange(4_000.0), crowd._replace(ramp=1.0))
    assert scaled(sudden, PER_REPLICA, SCALER._replace(target=min(0.95, 1.2 * safe))).wait.max() > 0


def test_a_slow_growth_needs_less_room_than_a_sudden_one() -> None:
    assert use_before(3.0, 600.0, 60.0) == pytest.approx(1 / 1.2)
    assert use_before(3.0, 30.0, 60.0) == use_before(3.0, 0.0, 60.0) == pytest.approx(1 / 3)


def test_replicas_grow_at_most_to_twice_as_many_and_shrink_after_five_minutes() -> None:
    rates = np.concatenate([np.full(600, 5_000.0), np.full(1_200, 50_000.0), np.full(1_200, 5_000.0)])
    ready = scaled(rates, PER_REPLICA, SCALER).ready
    assert ready[600:630].max() == 9
    assert ready[1_799] == pytest.approx(84, rel=0.1)
    assert ready[1_800 + 250] == ready[1_799]
    assert ready[-1] == pytest.approx(9, abs=1)


def test_beyond_the_connections_requests_are_lost() -> None:
    course = scaled(np.full(100, 10_000.0), PER_REPLICA, SCALER._replace(most=2), most_waiting=500)
    assert course.lost[50] == pytest.approx(8_000.0)
    assert course.wait[50] == pytest.approx(0.5)


def test_a_day_has_its_mean_and_its_crowd() -> None:
    quiet, busy = day(1_000.0, None), day(1_000.0, Crowd(3.0, start=3_600.0))
    assert len(quiet) == DAY_S
    assert quiet.mean() == pytest.approx(1_000.0, rel=0.01)
    assert (busy / quiet).max() == pytest.approx(3.0)
    assert (busy != quiet).sum() == pytest.approx(720, abs=2)


def test_a_rollout_waits_for_downloads_where_they_share_a_store() -> None:
    told = np.zeros(100)
    assert rolled_out(told, download=2.0, load=3.0).tolist() == pytest.approx([2.0 * n + 3.0 for n in range(1, 101)])
    assert rolled_out(told, download=2.0, load=3.0, lanes=100).tolist() == pytest.approx([5.0] * 100)
    spread = np.arange(100) * 10.0
    assert rolled_out(spread, download=2.0, load=3.0).max() == pytest.approx(995.0)


def test_a_rolling_update_goes_in_waves() -> None:
    assert in_waves(100, surge=0.25, ready=10.0, drain=5.0) == 60.0
    assert in_waves(3, surge=0.25, ready=10.0, drain=5.0) == 45.0
