"""The limit on requests of a client, over several workers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.workers import rates
from app.workers.place import Place
from app.workers.rates import SharedRateLimit
from tests.clock import Clock

Limits = Callable[[], SharedRateLimit]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(tmp_path: Path, clock: Clock) -> Limits:
    """Makes the limits of one worker after the other."""
    return lambda: SharedRateLimit(10, Place(tmp_path), 2, clock)


def test_requests_of_a_client_add_up_over_workers(limits: Limits) -> None:
    first, second = limits(), limits()
    assert [first.count("a")[0], second.count("a")[0], second.count("a")[0], first.count("a")[0]] == [1, 2, 3, 4]
    assert second.count("b")[0] == 1


def test_a_new_minute_begins_for_all(limits: Limits, clock: Clock) -> None:
    first, second = limits(), limits()
    first.count("a")
    assert second.count("a") == (2, 60 - int(clock()) % 60)
    clock.now += 60
    assert second.count("a")[0] == 1
    assert first.count("a")[0] == 2


def test_clients_beyond_the_table_are_not_limited_and_break_nothing(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "SLOTS", 8)
    monkeypatch.setattr(rates, "WORDS", 17)
    first, second = limits(), limits()
    for number in range(8):
        assert first.count(str(number))[0] == 1
    assert [first.count("late")[0] for _ in range(3)] == [1, 1, 1]
    assert [first.count("7")[0], second.count("7")[0]] == [2, 3]
