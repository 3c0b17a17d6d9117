"""The series of several workers as those of one service."""

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from app.workers.sums import RULES, SUMMED_GAUGES, Dump, families_of, less, merged, rule_of
from tests.routes.test_info import FAMILIES


def dumped(*, leads: bool = False, requests: float = 0.0, stale: float = 0.0, wait: float = 0.0) -> Dump:
    """What a worker writes, as another one reads it."""
    registry = CollectorRegistry()
    Counter("api_requests", "Requests.", ("status",), registry=registry).labels("200").inc(requests)
    Histogram("rows", "Rows.", buckets=(1, 2), registry=registry).observe(requests)
    Gauge("requests_in_flight", "In flight.", registry=registry).set(requests)
    Gauge("model_stale", "Stale.", registry=registry).set(stale)
    Gauge("predictions_wait_seconds", "Wait.", registry=registry).set(wait)
    Gauge("compute_backend_usable", "Usable.", registry=registry).set(0 if wait else 1)
    dump = Dump(at=0.0, pid=1, leads=leads, families=families_of(registry.collect(), leads=leads))
    return msgspec.msgpack.decode(msgspec.msgpack.encode(dump), type=Dump)


def values(metrics: list[Metric]) -> dict[str, float]:
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for metric in metrics
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def test_what_grows_is_summed_and_the_rest_follows_its_rule() -> None:
    leader, other = dumped(leads=True, requests=1, stale=1), dumped(requests=2, stale=5, wait=3)
    found = values(merged([leader, other], [True, True]))
    assert found["api_requests_total"] == found["requests_in_flight"] == found["rows_sum"] == 3
    assert (found["rows_bucket1.0"], found["rows_bucket2.0"], found["rows_bucket+Inf"]) == (1, 2, 2)
    assert (found["model_stale"], found["predictions_wait_seconds"], found["compute_backend_usable"]) == (1, 3, 0)


def test_a_worker_that_has_ended_or_hangs_counts_with_what_grows_only() -> None:
    found = values(merged([dumped(leads=True, requests=1), dumped(requests=2)], [True, False]))
    assert (found["api_requests_total"], found["requests_in_flight"]) == (3, 1)
    assert "model_stale" not in values(merged([dumped(leads=True)], [False]))


def test_what_a_new_leader_counted_before_is_not_the_services() -> None:
    families = families_of(_swaps(5).collect(), leads=True)
    before = {series.key: 3.0 for family in families for series in family.series}
    assert next(series.value for family in less(families, before) for series in family.series) == 2


def _swaps(count: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("model_swaps", "Swaps.", registry=registry).inc(count)
    return registry


def test_every_gauge_has_a_rule() -> None:
    gauges = {name for name, (kind, _) in FAMILIES.items() if kind == "gauge"}
    undecided = {name for name in gauges if rule_of(name) == "sum"} - SUMMED_GAUGES
    assert undecided == set()
    assert {name for name in SUMMED_GAUGES if any(name.startswith(beginning) for beginning, _ in RULES)} == set()
