"""The report of the HTTP benchmark: what it says of its targets, from figures that are given."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bulk import lag_share, repeated
from benchmarks.load.closed_loop import ROW_CASES, cells, figures, start_of
from benchmarks.load.open_loop import poisson, quantiles
from benchmarks.load.plan import Record
from benchmarks.pages import http
from benchmarks.pages.http import targets
from benchmarks.peers.process import PeerError
from benchmarks.report import save


def cell(server: str, form: str, rows: int, connections: int, *requests: float, core: float = 1.0) -> dict[str, Any]:
    rounds = [
        {
            "requests_per_s": value,
            "rows_per_s": rows * value,
            "rows_per_cpu_s": core,
            "p50_ms": 1.5,
            "p99_ms": 2.5,
            "generator_cpu": 0.25,
        }
        for value in requests
    ]
    return {"server": server, "form": form, "rows": rows, "connections": connections, "rounds": rounds}


HELD: dict[str, Any] = {
    "closed_loop": [
        cell("madrone", "row", 1, 16, 100.0, 50.0, 80.0),
        cell("echo", "row", 1, 16, 200.0, 80.0, 160.0),
        cell("fastapi", "row", 1, 16, 30.0, 10.0, 20.0),
        cell("mlflow", "row", 1, 16, 3.0, 1.0, 2.0),
        cell("quiet", "row", 1, 16, 110.0, 60.0, 88.0),
        *(cell("madrone", "objects", rows, 4, 90.0, 90.0, 90.0, core=150_000) for rows in (100, 1000)),
        *(cell("mlserver", "objects", rows, 4, 30.0, 20.0, 30.0) for rows in (100, 1000)),
        *(cell("fastapi", "objects", rows, 4, 10.0, 10.0, 10.0) for rows in (100, 1000)),
        *(
            cell("madrone", form, rows, 4, 9.0, 9.0, 9.0, core=300_000)
            for rows in (100, 1000)
            for form in ("arrays", "columns")
        ),
    ],
    "open_loop": {
        "madrone": {
            "saturation": 100.0,
            "shares": {
                "0.5": {
                    "requests": 300,
                    "quantiles_ms": [1.0, 2.0, None, None],
                    "rounds": [[1.0, 3.0], [1.0, 9.0], [1.0, 2.0]],
                    "generator_cpu": 0.1,
                }
            },
        }
    },
    "bulk": [
        {
            "format": "Arrow IPC",
            "rows": 1_000_000,
            "body_bytes": 64_000_000,
            "peak_bytes": 192_000_000,
            "rounds": cell("madrone", "Arrow IPC", 1_000_000, 1, 0.5, 0.4, 0.6)["rounds"],
        }
    ],
    "beside": {
        "rows": 1_000_000,
        "rate": 100.0,
        "seconds": 10.0,
        "rounds": [
            {"alone_ms": [1.0, 2.0], "beside_ms": [1.0, 10.0], "bulk_requests": 4, "lag_above": share}
            for share in (0.0, 0.01, None)
        ],
    },
    "starts": {"seconds": [2.0, 3.0, 9.0], "worker_bytes": [300e6, 350e6, 900e6], "other_bytes": [1e6, 1e6, 1e6]},
    "absent": {"bentoml": "not installed: no network", "Parquet": "not taken (415)", "npy": "not taken (415)"},
}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    results = copy.deepcopy(HELD)
    at: Any = results
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to
    return results


CONTEXT = {
    "date": "2026-01-01",
    "machine": "a machine",
    "python": "3.11",
    "versions": {"madrone": "1.0.0"},
    "peers": {"fastapi": "0.1"},
    "command": "just bench http",
    "rounds": 3,
    "seconds": 1.5,
}


def page(results: dict[str, Any]) -> str:
    return http.page(CONTEXT | {"results": results})


def test_every_target_holds_at_its_very_limit() -> None:
    assert [target.held for target in targets(HELD)] == [True] * 12


@pytest.mark.parametrize(
    ("results", "missed"),
    [
        (changed("closed_loop", 1, to=cell("echo", "row", 1, 16, 201.0, 80.0, 161.0)), [0]),
        (changed("closed_loop", 3, "rounds", 0, "requests_per_s", to=9.0), []),
        (changed("closed_loop", 3, to=cell("mlflow", "row", 1, 16, 3.5, 2.0, 2.7)), [1]),
        (changed("closed_loop", 2, to=cell("fastapi", "row", 1, 16, 34.0, 17.0, 27.0)), [2]),
        (changed("open_loop", "madrone", "shares", "0.5", "rounds", 0, to=[1.0, 3.1]), [3]),
        (changed("closed_loop", 6, to=cell("madrone", "objects", 1000, 4, 90.0, 90.0, 90.0, core=149_999)), [4]),
        (changed("closed_loop", 14, to=cell("madrone", "columns", 1000, 4, 9.0, 9.0, 9.0, core=299_999)), [5]),
        (changed("closed_loop", 8, to=cell("mlserver", "objects", 1000, 4, 31.0, 31.0, 20.0)), [6]),
        (changed("bulk", 0, "rounds", 0, "rows_per_s", to=499_999.0), [7]),
        (changed("beside", "rounds", to=[HELD["beside"]["rounds"][0] | {"beside_ms": [1.0, 10.1]}]), [8]),
        (changed("bulk", 0, "peak_bytes", to=192_100_000), [9]),
        (changed("starts", "seconds", to=[3.01, 3.01, 1.0]), [10]),
        (changed("starts", "worker_bytes", to=[351e6, 351e6, 1e6]), [11]),
    ],
)
def test_a_target_that_is_missed_is_said_to_be(results: dict[str, Any], missed: list[int]) -> None:
    assert [place for place, target in enumerate(targets(results)) if not target.held] == missed
    assert page(results).count(" Missed.") == len(missed)


def test_what_was_not_measured_holds_nothing_and_misses_nothing() -> None:
    assert {target.held for target in targets({"absent": {}})} == {None}
    text = page({"absent": {}})
    assert text.count("Not measured.") == 12
    assert "|" not in text


def test_the_page_is_a_title_and_a_body_and_names_who_is_absent_by_reason() -> None:
    text = page(HELD)
    title, blank, body = text.split("\n", 2)
    assert title.startswith("# ")
    assert blank == ""
    assert body.startswith("2026-01-01, a machine")
    assert "- Not measured: BentoML: not installed: no network\n" in body
    assert "- Not measured: Parquet; npy: not taken (415)\n" in body


def test_ratios_are_medians_of_the_rounds_own_and_figures_medians() -> None:
    text = page(HELD)
    assert "| 16 | raw ASGI echo | 160 | 1.50 | 2.50 | 25% | 0.50 |" in text
    assert "| the log (LOG_LEVEL=WARNING) | 88 | +10% |" in text
    assert "| 1,000 | 4 | FastAPI + uvicorn | 10 | 1.50 | 2.50 | 10,000 | 1 | 9.00 |" in text
    assert "late by more than 5 ms in 0.50% of its measurements" in text


def test_the_lag_is_not_mentioned_where_the_service_does_not_tell_it() -> None:
    rounds = [one | {"lag_above": None} for one in HELD["beside"]["rounds"]]
    assert "event loop" not in page(changed("beside", "rounds", to=rounds))


def test_pictures_are_drawn_of_what_was_measured(tmp_path: Path) -> None:
    pictures = {"bars": http.bars, "curves": http.curves}
    save("empty", CONTEXT | {"results": {}}, http.page, tmp_path, pictures)
    assert not [*tmp_path.glob("*.png")]
    save("http", CONTEXT | {"results": HELD}, http.page, tmp_path, pictures)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["bars.png", "curves.png"]


def record(sent: list[float], answered: list[float], status: int = 200) -> Record:
    count = len(sent)
    return Record(
        np.array(sent), np.array(sent), np.array(answered), np.full(count, status), np.ones(count, np.bool_), 0.5, 1.0
    )


def test_figures_leave_out_the_warm_up_and_count_all_processor_time() -> None:
    found = figures(record([0.0, 0.1, 0.2, 0.7], [0.1, 0.19, 0.7, 1.2]), rows=10, cpu_seconds=0.5)
    assert found["requests_per_s"] == pytest.approx(2.0)
    assert found["rows_per_s"] == pytest.approx(20.0)
    assert found["rows_per_cpu_s"] == pytest.approx(80.0)
    assert found["p50_ms"] == pytest.approx(500.0)


def test_a_single_long_answer_is_counted_from_the_start() -> None:
    found = figures(record([0.0], [4.0]), rows=1_000_000, cpu_seconds=2.0)
    assert found["rows_per_s"] == pytest.approx(250_000)


def test_a_wrong_answer_makes_no_figure() -> None:
    with pytest.raises(PeerError, match="1 of 1 answers"):
        figures(record([0.0], [4.0], status=500), rows=1, cpu_seconds=1.0)


@pytest.mark.parametrize(
    ("answers", "start"),
    [
        ([b'{"prediction":0.25,"id":"a"}', b'{"prediction":0.25,"id":"b"}'], b'{"prediction":0.25'),
        ([b'{"id":"a","prediction":0.25}', b'{"id":"b","prediction":0.25}'], b""),
        ([b'{"prediction":0.2500}', b'{"prediction":2.5e-1}'], b""),
    ],
)
def test_an_answer_is_known_by_what_it_always_begins_with(answers: list[bytes], start: bytes) -> None:
    assert start_of(answers, 0.25) == start


def test_the_variants_are_measured_at_one_number_of_connections() -> None:
    found = [(case.connections, key) for case, key in cells(["madrone", "quiet"], ROW_CASES)]
    assert found == [(1, "madrone"), (16, "madrone"), (16, "quiet"), (64, "madrone")]


def test_arrivals_come_at_their_rate_and_are_the_same_again() -> None:
    arrivals = poisson(1000.0, 10.0)
    assert arrivals == sorted(arrivals) == poisson(1000.0, 10.0)
    assert len(arrivals) == pytest.approx(10_000, rel=0.05)
    assert max(arrivals) < 10.0
    gaps = np.diff(arrivals)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)
    assert len(poisson(0.01, 1.0)) == 1


def test_a_quantile_with_few_requests_beyond_it_is_left_out() -> None:
    assert [value is None for value in quantiles(np.arange(500.0))] == [False, False, False, True]
    assert [value is None for value in quantiles(np.arange(50.0))] == [False, False, True, True]


def test_a_quantile_among_requests_that_were_never_answered_is_left_out() -> None:
    values = np.where(np.arange(10_000) % 50 == 0, np.inf, 1.0)
    assert quantiles(values) == [1.0, 1.0, None, None]


def test_the_share_of_late_looks_is_that_between_two_scrapes() -> None:
    assert lag_share((90.0, 100.0), (180.0, 200.0)) == pytest.approx(0.1)
    assert lag_share(None, (1.0, 1.0)) is None
    assert lag_share((1.0, 1.0), (1.0, 1.0)) is None


def test_rows_are_said_again_up_to_their_number() -> None:
    assert repeated(np.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
