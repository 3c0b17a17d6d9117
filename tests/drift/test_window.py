"""Counts of the last seconds: rows come in, and go out when they are older than the window."""

import threading

from app.drift.window import SLICES, WindowedCounts
from tests.drift.rows import FEATURES, Clock, predictions_of, profile_of, rows_of

PROFILE = profile_of(rows_of(300))
MINUTE = 3600 / SLICES


def counts_of(clock: Clock) -> WindowedCounts:
    return WindowedCounts(PROFILE, FEATURES, 3600, clock)


def add(counts: WindowedCounts, number: int, seed: int = 0) -> None:
    rows = rows_of(number, seed)
    counts.add(rows, predictions_of(rows))


def test_rows_leave_the_window_a_slice_late_at_most() -> None:
    clock = Clock()
    counts = counts_of(clock)
    for _ in range(150):
        add(counts, 2)
        window, total = counts.window().features, counts.total().features
        assert window.cells[0].sum() == window.rows
        clock.now += MINUTE
    assert total.rows == 300
    assert counts.window().features.rows in (2 * SLICES, 2 * SLICES + 2)
    assert counts.window().prediction.rows == counts.window().features.rows


def test_the_window_is_empty_after_its_time() -> None:
    clock = Clock()
    counts = counts_of(clock)
    add(counts, 100)
    for _ in range(SLICES + 2):
        clock.now += MINUTE
        counts.window()
    assert counts.window().features.rows == 0
    assert not counts.window().features.cells.any()
    assert counts.total().features.rows == 100


def test_slices_are_bounded_however_often_rows_come() -> None:
    clock = Clock()
    counts = counts_of(clock)
    for _ in range(500):
        add(counts, 1)
        clock.now += MINUTE / 7
    assert counts.window().features.rows in range(7 * SLICES, 7 * SLICES + 8)


def test_threads_lose_no_row() -> None:
    counts = counts_of(Clock())
    rows = rows_of(500)

    def work() -> None:
        for _ in range(20):
            counts.add(rows, predictions_of(rows), in_thread=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = counts.total()
    assert total.features.rows == total.prediction.cells[0].sum() == 4 * 20 * 500
