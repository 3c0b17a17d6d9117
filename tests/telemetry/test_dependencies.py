"""What is known of a registry or a database from the calls that somebody made."""

import pytest
from prometheus_client import CollectorRegistry

from app.telemetry.dependencies import PATIENCE_S, Dependency, DependencySeries
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(clock: Clock) -> Dependency:
    return Dependency("database", clock=clock)


def call(database: Dependency, clock: Clock, seconds: float, error: str | None = None) -> None:
    database.began()
    clock.now += seconds
    database.ended(error, None if error is None else "words of the database")


def test_before_the_first_call_nothing_is_known(database: Dependency, clock: Clock) -> None:
    clock.now += 1000
    reading = database.read()
    assert (reading.up, reading.age_seconds, reading.latency_seconds) == (None, None, None)
    assert reading.unanswered_seconds is None
    assert database.silence() == 1000


def test_one_that_nobody_calls_gets_older_and_stays_up(database: Dependency, clock: Clock) -> None:
    call(database, clock, 0.25)
    clock.now += 100_000
    reading = database.read()
    assert (reading.up, reading.age_seconds, reading.latency_seconds) == (True, 100_000, 0.25)
    assert (reading.unanswered_seconds, reading.last_error, reading.detail) == (None, None, None)
    assert database.silence() == 100_000


def test_a_failed_call_makes_it_down_until_the_next_answer(database: Dependency, clock: Clock) -> None:
    call(database, clock, 1)
    clock.now += 5
    call(database, clock, 2, "OperationalError")
    clock.now += 10
    call(database, clock, 3, "Locked")
    reading = database.read()
    assert (reading.up, reading.age_seconds, reading.latency_seconds) == (False, 20, 3)
    assert reading.unanswered_seconds == 15  # since the first of the calls that failed
    assert (reading.last_error, reading.detail) == ("Locked", "words of the database")
    call(database, clock, 1)
    reading = database.read()
    assert (reading.up, reading.age_seconds, reading.unanswered_seconds, reading.last_error) == (True, 0, None, None)


@pytest.mark.parametrize("was_called", [False, True])
def test_a_call_that_hangs_makes_it_down(database: Dependency, clock: Clock, was_called: bool) -> None:
    if was_called:
        call(database, clock, 1)
    clock.now += 1
    database.began()
    clock.now += PATIENCE_S
    assert database.read().up is (True if was_called else None)
    clock.now += 1
    reading = database.read()
    assert (reading.up, reading.unanswered_seconds, reading.last_error) == (False, PATIENCE_S + 1, None)
    database.ended()
    assert database.read().up is True


def test_what_is_known_becomes_series(database: Dependency, clock: Clock) -> None:
    registry = CollectorRegistry()
    registry.register(DependencySeries(database, Dependency("nobody", clock=clock)))
    call(database, clock, 0.5, "Locked")

    def series() -> dict[str, float]:
        samples = [sample for family in registry.collect() for sample in family.samples]
        assert {sample.labels["dependency"] for sample in samples} == {"database"}
        return {sample.name: sample.value for sample in samples}

    assert series() == {"dependency_up": 0, "dependency_latency_seconds": 0.5}
    call(database, clock, 0.5)
    clock.now += 3
    assert series() == {"dependency_up": 1, "dependency_latency_seconds": 0.5, "dependency_age_seconds": 3}
