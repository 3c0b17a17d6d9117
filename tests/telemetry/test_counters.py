"""Counters and histograms of the request path export what prometheus-client's own would."""

import threading

import hypothesis.strategies as st
import pytest
from hypothesis import given
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from app.telemetry import counters
from app.telemetry.counters import FastCounter, FastHistogram

BOUNDS = (0.001, 0.01, 0.1, 1.0)
SECONDS = st.one_of(st.sampled_from(BOUNDS), st.floats(0, 10))


@given(st.lists(st.tuples(st.sampled_from(["a", "b", 'quo"te\n']), SECONDS)), st.integers(1, 5))
def test_a_histogram_is_exported_like_prometheus_clients(given_seconds: list[tuple[str, float]], pending: int) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counters, "PENDING", pending)
        fast = FastHistogram("seconds", "Time.", ("who",), BOUNDS, ours)
        histogram = Histogram("seconds", "Time.", ("who",), buckets=BOUNDS, registry=theirs)
        for who, seconds in given_seconds:
            fast.observe((who,), seconds)
            histogram.labels(who).observe(seconds)
    for who in {who for who, _ in given_seconds}:
        total = ours.get_sample_value("seconds_sum", {"who": who})
        assert total == pytest.approx(theirs.get_sample_value("seconds_sum", {"who": who}), abs=1e-12)
    own, other = ([line for line in lines(registry) if "_sum" not in line] for registry in (ours, theirs))
    assert own == other


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 1000))))
def test_a_counter_is_exported_like_prometheus_clients(amounts: list[tuple[str, int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    fast = FastCounter("rows", "Rows.", ("who",), ours)
    counter = Counter("rows", "Rows.", ("who",), registry=theirs)
    for who, amount in amounts:
        fast.add((who,), amount)
        counter.labels(who).inc(amount)
    assert lines(ours) == lines(theirs)


def test_a_scrape_from_a_thread_sees_no_observation_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "PENDING", 7)
    registry = CollectorRegistry()
    fast = FastHistogram("seconds", "Time.", (), BOUNDS, registry)
    seen: list[float] = []
    ended = threading.Event()

    def scrape() -> None:
        while not ended.is_set():
            seen.append(registry.get_sample_value("seconds_count") or 0.0)

    thread = threading.Thread(target=scrape)
    thread.start()
    for _ in range(20_000):
        fast.observe((), 0.05)
    ended.set()
    thread.join()
    assert seen == sorted(seen)
    assert registry.get_sample_value("seconds_count") == 20_000
    assert max(seen) <= 20_000


def lines(registry: CollectorRegistry) -> list[str]:
    """What is exported, without the order of the series and when they were made."""
    return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)
