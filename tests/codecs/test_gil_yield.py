"""Pauses of working threads, after each millisecond of work and before a turn that was waited for."""

import threading

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


def test_one_thread_at_a_time_has_its_turn_and_one_that_waited_pauses_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()
    monkeypatch.setattr(gil_yield.time, "sleep", pauses.append)
    turns, order = gil_yield.GilTurns(), list[str]()

    def second() -> None:
        with turns:
            order.append("second")

    with turns:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.05)  # it cannot end: the turn is taken
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert pauses == [gil_yield.PAUSE_SECONDS]
    with turns:
        pass
    assert len(pauses) == 1


def test_a_turn_ends_with_an_error_too() -> None:
    turns = gil_yield.GilTurns()
    with pytest.raises(ValueError, match="inside"), turns:
        raise ValueError("inside")
    with turns:
        pass
