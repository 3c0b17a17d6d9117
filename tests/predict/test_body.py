"""A body is read within limits, and not a message more than it takes."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedBody, Overloaded, TooLarge
from app.predict.body import (
    FREE_MESSAGES,
    LEAST_MESSAGE_BYTES,
    SMALL_BODY_BYTES,
    Headers,
    drain,
    read_body,
)
from app.serving.admission import MOST_ARRIVING, Admission

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
async def test_a_body_of_known_length_is_read_from_one_message(size: int) -> None:
    connection = Connection([part(b"x" * size)])  # that it ends here is only said by the next one
    assert await read(of_length(size), connection) == b"x" * size
    assert connection.asked == 1


async def test_a_body_of_known_length_ends_with_its_last_byte() -> None:
    connection = Connection([part(b"ab"), part(b""), part(b"c"), part(b"d")])
    assert await read(of_length(4), connection) == b"abcd"
    assert connection.asked == 4


@given(bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=20), declared=st.booleans(), ended=st.booleans())
async def test_the_parts_of_a_body_are_joined(bodies: list[bytes], declared: bool, ended: bool) -> None:
    whole = b"".join(bodies)
    messages = parts(*bodies) if ended or not declared else [part(body) for body in bodies]
    headers = of_length(len(whole)) if declared else CHUNKED
    assert await read(headers, Connection(messages)) == whole


@pytest.mark.parametrize("headers", [CHUNKED, {}, of_length("abc"), of_length("-1"), of_length("1, 1")])
async def test_a_body_of_unknown_length_ends_with_its_last_message(headers: Headers) -> None:
    connection = Connection([part(b"a"), part(b"b"), part(b"", more=False)])
    assert await read(headers, connection) == b"ab"


async def test_a_message_may_omit_default_keys() -> None:
    assert await read({}, Connection([{"type": "http.request"}])) == b""
    assert await read({}, Connection([{"type": "http.request", "body": b"a"}])) == b"a"


async def test_a_body_declared_too_large_is_not_read() -> None:
    connection = Connection([])
    with pytest.raises(TooLarge, match="larger than MAX_JSON_BYTES"):
        await read(of_length(LIMIT + 1), connection)
    assert connection.asked == 0


async def test_a_single_message_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge):
        await read(CHUNKED, Connection([part(b"x" * (LIMIT + 1), more=False)]))
    assert await read(CHUNKED, Connection([part(b"x" * LIMIT, more=False)])) == b"x" * LIMIT


async def test_reading_stops_when_a_body_grows_too_large() -> None:
    connection = Connection(part(b"x" * 100) for _ in range(100))
    with pytest.raises(TooLarge):
        await read(CHUNKED, connection)
    assert connection.asked == LIMIT // 100 + 1


@pytest.mark.parametrize("before", [[], [part(b"{")], [part(b"{"), part(b"}")]])
@pytest.mark.parametrize("headers", [CHUNKED, of_length(3)])
async def test_a_body_is_incomplete_when_the_client_disconnects(before: list[Any], headers: Headers) -> None:
    with pytest.raises(MalformedBody, match="ended before it was complete"):
        await read(headers, Connection([*before, GONE]))


async def test_a_body_in_many_tiny_pieces_is_refused_early() -> None:
    connection = Connection(part(b"x") for _ in range(10 * FREE_MESSAGES))
    with pytest.raises(MalformedBody, match="too many small pieces"):
        await read(CHUNKED, connection, 10**9)
    assert FREE_MESSAGES < connection.asked < 2 * FREE_MESSAGES


async def test_empty_pieces_count_as_tiny() -> None:
    connection = Connection(part(b"") for _ in range(10 * FREE_MESSAGES))
    with pytest.raises(MalformedBody):
        await read(of_length(10), connection)
    assert connection.asked < 2 * FREE_MESSAGES


async def test_a_few_tiny_pieces_are_accepted() -> None:
    messages = parts(*[b"x"] * FREE_MESSAGES)
    assert await read(CHUNKED, Connection(messages), 10**6) == b"x" * FREE_MESSAGES


async def test_many_pieces_of_sufficient_size_are_accepted() -> None:
    messages = parts(*[b"x" * LEAST_MESSAGE_BYTES] * (5 * FREE_MESSAGES))
    assert len(await read(CHUNKED, Connection(messages), 10**9)) == 5 * FREE_MESSAGES * LEAST_MESSAGE_BYTES


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.predict.body.SMALL_BODY_BYTES", 0)


@pytest.mark.usefixtures("all_are_large")
async def test_bytes_are_reserved_as_they_arrive() -> None:
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


@pytest.mark.usefixtures("all_are_large")
async def test_the_bytes_of_a_single_message_are_reserved() -> None:
    with Admission(1000, 2**30).enter(COLUMNS) as reservation:
        await read_body(of_length(65), Connection([part(b"x" * 65)]), LIMIT, "MAX_BODY_BYTES", reservation)
        assert reservation.rows == 2


@pytest.mark.usefixtures("all_are_large")
async def test_reading_stops_when_there_is_no_room() -> None:
    admission = Admission(10, 2**30)
    with admission.enter(COLUMNS) as other, admission.enter(COLUMNS) as reservation:
        other.reserve(6)
        connection = Connection(part(b"x" * 8 * COLUMNS) for _ in range(100))
        with pytest.raises(Overloaded):
            await read_body(CHUNKED, connection, 10**6, "MAX_BODY_BYTES", reservation)
        assert connection.asked == 5
    assert admission.in_flight == 0


@pytest.mark.parametrize("headers", [of_length(SMALL_BODY_BYTES + 1), CHUNKED])
async def test_no_more_large_bodies_are_read_than_may_arrive_at_once(headers: Headers) -> None:
    admission = Admission(None, 2**30)
    arriving = [admission.enter(COLUMNS).__enter__() for _ in range(MOST_ARRIVING)]
    for reservation in arriving:
        reservation.expect_bytes(1)
    with admission.enter(COLUMNS) as reservation:
        connection = Connection(part(b"x" * (SMALL_BODY_BYTES // 2)) for _ in range(100))
        with pytest.raises(Overloaded):
            await read_body(headers, connection, 10**6, "MAX_BODY_BYTES", reservation)
        assert connection.asked == (0 if headers is not CHUNKED else 3)
        small = of_length(SMALL_BODY_BYTES)
        whole = [part(b"x" * SMALL_BODY_BYTES)]
        assert await read_body(small, Connection(whole), 10**6, "MAX_BODY_BYTES", reservation) == whole[0]["body"]


@pytest.mark.parametrize("last", [part(b"x", more=False), {"type": "http.request"}, GONE])
async def test_draining_ends_with_the_body(last: dict[str, Any]) -> None:
    connection = Connection([part(b"x" * 10)] * 5 + [last])
    await drain(connection)
    assert connection.asked == 6


async def test_draining_stops_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.predict.body.DRAINED_BYTES", LIMIT)
    connection = Connection(part(b"x" * 100) for _ in range(10**6))
    await drain(connection)
    assert connection.asked == LIMIT // 100 + 1
