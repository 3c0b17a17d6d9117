"""The cost of a batch is the line through the medians of what was measured, here on a clock of our own."""

import itertools
import time
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.cost import LARGE_ROWS, REPEATS, SMALL_CALLS, Cost, measure, vary

SAMPLE = np.arange(1.0, 7.0).reshape(3, 2)
ROWS = vary(SAMPLE)


class Clock:
    """Stands in for `time.perf_counter`; only predictors make it advance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def predictor(self, seconds: Callable[[int], float]) -> Callable[[NDArray[np.float64]], None]:
        """A predictor that takes `seconds(rows)`."""

        def predict(batch: NDArray[np.float64]) -> None:
            self.now += seconds(len(batch))

        return predict


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_straight_line_is_found_again(clock: Clock) -> None:
    fast, slow = measure(
        [clock.predictor(lambda rows: 1e-3 + 2e-6 * rows), clock.predictor(lambda rows: 0.5 + 0.25 * rows)], ROWS
    )
    assert (fast.fixed_seconds, fast.seconds_per_row) == (pytest.approx(1e-3), pytest.approx(2e-6))
    assert (slow.fixed_seconds, slow.seconds_per_row) == (pytest.approx(0.5), pytest.approx(0.25))
    assert slow.of(1000) == pytest.approx(250.5)


def test_an_outlier_does_not_move_the_line(clock: Clock) -> None:
    call = itertools.count()
    (cost,) = measure([clock.predictor(lambda rows: 1.0 + rows + 1000.0 * (next(call) < 4))], ROWS)
    assert (cost.fixed_seconds, cost.seconds_per_row) == (pytest.approx(1.0), pytest.approx(1.0))


@pytest.mark.parametrize("seconds", [lambda rows: 3.0, lambda rows: 3.0 - rows / 1000], ids=["flat", "falling"])
def test_a_batch_never_costs_less_than_a_row(clock: Clock, seconds: Callable[[int], float]) -> None:
    (cost,) = measure([clock.predictor(seconds)], ROWS)
    assert cost.seconds_per_row == 0
    assert cost.of(1) == cost.of(10**6) == pytest.approx(seconds(1))


def test_a_line_that_would_start_below_zero_starts_at_zero(clock: Clock) -> None:
    (cost,) = measure([clock.predictor(lambda rows: 1e-9 if rows == 1 else 1.0)], ROWS)
    assert cost.fixed_seconds == 0
    assert cost.of(LARGE_ROWS) == pytest.approx(1.0, rel=0.01)


def test_single_rows_are_all_different_and_predictors_take_turns() -> None:
    calls: list[tuple[str, NDArray[np.float64]]] = []
    measure([lambda batch: calls.append(("a", batch)), lambda batch: calls.append(("b", batch))], ROWS)
    turn = [*[1] * SMALL_CALLS, LARGE_ROWS]
    assert [len(batch) for _, batch in calls[: 2 * len(turn)]] == turn * 2
    assert "".join(name for name, _ in calls[: 2 * len(turn)]) == "a" * len(turn) + "b" * len(turn)
    assert len(calls) == 2 * len(turn) * REPEATS
    singles = np.concatenate([batch for name, batch in calls if name == "a" and len(batch) == 1])
    np.testing.assert_array_equal(singles, ROWS[: len(singles)])
    assert all(batch is ROWS for _, batch in calls if len(batch) > 1)


@pytest.mark.parametrize("count", [1, 3, LARGE_ROWS, LARGE_ROWS + 1])
def test_rows_to_measure_with_are_like_the_sample_s_and_all_different(count: int) -> None:
    sample = np.random.default_rng(3).uniform(-5, 5, (count, 2))
    rows = vary(sample)
    assert rows.shape == (LARGE_ROWS, 2)
    assert rows.dtype == np.float64
    assert len(np.unique(rows, axis=0)) == LARGE_ROWS
    ratio = rows / np.resize(sample, rows.shape)
    assert ratio.min() >= 0.7
    assert ratio.max() <= 1.3
    np.testing.assert_array_equal(rows, vary(sample))


def test_what_is_missing_stays_missing_and_zeros_vary_too() -> None:
    rows = vary(np.array([[np.nan, 0.0, 1.0]]))
    assert np.isnan(rows[:, 0]).all()
    # A model without an example is measured with a sample of zeros.
    assert len(np.unique(rows[:, 1])) == LARGE_ROWS


def test_a_single_row_of_each_call_is_there() -> None:
    assert REPEATS * SMALL_CALLS <= LARGE_ROWS


def test_a_failing_predictor_is_the_caller_s_to_handle() -> None:
    with pytest.raises(ZeroDivisionError):
        measure([lambda batch: 1 / 0], ROWS)


def test_a_batch_of_no_rows_costs_what_is_fixed() -> None:
    assert Cost(0.5, 2.0).of(0) == 0.5


@pytest.mark.parametrize("text", ['{"fixed_seconds": -1, "seconds_per_row": 0}', '{"fixed_seconds": 1}', "[1, 2]"])
def test_a_cost_that_cannot_be_is_not_read(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Cost)
