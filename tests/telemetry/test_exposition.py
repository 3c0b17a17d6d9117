"""The text of a scrape: what prometheus-client's own writers make, in both formats, and quickly."""

import math
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from app.telemetry.counters import FastHistogram
from app.telemetry.exposition import OPENMETRICS, Exposition, Prefixed, accepts_openmetrics
from app.telemetry.metrics import Metrics

VALUES = st.one_of(st.sampled_from([math.inf, -math.inf, math.nan]), st.floats(-1e300, 1e300), st.floats(-10, 10))

BOUNDS = (0.001, 0.1, 1.0)

WRITERS: list[tuple[bool, Callable[[CollectorRegistry], bytes]]] = [
    (False, generate_latest), (True, generate_openmetrics),
]  # fmt: skip


@pytest.mark.parametrize(("openmetrics", "writer"), WRITERS, ids=["text", "openmetrics"])
@given(
    st.lists(
        st.tuples(st.text(max_size=6), st.one_of(st.floats(), st.integers(0, 10**15).map(float))),
        min_size=1,
        max_size=6,
    )
)
def test_both_formats_are_those_of_prometheus_client(
    openmetrics: bool, writer: Callable[[CollectorRegistry], bytes], given_values: list[tuple[str, float]]
) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("level", 'Help with "quotes", \\ and\nlines.', ("who", "a"), registry=registry)
    counter = Counter("things", "Things.", ("who",), registry=registry)
    histogram = FastHistogram("seconds", "Time.", ("who",), BOUNDS, registry)
    Info("about", "What it is.", registry=registry).info({"x": "y"})
    for who, value in given_values:
        gauge.labels(who, "1").set(value)
        counter.labels(who).inc(abs(value) if value == value else 1)
        histogram.observe((who,), abs(value) % 10)
        histogram.show((who,), abs(value) % 10, "ab" * 16)
    exposition = Exposition(registry)
    for _ in range(2):
        assert exposition.text(openmetrics=openmetrics) == writer(registry)


@pytest.mark.parametrize(
    "accept",
    [
        None, "", "*/*", "text/plain;version=0.0.4;q=0.5", "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1",
        "application/openmetrics-text; version=1.0.0; charset=utf-8", "application/openmetrics-text;version=0.0.1",
    ],
)  # fmt: skip
def test_openmetrics_is_chosen_where_prometheus_client_would(accept: str | None) -> None:
    _, content_type = choose_encoder(accept or "")
    assert accepts_openmetrics(accept) == content_type.startswith(OPENMETRICS)


def test_a_prefix_changes_the_names_of_the_services_own_metrics_only() -> None:
    plain, prefixed = Metrics(), Metrics("madrone_")
    for metrics in (plain, prefixed):
        metrics.predictions.add(("a", "1", "single"), 3)
    names = [family.name for family in plain.families.collect()]
    expected = [name if name.startswith(("process_", "python_")) else f"madrone_{name}" for name in names]
    assert [family.name for family in prefixed.families.collect()] == expected
    text = prefixed.exposition.text()
    assert b'\nmadrone_predictions_total{model_name="a",model_version="1",prediction_type="single"} 3.0\n' in text
    assert b"\npredictions_total" not in text


def test_forgotten_series_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.telemetry.exposition.MOST_HEADS", 10)
    registry = CollectorRegistry()
    gauge = Gauge("level", "Level.", ("version",), registry=registry)
    exposition = Exposition(Prefixed(registry, ""))
    for version in range(50):
        gauge.clear()
        gauge.labels(str(version)).set(1)
        assert exposition.text().endswith(f'level{{version="{version}"}} 1.0\n'.encode())
        assert len(vars(exposition)["_heads"]) <= 11


@pytest.mark.parametrize(("openmetrics", "writer"), WRITERS, ids=["text", "openmetrics"])
def test_a_scrape_takes_less_time_than_by_prometheus_client(
    openmetrics: bool, writer: Callable[[CollectorRegistry], bytes]
) -> None:
    metrics = Metrics()
    for endpoint in range(30):
        metrics.request_duration.observe(("POST", f"/{endpoint}"), 0.001)
    writers: dict[str, Callable[[], bytes]] = {
        "ours": lambda: metrics.exposition.text(openmetrics=openmetrics), "theirs": lambda: writer(metrics.registry),
    }  # fmt: skip
    taken: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(6):
        for name, write in writers.items():
            before = time.thread_time()
            write()
            taken[name].append(time.thread_time() - before)
    assert min(taken["ours"]) < 0.7 * min(taken["theirs"])
