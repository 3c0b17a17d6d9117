"""Plans of fleets from the costs of one replica, and the report's page and picture."""

import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.capacity import planned
from benchmarks.fleet import planning
from benchmarks.fleet.arrivals import Bursts
from benchmarks.fleet.cores import Work
from benchmarks.fleet.costs import Bulk, Costs, Look, Row, Start, difference, quantiles, threads_of
from benchmarks.fleet.queues import mean_wait_of_one
from benchmarks.fleet.replicas import Fleet, simulate
from benchmarks.fleet.starts import stages_of
from benchmarks.fleet.traffic import Mix, answers, requests_of
from benchmarks.pages.capacity import page, picture

COSTS = Costs(
    Row([150.0, 200.0, 250.0], Work(40.0, 50.0, 180.0), base_us=400.0, stalls_per_s=0.0, stalls_ms=[],
        saturation_per_s=5_000.0),
    Bulk(1000, loop_us=500.0, thread_us=2_000.0),
    Look(requests=2, registry_s=0.02, seconds=3.0, warm_seconds=0.1, cpu_s=2.0, swap_s=1.0),
    Start(empty=60.0, kernels=8.0, again=4.0, download=0.2, load=1.5),
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "REQUESTS", 40_000)
    monkeypatch.setattr(planning, "SEEN_S", 5.0)


def test_requests_cost_what_was_measured_and_come_in_order() -> None:
    costs = Costs(
        Row([100.0, 300.0], COSTS.row.hot, 400.0, 10.0, [5.0, 15.0], 5_000.0), COSTS.bulk, COSTS.look, COSTS.start
    )
    found = requests_of(costs, 1_000.0, 50_000, 4, Mix(bulk=0.1), np.random.default_rng(1))
    own = found.place < 0
    assert own.sum() == 50_000
    assert (np.diff(found.arrivals) >= 0).all()
    assert set(found.loop[own & (found.thread == 0)].round(9)) == {100e-6, 300e-6}
    assert (found.thread[own] > 0).mean() == pytest.approx(0.1, rel=0.05)
    assert (~own).sum() == pytest.approx(10 * 4 * found.arrivals[-1], rel=0.1)
    assert found.loop[~own].mean() == pytest.approx(10e-3, rel=0.1)


def test_a_fleet_of_one_waits_as_the_formula_says_of_the_measured_times() -> None:
    requests = requests_of(COSTS, 3_000.0, 400_000, 1, Mix(), np.random.default_rng(1))
    ms, _ = answers(simulate(Fleet(1), requests), requests, COSTS, bulk=False)
    expected = mean_wait_of_one(3_000.0, 1e-6 * np.array(COSTS.row.loop_us)) + COSTS.row.loop_s + 400e-6
    assert float(ms.mean()) == pytest.approx(1e3 * expected, rel=0.03)


@pytest.mark.parametrize("rate", [2_000, 50_000, 1_000_000])
def test_the_fewest_replicas_are_no_fewer_than_the_work_and_one_less_is_too_few(rate: int) -> None:
    found = planning.fewest(COSTS, rate, Mix(), p99_ms=1.3)
    assert found is not None
    assert found["ms"][1] <= 1.3
    assert rate * COSTS.row.loop_s / 0.95 <= found["replicas"] <= 2.2 * rate * COSTS.row.loop_s + 1
    fewer = planning.seen(COSTS, rate, int(0.95 * found["replicas"]), Mix()) if found["replicas"] > 1 else None
    assert fewer is None or fewer["ms"][1] > 1.3 or fewer["use"] > 0.95


def test_bursts_need_replicas_for_their_top_and_no_fleet_is_faster_than_its_replicas() -> None:
    steady = planning.fewest(COSTS, 50_000, Mix(), p99_ms=5.0)
    bursts = planning.fewest(COSTS, 50_000, Mix(bursts=Bursts()), p99_ms=5.0)
    assert steady is not None
    assert bursts is not None
    assert 1.8 < bursts["replicas"] / steady["replicas"] < 2.8  # the top is 2.5 times the mean
    assert planning.fewest(COSTS, 1_000, Mix(), p99_ms=0.3) is None


