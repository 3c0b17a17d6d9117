"""Answers of a load in which several versions of a model are served, checked against the version that each names."""

from enum import IntEnum
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.load.answer import DROPPED
from benchmarks.load.plan import Record

TOLERANCE = 1e-12


class Verdict(IntEnum):
    """Verdict on an answer."""

    RIGHT = 0
    WRONG_STATUS = 1
    WRONG_PREDICTION = 2
    """Another prediction than that of the version in the answer, or an unknown version."""
    DROPPED = 3
    """Missing or cut off."""


class Body(msgspec.Struct, frozen=True):
    """The part of an answer's body that is checked."""

    prediction: float
    model_version: str


class Answers(NamedTuple):
    """Float64[N] monotonic seconds when each request was sent and answered, int64[N] its version, uint8[N] verdict."""

    sent: NDArray[np.float64]
    answered: NDArray[np.float64]
    version: NDArray[np.int64]
    verdict: NDArray[np.uint8]


def judge(status: int, body: bytes, row: int, expected: dict[str, list[float]]) -> tuple[int, Verdict]:
    """Version that an answer names, 0 for none; and its verdict."""
    if status == DROPPED:
        return 0, Verdict.DROPPED
    if status != 200:
        return 0, Verdict.WRONG_STATUS
    answer = msgspec.json.decode(body, type=Body)
    known = expected.get(answer.model_version)
    right = known is not None and abs(answer.prediction - known[row]) <= TOLERANCE
    return int(answer.model_version), Verdict.RIGHT if right else Verdict.WRONG_PREDICTION


def judged(record: Record, expected: dict[str, list[float]]) -> Answers:
    """Compare each answer with the prediction of the version that it names.

    Args:
        record: Of a load whose requests are the rows, in order and again.
        expected: By version, the prediction for each row.
    """
    count = len(next(iter(expected.values())))
    answers = enumerate(zip(record.status.tolist(), record.kept.tolist(), strict=True))
    found = [judge(status, body, place % count, expected) for place, (status, body) in answers]
    version, verdict = zip(*found, strict=True)
    return Answers(record.sent, record.answered, np.array(version), np.array(verdict, dtype=np.uint8))
