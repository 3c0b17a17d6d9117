"""The cost of a batch is interpolated between the medians of what was measured, here on a clock of our own."""

import itertools
import time
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.cost import LARGE_REPEATS, REPEATS, SIZES, SMALL_CALLS, Cost, measure, measure_larger, vary

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


def test_what_was_measured_is_found_again(clock: Clock) -> None:
    fast, slow = measure(
        [clock.predictor(lambda rows: 1e-3 + 2e-6 * rows), clock.predictor(lambda rows: 0.5 + 0.25 * rows)], ROWS
    )
    assert fast.rows == slow.rows == SIZES
    assert fast.seconds == pytest.approx([1e-3 + 2e-6 * rows for rows in SIZES])
    assert slow.of(256) == pytest.approx(64.5)
    assert slow.of(5120) == pytest.approx(1285)


def test_an_outlier_does_not_move_it(clock: Clock) -> None:
    call = itertools.count()
    (cost,) = measure([clock.predictor(lambda rows: 1.0 + rows + 1000.0 * (next(call) < 4))], ROWS)
    assert cost.seconds == pytest.approx([1.0 + rows for rows in SIZES])


@pytest.mark.parametrize("seconds", [lambda rows: 3.0, lambda rows: 3.0 - rows / 1000], ids=["flat", "falling"])
def test_a_batch_never_costs_less_than_a_row(clock: Clock, seconds: Callable[[int], float]) -> None:
    (cost,) = measure([clock.predictor(seconds)], ROWS)
    assert cost.of(1) == cost.of(512) == pytest.approx(seconds(1))


def test_a_device_with_a_flat_cost_costs_more_beyond_its_chunk(clock: Clock) -> None:
    """Ten million rows once cost as much as one, since 512 did."""
    device = clock.predictor(lambda rows: 1e-4 if rows <= 512 else 1e-4 + (rows - 512) * 1e-7)
    (cost,) = measure([device], ROWS)
    assert cost.of(512) == pytest.approx(1e-4)
    cost = measure_larger(cost, device, ROWS, 65_536)
    assert cost.rows == (*SIZES, 4096, 32_768, 65_536)
    assert cost.of(300_000) == pytest.approx(0.0302, rel=0.02)
    assert cost.of(10**7) == pytest.approx(1.008, rel=0.02)


def test_a_clock_that_stands_still_makes_no_cost_of_nothing(clock: Clock) -> None:
    (cost,) = measure([clock.predictor(lambda rows: 0.0)], ROWS)
    assert 0 < cost.of(1) < cost.of(10**6)


def test_single_rows_are_all_different_and_predictors_take_turns() -> None:
    calls: list[tuple[str, NDArray[np.float64]]] = []
    measure([lambda batch: calls.append(("a", batch)), lambda batch: calls.append(("b", batch))], ROWS)
    turn = [*[1] * SMALL_CALLS, *SIZES[1:]]
    assert [len(batch) for _, batch in calls[: 2 * len(turn)]] == turn * 2
    assert "".join(name for name, _ in calls[: 2 * len(turn)]) == "a" * len(turn) + "b" * len(turn)
    assert len(calls) == 2 * len(turn) * REPEATS
    singles = np.concatenate([batch for name, batch in calls if name == "a" and len(batch) == 1])
    np.testing.assert_array_equal(singles, ROWS[: len(singles)])


def test_larger_batches_are_warmed_up_and_measured_up_to_the_largest() -> None:
    sizes: list[int] = []
    base = Cost((1, 512), (1e-9, 1e-6))
    cost = measure_larger(base, lambda batch: sizes.append(len(batch)), ROWS, 5000)
    assert sizes == [*[4096] * (1 + LARGE_REPEATS), *[5000] * (1 + LARGE_REPEATS)]
    assert cost.rows == (1, 512, 4096, 5000)
    assert measure_larger(base, lambda batch: sizes.append(len(batch)), ROWS, 512) == base


def test_between_sizes_it_is_interpolated_and_beyond_in_proportion() -> None:
    cost = Cost((2, 4, 8), (1.0, 2.0, 2.0))
    assert [cost.of(rows) for rows in (0, 1, 2, 3, 4, 6, 8, 12)] == [1.0, 1.0, 1.0, 1.5, 2.0, 2.0, 2.0, 3.0]


@given(
    steps=st.lists(st.tuples(st.integers(1, 9999), st.floats(0, 10)), min_size=1, max_size=6),
    seconds=st.floats(0, 100),
)
def test_rows_within_a_time_are_the_most_that_take_no_longer(steps: list[tuple[int, float]], seconds: float) -> None:
    sizes = np.cumsum([size for size, _ in steps]).tolist()
    taken = (1e-3 + np.cumsum([time for _, time in steps])).tolist()
    cost = Cost(tuple(sizes), tuple(taken))
    rows = cost.rows_within(seconds)
    if seconds < taken[0]:
        assert rows == 0
    else:
        assert cost.of(rows) <= seconds * (1 + 1e-9)
        assert cost.of(rows + 2) >= seconds * (1 - 1e-9)


@pytest.mark.parametrize("count", [1, 3, SIZES[-1], SIZES[-1] + 1])
def test_rows_to_measure_with_are_like_the_sample_s_and_all_different(count: int) -> None:
    sample = np.random.default_rng(3).uniform(-5, 5, (count, 2))
    rows = vary(sample)
    assert rows.shape == (SIZES[-1], 2)
    assert rows.dtype == np.float64
    assert len(np.unique(rows, axis=0)) == SIZES[-1]
    ratio = rows / np.resize(sample, rows.shape)
    assert ratio.min() >= 0.7
    assert ratio.max() <= 1.3
    np.testing.assert_array_equal(rows, vary(sample))


def test_what_is_missing_stays_missing_and_zeros_vary_too() -> None:
    rows = vary(np.array([[np.nan, 0.0, 1.0]]))
    assert np.isnan(rows[:, 0]).all()
    # A model without an example is measured with a sample of zeros.
    assert len(np.unique(rows[:, 1])) == SIZES[-1]


def test_a_single_row_of_each_call_is_there() -> None:
    assert len(ROWS) >= REPEATS * SMALL_CALLS


def test_a_failing_predictor_is_the_caller_s_to_handle() -> None:
    with pytest.raises(ZeroDivisionError):
        measure([lambda batch: 1 / 0], ROWS)


BAD = {
    "a line": '{"fixed_seconds": 1, "seconds_per_row": 0}',
    "negative": '{"rows": [1], "seconds": [-1]}',
    "no rows": '{"rows": [0], "seconds": [1]}',
    "nothing": '{"rows": [], "seconds": []}',
    "free": '{"rows": [1], "seconds": [0]}',
    "sizes that do not ascend": '{"rows": [2, 2], "seconds": [1, 2]}',
    "seconds that descend": '{"rows": [1, 2], "seconds": [2, 1]}',
    "sizes without seconds": '{"rows": [1, 2], "seconds": [1]}',
    "no cost": "[1, 2]",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_a_cost_that_cannot_be_is_not_read(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Cost)
