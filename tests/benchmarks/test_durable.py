"""What `just bench durable` counts, and what its page says."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.durable import compare, requests
from benchmarks.load.plan import Record
from benchmarks.pages.durable import targets, totals


def record_of(*statuses: int) -> Record:
    times = np.arange(len(statuses), dtype=np.float64)
    return Record(times, times, times, np.array(statuses), np.array(statuses) == 200, 0.5, 1.0)


def test_rows_that_are_lost_or_there_twice_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "predictions.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE predictions (request_id TEXT)")
        logged = [(f"bench-{number:08d}",) for number in (0, 1, 1, 3)]  # the last one was not answered
        database.executemany("INSERT INTO predictions VALUES (?)", logged)
    assert compare(record_of(200, 200, 200, 0, 503), path) == {"answered": 3, "lost": 1, "twice": 1}


def test_each_request_has_its_own_id() -> None:
    first, second = requests(2)
    assert b"X-Request-ID: bench-00000000\r\n" in first
    assert first != second
    assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2] != b""


def test_one_lost_row_misses_the_target() -> None:
    kills = [
        {"mode": mode, "victim": "writer", "answered": 10, "lost": lost, "twice": 0}
        for mode, lost in (("best_effort", 5), ("best_effort", 7), ("durable", 0), ("durable", 1))
    ]
    assert totals(kills, "best_effort", "writer") == {"answered": 20, "lost": 12, "twice": 0, "kills": 2, "most": 7}
    report = {"kills": kills, "throughput": {"16": {"durable": 0.8, "best_effort": 0.85}}}
    assert [target.held for target in targets(report)] == [False, True, False]
    kills[-1]["lost"] = 0
    assert targets(report)[0].held
