"""Bodies unfold to what was folded, whole or not at all, and never to more than is allowed."""

import gzip
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.compression import ENCODINGS, check_encoding, decompress
from app.errors import MalformedBody, TooLarge, UnsupportedMediaType

LIMIT = 100_000
PLAIN = b'{"MedInc": 8.3252, "HouseAge": 41, "AveRooms": 6.98412698412698}\n' * 40


def fold(plain: bytes, encoding: str) -> bytes:
    return gzip.compress(plain, mtime=0) if encoding == "gzip" else pa.compress(plain, codec=encoding, asbytes=True)


def unfold(body: bytes, encoding: str, limit: int = LIMIT) -> bytes:
    return bytes(decompress(body, encoding, limit, "MAX_JSON_BYTES"))


def zstd_frame(blocks: int) -> bytes:
    """128 KiB of spaces in every block of 4 bytes (RFC 8878, section 3.1.1.2.2)."""
    head = b"\x28\xb5\x2f\xfd" + bytes([0, 0b00111000])  # neither size nor checksum; a window of 128 KiB
    block = [((128 * 1024 << 3) | (1 << 1) | last).to_bytes(3, "little") + b" " for last in (0, 1)]
    return head + block[0] * (blocks - 1) + block[1]


def gzip_members(count: int) -> bytes:
    """A million zeros in every member of about 1 KiB."""
    return gzip.compress(bytes(10**6), mtime=0) * count


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(plain=st.binary(max_size=5000) | st.builds(bytes, st.integers(0, LIMIT)))
def test_what_was_folded_comes_out(encoding: str, plain: bytes) -> None:
    assert unfold(fold(plain, encoding), encoding) == plain


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(parts=st.lists(st.binary(max_size=50), min_size=1, max_size=8))
def test_several_members_are_one_body(encoding: str, parts: list[bytes]) -> None:
    assert unfold(b"".join(fold(part, encoding) for part in parts), encoding) == b"".join(parts)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_members_without_a_byte_do_not_end_a_body(encoding: str) -> None:
    assert unfold(fold(b"", encoding) * 1000 + fold(PLAIN, encoding), encoding) == PLAIN


def test_frames_that_are_to_be_skipped_are() -> None:
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"aside"
    assert unfold(skipped + fold(PLAIN, "zstd"), "zstd") == PLAIN


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_bytes_unfold_to_none(encoding: str) -> None:
    assert unfold(b"", encoding) == b""


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("members", [1, 2])
def test_a_body_that_is_cut_anywhere_but_between_members_is_refused(encoding: str, members: int) -> None:
    member = fold(PLAIN, encoding)
    whole = member * members
    for length in range(1, len(whole)):
        if length != len(member):
            with pytest.raises(MalformedBody, match=f"not whole {encoding} data"):
                unfold(whole[:length], encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("rest", [b"\0", b"junk", b"\0" * 100, b"\x1f", b"\x28\xb5\x2f"])
def test_what_follows_a_body_is_not_passed_over(encoding: str, rest: bytes) -> None:
    with pytest.raises(MalformedBody):
        unfold(fold(PLAIN, encoding) + rest, encoding)


def test_a_bit_that_fell_over_in_gzip_data_is_noticed_or_of_no_matter() -> None:
    whole = fold(PLAIN, "gzip")
    refused = 0
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        try:
            assert unfold(bytes(damaged), "gzip") == PLAIN
        except MalformedBody:
            refused += 1
    assert refused > 7 * len(whole)  # all but the fields of the head that say nothing of the data


@given(place=st.integers(0), value=st.integers(0, 255))
def test_damage_of_zstd_data_which_need_not_have_a_checksum_breaks_nothing(place: int, value: int) -> None:
    damaged = bytearray(fold(PLAIN, "zstd"))
    damaged[place % len(damaged)] = value
    with suppress(MalformedBody, TooLarge):
        assert len(unfold(bytes(damaged), "zstd")) <= LIMIT


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(body=st.binary(min_size=1, max_size=200))
def test_what_is_no_such_data_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(MalformedBody):
        unfold(body, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_other_encoding_is_refused(encoding: str) -> None:
    (other,) = set(ENCODINGS) - {encoding}
    with pytest.raises(MalformedBody):
        unfold(fold(PLAIN, other), encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_limit_is_what_may_come_out(encoding: str) -> None:
    body = fold(PLAIN, encoding)
    assert unfold(body, encoding, len(PLAIN)) == PLAIN
    with pytest.raises(TooLarge, match="unfolds to more bytes than MAX_JSON_BYTES allows"):
        unfold(body, encoding, len(PLAIN) - 1)


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", lambda: gzip_members(1000)), ("zstd", lambda: zstd_frame(80_000))],
    ids=ENCODINGS,
)
def test_of_a_bomb_no_more_is_unfolded_than_may_come_out(
    monkeypatch: pytest.MonkeyPatch, encoding: str, bomb: Callable[[], bytes]
) -> None:
    read: list[int] = []

    class Counting(pa.CompressedInputStream):  # type: ignore[misc]
        def readinto(self, piece: Any) -> int:
            read.append(super().readinto(piece))
            return read[-1]

    monkeypatch.setattr(pa, "CompressedInputStream", Counting)
    with pytest.raises(TooLarge):
        unfold(bomb(), encoding)
    assert sum(read) == LIMIT + 1


def test_the_hand_made_bomb_is_valid_data() -> None:
    assert unfold(zstd_frame(3), "zstd", 10**6) == b" " * (3 * 2**17)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("gzip", "gzip"), ("x-gzip", "gzip"), (" GZip ", "gzip"), ("zstd", "zstd"), ("ZSTD", "zstd"),
        ("identity", None), ("", None), (" ", None),
    ],
)  # fmt: skip
def test_encodings_go_by_their_names(header: str, name: str | None) -> None:
    assert check_encoding(header) == name


@pytest.mark.parametrize("header", ["br", "deflate", "compress", "gzip, gzip", "gzip, zstd", "lz4", "gzip;q=1", "gz"])
def test_other_encodings_are_refused(header: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="gzip and zstd"):
        check_encoding(header)
