"""Compressed bodies are decompressed completely or refused, and never beyond the limit."""

import gzip
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import permutations
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.compression import ENCODINGS, check_encoding, compressor, decompress
from app.errors import MalformedBody, TooLarge, UnsupportedMediaType

IN_MEMBERS = ("gzip", "zstd")
"""Encodings whose data may be several members or frames."""

LIMIT = 100_000
PLAIN = b'{"MedInc": 8.3252, "HouseAge": 41, "AveRooms": 6.98412698412698}\n' * 40


def compressed(plain: bytes, encoding: str) -> bytes:
    if encoding == "deflate":
        return zlib.compress(plain)
    return gzip.compress(plain, mtime=0) if encoding == "gzip" else pa.compress(plain, codec=encoding, asbytes=True)


def decompressed(body: bytes, encoding: str, limit: int = LIMIT) -> bytes:
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
def test_compressed_bodies_are_decompressed(encoding: str, plain: bytes) -> None:
    assert decompressed(compressed(plain, encoding), encoding) == plain


@pytest.mark.parametrize("encoding", IN_MEMBERS)
@given(parts=st.lists(st.binary(max_size=50), min_size=1, max_size=8))
def test_several_members_or_frames_are_one_body(encoding: str, parts: list[bytes]) -> None:
    assert decompressed(b"".join(compressed(part, encoding) for part in parts), encoding) == b"".join(parts)


@pytest.mark.parametrize("encoding", IN_MEMBERS)
def test_empty_members_do_not_end_a_body(encoding: str) -> None:
    assert decompressed(compressed(b"", encoding) * 1000 + compressed(PLAIN, encoding), encoding) == PLAIN


def test_skippable_frames_are_skipped() -> None:
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"aside"
    assert decompressed(skipped + compressed(PLAIN, "zstd"), "zstd") == PLAIN


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_empty_body_decompresses_to_an_empty_one(encoding: str) -> None:
    assert decompressed(b"", encoding) == b""


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("members", [1, 2])
def test_a_truncated_body_is_malformed(encoding: str, members: int) -> None:
    members = members if encoding in IN_MEMBERS else 1
    member = compressed(PLAIN, encoding)
    whole = member * members
    for length in range(1, len(whole)):
        if length != len(member):
            with pytest.raises(MalformedBody, match=f"not valid {encoding} data"):
                decompressed(whole[:length], encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("rest", [b"\0", b"junk", b"\0" * 100, b"\x1f", b"\x28\xb5\x2f"])
def test_trailing_bytes_are_malformed(encoding: str, rest: bytes) -> None:
    with pytest.raises(MalformedBody):
        decompressed(compressed(PLAIN, encoding) + rest, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_flipped_bit_is_malformed_or_harmless(encoding: str) -> None:
    whole = compressed(PLAIN, encoding)
    refused = 0
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        try:
            assert decompressed(bytes(damaged), encoding) == PLAIN
        except MalformedBody:
            refused += 1
    assert refused > 7 * len(whole)  # all but the fields of the head that say nothing of the data


@given(place=st.integers(0), value=st.integers(0, 255))
def test_damaged_zstd_data_is_an_error_or_decompressed(place: int, value: int) -> None:
    damaged = bytearray(compressed(PLAIN, "zstd"))
    damaged[place % len(damaged)] = value
    with suppress(MalformedBody, TooLarge):
        assert len(decompressed(bytes(damaged), "zstd")) <= LIMIT


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(body=st.binary(min_size=1, max_size=200))
def test_uncompressed_data_is_malformed(encoding: str, body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decompressed(body, encoding)


# Arrow reads zlib's container as gzip, too.
@pytest.mark.parametrize(("encoding", "other"), sorted({*permutations(ENCODINGS, 2)} - {("gzip", "deflate")}))
def test_data_in_another_encoding_is_malformed(encoding: str, other: str) -> None:
    with pytest.raises(MalformedBody):
        decompressed(compressed(PLAIN, other), encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_limit_counts_decompressed_bytes(encoding: str) -> None:
    body = compressed(PLAIN, encoding)
    assert decompressed(body, encoding, len(PLAIN)) == PLAIN
    with pytest.raises(TooLarge, match="larger than MAX_JSON_BYTES allows"):
        decompressed(body, encoding, len(PLAIN) - 1)


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", lambda: gzip_members(1000)), ("zstd", lambda: zstd_frame(80_000))],
    ids=IN_MEMBERS,
)
def test_a_bomb_is_decompressed_only_up_to_the_limit(
    monkeypatch: pytest.MonkeyPatch, encoding: str, bomb: Callable[[], bytes]
) -> None:
    read: list[int] = []

    class Counting(pa.CompressedInputStream):  # type: ignore[misc]
        def readinto(self, piece: Any) -> int:
            read.append(super().readinto(piece))
            return read[-1]

    monkeypatch.setattr(pa, "CompressedInputStream", Counting)
    with pytest.raises(TooLarge):
        decompressed(bomb(), encoding)
    assert sum(read) == LIMIT + 1


def test_a_deflated_bomb_is_decompressed_only_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Counting:
        def __init__(self, inflater: Any) -> None:
            self.inflater = inflater

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inflater, name)

        def decompress(self, data: bytes, most: int) -> bytes:
            part = self.inflater.decompress(data, most)
            read.append(len(part))
            return part

    start = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda bits: Counting(start(bits)))
    with pytest.raises(TooLarge):
        decompressed(zlib.compress(bytes(10**8)), "deflate")
    assert sum(read) == LIMIT + 1


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(parts=st.lists(st.binary(max_size=3000), max_size=8))
def test_answers_are_compressed_part_by_part(encoding: str, parts: list[bytes]) -> None:
    made = compressor(encoding)
    packed = b"".join(map(made.compress, parts)) + made.flush()
    assert decompressed(packed, encoding) == b"".join(parts)


def test_the_handmade_bomb_is_valid_zstd_data() -> None:
    assert decompressed(zstd_frame(3), "zstd", 10**6) == b" " * (3 * 2**17)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("gzip", "gzip"), ("x-gzip", "gzip"), (" GZip ", "gzip"), ("zstd", "zstd"), ("ZSTD", "zstd"),
        ("deflate", "deflate"),
        ("identity", None), ("", None), (" ", None),
    ],
)  # fmt: skip
def test_encodings_are_known_by_name(header: str, name: str | None) -> None:
    assert check_encoding(header) == name


@pytest.mark.parametrize("header", ["br", "compress", "gzip, gzip", "gzip, zstd", "lz4", "gzip;q=1", "gz"])
def test_other_encodings_are_refused(header: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="gzip, zstd, deflate"):
        check_encoding(header)
