"""The canary answers its share of the requests: always the same ones, and more of them as the share grows."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ModelUnavailable
from app.models.served import ServedModel
from app.models.slot import ModelSlot
from app.serving.canary import CanaryRouter
from app.serving.share import Share
from tests.models.support import save_booster, serve, tiny_booster


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


@pytest.mark.parametrize("header", ["X-Request-ID", "x-request-id"])
def test_the_request_id_of_the_answer_decides(models: tuple[ServedModel, ServedModel], header: str) -> None:
    current, canary = models
    router = CanaryRouter(slot_of(current, canary), 20, header)
    for number in range(100):
        sent = [(b"x-request-id", b"not a valid id")]
        chosen = router.choose(sent, str(number))
        assert chosen is (canary if str(number).encode() in Share(20, b"canary") else current)


def test_another_header_decides_if_present_else_the_request_id(
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
def test_a_header_may_have_any_bytes(models: tuple[ServedModel, ServedModel], value: bytes) -> None:
    current, canary = models
    router = CanaryRouter(slot_of(current, canary), 50, "X-Customer")
    expected = canary if value in Share(50, b"canary") else current
    assert router.choose([(b"x-customer", value)], "any") is expected


def test_zero_and_hundred_percent_send_none_and_all_to_the_canary(
    models: tuple[ServedModel, ServedModel],
) -> None:
    current, canary = models
    slot = slot_of(current, canary)
    for number in range(100):
        assert CanaryRouter(slot, 0, "X-Request-ID").choose([], str(number)) is current
        assert CanaryRouter(slot, 100, "X-Request-ID").choose([], str(number)) is canary


def test_a_new_or_removed_canary_affects_the_next_request(models: tuple[ServedModel, ServedModel]) -> None:
    current, canary = models
    slot = slot_of(current)
    router = CanaryRouter(slot, 100, "X-Request-ID")
    assert router.choose([], "1") is current
    slot.canary = canary
    assert router.choose([], "1") is canary
    slot.canary = None
    assert router.choose([], "1") is current


@pytest.mark.parametrize("percent", [0, 100])
def test_nobody_answers_without_a_model_in_use(models: tuple[ServedModel, ServedModel], percent: float) -> None:
    for canary in (None, models[1]):
        with pytest.raises(ModelUnavailable):
            CanaryRouter(slot_of(None, canary), percent, "X-Request-ID").choose([], "1")
