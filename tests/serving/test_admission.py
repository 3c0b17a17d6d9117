"""Rows in flight and the wait for a thread are counted and bounded."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Overloaded
from app.serving.admission import COPIES, EXPECTED_S, MEMORY_SHARE, MOST_ARRIVING, Admission, Reservation
from tests.clock import Clock

ROWS_A_SECOND = 128
COLUMNS = 8


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(1000, 2**30, clock=clock)


def queued(admission: Admission, rows: int) -> Reservation:
    reservation = admission.enter(COLUMNS)
    reservation.reserve(rows)
    reservation.join_queue()
    return reservation


def work(admission: Admission, clock: Clock, rows: int, seconds: float) -> None:
    """A request that is alone in the queue, and takes this long."""
    with queued(admission, rows):
        clock.now += seconds


@pytest.fixture
def measured(admission: Admission, clock: Clock) -> Admission:
    """An admission that knows how long a row takes."""
    work(admission, clock, ROWS_A_SECOND, 1.0)
    return admission


def refusal(admission: Admission, rows: int) -> Overloaded:
    with pytest.raises(Overloaded) as raised:
        admission.check_wait(rows)
    return raised.value


def test_rows_are_counted_while_reserved(admission: Admission) -> None:
    with admission.enter(COLUMNS) as first, admission.enter(COLUMNS) as second:
        first.reserve(10)
        second.reserve(5)
        assert admission.rows() == {"held": 15, "queued": 0}
        first.reserve(3)
        second.join_queue()
        assert admission.rows() == {"held": 8, "queued": 5}
    assert admission.rows() == {"held": 0, "queued": 0}


@pytest.mark.parametrize("kind", [KeyError, Overloaded, asyncio.CancelledError])
def test_rows_are_released_however_a_request_ends(admission: Admission, kind: type[BaseException]) -> None:
    with pytest.raises(kind), queued(admission, 10):
        raise kind("failed")
    assert admission.rows() == {"held": 0, "queued": 0}


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (1, 1), (64, 1), (65, 2), (6400, 100)])
def test_a_body_counts_as_rows_of_float64(admission: Admission, count: int, rows: int) -> None:
    with admission.enter(COLUMNS) as reservation:
        reservation.reserve_bytes(count)
        assert (reservation.rows, reservation.rows_of(count), admission.in_flight) == (rows, rows, rows)


def test_a_row_that_is_explained_counts_as_many(measured: Admission) -> None:
    with measured.enter(COLUMNS) as reservation:
        reservation.weigh(10.0, 3 * COLUMNS)  # ten times the time, and half of its memory once more in each copy
        reservation.reserve(7)
        reservation.join_queue()
        assert (reservation.rows, measured.rows()) == (7, {"held": 14, "queued": 70})
        reservation.reserve(8)
        assert measured.rows() == {"held": 16, "queued": 80}
        reservation.leave_queue()
        reservation.reserve_answer(2 * COPIES * 8 * COLUMNS)
        assert measured.rows() == {"held": 2, "queued": 0}
    assert measured.rows() == {"held": 0, "queued": 0}


def test_the_wait_for_rows_that_are_explained_is_refused_by_their_time(measured: Admission) -> None:
    with measured.enter(COLUMNS) as explained:
        explained.weigh(10.0, 0)
        explained.reserve(ROWS_A_SECOND // 10)
        explained.join_queue()
        assert refusal(measured, 1).refusal == "queue"


def test_no_more_rows_are_in_flight_than_allowed(admission: Admission) -> None:
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


def test_a_single_request_may_reserve_any_number_of_rows(admission: Admission) -> None:
    with admission.enter(COLUMNS) as reservation, admission.enter(COLUMNS) as other:
        reservation.reserve(10_000)
        reservation.reserve(20_000)
        assert admission.in_flight == 20_000
        with pytest.raises(Overloaded):
            other.reserve(1)
    assert admission.in_flight == 0


@pytest.mark.parametrize("columns", [1, 8, 300])
def test_the_default_limit_is_a_share_of_the_memory(columns: int) -> None:
    memory = 2**30
    rows = Admission(None, memory).max_rows(columns)
    assert rows * columns * 8 * COPIES <= MEMORY_SHARE * memory < (rows + 1) * columns * 8 * COPIES


@pytest.mark.parametrize("columns", [0, 1, 10**6])
def test_there_is_always_room_for_one_row(columns: int) -> None:
    assert Admission(None, 1).max_rows(columns) == 1


def test_a_limit_that_is_set_does_not_depend_on_memory() -> None:
    assert [Admission(77, memory).max_rows(columns) for memory in (1, 2**40) for columns in (0, 8)] == [77] * 4


def test_an_empty_queue_refuses_nobody(measured: Admission, clock: Clock) -> None:
    work(measured, clock, 1, 3600.0)
    measured.check_wait(1)
    measured.check_wait(10**9)


def test_a_wait_up_to_half_a_second_is_accepted(measured: Admission) -> None:
    with queued(measured, ROWS_A_SECOND // 2):
        measured.check_wait(1)
        with queued(measured, 1):
            assert refusal(measured, 1).retry_after == 1  # whole seconds
    measured.check_wait(1)


def test_a_refusal_states_the_expected_wait(measured: Admission) -> None:
    with queued(measured, 5 * ROWS_A_SECOND):
        assert refusal(measured, 1).retry_after == 5
        refused = measured.enter(COLUMNS)
        refused.reserve(1)
        with pytest.raises(Overloaded), refused:
            refused.join_queue()
        assert measured.rows() == {"held": 5 * ROWS_A_SECOND, "queued": 5 * ROWS_A_SECOND}


def test_a_large_request_may_wait_as_long_as_it_takes_itself(measured: Admission) -> None:
    with queued(measured, 5 * ROWS_A_SECOND):
        measured.check_wait(5 * ROWS_A_SECOND)
        assert refusal(measured, 5 * ROWS_A_SECOND - 1).retry_after == 5


def test_nobody_is_refused_before_the_speed_is_known(admission: Admission) -> None:
    with queued(admission, 900):
        admission.check_wait(1)


def test_the_speed_follows_recent_requests(measured: Admission, clock: Clock) -> None:
    for _ in range(50):
        work(measured, clock, ROWS_A_SECOND, 4.0)
    with queued(measured, ROWS_A_SECOND):
        assert refusal(measured, 1).retry_after == 4


def test_the_speed_is_that_of_all_threads_together(admission: Admission, clock: Clock) -> None:
    requests = [queued(admission, ROWS_A_SECOND) for _ in range(6)]
    for one, other in zip(requests[::2], requests[1::2], strict=True):
        clock.now += 2.0  # each takes two seconds, and both are done at once
        for reservation in (one, other):
            with reservation:
                pass
    with queued(admission, 5 * ROWS_A_SECOND):
        assert 5 <= refusal(admission, 1).retry_after <= 7


def test_a_failed_request_does_not_change_the_speed(measured: Admission, clock: Clock) -> None:
    for seconds in (0.0, 3600.0):
        reservation = queued(measured, ROWS_A_SECOND)
        clock.now += seconds
        reservation.__exit__(ValueError, ValueError(), None)
    with queued(measured, 2 * ROWS_A_SECOND):
        assert refusal(measured, 1).retry_after == 2


def test_idle_time_does_not_change_the_speed(measured: Admission, clock: Clock) -> None:
    clock.now += 3600.0
    work(measured, clock, ROWS_A_SECOND, 1.0)
    with queued(measured, 2 * ROWS_A_SECOND):
        assert refusal(measured, 1).retry_after == 2


def test_the_rows_that_were_decoded_replace_those_that_were_estimated(measured: Admission, clock: Clock) -> None:
    """A Parquet file of 37 KB can hold a million rows."""
    with queued(measured, 5) as packed:
        packed.reserve(500)
        assert measured.rows() == {"held": 500, "queued": 500}
        assert refusal(measured, 1).retry_after == 4
        clock.now += 500 / ROWS_A_SECOND
    assert measured.rows() == {"held": 0, "queued": 0}
    with queued(measured, 2 * ROWS_A_SECOND):  # which take as long as before
        assert refusal(measured, 1).retry_after == 2


@pytest.mark.parametrize("first", ["ahead", "behind"])
def test_the_speed_counts_the_decoded_rows_ahead(measured: Admission, clock: Clock, first: str) -> None:
    ahead, behind = queued(measured, 5), queued(measured, ROWS_A_SECOND // 4)
    ahead.reserve(3 * ROWS_A_SECOND)
    clock.now += 3.25
    for reservation in (ahead, behind) if first == "ahead" else (behind, ahead):
        with reservation:
            pass
    with queued(measured, 5 * ROWS_A_SECOND):
        assert 5 <= refusal(measured, 1).retry_after <= 6


def test_rows_decoded_behind_a_request_are_not_ahead_of_it(measured: Admission, clock: Clock) -> None:
    for _ in range(20):
        ahead, behind = queued(measured, ROWS_A_SECOND // 4), queued(measured, 1)
        behind.reserve(500)
        clock.now += 0.25
        with ahead:
            pass
        behind.__exit__(ValueError, ValueError(), None)
    with queued(measured, 5 * ROWS_A_SECOND):
        assert refusal(measured, 1).retry_after == 5


def test_the_time_in_which_a_client_reads_its_answer_does_not_change_the_speed(
    measured: Admission, clock: Clock
) -> None:
    with queued(measured, ROWS_A_SECOND) as reservation:
        clock.now += 1.0
        reservation.leave_queue()
        reservation.reserve_answer(8 * ROWS_A_SECOND)
        assert measured.rows() == {"held": -(-ROWS_A_SECOND // (COPIES * COLUMNS)), "queued": 0}
        clock.now += 3600.0
        reservation.leave_queue()
    with queued(measured, 2 * ROWS_A_SECOND):
        assert refusal(measured, 1).retry_after == 2


def test_an_answer_is_never_refused_since_all_is_done(admission: Admission) -> None:
    with admission.enter(COLUMNS) as first, admission.enter(COLUMNS) as other:
        first.reserve(5)
        other.reserve(995)
        first.reserve_answer(100 * COPIES * 8 * COLUMNS)
        assert admission.in_flight == 1095
        first.reserve(50)  # nor is one who gives rows back
        assert admission.in_flight == 1045


def test_a_body_of_many_bytes_and_few_rows_counts_as_its_bytes_in_the_queue(measured: Admission, clock: Clock) -> None:
    """Else the time that its bytes took would count as that of its rows."""
    with queued(measured, ROWS_A_SECOND) as padded:
        padded.reserve(1)
        assert measured.rows() == {"held": 1, "queued": ROWS_A_SECOND}
        clock.now += 1.0
    with queued(measured, 2 * ROWS_A_SECOND):
        assert refusal(measured, 1).retry_after == 2


def test_who_is_in_the_queue_does_not_join_it_again(measured: Admission) -> None:
    with queued(measured, 4 * ROWS_A_SECOND) as reservation:
        reservation.join_queue()
        assert measured.queued == 4 * ROWS_A_SECOND


def test_no_more_bodies_arrive_at_once_than_can_be_worked_on(admission: Admission, clock: Clock) -> None:
    arriving = [admission.enter(COLUMNS).__enter__() for _ in range(MOST_ARRIVING + 1)]
    for reservation in arriving[:-1]:
        reservation.expect_bytes(1)
    with pytest.raises(Overloaded, match="large bodies"):
        arriving[-1].expect_bytes(1)
    arriving[0].__exit__(None, None, None)
    arriving[-1].expect_bytes(1)
    with admission.enter(COLUMNS) as late:
        with pytest.raises(Overloaded):
            late.expect_bytes(1)
        clock.now += EXPECTED_S  # by then the others are slow, and keep nobody out
        late.expect_bytes(1)


def test_bodies_that_arrive_count_as_queued(measured: Admission) -> None:
    arriving = [measured.enter(COLUMNS).__enter__() for _ in range(3)]
    for reservation in arriving[:2]:
        reservation.expect_bytes(8 * COLUMNS * ROWS_A_SECOND // 2)
    assert refusal(measured, 1).retry_after == 1
    with pytest.raises(Overloaded):
        arriving[2].expect_bytes(8 * COLUMNS)
    for reservation in arriving:  # what was let in is queued, whatever arrives beside it
        reservation.reserve(ROWS_A_SECOND // 4)
        reservation.join_queue()
        reservation.__exit__(None, None, None)
    measured.check_wait(1)


def test_a_body_that_takes_long_to_arrive_keeps_nobody_out(measured: Admission, clock: Clock) -> None:
    with measured.enter(COLUMNS) as slow:
        slow.expect_bytes(8 * COLUMNS * ROWS_A_SECOND * 10)
        assert refusal(measured, 1).retry_after == 10
        clock.now += EXPECTED_S
        measured.check_wait(1)
    measured.check_wait(1)
    with measured.enter(COLUMNS) as gone:
        gone.expect_bytes(8 * COLUMNS * ROWS_A_SECOND * 10)
    measured.check_wait(1)


STEPS = (
    "enter", "expect", "reserve", "reserve bytes", "reserve answer", "join queue", "leave queue", "leave", "fail",
)  # fmt: skip
STEP = st.tuples(st.sampled_from(STEPS), st.integers(0, 5), st.integers(0, 400))


@given(limit=st.none() | st.integers(1, 500), steps=st.lists(STEP, max_size=60))
def test_counts_match_the_reservations_and_return_to_zero(limit: int | None, steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    admission = Admission(limit, 40_000, clock=clock)
    reservations: dict[Reservation, int | None] = {}  # and the rows that each has in the queue
    for step, which, number in steps:
        clock.now += number / 100
        if step == "enter":
            reservations[admission.enter(COLUMNS).__enter__()] = None
        elif reservations:
            reservation = list(reservations)[which % len(reservations)]
            before = reservation.rows
            try:
                in_queue = reservations[reservation]
                if step == "expect" and in_queue is None:
                    reservation.expect_bytes(number * 8)
                elif step == "reserve":
                    reservation.reserve(number)
                elif step == "reserve bytes":
                    reservation.reserve_bytes(number * 8)
                elif step == "join queue":
                    reservation.join_queue()
                    reservations[reservation] = reservation.rows if in_queue is None else in_queue
                elif step == "leave queue":
                    reservation.leave_queue()
                    reservations[reservation] = None
                elif step == "reserve answer":
                    reservation.reserve_answer(min(number, before) * 8)
                elif step in ("leave", "fail"):
                    error = ValueError() if step == "fail" else None
                    reservation.__exit__(error and type(error), error, None)
                    del reservations[reservation]
                if step.startswith("reserve") and step != "reserve answer" and in_queue is not None:
                    reservations[reservation] = max(in_queue, reservation.rows)
            except Overloaded as error:
                refused = (reservation.rows, error.retry_after or 0)
                assert refused >= (before, 1)
        held = sum(reservation.rows for reservation in reservations)
        waiting = [rows for rows in reservations.values() if rows is not None]
        assert admission.rows() == {"held": held, "queued": sum(waiting)}
        assert sorted(ticket.rows for ticket in admission._tickets) == sorted(waiting)
        assert all(ticket.ahead >= ticket.rows for ticket in admission._tickets)
        others = sum(reservation.rows > 0 for reservation in reservations)
        assert others <= 1 or held <= admission.max_rows(COLUMNS)
    for reservation in reservations:
        reservation.__exit__(None, None, None)
    assert admission.rows() == {"held": 0, "queued": 0}
