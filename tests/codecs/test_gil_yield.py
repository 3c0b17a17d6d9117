"""Pauses of a working thread: one after each millisecond of work."""

import pytest

from app.codecs import gil_yield


def test_a_pause_follows_each_millisecond_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], list[float]()
    monkeypatch.setattr(gil_yield.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(gil_yield.time, "sleep", pauses.append)
    yield_gil = gil_yield.GilYield()
    for moment, expected in ((0.0004, 0), (0.0009, 0), (0.0011, 1), (0.0015, 1), (0.0020, 1), (0.0022, 2)):
        now[0] = moment
        yield_gil()
        assert len(pauses) == expected
    assert min(pauses) > 0
