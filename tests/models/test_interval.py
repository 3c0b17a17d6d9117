"""Stored calibrations: reading, width of intervals, and the level of a request."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.models.predictions.interval import Intervals, requested_level
from app.models.refusal import ModelRefused
from tests.models.support import INTERVALS

DOCUMENT: dict[str, Any] = msgspec.to_builtins(INTERVALS)


def quantiles(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {"quantiles": [{"level": level, "score": score} for level, score in pairs]}


def test_a_calibration_is_read_as_it_was_written() -> None:
    assert Intervals.from_json(msgspec.json.encode(INTERVALS)) == INTERVALS
    assert INTERVALS.levels == (0.5, 0.9, 0.95)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (quantiles((0.9, 2), (0.5, 1)), "must have ascending levels"),
        (quantiles((0.5, 1), (0.9, 2), (0.9, 2)), "must have ascending levels"),
        (quantiles((0.5, 1)), "and the default level among them"),
        (quantiles(), "and the default level among them"),
        ({"default_level": 0.8}, "and the default level among them"),
        (quantiles((0, 1), (0.9, 2)), "cannot be read: "),
        (quantiles((0.9, 2), (1, 3)), "cannot be read: "),
        (quantiles((0.9, -2)), "cannot be read: "),
        (quantiles((0.9, None)), "cannot be read: "),
        ({"least_difficulty": 0}, "cannot be read: "),
        ({"calibration_rows": 0}, "cannot be read: "),
        ({"seed": 1}, "cannot be read: "),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelRefused, match=reason):
        Intervals.from_json(msgspec.json.encode(DOCUMENT | changes))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b'{"quantiles": 1e999}'])
def test_text_that_is_no_calibration_is_refused(text: bytes) -> None:
    with pytest.raises(ModelRefused, match="the model's intervals cannot be read"):
        Intervals.from_json(text)


def test_half_width_is_score_times_difficulty_with_a_floor() -> None:
    difficulty = np.array([1.0, 0.5, 0.125, 0.1, 0.0, -3.0])
    np.testing.assert_array_equal(INTERVALS.half_width(difficulty, 0.9), [2.0, 1.0, 0.25, 0.25, 0.25, 0.25])
    np.testing.assert_array_equal(INTERVALS.half_width(difficulty[:1], 0.5), [0.75])
    assert INTERVALS.half_width(difficulty[:0], 0.9).shape == (0,)


def test_a_request_gets_the_level_it_asks_for_else_the_default_one() -> None:
    assert requested_level(INTERVALS, None) == 0.9
    assert requested_level(INTERVALS, ["0.5"]) == 0.5
    assert requested_level(INTERVALS, ["0.950"]) == 0.95
    assert requested_level(None, None) is None


@pytest.mark.parametrize(
    ("intervals", "given", "message"),
    [
        (INTERVALS, ["0.8"], "must be one of the model's levels 0.5, 0.9, 0.95"),
        (INTERVALS, ["90"], "must be one of the model's levels 0.5, 0.9, 0.95"),
        (INTERVALS, ["nan"], "must be one of the model's levels 0.5, 0.9, 0.95"),
        (INTERVALS, ["wide"], "must be a number, one of the model's levels 0.5, 0.9, 0.95"),
        (INTERVALS, [""], "must be a number, one of the model's levels 0.5, 0.9, 0.95"),
        (INTERVALS, ["0.5", "0.5"], "must be given once; the model's levels are 0.5, 0.9, 0.95"),
        (None, ["0.9"], "cannot be asked for: the model has no intervals"),
        (None, [""], "cannot be asked for: the model has no intervals"),
    ],
)
def test_another_level_is_refused_with_the_models_levels(
    intervals: Intervals | None, given: list[str], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        requested_level(intervals, given)
    (error,) = caught.value.errors
    assert (error.field, error.message) == ("interval", message)


@given(st.text() | st.floats().map(str))
def test_any_text_is_a_level_of_the_model_or_refused(text: str) -> None:
    try:
        level = requested_level(INTERVALS, [text])
    except InvalidInput:
        return
    assert level in INTERVALS.levels
    assert level == float(text)
