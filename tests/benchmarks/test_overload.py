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
LOOK = Look(at=5.0, rss=300 << 20, descriptors=70, live_ms=1.0, metrics_ms=2.0)


def record(due: list[float], ms: list[float], status: list[int]) -> Record:
    count = len(due)
    starts, found = np.array(due), np.array(status)
    never = np.isnan(ms)
    return Record(
        starts, np.where(never, np.nan, starts), starts + np.array(ms) / 1e3, found, np.ones(count, np.bool_), 0.5, 1.0
    )


PROBE = record([0.01 * number for number in range(1, 1200)], [IDLE_MS] * 1199, [200] * 1199)
LOAD = record(
    [1.0, 2.0, 4.0, 6.0, 7.0, 8.0, 11.0], [10.0, 4.0, 20.0, 5.0, 5.0, np.nan, 10.0], [200, 503, 200, 503, 503, 0, 200]
)


def results(load: Record = LOAD, probe: Record = PROBE, look: Look = LOOK, top: float = 0.2) -> dict[str, Any]:
    return summarise(load, probe, [look, replace(look, at=11.5, rss=200 << 20)], top)


def test_goodput_is_what_was_answered_rightly_while_load_was_offered() -> None:
    found = results()
    assert found["goodput_per_s"] == pytest.approx(0.2)  # the last answer came after the end
    assert found["offered_per_s"] == pytest.approx(0.7)
    wrong = LOAD._replace(right=np.array([True, True, False, True, True, True, True]))
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


def held(load: dict[str, Any]) -> list[bool | None]:
    return [target.held for target in targets({"loads": [load]})]


def test_every_target_holds_at_its_very_limit() -> None:
    slower = np.select([LOAD.due == 6.0, LOAD.due == 7.0], [4.9e-3, 44.9e-3])
    at_limit = LOAD._replace(answered=LOAD.answered + slower, sent=LOAD.due)
    assert held(results(at_limit, look=replace(LOOK, live_ms=100.0, metrics_ms=100.0), top=0.21)) == [True] * 7


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"top": 0.22}, [0, 3]),
        ({"load": LOAD._replace(answered=LOAD.answered + np.where(LOAD.status == 503, 7e-3, 0.0))}, [1, 3]),
        ({"load": LOAD._replace(answered=LOAD.answered + np.where(LOAD.due == 6.0, 46e-3, 0.0))}, [2, 3]),
        ({"look": replace(LOOK, live_ms=None)}, [3, 4]),
        ({"look": replace(LOOK, metrics_ms=101.0)}, [3, 4]),
        ({"probe": PROBE._replace(answered=np.where(PROBE.due > 11.0, np.nan, PROBE.answered))}, [3, 5]),
        ({"look": replace(LOOK, rss=100 << 20)}, [3, 6]),
    ],
)
def test_a_target_that_is_missed_is_said_to_be(changes: dict[str, Any], missed: list[int]) -> None:
    assert [place for place, is_held in enumerate(held(results(**changes))) if not is_held] == missed


def test_a_target_holds_if_it_holds_under_every_load() -> None:
    seen = [target.seen for target in targets({"loads": [results(), results(top=0.3)]})]
    assert seen[0] == "under 1 of 2"


def test_without_refusals_nothing_is_said_of_their_time() -> None:
    load = record([1.0, 11.0], [1.0, 1.0], [200, 200])
    found = results(load, top=0.1)
    assert found["refused_ms"] is None
    assert held(found) == [True] * 7


def test_the_report_is_a_page_and_a_picture(tmp_path: Path) -> None:
    loads = [{"rows": rows, "times": 5.0, "fresh": rows == 1} | results() for rows in (1, 1000)]
    report = {
        "date": "2026-01-01",
        "machine": "a machine",
        "python": "3.11",
        "versions": {"madrone": "1.0.0"},
        "command": "just bench overload",
        "seconds": 10.0,
        "connections": 256,
        "results": {"peaks_by_connections": {"1": {"1": 0.2}}, "loads": loads},
    }
    text = page(report)
    assert text.startswith("# Overload\n\n2026-01-01, a machine")
    assert text.count("under 2 of 2. Held.") == 6
    assert "| 1 | fresh | 0 | 1 | 0 | 100% | 5.0, 5.0 | 10.0, 20.0 | 1 | 0 |" in text
    assert "| 300, 300, 200 | 70 | 50% |" in text
    save("overload", report, page, tmp_path, {"overload": picture})
    assert (tmp_path / "overload.md").read_text() == text
    assert json.loads((tmp_path / "overload.json").read_text())["results"]["loads"][1]["rows"] == 1000
    assert (tmp_path / "overload.png").read_bytes().startswith(b"\x89PNG")
