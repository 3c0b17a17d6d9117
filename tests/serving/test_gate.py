"""Requests in progress are counted, and refused beyond the limit or while small ones wait too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Overloaded
from app.serving.gate import LEAST_BODIES, SLOW_S, WINDOW_S, Gate
from tests.clock import Clock


def test_as_many_are_let_in_as_the_limit_allows() -> None:
    gate = Gate(3, 0.5, Clock())
    tickets = [gate.enter() for _ in range(3)]
    assert gate.is_full()
    with pytest.raises(Overloaded, match="MAX_REQUESTS_IN_PROGRESS") as refused:
        gate.enter()
    assert refused.value.retry_after == 1
    gate.leave(tickets[1])
    gate.enter()
    assert gate.is_full()
    assert gate.in_progress == 3


def test_slow_requests_are_no_part_of_the_queue() -> None:
    clock = Clock()
    gate = Gate(2, 0.5, clock)
    slow = [gate.enter(), gate.enter()]
    clock.now += SLOW_S / 2
    assert gate.is_full()
    clock.now += SLOW_S / 2
    quick = [gate.enter(), gate.enter()]
    assert gate.is_full()
    assert gate.in_progress == 4
    for ticket in (*slow, *quick):
        gate.leave(ticket)
    assert gate.in_progress == 0
    assert not gate.is_full()


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "wait"]), st.integers(0, 9)), max_size=80))
def test_no_more_are_in_progress_than_the_limit_but_slow_ones(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    gate, limit = Gate(4, 0.5, clock), 4
    begun: dict[int, float] = {}
    for step, number in steps:
        if step == "wait":
            clock.now += number / 10
        elif step == "leave" and begun:
            ticket = list(begun)[number % len(begun)]
            gate.leave(ticket)
            del begun[ticket]
        elif step == "enter":
            quick = sum(since > clock.now - SLOW_S for since in begun.values())
            assert gate.is_full() == (quick >= limit)
            if quick < limit:
                begun[gate.enter()] = clock.now
        assert gate.in_progress == len(begun)


def read(gate: Gate, clock: Clock, waits: list[float]) -> None:
    """Have bodies read within a window, and another one after its end."""
    for seconds in waits:
        gate.has_read(seconds)
        clock.now += WINDOW_S / (len(waits) + 1)
    clock.now += WINDOW_S / 2
    gate.has_read(waits[-1])


def test_requests_are_refused_while_even_the_quickest_wait_too_long() -> None:
    clock = Clock()
    gate = Gate(1000, 0.5, clock)
    read(gate, clock, [0.6] * LEAST_BODIES)
    assert gate.wait() == 0.6
    with pytest.raises(Overloaded, match="overloaded"):
        gate.enter()
    read(gate, clock, [0.6] * LEAST_BODIES + [0.4])
    assert gate.wait() == 0.4
    gate.enter()


@pytest.mark.parametrize("waits", [[9.0] * (LEAST_BODIES - 2), [9.0] * LEAST_BODIES + [0.001]])
def test_slow_clients_keep_nobody_out(waits: list[float]) -> None:
    clock = Clock()
    gate = Gate(1000, 0.5, clock)
    read(gate, clock, waits)
    gate.enter()


def test_a_wait_counts_for_a_moment_only() -> None:
    clock = Clock()
    gate = Gate(1000, 0.5, clock)
    read(gate, clock, [0.6] * LEAST_BODIES)
    clock.now += WINDOW_S * 1.01
    assert gate.wait() == 0.0
    gate.enter()
    for _ in range(LEAST_BODIES):
        gate.has_read(0.7)
    clock.now += 3 * WINDOW_S  # too long ago to say anything of now
    gate.has_read(0.7)
    gate.enter()
