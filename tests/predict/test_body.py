"""A body is read within limits, and not a message more than it takes."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedBody, Overloaded, TooLarge
from app.predict.body import (
    DRAIN_INTERVAL_S,
    FREE_MESSAGES,
    LEAST_MESSAGE_BYTES,
    Drain,
    Headers,
    read_body,
)
from app.serving.admission import Admission

LIMIT = 1000
COLUMNS = 8
GONE = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def parts(*bodies: bytes) -> list[dict[str, Any]]:
    return [part(body, more=place < len(bodies)) for place, body in enumerate(bodies, 1)]


class Connection:
    """Gives the messages of a request; to ask for one more is a mistake, for a server would let one wait for it."""

    def __init__(self, messages: Iterable[dict[str, Any]]) -> None:
        self.asked = 0
        self._messages = iter(messages)

    async def __call__(self) -> Any:
        self.asked += 1
        for message in self._messages:
            return message
        raise AssertionError("there is nothing more to come")


def of_length(length: object) -> Headers:
    return {b"content-length": str(length).encode()}


CHUNKED: Headers = {b"transfer-encoding": b"chunked"}


async def read(headers: Headers, connection: Connection, limit: int = LIMIT) -> bytes:
    return bytes(await read_body(headers, connection, limit, "MAX_JSON_BYTES"))


@pytest.mark.parametrize("size", [0, 1, LIMIT])
async def test_a_body_of_a_known_length_takes_one_message(size: int) -> None:
    connection = Connection([part(b"x" * size)])  # that it ends here is only said by the next one
    assert await read(of_length(size), connection) == b"x" * size
    assert connection.asked == 1


async def test_a_body_of_a_known_length_ends_with_its_last_byte() -> None:
    connection = Connection([part(b"ab"), part(b""), part(b"c"), part(b"d")])
    assert await read(of_length(4), connection) == b"abcd"
    assert connection.asked == 4


@given(bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=20), declared=st.booleans(), ended=st.booleans())
async def test_the_parts_are_put_together(bodies: list[bytes], declared: bool, ended: bool) -> None:
    whole = b"".join(bodies)
    messages = parts(*bodies) if ended or not declared else [part(body) for body in bodies]
    headers = of_length(len(whole)) if declared else CHUNKED
    assert await read(headers, Connection(messages)) == whole


@pytest.mark.parametrize("headers", [CHUNKED, {}, of_length("abc"), of_length("-1"), of_length("1, 1")])
async def test_without_a_length_the_server_says_when_it_ends(headers: Headers) -> None:
    connection = Connection([part(b"a"), part(b"b"), part(b"", more=False)])
    assert await read(headers, connection) == b"ab"


async def test_a_message_may_leave_out_what_is_default() -> None:
    assert await read({}, Connection([{"type": "http.request"}])) == b""
    assert await read({}, Connection([{"type": "http.request", "body": b"a"}])) == b"a"


async def test_a_body_that_says_that_it_is_too_large_is_not_even_begun() -> None:
    connection = Connection([])
    with pytest.raises(TooLarge, match="larger than MAX_JSON_BYTES"):
        await read(of_length(LIMIT + 1), connection)
    assert connection.asked == 0


async def test_a_body_that_comes_too_large_at_one_go_is_refused() -> None:
    with pytest.raises(TooLarge):
        await read(CHUNKED, Connection([part(b"x" * (LIMIT + 1), more=False)]))
    assert await read(CHUNKED, Connection([part(b"x" * LIMIT, more=False)])) == b"x" * LIMIT


async def test_a_body_that_grows_too_large_is_not_read_on() -> None:
    connection = Connection(part(b"x" * 100) for _ in range(100))
    with pytest.raises(TooLarge):
        await read(CHUNKED, connection)
    assert connection.asked == LIMIT // 100 + 1


@pytest.mark.parametrize("before", [[], [part(b"{")], [part(b"{"), part(b"}")]])
@pytest.mark.parametrize("headers", [CHUNKED, of_length(3)])
async def test_a_body_whose_caller_leaves_is_not_whole(before: list[Any], headers: Headers) -> None:
    with pytest.raises(MalformedBody, match="ended before it was complete"):
        await read(headers, Connection([*before, GONE]))


async def test_a_body_in_many_tiny_pieces_is_refused_long_before_its_end() -> None:
    connection = Connection(part(b"x") for _ in range(10 * FREE_MESSAGES))
    with pytest.raises(MalformedBody, match="too many small pieces"):
        await read(CHUNKED, connection, 10**9)
    assert FREE_MESSAGES < connection.asked < 2 * FREE_MESSAGES


async def test_pieces_of_no_bytes_are_tiny_too() -> None:
    connection = Connection(part(b"") for _ in range(10 * FREE_MESSAGES))
    with pytest.raises(MalformedBody):
        await read(of_length(10), connection)
    assert connection.asked < 2 * FREE_MESSAGES


async def test_some_tiny_pieces_are_free() -> None:
    messages = parts(*[b"x"] * FREE_MESSAGES)
    assert await read(CHUNKED, Connection(messages), 10**6) == b"x" * FREE_MESSAGES


async def test_pieces_that_bring_enough_may_be_many() -> None:
    messages = parts(*[b"x" * LEAST_MESSAGE_BYTES] * (5 * FREE_MESSAGES))
    assert len(await read(CHUNKED, Connection(messages), 10**9)) == 5 * FREE_MESSAGES * LEAST_MESSAGE_BYTES


async def test_what_has_come_is_held_as_it_comes() -> None:
    admission = Admission(1000, 2**30)
    held: list[int] = []

    class Watching(Connection):
        async def __call__(self) -> Any:
            held.append(admission.in_flight)
            return await super().__call__()

    with admission.enter(COLUMNS) as reservation:
        body = [b"x" * 8 * COLUMNS] * 4
        await read_body(CHUNKED, Watching(parts(*body)), LIMIT, "MAX_BODY_BYTES", reservation)
        assert reservation.rows == 4
    assert held[0] == 0
    assert held[2:] == [2, 3]  # the second message is asked for while the first is about to be counted
    assert admission.in_flight == 0


async def test_a_body_at_one_go_is_held_too() -> None:
    with Admission(1000, 2**30).enter(COLUMNS) as reservation:
        await read_body(of_length(65), Connection([part(b"x" * 65)]), LIMIT, "MAX_BODY_BYTES", reservation)
        assert reservation.rows == 2


async def test_a_body_for_which_there_is_no_room_is_not_read_on() -> None:
    admission = Admission(10, 2**30)
    with admission.enter(COLUMNS) as other, admission.enter(COLUMNS) as reservation:
        other.reserve(6)
        connection = Connection(part(b"x" * 8 * COLUMNS) for _ in range(100))
        with pytest.raises(Overloaded):
            await read_body(CHUNKED, connection, 10**6, "MAX_BODY_BYTES", reservation)
        assert connection.asked == 5
    assert admission.in_flight == 0


@pytest.mark.parametrize("last", [part(b"x", more=False), {"type": "http.request"}, GONE])
async def test_the_rest_of_an_answered_body_is_read_to_its_end(last: dict[str, Any]) -> None:
    connection = Connection([part(b"x" * 10)] * 5 + [last])
    await Drain(Admission(10, 2**30))(connection, LIMIT)
    assert connection.asked == 6


async def test_no_more_of_the_rest_is_read_than_so_much() -> None:
    connection = Connection(part(b"x" * 100) for _ in range(10**6))
    await Drain(Admission(10, 2**30))(connection, LIMIT)
    assert connection.asked == LIMIT // 100 + 1


async def test_while_others_stand_in_line_refused_bodies_are_read_in_turn_and_slowly() -> None:
    count = 20
    admission = Admission(10, 2**30)
    admission.enqueue(1)
    drain, order = Drain(admission), list[int]()

    def body(number: int) -> Connection:
        def messages() -> Iterator[dict[str, Any]]:
            for index in range(count):
                order.append(number)
                yield part(b"x", more=index < count - 1)

        return Connection(messages())

    started = time.monotonic()
    await asyncio.gather(*(drain(body(number), LIMIT) for number in range(3)))
    assert time.monotonic() - started >= (3 * count - 1) * DRAIN_INTERVAL_S * 0.9  # timers may be early by a bit
    # None of them waits for all of another.
    assert all(set(order[start : start + 9]) == {0, 1, 2} for start in range(0, len(order) - 9, 9))
