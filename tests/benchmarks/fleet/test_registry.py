"""Look-ups of many replicas: their mean and peak beside the closed forms, webhooks, and an outage."""

import numpy as np
import pytest

from benchmarks.fleet.registry import Looks, even_peak, herd_peak, simulate


def around(looks: Looks, number: int, seconds: int = 7_200) -> int:
    """Most looks in a second around the planned look of this number."""
    middle = number * looks.ttl * (1 - looks.jitter / 2)
    within = slice(int(middle - looks.ttl / 2), int(middle + looks.ttl / 2))
    return int(simulate(looks, seconds).by_second[within].max())


def test_without_jitter_replicas_that_start_together_look_together_for_ever() -> None:
    looks = Looks(1000, ttl=600.0)
    for number in (1, 2, 10):
        assert around(looks, number) == 1000
        assert herd_peak(looks, number) >= 1000


@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_jitter_spreads_them_as_the_closed_form_says(number: int) -> None:
    looks = Looks(1000, ttl=600.0, jitter=0.1)
    assert around(looks, number) == pytest.approx(herd_peak(looks, number), rel=0.25, abs=2)


def test_the_mean_is_the_replicas_over_the_time_between_their_looks() -> None:
    looks = Looks(2000, ttl=300.0, jitter=0.1, starts_within=300.0, before=2.0)
    found = simulate(looks, 6_000).by_second
    assert found[1_000:].mean() == pytest.approx(looks.mean, rel=0.02)
    assert found[1_000:].max() == pytest.approx(even_peak(looks.mean, 5_000), abs=4)


def test_a_registry_that_is_slower_than_the_timeout_is_asked_again_until_all_are_answered() -> None:
    slow = Looks(1000, ttl=3600.0, answer=0.05, timeout=10.0)  # a thousand answers take 50 s
    found = simulate(slow, 1_200)
    assert found.failed > 2_000  # the registry works on looks that nobody waits for any more
    assert found.by_second[900:].sum() == 0
    assert simulate(slow._replace(starts_within=100.0), 1_200).failed == 0


def test_a_webhook_has_every_replica_look_once_and_plan_anew() -> None:
    looks = Looks(500, ttl=3600.0, jitter=0.1, starts_within=3600.0, answer=0.01, changes=[5_000.0], delivery=10.0)
    found = simulate(looks, 8_000)
    assert len(found.told) == 500
    assert found.by_second[5_000:5_010].sum() >= 500
    assert found.by_second[5_011 : 5_000 + 3_200].sum() == 0
    assert np.quantile(found.told, 0.5) == pytest.approx(5.0, abs=0.5)


def test_without_a_webhook_a_change_is_known_after_half_of_the_pause_in_the_mean() -> None:
    looks = Looks(2000, ttl=600.0, starts_within=600.0, answer=0.0, changes=[3_000.0, 6_000.0])
    told = simulate(looks, 8_000).told
    assert len(told) == 4_000
    assert told.mean() == pytest.approx(300.0, rel=0.03)
    assert 590 < told.max() <= 600


def test_after_an_outage_all_are_back_within_the_longest_pause() -> None:
    looks = Looks(1000, ttl=600.0, jitter=0.1, starts_within=600.0, outages=[(3_000.0, 4_800.0)])
    found = simulate(looks, 6_000).by_second
    assert found[4_000:4_800].mean() == pytest.approx(1000 / 60, rel=0.1)
    assert found[4_800:4_873].sum() == pytest.approx(1000, abs=10)
    assert found[4_873:5_300].sum() < 20
    assert found[4_800:].max() < 40
