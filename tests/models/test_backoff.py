"""Refused versions are remembered, and only damaged files are fetched again."""

import pytest

from app.models.identity import ModelIdentity
from app.models.refresh import backoff
from app.models.refresh.backoff import RefusalBackoff
from app.models.refresh.outcome import Refresh
from tests.clock import Clock

TTL = 10.0
REFUSED = Refresh("refused", "1", "for the test")


def version(number: str, created_at_ms: int = 1, stage: str | None = None) -> ModelIdentity:
    return ModelIdentity(name="houses", version=number, stage=stage, created_at_ms=created_at_ms)  # type: ignore[arg-type]


def test_damaged_files_are_refetched_after_twice_the_pause_each_time() -> None:
    clock = Clock(0.0)
    refusals = RefusalBackoff(TTL, clock)
    for times in range(1, 13):
        refusals.add("current", version("1"), REFUSED, "artifact")
        clock.now += TTL * 2 ** min(times, 10) - 1
        assert refusals.standing("current", version("1")) is REFUSED
        clock.now += 1
        assert refusals.standing("current", version("1")) is None


@pytest.mark.parametrize("lift", ["forget", "clear"])
def test_another_refusal_stands_until_it_is_lifted(lift: str) -> None:
    clock = Clock(0.0)
    refusals = RefusalBackoff(TTL, clock)
    refusals.add("current", version("1"), REFUSED, "metrics")
    clock.now = 1e12
    assert refusals.standing("current", version("1")) is REFUSED
    if lift == "forget":
        refusals.forget("current", version("1"))
    else:
        refusals.clear()
    assert refusals.standing("current", version("1")) is None


def test_a_refusal_is_of_one_version_in_one_role_whatever_its_stage() -> None:
    refusals = RefusalBackoff(TTL, Clock(0.0))
    refusals.add("current", version("1"), REFUSED, "metrics")
    assert refusals.standing("current", version("1", stage="Staging")) is REFUSED
    assert refusals.standing("canary", version("1")) is None
    assert refusals.standing("current", version("2")) is None
    assert refusals.standing("current", version("1", created_at_ms=2)) is None


def test_a_limited_number_of_versions_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MAX_VERSIONS", 2)
    refusals = RefusalBackoff(TTL, Clock(0.0))
    for number in ("1", "2", "3"):
        refusals.add("current", version(number), REFUSED, "metrics")
    assert refusals.standing("current", version("1")) is None
    assert refusals.standing("current", version("3")) is REFUSED
