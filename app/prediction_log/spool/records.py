"""Records of the spool: what a segment's bytes are.

A segment is records and nothing else. A record is a mark, a checksum (CRC-32 of all that follows), the length of the
payload, the number of log rows in it, and the payload: MessagePack of `SpooledModel` or `SpooledRequest`. A model comes
before the first request that it answered in the segment. After damage the next mark shows where to go on.

Payloads are arrays. A field that a later release adds goes to the end and has a default, so that a spool of an earlier
release can be read.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from app.prediction_log.messages import Calibration, Categories

MARK = b"\xf5MP\x01"
HEAD = struct.Struct("<4sIII")
_CHECKED = struct.Struct("<II")
_CHECKED_AT = 8

_encode = msgspec.msgpack.Encoder().encode


class SpooledModel(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """What the requests that a model answered have in common.

    Attributes:
        number: Number by which requests name it.
        model: Name and version of the model.
        names: Names of the F features.
        outputs: K, predictions for each row.
        categories: Value of each code, of each column of categories.
        calibration: Intervals of the model; None for a model without.
        key_id: Id of the key that the requests gave; None where none was needed.
    """

    number: int
    model: tuple[str, str]
    names: tuple[str, ...]
    outputs: int
    categories: Categories
    calibration: Calibration | None = None
    key_id: str | None = None


class SpooledRequest(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """A request, as `LoggedRequest`, with its rows.

    Attributes:
        model: Number of the model.
        id: Id of the request.
        kind: Kind of prediction.
        time: Seconds since 1970, UTC.
        count: B, number of rows.
        rows: Bytes of float64[B, F].
        predictions: Bytes of float64[B, K].
        difficulty: Bytes of float64[B]; empty for a model without intervals.
        latency_ms: As in `LoggedRequest`.
        places: As in `LoggedRequest`.
    """

    model: int
    id: str
    kind: str
    time: float
    count: int
    rows: bytes
    predictions: bytes
    difficulty: bytes = b""
    latency_ms: float | None = None
    places: tuple[int, ...] | None = None


Payload = SpooledModel | SpooledRequest
decode = msgspec.msgpack.Decoder(Payload).decode


class Record(NamedTuple):
    """A record, or bytes that are none.

    Attributes:
        start: Position of its first byte in the segment.
        end: Position behind its last byte.
        rows: Number of log rows.
        payload: Encoded payload; None for damaged bytes.
    """

    start: int
    end: int
    rows: int
    payload: bytes | None


def encode(payload: Payload, rows: int) -> bytes:
    """The bytes of a record."""
    content = _encode(payload)
    checked = _CHECKED.pack(len(content), rows) + content
    return MARK + zlib.crc32(checked).to_bytes(4, "little") + checked


def records(data: bytes, start: int, *, whole: bool) -> Iterator[Record]:
    """The records in a piece of a segment, and damaged bytes between them.

    Args:
        data: The bytes.
        start: Position of the first of them, at which a record begins.
        whole: Whether they are all that there is. If not, a record at the end that is incomplete is left out.
    """
    at = 0
    while at < len(data):
        record = _record(data, at, start)
        if record is None:
            if not whole and _may_go_on(data, at):
                return
            after = _next(data, at, start)
            if after is None and not whole:
                return
            record = Record(start + at, start + (len(data) if after is None else after), 0, None)
        yield record
        at = record.end - start


def _record(data: bytes, at: int, start: int) -> Record | None:
    """The record at a place; None if there is no whole one."""
    if len(data) - at < HEAD.size:
        return None
    mark, checksum, length, rows = HEAD.unpack_from(data, at)
    end = at + HEAD.size + length
    if mark != MARK or end > len(data) or zlib.crc32(memoryview(data)[at + _CHECKED_AT : end]) != checksum:
        return None
    return Record(start + at, start + end, rows, data[at + HEAD.size : end])


def _may_go_on(data: bytes, at: int) -> bool:
    """Whether the bytes at a place can be the beginning of a record that ends behind the data."""
    if len(data) - at < HEAD.size:
        return True
    mark, _, length, _ = HEAD.unpack_from(data, at)
    return mark == MARK and at + HEAD.size + length > len(data)


def _next(data: bytes, at: int, start: int) -> int | None:
    """The next place behind `at` where a record begins; None if there is none."""
    place = data.find(MARK, at + 1)
    while place >= 0:
        if _record(data, place, start) is not None:
            return place
        place = data.find(MARK, place + 1)
    return None
