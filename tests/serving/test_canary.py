"""The canary answers its share of the requests: always the same ones, and more of them as the share grows."""

import random
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ModelUnavailable
from app.models.artifact import ServedModel
from app.models.slot import ModelSlot
from app.serving.canary import CanaryRouter, Share
from tests.models.support import save_booster, serve, tiny_booster

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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServedModel, ServedModel]:
    """Versions 1 and 2."""
    directory: Path = tmp_path_factory.mktemp("canary")
    first = serve(save_booster(tiny_booster(), directory / "model"))
    return first, msgspec.structs.replace(first, identity=msgspec.structs.replace(first.identity, version="2"))


def slot_of(current: ServedModel | None, canary: ServedModel | None = None) -> ModelSlot:
    slot = ModelSlot()
    slot.current, slot.canary = current, canary
    return slot


def taken(percent: float, ids: list[str], purpose: bytes = b"canary") -> set[str]:
    share = Share(percent, purpose)
    return {value for value in ids if value.encode() in share}


@given(st.binary(), PERCENT, PERCENT)
def test_a_greater_share_keeps_what_a_smaller_one_holds(value: bytes, one: float, other: float) -> None:
    small, great = sorted((one, other))
    assert value not in Share(small, b"canary") or value in Share(great, b"canary")


@given(st.binary(), PERCENT)
def test_a_value_is_on_the_same_side_every_time(value: bytes, percent: float) -> None:
    share = Share(percent, b"canary")
    assert (value in share) == (value in share) == (value in Share(percent, b"canary"))


@given(st.binary())
def test_nothing_holds_no_value_and_all_holds_every_value(value: bytes) -> None:
    assert value not in Share(0, b"canary")
    assert value in Share(100, b"canary")


def test_only_a_share_of_nothing_is_empty() -> None:
    assert not Share(0, b"canary")
    assert Share(0.01, b"canary")


def test_the_side_outlives_the_process() -> None:
    assert sorted(taken(20, [str(number) for number in range(20)]), key=int) == ["2", "4", "8", "10", "13"]


@pytest.mark.parametrize("percent", [0.5, 1, 5, 50, 95])
@pytest.mark.parametrize("kind", KINDS)
def test_the_share_is_kept_for_values_of_any_pattern(kind: str, percent: float) -> None:
    ids = KINDS[kind]()
    expected = IDS * percent / 100
    spread = (expected * (1 - percent / 100)) ** 0.5
    assert len(set(ids)) == IDS
    assert abs(len(taken(percent, ids)) - expected) < 3 * spread


def test_a_hundredth_of_a_percent_is_told_apart() -> None:
    ids = [str(number) for number in range(1_000_000)]
    counts = [len(taken(percent, ids)) for percent in (0.01, 0.02, 0.03)]
    assert counts == pytest.approx([100, 200, 300], abs=30)


def test_shares_of_two_purposes_are_independent() -> None:
    ids = KINDS["numbers"]()
    both = taken(20, ids, b"canary") & taken(30, ids, b"shadow")
    assert len(both) == pytest.approx(IDS * 0.06, abs=3 * (IDS * 0.06) ** 0.5)


@pytest.mark.parametrize("header", ["X-Request-ID", "x-request-id"])
def test_the_id_that_the_answer_shows_decides_and_not_what_was_sent(
    models: tuple[ServedModel, ServedModel], header: str
) -> None:
    current, canary = models
    router = CanaryRouter(slot_of(current, canary), 20, header)
    for number in range(100):
        sent = [(b"x-request-id", b"not a valid id")]
        chosen = router.choose(sent, str(number))
        assert chosen is (canary if str(number).encode() in Share(20, b"canary") else current)


def test_another_header_decides_where_it_is_given_and_the_request_id_where_it_is_not(
    models: tuple[ServedModel, ServedModel],
) -> None:
    current, canary = models
    router = CanaryRouter(slot_of(current, canary), 50, "X-Customer")
    share = Share(50, b"canary")
    inside, outside = (next(n for n in map(str, range(99)) if (n.encode() in share) == side) for side in (True, False))
    other = (b"accept", b"*/*")
    for value, request_id in ((inside, outside), (outside, inside)):
        given_header = [other, (b"x-customer", value.encode()), (b"x-customer", request_id.encode())]
        assert router.choose(given_header, request_id) is (canary if value == inside else current)
        assert router.choose([other], request_id) is (canary if request_id == inside else current)


@given(value=st.binary())
def test_a_header_may_hold_any_bytes(models: tuple[ServedModel, ServedModel], value: bytes) -> None:
    current, canary = models
    router = CanaryRouter(slot_of(current, canary), 50, "X-Customer")
    expected = canary if value in Share(50, b"canary") else current
    assert router.choose([(b"x-customer", value)], "any") is expected


def test_all_requests_or_none_go_to_the_canary_at_the_ends_of_the_range(
    models: tuple[ServedModel, ServedModel],
) -> None:
    current, canary = models
    slot = slot_of(current, canary)
    for number in range(100):
        assert CanaryRouter(slot, 0, "X-Request-ID").choose([], str(number)) is current
        assert CanaryRouter(slot, 100, "X-Request-ID").choose([], str(number)) is canary


def test_a_canary_that_comes_or_goes_is_heeded_at_the_next_request(models: tuple[ServedModel, ServedModel]) -> None:
    current, canary = models
    slot = slot_of(current)
    router = CanaryRouter(slot, 100, "X-Request-ID")
    assert router.choose([], "1") is current
    slot.canary = canary
    assert router.choose([], "1") is canary
    slot.canary = None
    assert router.choose([], "1") is current


@pytest.mark.parametrize("percent", [0, 100])
def test_without_a_model_in_use_nobody_answers(models: tuple[ServedModel, ServedModel], percent: float) -> None:
    for canary in (None, models[1]):
        with pytest.raises(ModelUnavailable):
            CanaryRouter(slot_of(None, canary), percent, "X-Request-ID").choose([], "1")
