"""The benchmark of overload: what it counts as goodput and as recovery, and what it says of its targets."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.load.plan import Record
from benchmarks.overload import Look, page, picture, recovery, summarise
from benchmarks.pages.overload import targets
from benchmarks.report import save

IDLE_MS = 1.0
LOOK = Look(at=5.0, rss=300 << 20, live_ms=1.0, metrics_ms=2.0)


def record(due: list[float], ms: list[float], status: list[int]) -> Record:
    count = len(due)
    starts, found = np.array(due), np.array(status)
    never = np.isnan(ms)
    return Record(
        starts, np.where(never, np.nan, starts), starts + np.array(ms) / 1e3, found, np.ones(count, np.bool_), 0.5, 1.0
    )


PROBE = record([0.01 * number for number in range(1, 1200)], [IDLE_MS] * 1199, [200] * 1199)
LOAD = record([1.0, 2.0, 4.0, 6.0, 8.0, 11.0], [10.0, 4.0, 20.0, 5.0, np.nan, 10.0], [200, 503, 200, 503, 0, 200])


def results(load: Record = LOAD, probe: Record = PROBE, look: Look = LOOK, top: float = 0.2) -> dict[str, Any]:
    return summarise(load, probe, [look, replace(look, at=11.5, rss=200 << 20)], top)


def test_goodput_is_what_was_answered_rightly_while_load_was_offered() -> None:
    found = results()
    assert found["goodput_per_s"] == pytest.approx(0.2)  # the last answer came after the end
    assert found["offered_per_s"] == pytest.approx(0.6)
    wrong = LOAD._replace(right=np.array([True, True, False, True, True, True]))
    assert results(wrong)["goodput_per_s"] == pytest.approx(0.1)
    assert results(wrong)["wrong"] == 1


def test_every_request_is_counted_once_by_its_answer() -> None:
    load = record([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 1.0, 1.0, 1.0, np.nan, 1.0], [200, 503, 504, 500, 0, 0])
    expected = {"200": 1, "503": 1, "504": 1, "another": 1, "none": 1, "never sent": 1}
    assert results(load)["statuses"] == expected


def test_single_rows_are_divided_into_before_and_meanwhile() -> None:
    found = results()["single"]
    assert found["asked"] == found["answered"] == 1001
    assert found["refused"] == 0


def test_the_service_has_recovered_once_ten_rows_are_as_fast_as_before() -> None:
    slow = record([1.0 + 0.1 * number for number in range(40)], [9.0] * 20 + [1.4] * 20, [200] * 40)
    assert recovery(slow, 2.0, IDLE_MS) == pytest.approx(0.6 + 9e-3)  # the median of ten then is that of the fast ones
    assert recovery(slow, 3.5, IDLE_MS) == pytest.approx(0.1 + 1.4e-3)
    assert recovery(slow._replace(answered=slow.due + 9e-3), 2.0, IDLE_MS) is None
    refused = slow._replace(status=np.where(np.arange(40) == 35, 503, slow.status))
    assert recovery(refused, 3.0, IDLE_MS) == pytest.approx(0.1 + 1.4e-3)
    assert recovery(refused, 3.8, IDLE_MS) is None


def test_every_target_holds_at_its_very_limit() -> None:
    assert [target.held for target in targets(results())] == [True] * 5


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"top": 0.23}, [0]),
        ({"load": LOAD._replace(answered=LOAD.answered + np.where(LOAD.status == 503, 6e-3, 0.0))}, [1, 2]),
        ({"load": LOAD._replace(answered=LOAD.answered + np.where(LOAD.due == 6.0, 1e-3, 0.0))}, [1, 2]),
        ({"look": replace(LOOK, live_ms=None)}, [3]),
        ({"look": replace(LOOK, metrics_ms=None)}, [3]),
        ({"probe": PROBE._replace(answered=np.where(PROBE.due > 11.0, np.nan, PROBE.answered))}, [4]),
    ],
)
def test_a_target_that_is_missed_is_said_to_be(changes: dict[str, Any], missed: list[int]) -> None:
    assert [place for place, target in enumerate(targets(results(**changes))) if not target.held] == missed


def test_without_refusals_their_time_is_not_measured() -> None:
    load = record([1.0, 11.0], [1.0, 1.0], [200, 200])
    assert [target.held for target in targets(results(load, top=0.1))][1:3] == [None, None]


def test_the_report_is_a_page_and_a_picture(tmp_path: Path) -> None:
    report = {
        "date": "2026-01-01",
        "machine": "a machine",
        "python": "3.11",
        "versions": {"madrone": "1.0.0"},
        "command": "just bench overload",
        "rows": 1000,
        "seconds": 10.0,
        "connections": 256,
        "results": results(),
    }
    text = page(report)
    assert text.startswith("# Overload\n\n2026-01-01, a machine")
    assert text.count(" Held.") == 5
    assert "| never sent | 1 |" in text
    assert "300 MiB before, 300 at most and 200 in the end" in text
    save("overload", report, page, tmp_path, {"overload": picture})
    assert (tmp_path / "overload.md").read_text() == text
    assert json.loads((tmp_path / "overload.json").read_text())["rows"] == 1000
    assert (tmp_path / "overload.png").read_bytes().startswith(b"\x89PNG")
