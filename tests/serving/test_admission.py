"""What is held is counted and bounded, and so is the wait of those who stand in line."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Overloaded
from app.serving.admission import COPIES, MEMORY_SHARE, Admission, Reservation

ROWS_A_SECOND = 128
COLUMNS = 8


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(1000, 2**30, clock)


def queued(admission: Admission, rows: int) -> Reservation:
    reservation = admission.enter(COLUMNS)
    reservation.reserve(rows)
    reservation.join_queue()
    return reservation


def work(admission: Admission, clock: Clock, rows: int, seconds: float) -> None:
    """A request that is alone in line, and takes so long."""
    with queued(admission, rows):
        clock.now += seconds


@pytest.fixture
def paced(admission: Admission, clock: Clock) -> Admission:
    """One that has seen how fast rows are done."""
    work(admission, clock, ROWS_A_SECOND, 1.0)
    return admission


def refusal(admission: Admission, rows: int) -> Overloaded:
    with pytest.raises(Overloaded) as raised:
        admission.check_wait(rows)
    return raised.value


def test_rows_are_counted_while_they_are_held(admission: Admission) -> None:
    with admission.enter(COLUMNS) as first, admission.enter(COLUMNS) as second:
        first.reserve(10)
        second.reserve(5)
        assert admission.rows() == {"held": 15, "queued": 0}
        first.reserve(3)
        second.join_queue()
        assert admission.rows() == {"held": 8, "queued": 5}
    assert admission.rows() == {"held": 0, "queued": 0}


@pytest.mark.parametrize("kind", [KeyError, Overloaded, asyncio.CancelledError])
def test_rows_are_given_back_however_a_request_ends(admission: Admission, kind: type[BaseException]) -> None:
    with pytest.raises(kind), queued(admission, 10):
        raise kind("failed")
    assert admission.rows() == {"held": 0, "queued": 0}


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (1, 1), (64, 1), (65, 2), (6400, 100)])
def test_a_body_counts_as_the_rows_that_its_bytes_would_be(admission: Admission, count: int, rows: int) -> None:
    with admission.enter(COLUMNS) as reservation:
        reservation.reserve_bytes(count)
        assert (reservation.rows, reservation.rows_of(count), admission.in_flight) == (rows, rows, rows)


def test_no_more_rows_are_held_than_allowed(admission: Admission) -> None:
    with admission.enter(COLUMNS) as first, admission.enter(COLUMNS) as second:
        first.reserve(400)
        second.reserve(600)
        with pytest.raises(Overloaded, match="MAX_ROWS_IN_FLIGHT"):
            second.reserve(601)
        assert admission.in_flight == 1000
        with admission.enter(COLUMNS) as third:
            with pytest.raises(Overloaded):
                third.reserve(1)
            first.reserve(399)
            third.reserve(1)
            assert admission.in_flight == 1000
    assert admission.in_flight == 0


def test_the_only_request_may_hold_any_number(admission: Admission) -> None:
    with admission.enter(COLUMNS) as reservation, admission.enter(COLUMNS) as other:
        reservation.reserve(10_000)
        reservation.reserve(20_000)
        assert admission.in_flight == 20_000
        with pytest.raises(Overloaded):
            other.reserve(1)
    assert admission.in_flight == 0


@pytest.mark.parametrize("columns", [1, 8, 300])
def test_unset_the_limit_is_what_fits_into_a_share_of_the_memory(columns: int) -> None:
    memory = 2**30
    rows = Admission(None, memory).max_rows(columns)
    assert rows * columns * 8 * COPIES <= MEMORY_SHARE * memory < (rows + 1) * columns * 8 * COPIES


@pytest.mark.parametrize("columns", [0, 1, 10**6])
def test_there_is_always_room_for_a_row(columns: int) -> None:
    assert Admission(None, 1).max_rows(columns) == 1


def test_a_limit_that_is_set_holds_whatever_the_memory() -> None:
    assert [Admission(77, memory).max_rows(columns) for memory in (1, 2**40) for columns in (0, 8)] == [77] * 4


def test_nobody_waits_before_an_empty_line(paced: Admission, clock: Clock) -> None:
    work(paced, clock, 1, 3600.0)
    paced.check_wait(1)
    paced.check_wait(10**9)


def test_a_wait_up_to_half_a_second_is_put_up_with(paced: Admission) -> None:
    with queued(paced, ROWS_A_SECOND // 2):
        paced.check_wait(1)
        with queued(paced, 1):
            assert refusal(paced, 1).retry_after == 1  # whole seconds
    paced.check_wait(1)


def test_a_refusal_names_the_wait_that_is_expected(paced: Admission) -> None:
    with queued(paced, 5 * ROWS_A_SECOND):
        assert refusal(paced, 1).retry_after == 5
        refused = paced.enter(COLUMNS)
        refused.reserve(1)
        with pytest.raises(Overloaded), refused:
            refused.join_queue()
        assert paced.rows() == {"held": 5 * ROWS_A_SECOND, "queued": 5 * ROWS_A_SECOND}


def test_a_large_request_puts_up_with_a_wait_as_long_as_it_takes_itself(paced: Admission) -> None:
    with queued(paced, 5 * ROWS_A_SECOND):
        paced.check_wait(5 * ROWS_A_SECOND)
        assert refusal(paced, 5 * ROWS_A_SECOND - 1).retry_after == 5


def test_without_a_pace_nobody_is_refused(admission: Admission) -> None:
    with queued(admission, 900):
        admission.check_wait(1)


def test_the_pace_follows_what_requests_take(paced: Admission, clock: Clock) -> None:
    for _ in range(50):
        work(paced, clock, ROWS_A_SECOND, 4.0)
    with queued(paced, ROWS_A_SECOND):
        assert refusal(paced, 1).retry_after == 4


def test_the_pace_is_that_of_all_threads_together(admission: Admission, clock: Clock) -> None:
    line = [queued(admission, ROWS_A_SECOND) for _ in range(6)]
    for one, other in zip(line[::2], line[1::2], strict=True):
        clock.now += 2.0  # each takes two seconds, and both are done at once
        for reservation in (one, other):
            with reservation:
                pass
    with queued(admission, 5 * ROWS_A_SECOND):
        assert 5 <= refusal(admission, 1).retry_after <= 7


def test_a_request_that_failed_says_nothing_of_the_pace(paced: Admission, clock: Clock) -> None:
    for seconds in (0.0, 3600.0):
        reservation = queued(paced, ROWS_A_SECOND)
        clock.now += seconds
        reservation.__exit__(ValueError, ValueError(), None)
    with queued(paced, 2 * ROWS_A_SECOND):
        assert refusal(paced, 1).retry_after == 2


def test_idle_time_is_not_taken_for_work(paced: Admission, clock: Clock) -> None:
    clock.now += 3600.0
    work(paced, clock, ROWS_A_SECOND, 1.0)
    with queued(paced, 2 * ROWS_A_SECOND):
        assert refusal(paced, 1).retry_after == 2


STEP = st.tuples(
    st.sampled_from(["enter", "hold", "hold bytes", "line up", "leave", "fail"]),
    st.integers(0, 5),
    st.integers(0, 400),
)


@given(limit=st.none() | st.integers(1, 500), steps=st.lists(STEP, max_size=60))
def test_counts_are_those_of_the_reservations_and_return_to_zero(
    limit: int | None, steps: list[tuple[str, int, int]]
) -> None:
    clock = Clock()
    admission = Admission(limit, 40_000, clock)
    reservations: dict[Reservation, int] = {}  # and the rows with which each lined up
    for step, which, number in steps:
        clock.now += number / 100
        if step == "enter":
            reservations[admission.enter(COLUMNS).__enter__()] = 0
        elif reservations:
            reservation = list(reservations)[which % len(reservations)]
            before = reservation.rows
            try:
                if step == "hold":
                    reservation.reserve(number)
                elif step == "hold bytes":
                    reservation.reserve_bytes(number * 8)
                elif step == "line up" and not reservations[reservation]:
                    reservation.join_queue()
                    reservations[reservation] = reservation.rows
                elif step in ("leave", "fail"):
                    error = ValueError() if step == "fail" else None
                    reservation.__exit__(error and type(error), error, None)
                    del reservations[reservation]
            except Overloaded as error:
                refused = (reservation.rows, error.retry_after or 0)
                assert refused >= (before, 1)
        held = sum(reservation.rows for reservation in reservations)
        assert admission.rows() == {"held": held, "queued": sum(reservations.values())}
        others = sum(reservation.rows > 0 for reservation in reservations)
        assert others <= 1 or held <= admission.max_rows(COLUMNS)
    for reservation in reservations:
        reservation.__exit__(None, None, None)
    assert admission.rows() == {"held": 0, "queued": 0}
