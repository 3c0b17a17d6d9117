"""Requests that take too long are ended, each for the right reason, by one timer for all of them."""

import asyncio
import contextlib
import gc
import weakref
from typing import Any

import pytest

from app.errors import AnswerTimeout, BodyTimeout, DeadlineExceeded, Disconnected
from app.serving.deadline import Deadline, Deadlines

SHORT_S = 0.01
LONG_S = 3600.0
WITHIN_S = 20.0


async def hang(deadline: Deadline, *, reading: bool = True, sending: bool = False) -> None:
    """A request that is never answered."""
    with deadline:
        deadline.reading = reading
        if sending:
            deadline.send_in_parts(lambda: None)
        await asyncio.Event().wait()


async def reads(deadline: Deadline, read: Any) -> None:
    """A request whose client reads its answer like this."""
    deadline.send_in_parts(read)
    await asyncio.Event().wait()


async def within_reason(work: Any) -> Any:
    async with asyncio.timeout(WITHIN_S):
        return await work


def cancellations() -> int:
    """Of this task, those that nobody has answered for."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize(
    ("reading", "reason", "words"),
    [
        (True, BodyTimeout, "The body did not arrive within 0.01 seconds."),
        (False, DeadlineExceeded, "The request was not answered within 0.01 seconds."),
    ],
)
async def test_the_error_depends_on_whether_the_body_had_arrived(
    reading: bool, reason: type[Exception], words: str
) -> None:
    with pytest.raises(reason) as raised:
        await within_reason(hang(Deadlines(SHORT_S).start(), reading=reading))
    assert str(raised.value) == words


async def test_a_disconnect_ends_the_request() -> None:
    deadline = Deadlines(LONG_S).start()
    asyncio.get_running_loop().call_soon(deadline.disconnect)
    with pytest.raises(Disconnected):
        await within_reason(hang(deadline))


async def test_what_an_ended_request_held_is_freed_at_once() -> None:
    """Rows and answers take megabytes, and the garbage collector may not run for minutes."""

    class Rows:
        pass

    async def hold() -> Any:
        rows = Rows()
        held.append(weakref.ref(rows))
        with Deadlines(LONG_S).start() as deadline:
            asyncio.get_running_loop().call_soon(deadline.disconnect)
            await asyncio.Event().wait()

    held: list[weakref.ref[Rows]] = []
    gc.disable()
    try:
        with contextlib.suppress(Disconnected):
            await within_reason(hold())
        await asyncio.sleep(0)  # until then the loop has the exception
        assert held[0]() is None
    finally:
        gc.enable()


async def test_a_request_that_is_over_cannot_be_ended() -> None:
    with Deadlines(LONG_S).start() as deadline:
        await asyncio.sleep(0)
    deadline.disconnect()
    await asyncio.sleep(0)
    assert cancellations() == 0


async def test_a_client_that_reads_nothing_of_its_answer_is_the_reason() -> None:
    with pytest.raises(AnswerTimeout) as raised:
        await within_reason(hang(Deadlines(SHORT_S).start(), reading=False, sending=True))
    assert str(raised.value) == "The client read nothing of the answer for 0.01 seconds."


async def test_a_client_has_the_whole_time_for_each_part_of_its_answer() -> None:
    deadlines = Deadlines(LONG_S)
    with deadlines.start() as first, deadlines.start() as second:
        for one, other in ((first, second), (second, first)):
            one.restart()
            assert list(deadlines._running) == [other, one]  # in the order in which they expire
            assert one.ends >= other.ends
        assert first.ends >= first.loop.time() + LONG_S - WITHIN_S
    assert deadlines._running == {}


async def test_a_client_that_reads_on_is_waited_for() -> None:
    """Each look at what it has read gives it as much time again, until there is nothing new."""
    looks = iter([0, 10, 20, 20])
    with pytest.raises(AnswerTimeout), Deadlines(SHORT_S).start() as deadline:
        await within_reason(reads(deadline, lambda: next(looks)))
    assert list(looks) == []


async def test_the_first_reason_counts() -> None:
    deadline = Deadlines(LONG_S).start()
    for end in (deadline.expire, deadline.disconnect):
        asyncio.get_running_loop().call_soon(end)
    with pytest.raises(BodyTimeout):
        await within_reason(hang(deadline))
    assert cancellations() == 0


async def test_a_cancellation_from_elsewhere_stays_a_cancellation() -> None:
    task = asyncio.create_task(hang(Deadlines(LONG_S).start()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within_reason(task)
    assert task.cancelled()


async def test_a_foreign_cancellation_is_not_mistaken_for_the_deadline() -> None:
    deadline = Deadlines(LONG_S).start()
    task = asyncio.create_task(hang(deadline))
    await asyncio.sleep(0)
    task.cancel()
    deadline.disconnect()
    await within_reason(asyncio.wait([task]))
    assert task.cancelled()


async def test_the_task_continues_after_its_deadline() -> None:
    with pytest.raises(BodyTimeout):
        await within_reason(hang(Deadlines(SHORT_S).start()))
    assert cancellations() == 0
    async with asyncio.TaskGroup() as group:  # ends in a cancellation where one is left over
        answer = group.create_task(asyncio.sleep(0, "still here"))
    assert answer.result() == "still here"


async def test_an_exception_of_the_work_is_passed_on() -> None:
    async def fail() -> None:
        with Deadlines(LONG_S).start():
            await asyncio.sleep(0)
            raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        await fail()


async def test_a_request_in_time_does_not_expire_later() -> None:
    deadlines = Deadlines(SHORT_S)
    with deadlines.start():
        await asyncio.sleep(0)
    with pytest.raises(BodyTimeout):  # begun later, so that the time of the first is over by then
        await within_reason(asyncio.create_task(hang(deadlines.start())))
    assert cancellations() == 0


async def test_a_request_in_time_is_forgotten() -> None:
    deadlines = Deadlines(LONG_S)
    with deadlines.start() as deadline:
        known = dict(deadlines._running)
    assert (list(known), deadlines._running) == ([deadline], {})


async def test_the_next_request_expires_after_the_first() -> None:
    deadlines = Deadlines(SHORT_S)
    tasks: list[asyncio.Task[None]] = []
    for _ in range(3):
        tasks.append(asyncio.create_task(hang(deadlines.start())))
        await asyncio.sleep(SHORT_S / 3)
    await within_reason(asyncio.wait(tasks))
    assert [type(task.exception()) for task in tasks] == [BodyTimeout] * 3
    with pytest.raises(DeadlineExceeded):  # nobody was left by then
        await within_reason(hang(deadlines.start(), reading=False))


async def test_requests_that_expire_together_are_ended_together() -> None:
    deadlines = Deadlines(SHORT_S)
    tasks = [asyncio.create_task(hang(deadlines.start(), reading=number % 2 == 0)) for number in range(10)]
    await within_reason(asyncio.wait(tasks))
    assert [type(task.exception()) for task in tasks] == [BodyTimeout, DeadlineExceeded] * 5


def test_one_timer_serves_all_requests() -> None:
    timers: list[Any] = []

    class Loop(asyncio.SelectorEventLoop):
        def call_at(self, when: float, callback: Any, *arguments: Any, **context: Any) -> asyncio.TimerHandle:
            timers.append(callback)
            return super().call_at(when, callback, *arguments, **context)

    async def answer_many() -> None:
        deadlines = Deadlines(LONG_S)
        for _ in range(100):
            with deadlines.start(), deadlines.start():
                await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(answer_many())
    assert len(timers) == 1
