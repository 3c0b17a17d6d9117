"""Answers of several versions: which are right, wrong or dropped."""

import msgspec
import numpy as np
import pytest

from benchmarks.load.answer import DROPPED
from benchmarks.load.plan import Record
from benchmarks.load.version_check import Verdict, judge, judged

EXPECTED = {"1": [0.5, 2.0], "2": [0.25, 1.0]}


def body(prediction: float, version: str) -> bytes:
    return msgspec.json.encode({"prediction": prediction, "model_version": version})


@pytest.mark.parametrize(("prediction", "version", "row"), [(0.5, "1", 0), (0.25, "2", 0), (2.0, "1", 1)])
def test_each_version_has_its_own_prediction(prediction: float, version: str, row: int) -> None:
    assert judge(200, body(prediction, version), row, EXPECTED) == (int(version), Verdict.RIGHT)


@pytest.mark.parametrize(
    ("prediction", "version"),
    [(0.25, "1"), (0.5, "2"), (0.5, "3"), (0.5 + 1e-11, "1"), (0.25 - 1e-11, "2")],
)
def test_the_prediction_of_another_version_is_wrong(prediction: float, version: str) -> None:
    assert judge(200, body(prediction, version), 0, EXPECTED) == (int(version), Verdict.WRONG_PREDICTION)


def test_another_status_is_wrong_whatever_the_body() -> None:
    assert judge(503, body(0.5, "1"), 0, EXPECTED) == (0, Verdict.WRONG_STATUS)


def test_an_answer_that_is_cut_off_is_dropped() -> None:
    assert judge(DROPPED, b"", 0, EXPECTED) == (0, Verdict.DROPPED)


def test_requests_repeat_the_rows_in_order() -> None:
    times = np.arange(4.0)
    kept = np.array([body(0.5, "1"), body(1.0, "2"), b"", body(0.5, "1")])
    status = np.array([200, 200, DROPPED, 200])
    answers = judged(Record(times, times, times + 1, status, np.ones(4, np.bool_), 0.5, 4.0, kept), EXPECTED)
    assert answers.version.tolist() == [1, 2, 0, 1]
    assert answers.verdict.tolist() == [Verdict.RIGHT, Verdict.RIGHT, Verdict.DROPPED, Verdict.WRONG_PREDICTION]