def test_large_fleets_are_alike() -> None:
    at = {one["replicas"]: one["ms"][1] for one in planning.by_size(COSTS)}
    assert at[128] == pytest.approx(at[32], rel=0.1)
    assert at[1] > 1.5 * at[32]


def test_times_of_threads_are_read_from_linux() -> None:
    before = threads_of(os.getpid())
    sum(range(300_000))
    used = difference(threads_of(os.getpid()), before)
    assert 0 <= used.loop < 5
    assert used.others >= 0
    assert quantiles(np.arange(1_000.0)).mean() == pytest.approx(499.5)


def test_stages_of_a_start_are_read_from_its_log(tmp_path: Path) -> None:
    class Started:
        log = tmp_path / "log"

    lines = [("fetching model", 10.0), ("loading model", 10.5), ("model in service", 13.0), ("fetching model", 50.0)]
    Started.log.write_text(
        "no JSON\n"
        + "\n".join(f'{{"message": "{name}", "time": "2026-01-01T00:00:{at:09.6f}Z"}}' for name, at in lines)
    )
    assert stages_of(Started) == pytest.approx((0.5, 2.5))  # pyright: ignore[reportArgumentType]


def test_the_report_is_a_page_and_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "REQUESTS", 4_000)
    monkeypatch.setattr(planning, "SEEN_S", 1.0)
    monkeypatch.setattr(planning, "FLEETS", (4, 600))
    monkeypatch.setattr(planning, "TARGETS", ())
    latency = {
        "per_s": 1_000.0, "ms": [0.5, 1.0, 4.0], "mean_ms": 0.6, "sent_late_ms": [0.0, 0.1, 0.2],
        "work_us": [50.0, 90.0, 300.0], "rest": 0.01, "paused": 0.02,
    }  # fmt: skip
    late = latency | {"sent_late_ms": [0.0, 0.1, 1.2], "ms": [50.0, 60.0, 5.0]}
    expected = latency | {"formula_mean_ms": 0.5}
    looks = {"mean": 0.8, "peak": 2, "formula": 0.8}
    check = {
        "latency": [
            {"replicas": 1, "use": 0.5, "measured": latency, "computed": expected},
            {"replicas": 1, "use": 0.8, "measured": late, "computed": expected},
            {"replicas": 4, "use": 0.5, "measured": latency, "computed": expected | {"ms": [0.8, 1.0, 4.0]}},
        ],
        "looks": {"seconds": 30, "measured": looks, "computed": looks},
        "rollout": {"replicas": 20, "measured": {"mean": 4.0, "most": 8.0}, "computed": {"mean": 5.5, "most": 7.0}},
    }  # fmt: skip
    report = {
        "date": "2026-01-01", "machine": "a machine", "python": "3.11", "versions": {"madrone": "1.0.0"},
        "command": "just bench capacity", "p99_ms": 10.0, "seconds": 5.0, "costs": msgspec.to_builtins(COSTS),
        "check": check, "plan": planned(COSTS, 10.0),
    }  # fmt: skip
    assert json.loads(json.dumps(report, allow_nan=False))
    text = page(report)
    assert text.startswith("# Capacity of a fleet\n\n2026-01-01, a machine")
    assert "p50 of 1 process, within 25% at every rate: off by 0% at most. Held." in text
    assert "p50 of 4 processes, within 25% at every rate: off by 60% at most. Missed." in text
    assert "in the mean, within 25%: off by +38%. Missed." in text
    assert "| 1.20: the generators were late |" in text
    assert "| 200 µs, waits for the interpreter's lock included, so at most 5,000 requests/s |" in text
    assert [len(axes.get_lines()) > 2 for axes in picture(report).axes] == [True] * 4
    assert "off by" not in page(report | {"check": None})
