"""Records are found again in whatever pieces they are read, and between damage."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.prediction_log.spool.records import HEAD, MARK, SpooledModel, SpooledRequest, decode, encode, records

PAYLOADS = (
    SpooledModel(1, ("houses", "3"), ("MedInc", "année"), 1, {1: {0: "red", 1: True}}),
    SpooledRequest(1, "request-1", "single", 1e9, 1, b"\0" * 16, b"\0" * 8),
    SpooledRequest(1, "request-2", "batch", 2e9, 2, MARK * 8, MARK * 4),
)
RECORDS = [encode(payload, number) for number, payload in enumerate(PAYLOADS)]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_comes_back(payload: SpooledModel | SpooledRequest) -> None:
    (found,) = records(encode(payload, 5), 100, whole=True)
    assert found.payload is not None
    assert (found.start, found.rows, decode(found.payload)) == (100, 5, payload)


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(0, 600))
def test_a_cut_leaves_the_records_before_it(contents: list[bytes], cut: int) -> None:
    made = [encode(SpooledRequest(1, "id", "single", 0.0, 1, content, b""), 1) for content in contents]
    data = b"".join(made)[:cut]
    whole = [one for number, one in enumerate(made) if sum(map(len, made[: number + 1])) <= cut]
    found = [*records(data, 0, whole=False)]
    assert [HEAD.size + len(one.payload or b"") for one in found] == [len(one) for one in whole]
    rest = len(data) - sum(map(len, whole))
    torn = [*records(data, 0, whole=True)][len(whole) :]
    assert [(one.end - one.start, one.payload) for one in torn] == ([(rest, None)] if rest else [])


def test_any_flipped_bit_costs_one_record_and_no_other() -> None:
    data = b"".join(RECORDS)
    ends = [len(b"".join(RECORDS[: number + 1])) for number in range(len(RECORDS))]
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << random.Random(place).randrange(8)
        hit = next(number for number, end in enumerate(ends) if place < end)
        found = [*records(bytes(damaged), 0, whole=True)]
        assert [one.end for one in found] == ends, place
        assert [one.payload is None for one in found] == [number == hit for number in range(len(RECORDS))], place


def test_a_payload_of_another_kind_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(msgspec.msgpack.encode(["x", 1]))
