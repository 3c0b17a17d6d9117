"""A share holds the same values every time, as many as its percentage says, and more as it grows."""

import random
import uuid
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.share import Share

PERCENT = st.floats(0, 100)
IDS = 20_000


def seeded_uuids() -> list[str]:
    source = random.Random(1)
    return [uuid.UUID(int=source.getrandbits(128), version=4).hex for _ in range(IDS)]


KINDS: dict[str, Callable[[], list[str]]] = {
    "numbers": lambda: [str(number) for number in range(1, IDS + 1)],
    "numbers of one length": lambda: [f"{number:012}" for number in range(IDS)],
    "large numbers": lambda: [str(10**15 + 1000 * number) for number in range(IDS)],
    "names": lambda: [f"customer-{number}@example.com" for number in range(IDS)],
    "random uuids": seeded_uuids,
    "uuids that count": lambda: [str(uuid.UUID(int=number << 64)) for number in range(IDS)],
}


@cache
def ids_of(kind: str) -> list[str]:
    return KINDS[kind]()


def taken(percent: float, ids: list[str], purpose: bytes = b"canary") -> set[str]:
    share = Share(percent, purpose)
    return {value for value in ids if value.encode() in share}


@given(st.binary(), PERCENT, PERCENT)
def test_a_larger_share_contains_a_smaller_one(value: bytes, one: float, other: float) -> None:
    small, great = sorted((one, other))
    assert value not in Share(small, b"canary") or value in Share(great, b"canary")


@given(st.binary(), PERCENT)
def test_a_value_is_always_on_the_same_side(value: bytes, percent: float) -> None:
    share = Share(percent, b"canary")
    assert (value in share) == (value in share) == (value in Share(percent, b"canary"))


@given(st.binary())
def test_zero_percent_is_empty_and_hundred_is_everything(value: bytes) -> None:
    assert value not in Share(0, b"canary")
    assert value in Share(100, b"canary")


def test_only_zero_percent_is_falsy() -> None:
    assert not Share(0, b"canary")
    assert Share(0.01, b"canary")


def test_a_share_is_the_same_in_every_process() -> None:
    assert sorted(taken(20, [str(number) for number in range(20)]), key=int) == ["2", "4", "8", "10", "13"]


@pytest.mark.parametrize("percent", [0.5, 1, 5, 50, 95])
@pytest.mark.parametrize("kind", KINDS)
def test_a_share_has_its_size_for_values_of_any_pattern(kind: str, percent: float) -> None:
    ids = ids_of(kind)
    expected = IDS * percent / 100
    spread = (expected * (1 - percent / 100)) ** 0.5
    assert len(set(ids)) == IDS
    assert abs(len(taken(percent, ids)) - expected) < 3 * spread


def test_hundredths_of_a_percent_differ() -> None:
    largest = taken(0.03, [str(number) for number in range(1_000_000)])  # which holds the smaller ones
    counts = [len(taken(percent, list(largest))) for percent in (0.01, 0.02, 0.03)]
    assert counts == pytest.approx([100, 200, 300], abs=30)


def test_shares_of_different_purposes_are_independent() -> None:
    ids = ids_of("numbers")
    both = taken(20, ids, b"canary") & taken(30, ids, b"shadow")
    assert len(both) == pytest.approx(IDS * 0.06, abs=3 * (IDS * 0.06) ** 0.5)
